//! `/metrics`: what this process costs, in the text format of Prometheus and under the names that the
//! real API server has for it.

use std::fs;

/// The text; a figure that cannot be read is left out.
pub(crate) fn render(store_version: u64) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, ty: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            text += &format!("# HELP {name} {help}\n# TYPE {name} {ty}\n{name} {value}\n");
        }
    };
    let process = Process::read();
    metric(
        "process_cpu_seconds_total",
        "counter",
        "Total user and system CPU time spent in seconds.",
        process.as_ref().map(|process| process.cpu_seconds),
    );
    metric(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory size in bytes.",
        process.as_ref().map(|process| process.resident_bytes),
    );
    metric(
        "process_open_fds",
        "gauge",
        "Number of open file descriptors.",
        count_entries("/proc/self/fd"),
    );
    metric(
        "inroads_apiserver_resource_version",
        "counter",
        "The number of changes made to objects.",
        Some(to_f64(store_version)),
    );
    text
}

struct Process {
    cpu_seconds: f64,
    resident_bytes: f64,
}

impl Process {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
        Self::parse(&stat, u64::try_from(ticks).ok()?, u64::try_from(page).ok()?)
    }

    /// `proc_pid_stat(5)`: the fields after the name, which may itself contain spaces.
    fn parse(stat: &str, ticks_per_second: u64, page_bytes: u64) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let (user, system, resident) = (field(14)?, field(15)?, field(24)?);
        Some(Self {
            cpu_seconds: to_f64(user + system) / to_f64(ticks_per_second),
            resident_bytes: to_f64(resident * page_bytes),
        })
    }
}

fn count_entries(directory: &str) -> Option<f64> {
    fs::read_dir(directory)
        .ok()
        .map(|entries| to_f64(entries.count() as u64))
}

/// Exact up to 2^53, which no figure here reaches.
fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_read_from_its_stat_line() {
        let stat = "1 (a b) c) S 1 1 1 0 -1 0 0 0 0 0 250 50 0 0 20 0 9 0 100 1000 512 184 0 0";
        let process = Process::parse(stat, 100, 4096).unwrap();
        assert!((process.cpu_seconds - 3.0).abs() < 1e-9);
        assert!((process.resident_bytes - 2_097_152.0).abs() < 1e-9);
    }

    #[test]
    fn the_text_names_what_a_method_costs() {
        let text = render(7);
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes"] {
            assert!(
                text.lines()
                    .any(|line| line.starts_with(&format!("{name} "))),
                "{text}"
            );
        }
    }
}
