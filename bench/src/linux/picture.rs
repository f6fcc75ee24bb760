//! The figures as a picture: how fast each way is, as a share of the speed of as many processes that only copy.

use anyhow::{anyhow, ensure};
use plotters::prelude::*;

/// One bar: what was measured on which way, and the share.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bar {
    /// Stands before it.
    pub(super) label: String,
    /// 1 is as fast as copying.
    pub(super) share: f64,
}

/// Pixels.
const WIDTH: u32 = 900;
const BAR: u32 = 26;
const MARGIN: u32 = 90;

/// An SVG.
pub(super) fn draw(bars: &[Bar]) -> anyhow::Result<String> {
    ensure!(!bars.is_empty(), "nothing was measured that could be drawn");
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, bars.len() as u32 * BAR + MARGIN)).into_drawing_area();
        paint(&root, bars).map_err(|error| anyhow!("could not draw the picture: {error}"))?;
        root.present().map_err(|error| anyhow!("could not draw the picture: {error}"))?;
    }
    Ok(svg)
}

fn paint<B: DrawingBackend>(
    root: &DrawingArea<B, plotters::coord::Shift>,
    bars: &[Bar],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    root.fill(&WHITE)?;
    let longest = bars.iter().map(|bar| bar.share).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(root)
        .caption("Share of the speed of processes that only copy (more is better)", ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(330)
        .build_cartesian_2d(0.0..longest * 1.05, (0..bars.len()).into_segmented())?;
    // From the top down, as they are read.
    let at = |place: usize| bars.len() - 1 - place;
    let label = |segment: &SegmentValue<usize>| match segment {
        SegmentValue::CenterOf(place) if *place < bars.len() => bars[at(*place)].label.clone(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bars.len())
        .y_label_formatter(&label)
        .x_label_formatter(&|share| format!("{share:.1}"))
        .label_style(("sans-serif", 13))
        .draw()?;
    let colour = RGBColor(0x2f, 0x6f, 0xb0);
    chart.draw_series(bars.iter().enumerate().map(|(place, bar)| {
        let corners = [(0.0, SegmentValue::Exact(at(place))), (bar.share, SegmentValue::Exact(at(place) + 1))];
        let mut shape = Rectangle::new(corners, colour.filled());
        shape.set_margin(4, 4, 0, 0);
        shape
    }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bar_is_drawn_with_its_label() {
        let bars = [("round trip, laptop", 0.8), ("stream, device", 0.4)];
        let bars = bars.map(|(label, share)| Bar { label: label.to_owned(), share });
        let svg = draw(&bars).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for bar in &bars {
            assert!(svg.contains(&bar.label), "{svg}");
        }
        assert_eq!(svg.matches("fill=\"#2F6FB0\"").count(), bars.len(), "{svg}");
    }

    #[test]
    fn without_figures_there_is_none() {
        assert!(draw(&[]).is_err());
    }
}
