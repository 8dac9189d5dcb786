//! The table, the verdicts, and the same as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::thread::available_parallelism;

use serde_json::{Value, json};

use crate::quantile;

/// What a row must show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// valetd's figure over websockify's.
    RatioAtMost(f64),
    /// The same, the other way round.
    RatioAtLeast(f64),
    /// valetd's figure alone.
    AtMost(f64),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtMost(ratio) => write!(f, "<= {ratio}x"),
            Self::RatioAtLeast(ratio) => write!(f, ">= {ratio}x"),
            Self::AtMost(value) => write!(f, "<= {value}"),
        }
    }
}

/// What both bridges showed, round by round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pair {
    websockify: Vec<f64>,
    valetd: Vec<f64>,
}

impl Pair {
    /// One figure of each round.
    pub(crate) fn of_rounds<T>(rounds: &BTreeMap<&str, Vec<T>>, figure: impl Fn(&T) -> f64) -> Self {
        let of = |name| rounds.get(name).into_iter().flatten().map(&figure).collect();
        Self { websockify: of("websockify"), valetd: of("valetd") }
    }

    /// What has nothing to be compared with.
    pub(crate) fn of_valetd(figure: Option<f64>) -> Self {
        Self { websockify: vec![], valetd: figure.into_iter().collect() }
    }

    /// valetd's over websockify's in each round.
    fn ratios(&self) -> Vec<f64> {
        self.valetd.iter().zip(&self.websockify).map(|(valetd, websockify)| valetd / websockify).collect()
    }
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    key: &'static str,
    what: String,
    digits: usize,
    figures: Pair,
    target: Option<Target>,
}

impl Row {
    pub(crate) fn new(key: &'static str, what: &str, figures: Pair) -> Self {
        Self { key, what: what.to_owned(), digits: 1, figures, target: None }
    }

    pub(crate) fn digits(self, digits: usize) -> Self {
        Self { digits, ..self }
    }

    pub(crate) fn target(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        median(&self.figures.ratios())
    }

    /// Whether the target is met; `None` where there is none.
    fn verdict(&self) -> Option<Verdict> {
        let met = match self.target? {
            Target::RatioAtMost(most) => self.ratio().map(|ratio| ratio <= most),
            Target::RatioAtLeast(least) => self.ratio().map(|ratio| ratio >= least),
            Target::AtMost(most) => median(&self.figures.valetd).map(|value| value <= most),
        };
        Some(met.map_or(Verdict::NotMeasured, |met| if met { Verdict::Pass } else { Verdict::Fail }))
    }
}

/// How a row did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    Fail,
    NotMeasured,
}

impl Verdict {
    fn label(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::NotMeasured => "not measured",
        }
    }
}

/// All rows of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn extend(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    /// Rows that could not be measured, and why.
    pub(crate) fn skip(&mut self, why: &str, rows: Vec<Row>) {
        self.note(why);
        self.extend(rows);
    }

    /// Whether every target was measured and met.
    pub(crate) fn passed(&self) -> bool {
        self.rows.iter().filter_map(Row::verdict).all(|verdict| verdict == Verdict::Pass)
    }

    pub(crate) fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "key": row.key,
                "what": row.what,
                "websockify": median(&row.figures.websockify),
                "valetd": median(&row.figures.valetd),
                "ratio": row.ratio(),
                "websockify_rounds": row.figures.websockify,
                "valetd_rounds": row.figures.valetd,
                "target": row.target.map(|target| target.to_string()),
                "verdict": row.verdict().map(Verdict::label),
            })
        };
        json!({
            "cores": cores(),
            "version": env!("CARGO_PKG_VERSION"),
            "notes": self.notes,
            "passed": self.passed(),
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<40} {:>10} {:>10} {:>8}  {:<15} {:<9} verdict",
            "", "websockify", "valetd", "ratio", "range", "target"
        )?;
        for row in &self.rows {
            let show = |value: Option<f64>, digits: usize| {
                value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
            };
            let ratios = row.figures.ratios();
            let range = if ratios.len() > 1 {
                format!("{:.2} to {:.2}", quantile(&ratios, 0.0), quantile(&ratios, 1.0))
            } else {
                String::new()
            };
            writeln!(
                f,
                "{:<40} {:>10} {:>10} {:>8}  {range:<15} {:<9} {}",
                row.what,
                show(median(&row.figures.websockify), row.digits),
                show(median(&row.figures.valetd), row.digits),
                show(row.ratio(), 2),
                row.target.map(|target| target.to_string()).unwrap_or_default(),
                row.verdict().map_or("", Verdict::label),
            )?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        writeln!(
            f,
            "{} cores; medians of rounds taken in turns. On a busy machine trust the ratios.",
            cores()
        )
    }
}

fn median(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| quantile(values, 0.5))
}

fn cores() -> usize {
    available_parallelism().map_or(0, usize::from)
}
