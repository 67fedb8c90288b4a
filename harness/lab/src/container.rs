//! A container: one program in mount, PID, UTS and IPC namespaces of its own, in the network namespace of
//! its pod, with its files and its capabilities and no more.
//!
//! `inroads lab container SPEC` makes the namespaces, starts the program as their first process, passes
//! SIGTERM on to it, and ends as it ends. When it is killed, the program is killed with it.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::{AccessFlags, Pid};
use serde::{Deserialize, Serialize};

use crate::enter;
use crate::process::{self, ExitStatus, SingleThread};
use crate::rootfs::{self, Volume};

/// What a container is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerSpec {
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// Its environment, whole.
    pub(crate) environment: Vec<(String, String)>,
    /// Its working folder.
    pub(crate) folder: PathBuf,
    /// The pod's host name.
    pub(crate) hostname: String,
    /// The folder with the pod's `resolv.conf`, `hosts` and `hostname`.
    pub(crate) resolver: PathBuf,
    /// What it finds at paths of its own.
    pub(crate) volumes: Vec<Volume>,
    /// What it may do beyond an ordinary process.
    pub(crate) capabilities: Capabilities,
}

/// The capabilities of a container (`securityContext`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capabilities {
    /// `privileged`: all of them.
    pub(crate) all: bool,
    /// `capabilities.add`, such as `NET_ADMIN`, or `ALL`.
    pub(crate) add: Vec<String>,
    /// `capabilities.drop`, likewise.
    pub(crate) drop: Vec<String>,
}

/// What containers have by default: the set that containerd and Docker give.
const DEFAULT: [Capability; 14] = [
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_CHROOT,
];

impl Capabilities {
    /// The set they come to. Names that do not exist are left out: the API server refuses them before.
    fn resolve(&self) -> CapsHashSet {
        let all = caps::all();
        if self.all {
            return all;
        }
        let named = |names: &[String]| -> CapsHashSet {
            if names.iter().any(|name| name == "ALL") {
                return all.clone();
            }
            names
                .iter()
                .filter_map(|name| Capability::from_str(&format!("CAP_{name}")).ok())
                .collect()
        };
        let base: CapsHashSet = DEFAULT.into_iter().collect();
        let kept: CapsHashSet = base.difference(&named(&self.drop)).copied().collect();
        kept.union(&named(&self.add)).copied().collect()
    }
}

/// Runs the container that the file `spec` describes, and ends as its program ends.
pub(crate) fn run(single: SingleThread, spec: &Path) -> ExitStatus {
    match try_run(single, spec) {
        Ok(status) => status,
        Err(error) => {
            drop(writeln!(io::stderr().lock(), "container: {error}"));
            ExitStatus::NOT_EXECUTED
        }
    }
}

fn try_run(single: SingleThread, spec: &Path) -> Result<ExitStatus, Box<dyn std::error::Error>> {
    let spec: ContainerSpec = serde_json::from_slice(&std::fs::read(spec)?)?;
    // Blocked here and taken one by one below, so that none is lost between the fork and the wait.
    let handled: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]
        .into_iter()
        .collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&handled), None)?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC,
    )?;
    let child = process::fork(single, move || match become_program(&spec, &handled) {
        Ok(never) => match never {},
        Err(error) => {
            drop(writeln!(
                io::stderr().lock(),
                "container: starting `{}`: {error}",
                spec.command.join(" ")
            ));
            ExitStatus::NOT_FOUND
        }
    })?;
    carry_signals(child, &handled)
}

/// How a command is put beside a container's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// It has pipes.
    None,
    /// Its standard input is a terminal of its own.
    Own,
}

/// Runs `command` in the container whose process [`run`] is `shim`, with what the file `spec` gives it,
/// and ends as it ends.
pub(crate) fn exec(
    single: SingleThread,
    spec: &Path,
    shim: i32,
    terminal: Terminal,
    command: &[OsString],
) -> ExitStatus {
    let outcome = try_exec(single, spec, shim, terminal, command);
    outcome.unwrap_or_else(|error| {
        drop(writeln!(io::stderr().lock(), "exec: {error}"));
        ExitStatus::NOT_EXECUTED
    })
}

fn try_exec(
    single: SingleThread,
    spec: &Path,
    shim: i32,
    terminal: Terminal,
    command: &[OsString],
) -> Result<ExitStatus, Box<dyn std::error::Error>> {
    let spec: ContainerSpec = serde_json::from_slice(&std::fs::read(spec)?)?;
    let children = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children"))?;
    let first = children
        .split_ascii_whitespace()
        .next()
        .ok_or("the container has ended")?
        .parse()?;
    if terminal == Terminal::Own {
        nix::unistd::setsid()?;
        rustix::process::ioctl_tiocsctty(io::stdin())?;
    }
    enter::join(first, &["net", "uts", "ipc", "pid", "mnt"])?;
    let child = process::fork(single, || match become_command(&spec, command) {
        Ok(never) => match never {},
        Err(error) => {
            let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
            drop(writeln!(
                io::stderr().lock(),
                "exec: `{}`: {error}",
                words.join(" ")
            ));
            ExitStatus::NOT_FOUND
        }
    })?;
    Ok(process::wait_for(child)?)
}

fn become_command(
    spec: &ContainerSpec,
    command: &[OsString],
) -> Result<std::convert::Infallible, Box<dyn std::error::Error>> {
    process::die_with_parent()?;
    nix::unistd::chdir(&spec.folder)?;
    limit(&spec.capabilities.resolve())?;
    let words = command
        .iter()
        .map(|word| CString::new(word.as_bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    let program = found(words.first().ok_or("there is no command")?, spec)?;
    Ok(nix::unistd::execve(&program, &words, &environment(spec)?)?)
}

/// Where the program `name` is: on the PATH of the container, which is not that of this process (`execvpe` would
/// look there).
fn found(name: &CStr, spec: &ContainerSpec) -> Result<CString, io::Error> {
    let name = OsStr::from_bytes(name.to_bytes());
    let path = spec
        .environment
        .iter()
        .find_map(|(key, value)| (key == "PATH").then_some(value.as_str()));
    let file = if name.as_bytes().contains(&b'/') {
        PathBuf::from(name)
    } else {
        std::env::split_paths(path.unwrap_or_default())
            .map(|folder| folder.join(name))
            .find(|file| nix::unistd::access(file, AccessFlags::X_OK).is_ok() && file.is_file())
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?
    };
    Ok(CString::new(file.into_os_string().into_vec())?)
}

/// The container's environment as `execve` takes it.
fn environment(spec: &ContainerSpec) -> Result<Vec<CString>, std::ffi::NulError> {
    spec.environment
        .iter()
        .map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect()
}

/// Passes signals on to the program until it has ended.
fn carry_signals(child: Pid, handled: &SigSet) -> Result<ExitStatus, Box<dyn std::error::Error>> {
    loop {
        match handled.wait()? {
            Signal::SIGCHLD => {
                let status = nix::sys::wait::waitpid(child, Some(WaitPidFlag::WNOHANG))?;
                if let Some(ended) = process::exit_status(status) {
                    return Ok(ended);
                }
            }
            signal => drop(kill(child, signal)),
        }
    }
}

/// The first process of the container's namespaces: prepares them and becomes the program.
fn become_program(
    spec: &ContainerSpec,
    blocked: &SigSet,
) -> Result<std::convert::Infallible, Box<dyn std::error::Error>> {
    process::die_with_parent()?;
    nix::unistd::sethostname(&spec.hostname)?;
    let program = std::fs::read_link("/proc/self/exe")?;
    rootfs::become_container(&program, &spec.resolver, &spec.volumes)?;
    nix::unistd::chdir(&spec.folder)?;
    nix::unistd::setsid()?;
    limit(&spec.capabilities.resolve())?;
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(blocked), None)?;
    let words = spec
        .command
        .iter()
        .map(|word| CString::new(word.as_str()))
        .collect::<Result<Vec<_>, _>>()?;
    let program = found(words.first().ok_or("it has no command")?, spec)?;
    Ok(nix::unistd::execve(&program, &words, &environment(spec)?)?)
}

/// Gives up every capability but `kept`, for good.
fn limit(kept: &CapsHashSet) -> Result<(), Box<dyn std::error::Error>> {
    let has = caps::read(None, CapSet::Bounding)?;
    for capability in has.difference(kept) {
        caps::drop(None, CapSet::Bounding, *capability)?;
    }
    let may: CapsHashSet = has.intersection(kept).copied().collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())?;
    caps::set(None, CapSet::Effective, &may)?;
    caps::set(None, CapSet::Permitted, &may)?;
    nix::sys::prctl::set_no_new_privs()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(add: &[&str], drop: &[&str]) -> CapsHashSet {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Capabilities {
            all: false,
            add: owned(add),
            drop: owned(drop),
        }
        .resolve()
    }

    #[test]
    fn a_program_is_looked_for_on_the_path_of_the_container() {
        let folder = tempfile::tempdir().unwrap();
        let spec = |path: &std::path::Path| ContainerSpec {
            command: Vec::new(),
            environment: vec![("PATH".to_owned(), path.display().to_string())],
            folder: PathBuf::from("/"),
            hostname: String::new(),
            resolver: PathBuf::new(),
            volumes: Vec::new(),
            capabilities: Capabilities::default(),
        };
        let program = folder.path().join("only-here");
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        assert!(
            found(c"only-here", &spec(folder.path())).is_err(),
            "it is not executable"
        );
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let expected = CString::new(program.as_os_str().as_bytes()).unwrap();
        assert_eq!(found(c"only-here", &spec(folder.path())).unwrap(), expected);
        assert!(found(c"only-here", &spec(std::path::Path::new("/bin"))).is_err());
        assert_eq!(
            found(c"./x", &spec(folder.path())).unwrap(),
            c"./x".to_owned()
        );
    }

    #[test]
    fn a_container_has_what_it_asks_for_and_no_more() {
        assert!(!of(&[], &[]).contains(&Capability::CAP_NET_ADMIN));
        assert!(of(&["NET_ADMIN"], &[]).contains(&Capability::CAP_NET_ADMIN));
        assert!(!of(&[], &["NET_RAW"]).contains(&Capability::CAP_NET_RAW));
        assert_eq!(
            of(&["NET_ADMIN"], &["ALL"]),
            CapsHashSet::from([Capability::CAP_NET_ADMIN])
        );
    }
}
