//! What processes have used: CPU time to the nanosecond, and memory.
//!
//! CPU time is read from the clock that the kernel keeps for each process (`clock_getcpuclockid(3)`):
//! ticks of a hundredth of a second are too coarse for what one call costs, and sums over
//! `/proc/PID/task/*/schedstat` forget the threads that have ended.

use std::fs;
use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// What a process, or several together, have used since they started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// CPU time, user and system, of all threads, those that have ended included.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// The most resident memory at once, in bytes. Of several processes, the sum of what each had.
    pub peak_bytes: u64,
}

impl ProcessUsage {
    /// This process, its children left out.
    ///
    /// # Errors
    /// Where `/proc` is not there to be read.
    pub fn of_this() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let cpu = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
        Ok(Self::new(cpu.into(), &status))
    }

    /// Another process, its children left out.
    ///
    /// # Errors
    /// Where there is none with this id.
    pub fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let cpu = match cpu_clock(pid) {
            Ok(cpu) => cpu,
            // Kernels that only look like Linux may have no such clock.
            Err(_) => ticks(pid)?.own,
        };
        Ok(Self::new(cpu, &status))
    }

    /// A process with all below it, and with those that they have waited for. What ends while it is read
    /// may be left out.
    #[must_use]
    pub fn of_tree(pid: u32) -> Self {
        let Ok(mut total) = Self::of(pid) else {
            return Self::default();
        };
        total.cpu += ticks(pid).map_or(Duration::ZERO, |ticks| ticks.waited_for);
        for child in children(pid) {
            let used = Self::of_tree(child);
            total.cpu += used.cpu;
            total.resident_bytes += used.resident_bytes;
            total.peak_bytes += used.peak_bytes;
        }
        total
    }

    /// `status` is the text of `proc_pid_status(5)`; a process that has ended has no memory there.
    fn new(cpu: Duration, status: &str) -> Self {
        let bytes = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = value.split_ascii_whitespace().next()?.parse().ok()?;
            Some(kib * 1024)
        };
        Self {
            cpu,
            resident_bytes: bytes("VmRSS:").unwrap_or(0),
            peak_bytes: bytes("VmHWM:").unwrap_or(0),
        }
    }
}

fn cpu_clock(pid: u32) -> io::Result<Duration> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    Ok(clock_getcpuclockid(Pid::from_raw(pid))?.now()?.into())
}

/// The children of all threads: each is listed at the thread that made it.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let lists = threads.into_iter().flatten().filter_map(|thread| {
        let file = thread.ok()?.path().join("children");
        fs::read_to_string(file).ok()
    });
    lists
        .flat_map(|list| {
            let ids = list.split_ascii_whitespace();
            ids.filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

/// CPU time in ticks of the kernel, which is all that is told of processes that are gone.
#[derive(Debug, PartialEq, Eq)]
struct Ticks {
    own: Duration,
    waited_for: Duration,
}

fn ticks(pid: u32) -> io::Result<Ticks> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    let per_second = per_second.and_then(|number| u32::try_from(number).ok());
    // The kernel's `USER_HZ` is 100 on all that this runs on.
    let per_second = per_second.filter(|number| *number > 0).unwrap_or(100);
    parse_ticks(&stat, per_second)
        .ok_or_else(|| io::Error::other(format!("`/proc/{pid}/stat` is not as proc(5) has it")))
}

/// From `proc_pid_stat(5)`.
fn parse_ticks(stat: &str, per_second: u32) -> Option<Ticks> {
    // The name may hold anything, even `)`; the fields after it do not.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // Fields are counted from 1; the first after the name is 3.
    let field = |number: usize| -> Option<u64> { fields.get(number - 3)?.parse().ok() };
    let time = |ticks: u64| Duration::from_secs(ticks) / per_second;
    Some(Ticks {
        own: time(field(14)? + field(15)?),
        waited_for: time(field(16)? + field(17)?),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};

    use nix::sys::signal::{Signal, killpg};

    use super::*;
    use crate::clock;

    const WORK: Duration = Duration::from_millis(50);
    /// Longer than any machine needs to give a process [`WORK`].
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A shell in a process group of its own, which ends with the test.
    struct Shell(Child);

    impl Shell {
        fn run(script: &str) -> Self {
            let mut command = Command::new("sh");
            Self(
                command
                    .args(["-c", script])
                    .process_group(0)
                    .spawn()
                    .unwrap(),
            )
        }
    }

    impl Drop for Shell {
        fn drop(&mut self) {
            let group = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
            killpg(group, Signal::SIGKILL).unwrap();
            self.0.wait().unwrap();
        }
    }

    /// Keeps this thread busy until it has used [`WORK`].
    fn work() {
        let used = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
        let start = used();
        while used() - start < WORK {
            std::hint::spin_loop();
        }
    }

    async fn wait_until(mut done: impl FnMut() -> bool) {
        let waiting = clock::Stopwatch::start();
        while !done() {
            assert!(waiting.elapsed() < PATIENCE, "it never was");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[test]
    fn work_is_seen_even_of_a_thread_that_has_ended() {
        let (here, there) = (
            ProcessUsage::of_this(),
            ProcessUsage::of(std::process::id()),
        );
        let (here, there) = (here.unwrap(), there.unwrap());
        let stopwatch = clock::Stopwatch::start();
        std::thread::spawn(work).join().unwrap();
        let here = ProcessUsage::of_this().unwrap().cpu - here.cpu;
        let there = ProcessUsage::of(std::process::id()).unwrap().cpu - there.cpu;
        // Other tests share this process, but no more of the time than there are processors.
        let cores = std::thread::available_parallelism().unwrap().get();
        let most = stopwatch.elapsed() * u32::try_from(cores).unwrap() + Duration::from_millis(20);
        for used in [here, there] {
            assert!(used >= WORK && used <= most, "{used:?}, at most {most:?}");
        }
    }

    #[tokio::test]
    async fn another_process_is_read_as_exactly_as_this_one() {
        let shell = Shell::run("while :; do :; done");
        let pid = shell.0.id();
        let stopwatch = clock::Stopwatch::start();
        let start = ProcessUsage::of(pid).unwrap().cpu;
        let mut used = Duration::ZERO;
        wait_until(|| {
            used = ProcessUsage::of(pid).unwrap().cpu - start;
            used >= WORK
        })
        .await;
        assert!(
            used <= stopwatch.elapsed() + Duration::from_millis(5),
            "{used:?}"
        );
        assert_ne!(used.subsec_nanos() % 1_000_000, 0, "these are whole ticks");

        let before = ProcessUsage::of(pid).unwrap().cpu;
        let ticks = ticks(pid).unwrap().own;
        let after = ProcessUsage::of(pid).unwrap().cpu;
        let one = Duration::from_millis(20);
        assert!(
            before <= ticks + one && ticks <= after + one,
            "{before:?} {ticks:?} {after:?}"
        );
    }

    #[tokio::test]
    async fn a_tree_has_its_branches() {
        let shell = Shell::run("sh -c 'while :; do :; done' & wait");
        let pid = shell.0.id();
        wait_until(|| ProcessUsage::of_tree(pid).cpu >= WORK).await;
        let (alone, tree) = (ProcessUsage::of(pid).unwrap(), ProcessUsage::of_tree(pid));
        assert!(alone.cpu < WORK, "{alone:?}");
        assert!(tree.resident_bytes > alone.resident_bytes);
    }

    #[tokio::test]
    async fn work_of_a_child_that_is_gone_still_counts() {
        let script = "sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'; sleep 60; true";
        let shell = Shell::run(script);
        let pid = shell.0.id();
        wait_until(|| ticks(pid).unwrap().waited_for > Duration::ZERO).await;
        let (alone, tree) = (ProcessUsage::of(pid).unwrap(), ProcessUsage::of_tree(pid));
        assert!(tree.cpu > alone.cpu, "{alone:?} {tree:?}");
    }

    #[test]
    fn the_peak_is_no_less_than_what_is_held() {
        let held = vec![1_u8; 8 << 20];
        let used = ProcessUsage::of_this().unwrap();
        assert!(used.peak_bytes >= held.len() as u64, "{used:?}");
        assert!(used.resident_bytes > 0, "{used:?}");
    }

    #[test]
    fn there_is_no_usage_of_no_process() {
        // Above the largest id that Linux gives.
        assert!(ProcessUsage::of(1 << 23).is_err());
        assert_eq!(ProcessUsage::of_tree(1 << 23), ProcessUsage::default());
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let fields: Vec<String> = (3..=52).map(|number| number.to_string()).collect();
        let stat = format!("1 (a) b) c) {}", fields.join(" "));
        let ticks = parse_ticks(&stat, 100).unwrap();
        assert_eq!(ticks.own, Duration::from_millis(290));
        assert_eq!(ticks.waited_for, Duration::from_millis(330));
        assert_eq!(parse_ticks("1 (a) R 1", 100), None);
    }
}
