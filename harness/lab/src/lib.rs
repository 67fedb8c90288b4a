//! The lab: an embedded, rootless cluster that serves the Kubernetes API.
//!
//! A lab is a tree of processes of this same program in namespaces of their own. `inroads lab …` is what
//! they are started with; [`main`] tells them apart. Nothing of the machine's own network, files or
//! services is touched, and all of it goes when the lab's first process ends, however it ends.

pub mod apiserver;
mod authority;
mod boot;
mod check;
mod cluster_dns;
mod container;
mod control_plane;
mod controllers;
mod enter;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod host;
mod lab;
mod net;
mod node;
mod office;
pub mod pki;
mod process;
mod rootfs;
mod spec;
mod world;

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

pub use check::Finding;
use container::Terminal;
use inroads_harness::role::Role;
pub use lab::{Lab, LabOptions, LabState, Status};
use process::{ExitStatus, SingleThread};

/// What this program can be inside the lab's pods and on its hosts.
#[must_use]
pub fn roles() -> [Role; 2] {
    [cluster_dns::ROLE, office::ROLE]
}

/// What `inroads lab ARGUMENTS` does. It must be called before any thread is started.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let single = match SingleThread::check() {
        Ok(single) => single,
        Err(error) => return complain(&error.to_string(), ExitStatus::FAILURE).into(),
    };
    let status = match words[..] {
        ["init"] => boot::init(single),
        ["check"] => check::run(single),
        ["host", name, folder] => host::hold(name, Path::new(folder)),
        ["office", name, folder] => host::hold_office(name, Path::new(folder)),
        ["node", name, folder] => node::main(name, Path::new(folder)),
        ["control-plane", spec] => control_plane::run(Path::new(spec)),
        ["container", spec] => container::run(single, Path::new(spec)),
        ["exec", spec, shim, terminal, ..] => exec(single, [spec, shim, terminal], &arguments[4..]),
        ["enter", lab, host, how, ..] => enter_host(single, [lab, host, how], &arguments[4..]),
        _ => usage(),
    };
    status.into()
}

/// `enter LAB HOST command PROGRAM …` or `enter LAB HOST self …`, which is this very program.
fn enter_host(single: SingleThread, [lab, host, how]: [&str; 3], rest: &[OsString]) -> ExitStatus {
    let (Ok(lab), Ok(host)) = (lab.parse(), host.parse()) else {
        return usage();
    };
    let place = enter::Place { lab, host };
    match (how, rest) {
        ("self", rest) => enter::enter(single, place, None, rest),
        ("command", [program, rest @ ..]) => {
            enter::enter(single, place, Some(OsStr::new(program)), rest)
        }
        _ => usage(),
    }
}

/// `exec SPEC PROCESS tty PROGRAM …` or `exec SPEC PROCESS pipes PROGRAM …`.
fn exec(
    single: SingleThread,
    [spec, shim, terminal]: [&str; 3],
    command: &[OsString],
) -> ExitStatus {
    let terminal = match terminal {
        "tty" => Terminal::Own,
        "pipes" => Terminal::None,
        _ => return usage(),
    };
    match shim.parse() {
        Ok(shim) => container::exec(single, Path::new(spec), shim, terminal, command),
        Err(_) => usage(),
    }
}

fn usage() -> ExitStatus {
    complain(
        "`inroads lab` is for the lab's own processes\n(hint: see `inroads cluster --help`)",
        ExitStatus(2),
    )
}

fn complain(text: &str, status: ExitStatus) -> ExitStatus {
    let _ = writeln!(std::io::stderr().lock(), "error: {text}");
    status
}
