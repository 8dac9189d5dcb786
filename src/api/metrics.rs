//! Metrics of the sessions' services, read from their published state at each scrape.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use crate::session::{ComponentStatus, Sessions};

/// Collects `valetd_service_up` and `valetd_service_starts`, summed over sessions.
pub(super) struct ServiceMetrics {
    sessions: Sessions,
    up: IntGaugeVec,
    starts: IntGaugeVec,
}

impl ServiceMetrics {
    pub(super) fn new(sessions: Sessions) -> prometheus::Result<Self> {
        let gauge = |name, help| IntGaugeVec::new(Opts::new(name, help), &["service"]);
        Ok(Self {
            sessions,
            up: gauge("valetd_service_up", "Services that answered their last probe")?,
            starts: gauge(
                "valetd_service_starts",
                "How often the services of the present sessions were started",
            )?,
        })
    }
}

impl Collector for ServiceMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let mut descs = self.up.desc();
        descs.extend(self.starts.desc());
        descs
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.up.reset();
        self.starts.reset();
        for session in self.sessions.all() {
            for component in session.status().components {
                let up = i64::from(component.status == ComponentStatus::Ok);
                self.up.with_label_values(&[component.name]).add(up);
                self.starts.with_label_values(&[component.name]).add(component.starts.into());
            }
        }
        let mut families = self.up.collect();
        families.extend(self.starts.collect());
        families
    }
}
