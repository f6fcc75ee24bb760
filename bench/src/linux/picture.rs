//! The figures as a picture: how fast each way is, as a share of the speed of as many processes that only copy.

use anyhow::{anyhow, ensure};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// One bar: what was measured on which way, and the share.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bar {
    /// Stands over it and those beside it that were measured with it.
    pub(super) figure: String,
    /// Stands before it.
    pub(super) way: &'static str,
    /// 1 is as fast as copying.
    pub(super) share: f64,
}

/// Pixels.
const WIDTH: u32 = 900;
const LINE: u32 = 20;
const MARGIN: u32 = 90;
/// Where a bar is cut; what is written beside it says how long it is.
const CUT: f64 = 1.2;
/// One for each way, in their order, and from the start again: greys for what is only a limit, blues for Reachback, browns
/// for tunnels of others.
const COLOURS: [RGBColor; 12] = [
    RGBColor(0xc0, 0xc0, 0xc0),
    RGBColor(0xa0, 0xa0, 0xa0),
    RGBColor(0x78, 0x78, 0x78),
    RGBColor(0xb3, 0xa6, 0xbf),
    RGBColor(0x8a, 0x7b, 0x99),
    RGBColor(0x2f, 0x6f, 0xb0),
    RGBColor(0x17, 0x45, 0x76),
    RGBColor(0x7b, 0xb3, 0xe0),
    RGBColor(0x4f, 0x93, 0xcc),
    RGBColor(0xd9, 0x8c, 0x3f),
    RGBColor(0xb0, 0x5f, 0x2f),
    RGBColor(0x8a, 0x47, 0x1c),
];

/// A line of the picture.
enum Line<'a> {
    Figure(&'a str),
    Bar(&'a Bar, RGBColor),
}

/// An SVG.
pub(super) fn draw(bars: &[Bar]) -> anyhow::Result<String> {
    ensure!(!bars.is_empty(), "nothing was measured that could be drawn");
    let lines = lines(bars);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, lines.len() as u32 * LINE + MARGIN)).into_drawing_area();
        paint(&root, &lines).map_err(|error| anyhow!("could not draw the picture: {error}"))?;
        root.present().map_err(|error| anyhow!("could not draw the picture: {error}"))?;
    }
    Ok(svg)
}

fn lines(bars: &[Bar]) -> Vec<Line<'_>> {
    let mut ways: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    for figure in bars.chunk_by(|one, next| one.figure == next.figure) {
        lines.push(Line::Figure(&figure[0].figure));
        for bar in figure {
            let place = ways.iter().position(|way| *way == bar.way).unwrap_or_else(|| {
                ways.push(bar.way);
                ways.len() - 1
            });
            lines.push(Line::Bar(bar, COLOURS[place % COLOURS.len()]));
        }
    }
    lines
}

fn paint<B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    lines: &[Line<'_>],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(root)
        .caption("Share of the speed of processes that only copy (more is better)", ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(160)
        .build_cartesian_2d(0.0..CUT + 0.1, (0..lines.len()).into_segmented())?;
    // From the top down, as they are read.
    let at = |place: usize| lines.len() - 1 - place;
    let label = |segment: &SegmentValue<usize>| match segment {
        SegmentValue::CenterOf(place) if *place < lines.len() => match &lines[at(*place)] {
            Line::Figure(_) => String::new(),
            Line::Bar(bar, _) => bar.way.to_owned(),
        },
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .max_light_lines(1)
        .y_labels(lines.len())
        .y_label_formatter(&label)
        .x_label_formatter(&|share| format!("{share:.1}"))
        .label_style(("sans-serif", 13))
        .draw()?;
    let beside = Pos::new(HPos::Left, VPos::Center);
    for (place, line) in lines.iter().enumerate() {
        let (middle, font) = (SegmentValue::CenterOf(at(place)), ("sans-serif", 13).into_font());
        let (text, from, font) = match line {
            Line::Figure(figure) => ((*figure).to_owned(), 0.0, font.style(FontStyle::Bold)),
            Line::Bar(bar, colour) => {
                let end = bar.share.min(CUT);
                let corners = [(0.0, SegmentValue::Exact(at(place))), (end, SegmentValue::Exact(at(place) + 1))];
                let mut shape = Rectangle::new(corners, colour.filled());
                shape.set_margin(2, 2, 0, 0);
                chart.draw_series([shape])?;
                (format!("{:.2}", bar.share), end, font)
            }
        };
        let text = Text::new(text, (6, 0), font.color(&BLACK).pos(beside));
        chart.draw_series([EmptyElement::at((from, middle)) + text])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bar_is_drawn_with_its_label() {
        let bars = [("round trip", "laptop", 0.8), ("round trip", "device", 0.4), ("stream", "device", 4.84)];
        let bars = bars.map(|(figure, way, share)| Bar { figure: figure.to_owned(), way, share });
        let svg = draw(&bars).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for (text, times) in
            [("round trip", 1), ("stream", 1), ("laptop", 1), ("device", 2), ("0.80", 1), ("0.40", 1), ("4.84", 1)]
        {
            assert_eq!(svg.matches(&format!("\n{text}\n")).count(), times, "{text} in {svg}");
        }
        for (colour, times) in [("#C0C0C0", 1), ("#A0A0A0", 2)] {
            assert_eq!(svg.matches(&format!("fill=\"{colour}\"")).count(), times, "{colour} in {svg}");
        }
    }

    #[test]
    fn without_figures_there_is_none() {
        assert!(draw(&[]).is_err());
    }
}
