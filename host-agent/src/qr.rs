//! A QR code in the terminal.
//!
//! Two modules share a character: a half block has one above the other, so a
//! code is about as high as it is wide. A pairing URL (at most 150 characters,
//! upper case) fits 24 rows with a quiet zone of two modules; scanners need
//! less than the four of the standard when the surroundings are of one colour.
//!
//! Scanners expect dark on light. On a terminal both colours are set, so the
//! theme does not matter; in plain text the blocks are the light modules,
//! right for the dark background that logs and consoles mostly have, and
//! readable inverted for most scanners.

use std::fmt;

use qrcode::{Color, EcLevel, QrCode};

/// Rows of the smallest usual terminal.
const ROWS: usize = 24;
/// Modules of quiet zone on each side.
const QUIET: usize = 2;

/// How a code is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// With colour escapes, for a terminal.
    Colour,
    /// Blocks only, for files and pipes.
    Plain,
}

/// The text is longer than any QR code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes don't fit a QR code")]
pub(crate) struct TooLong {
    length: usize,
}

/// A QR code. It may be a pairing code, so it does not print itself into logs.
pub(crate) struct Qr {
    dark: Vec<bool>,
    width: usize,
}

impl Qr {
    /// The code for `text`: with 15 % error correction where that fits 24 rows, else with 7 %.
    pub(crate) fn new(text: &str) -> Result<Self, TooLong> {
        let encode = |level| {
            let code = QrCode::with_error_correction_level(text, level).ok()?;
            let width = code.width();
            Some(Self { dark: code.into_colors().into_iter().map(|c| c == Color::Dark).collect(), width })
        };
        encode(EcLevel::M)
            .filter(|code| code.rows() <= ROWS)
            .or_else(|| encode(EcLevel::L))
            .ok_or(TooLong { length: text.len() })
    }

    /// Terminal rows it takes.
    pub(crate) fn rows(&self) -> usize {
        self.columns().div_ceil(2)
    }

    /// Terminal columns it takes.
    pub(crate) fn columns(&self) -> usize {
        self.width + 2 * QUIET
    }

    /// The rows, each with a newline.
    pub(crate) fn render(&self, paint: Paint) -> String {
        // Fixed colours of the 256-colour cube: themes redefine the first sixteen.
        let (start, end) = match paint {
            Paint::Colour => ("\x1b[38;5;231;48;5;16m", "\x1b[0m"),
            Paint::Plain => ("", ""),
        };
        let side = self.columns();
        let mut out = String::new();
        for y in (0..side).step_by(2) {
            out.push_str(start);
            // Below an odd last row is nothing: left dark, it is a line that scanners don't mind.
            out.extend((0..side).map(|x| match (self.light(x, y), y + 1 < side && self.light(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            }));
            out.push_str(end);
            out.push('\n');
        }
        out
    }

    /// Whether the module here is light; the quiet zone counts.
    fn light(&self, x: usize, y: usize) -> bool {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|at| *at < self.width);
        match (inside(x), inside(y)) {
            (Some(x), Some(y)) => !self.dark[y * self.width + x],
            _ => true,
        }
    }
}

impl fmt::Debug for Qr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Qr({} modules)", self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pairing URL of this length: 85 characters after the `#`.
    fn url(origin: &str, length: usize) -> String {
        let fragment = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".repeat(3);
        let mut host = origin.to_owned();
        while host.len() < length - 85 - 8 {
            host.push_str(if host.len().is_multiple_of(9) { "." } else { "X7" });
        }
        host.truncate(length - 85 - 8);
        format!("{host}:65535/#{}", &fragment[..85]).chars().take(length).collect()
    }

    /// Reads the code back from the characters, the way a camera sees them.
    fn scan(rendered: &str) -> String {
        let plain = rendered.replace("\x1b[38;5;231;48;5;16m", "").replace("\x1b[0m", "");
        let rows: Vec<Vec<char>> = plain.lines().map(|line| line.chars().collect()).collect();
        const SCALE: usize = 4;
        let (width, height) = (rows[0].len() * SCALE, rows.len() * 2 * SCALE);
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
            let (x, y) = (x / SCALE, y / SCALE);
            let light = match rows[y / 2][x] {
                '█' => true,
                '▀' => y % 2 == 0,
                '▄' => y % 2 == 1,
                _ => false,
            };
            if light { 255 } else { 0 }
        });
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1, "no code was seen in\n{plain}");
        grids[0].decode().unwrap().1
    }

    #[test]
    fn a_pairing_url_of_150_characters_fits_24_rows_and_scans() {
        for origin in ["HTTPS://RELAY.", "HTTPS://10.1.2.3.", "HTTP://LOCALHOST."] {
            for length in [110, 149, 150] {
                let text = url(origin, length);
                assert_eq!(text.len(), length);
                let code = Qr::new(&text).unwrap();
                assert!(code.rows() <= ROWS && code.columns() <= 80, "{code:?} for {text}");
                for paint in [Paint::Plain, Paint::Colour] {
                    let rendered = code.render(paint);
                    assert_eq!(rendered.lines().count(), code.rows());
                    assert_eq!(scan(&rendered), text);
                }
            }
        }
    }

    #[test]
    fn each_coloured_row_sets_both_colours_and_ends_them() {
        let code = Qr::new("HTTPS://RELAY:443/#X").unwrap();
        for line in code.render(Paint::Colour).lines() {
            assert!(line.starts_with("\x1b[38;5;231;48;5;16m") && line.ends_with("\x1b[0m"), "{line:?}");
        }
        assert!(!code.render(Paint::Plain).contains('\x1b'));
    }

    #[test]
    fn a_text_longer_than_any_code_is_refused_without_repeating_it() {
        let text = "SECRET".repeat(1000);
        let error = Qr::new(&text).unwrap_err();
        assert_eq!(error.to_string(), "6000 bytes don't fit a QR code");
    }
}
