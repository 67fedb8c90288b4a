//! What the program may not leave on the machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::program::pause;

/// The environment variable by which processes are known again.
pub(crate) const MARK: &str = "INROADS_TEST_MARK";

/// Longest time for the kernel to take a killed lab apart.
const GONE_LIMIT: Duration = Duration::from_secs(3);

/// The kinds of namespace that a lab makes.
const NAMESPACES: [&str; 6] = ["user", "net", "mnt", "pid", "uts", "ipc"];

/// The machine's own network and file systems.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    mounts: String,
    links: BTreeSet<String>,
    routes: String,
    resolver: String,
    hosts: String,
    /// What is loaded into the kernel's packet filter, where the tests may see it.
    filter: String,
}

impl Machine {
    pub(crate) fn now() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let names = fs::read_dir("/sys/class/net").unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let filter = std::process::Command::new("nft")
            .args(["list", "tables"])
            .output();
        Self {
            mounts: read("/proc/self/mountinfo"),
            links: names.collect(),
            routes: read("/proc/net/route") + &read("/proc/net/ipv6_route"),
            resolver: read("/etc/resolv.conf"),
            hosts: read("/etc/hosts"),
            filter: filter.map_or_else(
                |_| String::new(),
                |output| String::from_utf8_lossy(&output.stdout).into_owned(),
            ),
        }
    }
}

/// Knows the processes of one program: by the mark in their environment, and by namespaces in which a
/// process with the mark was, for those in containers have an environment of their own.
pub(crate) struct Watch {
    mark: String,
    before: Machine,
    known: BTreeSet<String>,
}

impl Watch {
    pub(crate) fn begin(mark: &str) -> Self {
        Self {
            mark: format!("{MARK}={mark}"),
            before: Machine::now(),
            known: BTreeSet::new(),
        }
    }

    /// Looks at what there is now, and returns how many namespaces have been seen in all.
    pub(crate) fn look(&mut self) -> usize {
        let own = namespaces_of(Path::new("/proc/self"));
        for process in processes() {
            if self.is_marked(&process) {
                let more = namespaces_of(&process);
                self.known.extend(more.difference(&own).cloned());
            }
        }
        self.known.len()
    }

    /// Kills the first process whose command line contains `words`.
    pub(crate) fn kill(&self, words: &str) {
        let found = self.left().into_iter().find(|line| line.contains(words));
        let found = found.unwrap_or_else(|| panic!("no process {words:?}: {:?}", self.left()));
        let pid = found
            .trim_start_matches("/proc/")
            .split(' ')
            .next()
            .unwrap();
        let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    /// Asserts that nothing is left, now or after the time that the kernel takes.
    pub(crate) fn nothing_is_left(&self) {
        let begun = Instant::now();
        loop {
            let left = self.left();
            if left.is_empty() {
                break;
            }
            assert!(
                begun.elapsed() < GONE_LIMIT,
                "left after {GONE_LIMIT:?}: {left:#?}"
            );
            pause();
        }
        assert_eq!(
            self.before,
            Machine::now(),
            "the machine itself has changed"
        );
    }

    /// The processes that are there, by folder and command line.
    pub(crate) fn left(&self) -> Vec<String> {
        let ours = |process: &Path| {
            self.is_marked(process) || !self.known.is_disjoint(&namespaces_of(process))
        };
        processes()
            .filter(|process| ours(process))
            .map(|process| {
                let words = fs::read(process.join("cmdline")).unwrap_or_default();
                let words = String::from_utf8_lossy(&words).replace('\0', " ");
                format!("{} {words}", process.display())
            })
            .collect()
    }

    fn is_marked(&self, process: &Path) -> bool {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        environment
            .split(|&byte| byte == 0)
            .any(|entry| entry == self.mark.as_bytes())
    }
}

/// All processes but this one, as folders.
fn processes() -> impl Iterator<Item = std::path::PathBuf> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    entries
        .filter(move |entry| {
            let name = entry.file_name();
            name.to_str()
                .is_some_and(|name| number(name) && name != own)
        })
        .map(|entry| entry.path())
}

fn namespaces_of(process: &Path) -> BTreeSet<String> {
    let links = NAMESPACES
        .iter()
        .filter_map(|kind| fs::read_link(process.join("ns").join(kind)).ok());
    links.map(|link| link.display().to_string()).collect()
}
