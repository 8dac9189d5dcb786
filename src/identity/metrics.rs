//! Who the machine is, for whoever joins series of several hosts, and how asking goes.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::facts::Facts;
use super::notices::{Announced, Kind};

/// What a lookup is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    Identity,
    Notices,
}

impl Lookup {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Notices => "notices",
        }
    }
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    info: IntGaugeVec,
    failures: IntCounterVec,
    notices: IntGaugeVec,
}

impl Metrics {
    /// Registers `valetd_host_info`, `valetd_host_lookup_failures_total{what}` and `valetd_host_notices{kind}`.
    ///
    /// # Errors
    /// When the names are taken.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name, help, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let failures = Opts::new(
            "valetd_host_lookup_failures_total",
            "Lookups about this machine that brought nothing usable",
        );
        let metrics = Self {
            // Ids stand in labels here alone: one series, which others are joined with.
            info: gauge(
                "valetd_host_info",
                "Always 1; the labels say which machine this is",
                &["provider", "id", "region", "zone"],
            )?,
            failures: IntCounterVec::new(failures, &["what"])?,
            notices: gauge("valetd_host_notices", "1 where the cloud has announced it", &["kind"])?,
        };
        for lookup in [Lookup::Identity, Lookup::Notices] {
            metrics.failures.with_label_values(&[lookup.as_str()]);
        }
        metrics.announced(&Announced::default());
        registry.register(Box::new(metrics.info.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.notices.clone()))?;
        Ok(metrics)
    }

    /// There is one machine, so that there is one series.
    pub(super) fn known(&self, facts: &Facts) {
        self.info.reset();
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let labels = [facts.provider.as_str(), &facts.id, &text(&facts.region), &text(&facts.zone)];
        self.info.with_label_values(&labels).set(1);
    }

    pub(super) fn failed(&self, lookup: Lookup) {
        self.failures.with_label_values(&[lookup.as_str()]).inc();
    }

    pub(super) fn announced(&self, announced: &Announced) {
        for kind in Kind::ALL {
            let given = i64::from(announced.notice(kind).is_some());
            self.notices.with_label_values(&[kind.as_str()]).set(given);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Provider;
    use super::*;
    use crate::metrics::render;

    #[test]
    fn there_is_one_machine_and_every_series_from_the_start() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let mut facts = Facts::bare(Provider::Ec2, "i-00000001".to_owned());
        metrics.known(&facts);
        facts.region = Some("eu-central-1".to_owned());
        metrics.known(&facts);
        let text = render(&registry).unwrap();
        let info =
            "valetd_host_info{id=\"i-00000001\",provider=\"ec2\",region=\"eu-central-1\",zone=\"\"} 1\n";
        assert_eq!(text.matches("valetd_host_info{").count(), 1, "{text}");
        for line in [
            info,
            "valetd_host_lookup_failures_total{what=\"identity\"} 0\n",
            "valetd_host_notices{kind=\"rebalance\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
