//! `/metrics` of a process: what it costs, in Prometheus' text format and under the names that API server and
//! kubelets have for it.

use std::fmt::{Display, Write as _};
use std::fs;

use crate::process_usage::ProcessUsage;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Figures as text.
#[derive(Debug, Default)]
pub struct Metrics(String);

impl Metrics {
    /// Those of this process. A figure that cannot be read is left out.
    #[must_use]
    pub fn of_this_process() -> Self {
        let mut metrics = Self::default();
        if let Ok(used) = ProcessUsage::of_this() {
            let seconds = used.cpu.as_secs_f64();
            let about = "Total user and system CPU time spent in seconds.";
            metrics.add("process_cpu_seconds_total", "counter", about, seconds);
            let about = "Resident memory size in bytes.";
            let bytes = used.resident_bytes;
            metrics.add("process_resident_memory_bytes", "gauge", about, bytes);
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let about = "Number of open file descriptors.";
            metrics.add("process_open_fds", "gauge", about, open.count());
        }
        metrics
    }

    /// Adds one more figure.
    ///
    /// # Panics
    /// Never: a string takes any text.
    pub fn add(&mut self, name: &str, kind: &str, about: &str, value: impl Display) {
        writeln!(
            self.0,
            "# HELP {name} {about}\n# TYPE {name} {kind}\n{name} {value}"
        )
        .expect("a string takes any text");
    }

    /// The text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_what_a_process_costs() {
        let mut metrics = Metrics::of_this_process();
        metrics.add("more", "counter", "One more.", 7);
        let text = metrics.into_text();
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
        ] {
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let value: f64 = value.expect(name).parse().unwrap();
            assert!(value > 0.0, "{name} {value}");
        }
        assert!(text.ends_with("# HELP more One more.\n# TYPE more counter\nmore 7\n"));
    }
}
