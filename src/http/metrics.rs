//! Prometheus's text format, as far as it is needed here.

use std::fmt::Write;

type Labels<'a> = &'a [(&'a str, &'a str)];

/// Metrics as text. Names get `doorcast_` in front.
#[derive(Debug, Default)]
pub(super) struct Metrics(String);

impl Metrics {
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, &[(&[], value)]);
    }

    pub(super) fn counters(&mut self, name: &str, help: &str, samples: &[(Labels<'_>, u64)]) {
        self.head(name, help, "counter");
        for (labels, value) in samples {
            self.sample(name, labels, *value as f64);
        }
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, samples: &[(Labels<'_>, f64)]) {
        self.head(name, help, "gauge");
        for (labels, value) in samples {
            self.sample(name, labels, *value);
        }
    }

    /// A time, as `<name>_timestamp_seconds`; 0 before the first.
    pub(super) fn time(&mut self, name: &str, help: &str, time_ms: Option<u64>) {
        let seconds = time_ms.unwrap_or_default() as f64 / 1e3;
        self.gauge(&format!("{name}_timestamp_seconds"), help, &[(&[], seconds)]);
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a string can't fail.
        let _ = writeln!(self.0, "# HELP doorcast_{name} {help}\n# TYPE doorcast_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: f64) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "doorcast_{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_help_type_and_samples() {
        let mut text = Metrics::default();
        text.counter("rows_total", "Rows.", 3);
        text.gauge("clients", "Clients.", &[(&[("kind", "poll")], 2.0)]);
        text.time("last_event", "When.", Some(1_795_000_000_250));
        assert_eq!(
            text.into_string(),
            "# HELP doorcast_rows_total Rows.\n# TYPE doorcast_rows_total counter\ndoorcast_rows_total 3\n\
             # HELP doorcast_clients Clients.\n# TYPE doorcast_clients gauge\ndoorcast_clients{kind=\"poll\"} 2\n\
             # HELP doorcast_last_event_timestamp_seconds When.\n\
             # TYPE doorcast_last_event_timestamp_seconds gauge\n\
             doorcast_last_event_timestamp_seconds 1795000000.25\n"
        );
    }
}
