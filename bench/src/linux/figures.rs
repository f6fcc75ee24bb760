//! What was measured, and how it is said: a JSON line a figure, and a table with ratios.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::picture::Bar;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    /// Less is better.
    Microseconds,
    /// Seconds of a processor for a million round trips or messages. Less is better.
    SecondsPerMillion,
    /// Messages in a second. More is better.
    PerSecond,
    /// Of text in a second, in millions of bytes. More is better.
    MegabytesPerSecond,
    /// Thousands of bytes. Less is better.
    Kilobytes,
    /// 1,024 bytes. Less is better.
    Kibibytes,
    /// Less is better.
    Milliseconds,
    /// How many come at once. Less is better.
    Hosts,
    /// Open ones of a process, sockets among them. Less is better.
    Files,
}

impl Unit {
    /// Whether more is better.
    fn is_rate(self) -> bool {
        matches!(self, Self::PerSecond | Self::MegabytesPerSecond)
    }

    fn symbol(self) -> &'static str {
        match self {
            Self::Microseconds => "µs",
            Self::SecondsPerMillion => "s per million",
            Self::PerSecond => "/s",
            Self::MegabytesPerSecond => "MB/s",
            Self::Kilobytes => "kB",
            Self::Kibibytes => "KiB",
            Self::Milliseconds => "ms",
            Self::Hosts => "hosts",
            Self::Files => "files",
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    what: String,
    unit: Unit,
}

impl Key {
    pub(super) fn new(what: &str, unit: Unit) -> Self {
        Self { what: what.to_owned(), unit }
    }
}

#[derive(Debug)]
struct Row {
    key: Key,
    /// Each way's values, a round each, in the order of the ways.
    values: Vec<(&'static str, Vec<f64>)>,
}

/// All figures of a run.
#[derive(Debug)]
pub(super) struct Figures {
    /// Each way, and the one that has as many processes, which only copy.
    ways: Vec<(&'static str, Option<&'static str>)>,
    rows: Vec<Row>,
}

/// One of them, as a JSON line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    what: &'a str,
    way: &'a str,
    unit: Unit,
    /// The median of the rounds.
    value: f64,
    /// That, by the median of the way `direct`.
    to_direct: Option<f64>,
    /// That, by the median of as many processes that only copy.
    to_floor: Option<f64>,
    rounds: &'a [f64],
}

impl Figures {
    /// None yet, of these ways; beside each the one that is its floor, if it has one.
    pub(super) fn new(ways: Vec<(&'static str, Option<&'static str>)>) -> Self {
        Self { ways, rows: Vec::new() }
    }

    fn floor(&self, way: &str) -> Option<&'static str> {
        self.ways.iter().find(|(known, _)| *known == way).and_then(|(_, floor)| *floor)
    }

    /// A value of one round.
    pub(super) fn one(&mut self, key: Key, way: &'static str, value: f64) {
        let at = self.rows.iter().position(|row| row.key == key).unwrap_or_else(|| {
            self.rows.push(Row { key, values: Vec::new() });
            self.rows.len() - 1
        });
        let values = &mut self.rows[at].values;
        match values.iter_mut().find(|(known, _)| *known == way) {
            Some((_, values)) => values.push(value),
            None => values.push((way, vec![value])),
        }
    }

    /// The quantiles of one round's times.
    pub(super) fn times(&mut self, what: &str, way: &'static str, mut times: Vec<Duration>) {
        times.sort_unstable();
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            // A quantile that so few values do not have is not said.
            if (times.len() as f64) * (1.0 - share) < 1.0 && share > 0.5 {
                continue;
            }
            let at = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
            let Some(time) = times.get(at) else { continue };
            self.one(Key::new(&format!("{what}, {name}"), Unit::Microseconds), way, time.as_secs_f64() * 1e6);
        }
    }

    /// A JSON line a figure.
    pub(super) fn lines(&self) -> anyhow::Result<String> {
        let mut lines = String::new();
        for row in &self.rows {
            for (way, rounds) in &row.values {
                let value = median(rounds);
                let by = |other| row.median(other).map(|other| value / other);
                let (what, unit) = (row.key.what.as_str(), row.key.unit);
                let (to_direct, to_floor) = (by("direct"), self.floor(way).and_then(by));
                let line = Line { what, way, unit, value, to_direct, to_floor, rounds };
                writeln!(lines, "{}", serde_json::to_string(&line)?)?;
            }
        }
        Ok(lines)
    }

    /// A Markdown table: a row a measure, a column a way, with the ratio to its floor, else to direct.
    pub(super) fn table(&self) -> String {
        let mut table = String::from("| |");
        for (way, _) in &self.ways {
            table.push_str(&format!(" {way} |"));
        }
        table.push_str("\n|---|");
        table.push_str(&"---:|".repeat(self.ways.len()));
        table.push('\n');
        for row in &self.rows {
            table.push_str(&format!("| {}, {} |", row.key.what, row.key.unit.symbol()));
            for (way, floor) in &self.ways {
                table.push_str(&format!(" {} |", row.cell(way, *floor)));
            }
            table.push('\n');
        }
        table
    }
}

impl Figures {
    /// What each way reaches of its floor's speed: a bar a figure that has one, without the tails of times.
    pub(super) fn bars(&self) -> Vec<Bar> {
        let mut bars = Vec::new();
        for row in self.rows.iter().filter(|row| !row.key.what.contains("p99")) {
            for (way, floor) in &self.ways {
                let of = |way| row.median(way);
                let (Some(value), Some(floor)) = (of(way), floor.and_then(of)) else { continue };
                let share = if row.key.unit.is_rate() { value / floor } else { floor / value };
                bars.push(Bar { figure: row.key.what.clone(), way, share });
            }
        }
        bars
    }
}

impl Row {
    fn median(&self, way: &str) -> Option<f64> {
        self.values.iter().find(|(known, _)| *known == way).map(|(_, values)| median(values))
    }

    fn cell(&self, way: &str, floor: Option<&str>) -> String {
        let Some(value) = self.median(way) else { return "–".to_owned() };
        let said = number(value);
        match floor.and_then(|floor| self.median(floor)) {
            Some(floor) => format!("{said} (**{:.2}×**)", value / floor),
            None => match self.median("direct") {
                Some(direct) if way != "direct" => format!("{said} ({:.2}× direct)", value / direct),
                _ => said,
            },
        }
    }
}

/// With as many digits as mean something.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => thousands(value.round() as u64),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut said = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            said.push(',');
        }
        said.push(digit);
    }
    said
}

/// Of at least one value.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let mut figures = Figures::new(vec![("direct", None), ("floor", None), ("wss", Some("floor")), ("quic", None)]);
        for (way, values) in [("direct", [20.0, 30.0, 10.0]), ("floor", [40.0, 41.0, 39.0]), ("wss", [50.0, 9.0, 60.0])]
        {
            for value in values {
                figures.one(Key::new("round trip", Unit::Microseconds), way, value);
            }
        }
        figures
    }

    #[test]
    fn the_table_has_medians_and_ratios() {
        let table = figures().table();
        assert_eq!(
            table,
            "| | direct | floor | wss | quic |\n|---|---:|---:|---:|---:|\n\
             | round trip, µs | 20.0 | 40.0 (2.00× direct) | 50.0 (**1.25×**) | – |\n"
        );
    }

    #[test]
    fn a_bar_is_the_share_of_the_floors_speed() {
        let mut figures = figures();
        for (way, value) in [("floor", 100.0), ("wss", 75.0)] {
            figures.one(Key::new("stream", Unit::PerSecond), way, value);
            figures.one(Key::new("round trip, p99", Unit::Microseconds), way, value);
        }
        let bars: Vec<_> = figures.bars().into_iter().map(|bar| (bar.figure, bar.way, bar.share)).collect();
        assert_eq!(bars, [("round trip".to_owned(), "wss", 0.8), ("stream".to_owned(), "wss", 0.75)]);
    }

    #[test]
    fn a_line_has_each_round_and_the_ratios() {
        let lines = figures().lines().unwrap();
        let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        let expected = serde_json::json!({
            "what": "round trip", "way": "wss", "unit": "microseconds", "value": 50.0,
            "to_direct": 2.5, "to_floor": 1.25, "rounds": [50.0, 9.0, 60.0],
        });
        assert_eq!(last, expected);
    }

    #[test]
    fn quantiles_are_said_as_far_as_the_values_have_them() {
        let mut figures = Figures::new(vec![("direct", None)]);
        figures.times("few", "direct", (1..=200).rev().map(Duration::from_micros).collect());
        let said: Vec<_> = figures.rows.iter().map(|row| (row.key.what.as_str(), row.values[0].1[0].round())).collect();
        assert_eq!(said, [("few, p50", 101.0), ("few, p99", 199.0)]);
    }

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let said: Vec<_> = [1.234, 12.34, 123.4, 1_234_567.8].map(number).into();
        assert_eq!(said, ["1.23", "12.3", "123", "1,234,568"]);
    }
}
