//! A command beside a host of a running lab, as `nsenter` does it: the caller's terminal and standard
//! streams, the host's network, files and processes.

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::Mode;

use crate::process::{self, ExitStatus, SingleThread};

/// Where a command goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The lab's first process, as this process sees it.
    pub(crate) lab: i32,
    /// The host's process, as the lab sees it.
    pub(crate) host: i32,
}

/// Runs `command` in `place` and ends as it ends. `None` as its first word is this very program.
pub(crate) fn enter(
    single: SingleThread,
    place: Place,
    program: Option<&OsStr>,
    arguments: &[OsString],
) -> ExitStatus {
    match try_enter(single, place, program, arguments) {
        Ok(status) => status,
        Err(error) => {
            drop(writeln!(
                io::stderr().lock(),
                "error: entering the lab: {error}\n(hint: is it still there? `inroads cluster status` tells)"
            ));
            ExitStatus::NOT_EXECUTED
        }
    }
}

fn try_enter(
    single: SingleThread,
    place: Place,
    program: Option<&OsStr>,
    arguments: &[OsString],
) -> io::Result<ExitStatus> {
    let folder = std::env::current_dir().ok();
    join(place.lab, &["user", "mnt", "pid", "ipc"])?;
    let child = process::fork(single, || {
        match be_inside(place.host, folder.as_deref(), program, arguments) {
            Ok(never) => match never {},
            Err(error) => {
                let name = program
                    .unwrap_or(OsStr::new("inroads"))
                    .to_string_lossy()
                    .into_owned();
                drop(writeln!(
                    io::stderr().lock(),
                    "error: running `{name}` in the lab: {error}"
                ));
                if error.kind() == io::ErrorKind::NotFound {
                    ExitStatus::NOT_FOUND
                } else {
                    ExitStatus::NOT_EXECUTED
                }
            }
        }
    })?;
    // What the terminal sends goes to the command too; this process only carries its status on.
    for ignored in [Signal::SIGINT, Signal::SIGQUIT] {
        #[expect(unsafe_code, reason = "signal dispositions have no safe form")]
        // SAFETY: ignoring a signal runs no handler.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    process::wait_for(child)
}

/// The forked child, now in the lab's PID namespace: joins the host and becomes the command.
fn be_inside(
    host: i32,
    folder: Option<&Path>,
    program: Option<&OsStr>,
    arguments: &[OsString],
) -> io::Result<std::convert::Infallible> {
    process::die_with_parent()?;
    join(host, &["net", "uts", "mnt"])?;
    // Joining a mount namespace starts at its root.
    if folder.is_none_or(|folder| nix::unistd::chdir(folder).is_err()) {
        nix::unistd::chdir("/")?;
    }
    let name = c_string(program.unwrap_or(OsStr::new("inroads")))?;
    let mut words = vec![name.clone()];
    for argument in arguments {
        words.push(c_string(argument)?);
    }
    match program {
        Some(_) => Ok(nix::unistd::execvp(&name, &words)?),
        None => Ok(nix::unistd::execv(c"/proc/self/exe", &words)?),
    }
}

/// Joins the namespaces `kinds` of process `pid`, in that order.
pub(crate) fn join(pid: i32, kinds: &[&str]) -> io::Result<()> {
    let open_one = |kind: &&str| {
        let path = PathBuf::from(format!("/proc/{pid}/ns/{kind}"));
        open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(|error| {
            io::Error::new(
                io::Error::from(error).kind(),
                format!("{}: {error}", path.display()),
            )
        })
    };
    // All are opened before any is joined: afterwards `/proc` may be another.
    let namespaces = kinds.iter().map(open_one).collect::<io::Result<Vec<_>>>()?;
    for namespace in namespaces {
        setns(namespace, CloneFlags::empty())?;
    }
    Ok(())
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(io::Error::other)
}
