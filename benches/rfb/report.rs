//! The table, and the same as JSON.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::stacks::Kind;

/// Whether a figure is better the less or the more it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
}

/// One figure of each stack.
#[derive(Debug)]
pub(crate) struct Row {
    scene: String,
    figure: &'static str,
    better: Better,
    digits: usize,
    values: Vec<(Kind, f64)>,
}

impl Row {
    pub(crate) fn new(scene: &str, figure: &'static str, better: Better, digits: usize) -> Self {
        Self { scene: scene.to_owned(), figure, better, digits, values: Vec::new() }
    }

    pub(crate) fn add(&mut self, kind: Kind, value: f64) {
        self.values.push((kind, value));
    }

    fn of(&self, kind: Kind) -> Option<f64> {
        self.values.iter().find(|(known, _)| *known == kind).map(|(_, value)| *value)
    }

    fn best_peer(&self) -> Option<(Kind, f64)> {
        let peers = self.values.iter().copied().filter(|(kind, _)| *kind != Kind::Valetd);
        match self.better {
            Better::Less => peers.min_by(|one, other| one.1.total_cmp(&other.1)),
            Better::More => peers.max_by(|one, other| one.1.total_cmp(&other.1)),
        }
    }

    /// Ours over the best other's.
    fn ratio(&self) -> Option<f64> {
        let (_, best) = self.best_peer()?;
        self.of(Kind::Valetd).map(|ours| ours / best).filter(|ratio| ratio.is_finite())
    }
}

/// All rows of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn extend(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.rows.extend(rows);
    }

    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    pub(crate) fn json(&self) -> Value {
        let row = |row: &Row| {
            let values: Map<String, Value> =
                row.values.iter().map(|(kind, value)| (kind.name().to_owned(), json!(value))).collect();
            json!({
                "scene": row.scene,
                "figure": row.figure,
                "better": if row.better == Better::Less { "less" } else { "more" },
                "values": values,
                "best_peer": row.best_peer().map(|(kind, _)| kind.name()),
                "ratio": row.ratio(),
            })
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "load_at_the_end": load(),
            "notes": self.notes,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:<16} {:<20}", "", "")?;
        for kind in Kind::ALL {
            write!(f, " {:>11}", kind.name())?;
        }
        writeln!(f, " {:>11}  best of the others", "ratio")?;
        let mut scene = "";
        for row in &self.rows {
            let name = if row.scene == scene { "" } else { &row.scene };
            scene = &row.scene;
            write!(f, "{name:<16} {:<20}", row.figure)?;
            for kind in Kind::ALL {
                let digits = row.digits;
                let value = row.of(kind).map_or("-".to_owned(), |value| format!("{value:.digits$}"));
                write!(f, " {value:>11}")?;
            }
            let ratio = row.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            writeln!(f, " {ratio:>11}  {}", row.best_peer().map_or("", |(kind, _)| kind.name()))?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        writeln!(f, "load {}; on a busy machine trust the ratios", load())
    }
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}
