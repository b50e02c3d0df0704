//! The recorder behind the `metrics` macros.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::HttpError;

/// Upper bounds for every histogram whose name ends in `_seconds`: from an epoch's parts to an outage.
const SECONDS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0];

/// What the process counts.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Makes the `metrics` macros of the whole process report here. Once per process.
    pub fn install() -> Result<Metrics, HttpError> {
        let recorder = builder().build_recorder();
        let handle = recorder.handle();
        ::metrics::set_global_recorder(recorder).map_err(|_| HttpError::RecorderTaken)?;
        Ok(Metrics { handle })
    }

    /// Prometheus text.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Moves what histograms gathered into their buckets; memory grows until somebody calls this.
    pub(super) fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

fn builder() -> PrometheusBuilder {
    let builder = PrometheusBuilder::new();
    builder
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_string()), &SECONDS)
        .unwrap_or_else(|_| unreachable!("the list of bounds is not empty"))
}
