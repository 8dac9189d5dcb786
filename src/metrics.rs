//! The registry behind `/metrics`. Each module registers its own under `valetd_<module>_`; labels come from closed sets
//! only, never from ids.

use prometheus::{Gauge, IntGaugeVec, Opts, Registry, TextEncoder};

/// The media type of the text that [`render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// A registry that knows the build and the start time.
///
/// # Errors
/// Never in practice: the names below are valid and distinct.
pub fn registry() -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let build = IntGaugeVec::new(
        Opts::new("valetd_build_info", "Always 1; the label says which build"),
        &["version"],
    )?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(build))?;
    let start = Gauge::new("valetd_start_time_seconds", "When the daemon started, as a Unix time")?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    start.set(now.as_secs_f64());
    registry.register(Box::new(start))?;
    Ok(registry)
}

/// Everything registered, in the Prometheus text format.
///
/// # Errors
/// When a metric is in no state to be written, which would be a bug.
pub fn render(registry: &Registry) -> prometheus::Result<String> {
    TextEncoder::new().encode_to_string(&registry.gather())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_build_is_in_the_text() {
        let text = super::render(&super::registry().unwrap()).unwrap();
        assert!(
            text.contains(concat!("valetd_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1")),
            "{text}"
        );
    }
}
