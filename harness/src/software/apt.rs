//! Debian's and Ubuntu's packages: fetched by apt-get as any user can, and unpacked by dpkg-deb.
//!
//! Which packages are needed is apt's own answer: those that it would install, which are not on the machine.
//! The machine's package lists are used as they are; where they are missing or out of date, a list of our own
//! is fetched beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::Software;
use crate::cluster::{ClusterError, Steps};
use crate::private::using;

/// Longest time to find out what is needed.
const PLAN_LIMIT: Duration = Duration::from_secs(60);

/// Longest time to fetch package lists, and packages.
const FETCH_LIMIT: Duration = Duration::from_secs(180);

/// Longest time to unpack one package.
const UNPACK_LIMIT: Duration = Duration::from_secs(60);

/// How many of the last lines that apt-get wrote stand in an error.
const TAIL: usize = 3;

/// Which package lists are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lists {
    Machine,
    Own,
}

/// Unpacks the packages of `software`, and what they need beyond what the machine has, into `tree`. `work` is
/// for files that may go afterwards.
pub(super) async fn unpack(
    software: &Software,
    work: &Path,
    tree: &Path,
    progress: Steps<'_>,
) -> Result<(), ClusterError> {
    for tool in ["apt-get", "dpkg-deb"] {
        if !is_on_path(tool) {
            let reason = format!("this machine has no `{tool}` to fetch it with");
            return Err(missing(software, &reason));
        }
    }
    let packages = software.packages.join(", ");
    progress(&format!(
        "fetching {packages} with apt-get, once: nothing is installed"
    ));
    let folder = match download(software, work, Lists::Machine).await {
        Ok(folder) => folder,
        Err(first) => {
            tracing::debug!(reason = first, "the machine's package lists do not do");
            progress(&format!("fetching package lists, for {packages}"));
            let second = download(software, work, Lists::Own).await;
            second.map_err(|reason| missing(software, &reason))?
        }
    };
    for package in packages_in(&folder)? {
        let mut command = Command::new("dpkg-deb");
        command.arg("--extract").arg(&package).arg(tree);
        run(command, UNPACK_LIMIT)
            .await
            .map_err(|reason| missing(software, &reason))?;
    }
    Ok(())
}

/// Fetches the packages and returns the folder they are in.
async fn download(software: &Software, work: &Path, lists: Lists) -> Result<PathBuf, String> {
    let apt = Apt::new(work, lists).map_err(|error| error.to_string())?;
    if lists == Lists::Own {
        run(apt.command(&["update"]), FETCH_LIMIT).await?;
    }
    let mut planning = apt.command(&["install", "--simulate", "--no-install-recommends"]);
    planning.args(software.packages);
    let needed = parse_plan(&run(planning, PLAN_LIMIT).await?);
    if needed.is_empty() {
        return Err("apt-get holds it for installed, and yet it is not on the PATH".to_owned());
    }
    let folder = work.join(match lists {
        Lists::Machine => "packages",
        Lists::Own => "packages-by-own-lists",
    });
    fs::create_dir(&folder).map_err(|error| format!("making `{}`: {error}", folder.display()))?;
    let mut fetching = apt.command(&["download"]);
    fetching.args(needed).current_dir(&folder);
    run(fetching, FETCH_LIMIT).await?;
    Ok(folder)
}

/// apt-get with a cache, and where need be a state, of its own.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(work: &Path, lists: Lists) -> std::io::Result<Self> {
        let (cache, state) = (work.join("cache"), work.join("state"));
        fs::create_dir_all(cache.join("archives/partial"))?;
        fs::create_dir_all(state.join("lists/partial"))?;
        let mut options = vec![
            format!("Dir::Cache={}", cache.display()),
            // The user for downloads could not write here; nothing is run with more rights than ours.
            "APT::Sandbox::User=root".to_owned(),
            "Debug::NoLocking=1".to_owned(),
            "Acquire::Retries=1".to_owned(),
            "Acquire::http::Timeout=20".to_owned(),
            "Acquire::https::Timeout=20".to_owned(),
        ];
        if lists == Lists::Own {
            options.push(format!("Dir::State={}", state.display()));
            options.push("Dir::State::status=/var/lib/dpkg/status".to_owned());
        }
        Ok(Self { options })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("apt-get");
        command.arg("--quiet").args(arguments);
        for option in &self.options {
            command.args(["--option", option]);
        }
        command
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

/// `name=version` of each line such as `Inst libfoo (1.2-3 Debian:12/stable [amd64])`, or, where another
/// version is there, `Inst libfoo [1.2-2] (1.2-3 …)`.
fn parse_plan(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
            let (_, version) = rest.split_once('(')?;
            let version = version.split_ascii_whitespace().next()?;
            Some(format!("{name}={version}"))
        })
        .collect()
}

fn packages_in(folder: &Path) -> Result<Vec<PathBuf>, ClusterError> {
    let entries = fs::read_dir(folder).map_err(using(folder))?.flatten();
    let mut packages: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    packages.sort();
    Ok(packages)
}

/// Runs a command and gives what it printed; the error is what it said last, in one line.
async fn run(mut command: Command, limit: Duration) -> Result<String, String> {
    let name = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(limit, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("`{name}` could not be started: {error}")),
        Err(_elapsed) => return Err(format!("`{name}` took longer than {} s", limit.as_secs())),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(TAIL)..];
    Err(format!("`{name}` says: {}", last.join(" | ")))
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn missing(software: &Software, reason: &str) -> ClusterError {
    ClusterError::Missing {
        what: format!("there is no `{}` here: {reason}", software.server),
        hint: format!(
            "install it, so that it is on the PATH (Debian, Ubuntu: `apt-get install {}`)",
            software.packages.join(" ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_install_is_read_with_its_version() {
        let text = "NOTE: This is only a simulation!\nInst libjemalloc2 (5.3.0-1 Debian:12.9/stable [amd64])\n\
                    Inst redis-tools [5:7.0.14] (5:7.0.15-1~deb12u10 Debian-Security:12/stable-security [amd64]) []\n\
                    Conf libjemalloc2 (5.3.0-1 Debian:12.9/stable [amd64])\n";
        assert_eq!(
            parse_plan(text),
            ["libjemalloc2=5.3.0-1", "redis-tools=5:7.0.15-1~deb12u10"]
        );
    }

    #[tokio::test]
    async fn a_tool_that_fails_says_why_in_one_line() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'E: first' >&2; echo 'E: second' >&2; exit 100"]);
        let error = run(command, PLAN_LIMIT).await.unwrap_err();
        assert_eq!(error, "`sh` says: E: first | E: second");
    }

    #[tokio::test]
    async fn a_tool_that_hangs_is_given_up() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let error = run(command, Duration::from_millis(50)).await.unwrap_err();
        assert!(error.contains("took longer"), "{error}");
    }
}
