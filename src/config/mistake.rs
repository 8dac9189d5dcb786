//! What is wrong with a configuration, said so that it can be put right.

use std::fmt;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Path of the key (`gateway.limits.max_connections`), or of the file, or a place in it.
    pub key: String,
    /// The value as TOML, shortened; `<redacted>` where it is, or could be, a secret.
    pub value: Option<String>,
    /// The variable that the value came from, where it was not the file.
    pub variable: Option<String>,
    /// What is allowed.
    pub problem: String,
}

impl Mistake {
    /// A mistake that has no value to show.
    pub(super) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), value: None, variable: None, problem: problem.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if let Some(variable) = &self.variable {
            write!(f, " (from {variable})")?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// Every mistake of a configuration, in the order of its sections; never empty. Shown one to a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The mistakes.
    pub mistakes: Vec<Mistake>,
}

impl From<Mistake> for ConfigErrors {
    fn from(mistake: Mistake) -> Self {
        Self { mistakes: vec![mistake] }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
