//! The lab's first two processes: into fresh namespaces, before any thread exists.
//!
//! `inroads lab init` makes user, network, mount, PID, UTS and IPC namespaces and forks. The child is
//! the first process of the new PID namespace: when it ends, for whatever reason, the kernel kills
//! everything inside and removes every link, rule, route and mount. It only reaps; a second fork is
//! where the lab is built ([`crate::world`]). No right of the machine's own is needed or used.

use std::io::{self, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsFd as _;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::process::{self, ExitStatus, SingleThread};
use crate::spec::{LabSpec, Report};
use crate::world;

/// The kernel gave no namespace, or what belongs into one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// User namespaces are off, or not for this user.
    #[error(
        "this machine gives user `{uid}` no user namespace: {source}\n(hint: {})",
        namespace_hint()
    )]
    NoUserNamespace {
        /// The user's id.
        uid: u32,
        /// What the kernel said.
        source: nix::Error,
    },
    /// The API server's port is taken.
    #[error("cannot listen on {address}: {source}\n(hint: choose another port, or 0 for any)")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A step failed.
    #[error("{doing}: {source}")]
    Step {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Boots a lab from the specification on standard input, and ends with it. Whatever happens is reported
/// on standard output.
pub(crate) fn init(single: SingleThread) -> ExitStatus {
    match boot(single) {
        Ok(status) => status,
        Err(error) => {
            report(&Report::Failed(vec![error.to_string()]));
            ExitStatus::FAILURE
        }
    }
}

/// Says something to whoever started the lab. Nobody may be listening any more, which is no error.
pub(crate) fn report(report: &Report) {
    let line = serde_json::to_string(report).expect("a report is plain data");
    drop(writeln!(io::stdout().lock(), "{line}"));
}

fn boot(single: SingleThread) -> Result<ExitStatus, BootError> {
    let spec = read_spec()?;
    // Bound here and not inside: this is the machine's own loopback, where `kubectl` finds it.
    let listener = TcpListener::bind(spec.api_listen).map_err(|source| BootError::Listen {
        address: spec.api_listen,
        source,
    })?;
    enter_namespaces(single)?;
    let first =
        process::fork(single, || first_process(single, spec, listener)).map_err(step("forking"))?;
    report(&Report::Started {
        pid: first.as_raw(),
    });
    process::wait_for(first).map_err(step("waiting for the lab"))
}

/// The life of the first process: it makes the file systems right, starts the world, and reaps.
fn first_process(single: SingleThread, spec: LabSpec, listener: TcpListener) -> ExitStatus {
    let started = process::die_with_parent()
        .map_err(step("tying the lab to its parent"))
        .and_then(|()| mount_own())
        .and_then(|()| {
            process::fork(single, || world::run(spec, listener)).map_err(step("forking"))
        });
    match started.and_then(|world| process::reap_until(world).map_err(step("reaping"))) {
        Ok(status) => status,
        Err(error) => {
            report(&Report::Failed(vec![error.to_string()]));
            ExitStatus::FAILURE
        }
    }
}

/// The specification: the first line, and not a byte more. What follows is the lifeline.
fn read_spec() -> Result<LabSpec, BootError> {
    let mut line = Vec::new();
    for byte in io::stdin().lock().bytes() {
        match byte.map_err(step("reading the specification"))? {
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    serde_json::from_slice(&line)
        .map_err(io::Error::other)
        .map_err(step("reading the specification"))
}

/// Enters fresh namespaces, as root inside. The PID namespace begins with the next fork.
pub(crate) fn enter_namespaces(single: SingleThread) -> Result<(), BootError> {
    let (uid, gid) = (geteuid(), getegid());
    let no_user = |source| BootError::NoUserNamespace {
        uid: uid.as_raw(),
        source,
    };
    if uid.is_root() {
        // Only a process outside can map more than one id, and files of other users must keep theirs.
        map_all_ids(single, no_user)?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER).map_err(no_user)?;
        let write = |file, text: String| {
            std::fs::write(file, text).map_err(step("mapping this user into the namespace"))
        };
        write("/proc/self/setgroups", "deny".to_owned())?;
        write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC,
    )
    .map_err(no_user)
}

/// Enters a user namespace in which every id is what it is outside: a forked helper, still outside,
/// writes the maps.
fn map_all_ids(
    single: SingleThread,
    no_user: impl Fn(nix::Error) -> BootError,
) -> Result<(), BootError> {
    let mapping = step("mapping all users into the namespace");
    let (verdict, tell) = nix::unistd::pipe()
        .map_err(io::Error::from)
        .map_err(&mapping)?;
    let parent = nix::unistd::getpid();
    let helper = process::fork(single, move || {
        let mut told = [0];
        let go = nix::unistd::read(verdict.as_fd(), &mut told) == Ok(1) && told == *ENTERED;
        let copied = go
            && ["uid_map", "gid_map"].iter().all(|map| {
                let ids = std::fs::read_to_string(format!("/proc/self/{map}")).unwrap_or_default();
                std::fs::write(format!("/proc/{parent}/{map}"), identity(&ids)).is_ok()
            });
        if copied {
            ExitStatus::SUCCESS
        } else {
            ExitStatus::FAILURE
        }
    })
    .map_err(&mapping)?;
    let entered = unshare(CloneFlags::CLONE_NEWUSER);
    // The helper holds the writing end too, so the pipe's end would never come: it is told either way.
    let word = if entered.is_ok() { ENTERED } else { STAYED };
    nix::unistd::write(tell.as_fd(), word)
        .map_err(io::Error::from)
        .map_err(&mapping)?;
    let mapped = process::wait_for(helper).map_err(&mapping)?;
    entered.map_err(&no_user)?;
    if mapped == ExitStatus::SUCCESS {
        Ok(())
    } else {
        Err(no_user(nix::Error::EPERM))
    }
}

/// What the helper of [`map_all_ids`] is told.
const ENTERED: &[u8; 1] = b"e";
const STAYED: &[u8; 1] = b"s";

/// A map that leaves every id of `map` (`inside outside count` lines) as it is.
fn identity(map: &str) -> String {
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (inside, _outside, count) = (fields.next()?, fields.next()?, fields.next()?);
        Some(format!("{inside} {inside} {count}\n"))
    };
    map.lines().filter_map(line).collect()
}

/// Mounts that show the new namespaces instead of the machine's: `/proc`, `/sys`, and a `/run` of our
/// own, where all files of the lab are.
fn mount_own() -> Result<(), BootError> {
    let make = |doing,
                source: Option<&str>,
                target: &str,
                kind: Option<&str>,
                flags,
                data: Option<&str>| {
        mount(source, target, kind, flags, data)
            .map_err(io::Error::from)
            .map_err(step(doing))
    };
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    make("detaching the mounts", None, "/", None, private, None)?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    make(
        "mounting /proc",
        Some("proc"),
        "/proc",
        Some("proc"),
        plain,
        None,
    )?;
    make(
        "mounting /run",
        Some("tmpfs"),
        "/run",
        Some("tmpfs"),
        plain ^ MsFlags::MS_NOEXEC,
        Some("mode=755"),
    )?;
    // Only tools that look links up there miss it, so it may be refused.
    drop(make(
        "mounting /sys",
        Some("sysfs"),
        "/sys",
        Some("sysfs"),
        plain,
        None,
    ));
    Ok(())
}

/// What to do about missing user namespaces, by what this machine says of them.
fn namespace_hint() -> String {
    let setting =
        |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
    if setting("kernel/unprivileged_userns_clone").trim() == "0" {
        return "allow them with `sysctl kernel.unprivileged_userns_clone=1`, or run as root"
            .to_owned();
    }
    if setting("kernel/apparmor_restrict_unprivileged_userns").trim() == "1" {
        return "AppArmor restricts them: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or run as root"
            .to_owned();
    }
    if setting("user/max_user_namespaces").trim() == "0" {
        return "none may be made: raise `sysctl user.max_user_namespaces`".to_owned();
    }
    "inside a container, allow `unshare` (Docker: `--security-opt seccomp=unconfined`); or use `--cluster kind`"
        .to_owned()
}

fn step(doing: &'static str) -> impl Fn(io::Error) -> BootError {
    move |source| BootError::Step { doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_map_keeps_ids_whatever_the_outer_map_is() {
        assert_eq!(
            identity("         0          0 4294967295\n"),
            "0 0 4294967295\n"
        );
        assert_eq!(
            identity("0 100000 65536\n65536 1000 1\n"),
            "0 0 65536\n65536 65536 1\n"
        );
    }
}
