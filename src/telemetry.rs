//! Where log records go. Fixed fields: `session`, `service`, `pid`, `viewer`, `request_id`, `error`.

use std::io::IsTerminal;
use std::path::Path;

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer, Registry, reload};

/// journald's socket for structured records.
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// journald where its socket is there, text on a terminal, JSON lines otherwise.
    Auto,
    /// To journald, with the fields as journal fields.
    Journald,
    /// One JSON object a line on stderr.
    Json,
    /// Lines for people on stderr.
    Text,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is not one, nor a filter.
    #[error("log level {level:?} is not one of error, warn, info, debug, trace, nor a list of target=level")]
    Level {
        /// What was given.
        level: String,
        /// What the parser says.
        #[source]
        source: ParseError,
    },
    /// journald was asked for and does not answer.
    #[error("cannot reach journald at {JOURNAL_SOCKET}")]
    Journald(#[source] std::io::Error),
    /// Somebody else has set up logging in this process.
    #[error("logging is set up already")]
    Twice(#[source] TryInitError),
    /// The subscriber is gone.
    #[error("the log level cannot be changed any more")]
    Gone(#[source] reload::Error),
}

/// Changes the level of a running process.
#[derive(Clone)]
pub struct LevelHandle(reload::Handle<EnvFilter, Registry>);

impl LevelHandle {
    /// Sets the level (`info`) or filter (`info,valetd::gateway=debug`).
    ///
    /// # Errors
    /// When `level` does not parse; the old one stays.
    pub fn set(&self, level: &str) -> Result<(), Error> {
        self.0.reload(parse(level)?).map_err(Error::Gone)
    }
}

/// Whether [`LevelHandle::set`] would take this level.
///
/// # Errors
/// When it does not parse.
pub fn check_level(level: &str) -> Result<(), Error> {
    parse(level).map(drop)
}

fn parse(level: &str) -> Result<EnvFilter, Error> {
    EnvFilter::try_new(level).map_err(|source| Error::Level { level: level.to_owned(), source })
}

/// Sets up logging for the process. Call once.
///
/// # Errors
/// When the level does not parse or journald cannot be reached.
pub fn init(level: &str, format: Format) -> Result<LevelHandle, Error> {
    let (filter, handle) = reload::Layer::new(parse(level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let result = match resolve(format) {
        Format::Journald => {
            let layer = tracing_journald::layer().map_err(Error::Journald)?.with_field_prefix(None);
            registry.with(layer).try_init()
        }
        Format::Text => registry.with(text_layer()).try_init(),
        Format::Json | Format::Auto => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(false)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
    result.map_err(Error::Twice)?;
    Ok(LevelHandle(handle))
}

fn text_layer<S>() -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer()
        .compact()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
}

fn resolve(format: Format) -> Format {
    match format {
        Format::Auto if Path::new(JOURNAL_SOCKET).exists() => Format::Journald,
        Format::Auto if std::io::stderr().is_terminal() => Format::Text,
        Format::Auto => Format::Json,
        chosen => chosen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_refused_with_its_text() {
        let error = parse("loud=very").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("\"loud=very\""), "{error}");
        assert!(parse("info,valetd::gateway=debug").is_ok());
    }
}
