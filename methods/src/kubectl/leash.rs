//! A program that ends with whoever started it, however that ends.
//!
//! The kernel's request for that is made by the process itself, and kubectl knows nothing of it; so this
//! program makes it and then becomes the other.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use inroads_harness::role::{Role, RoleError, RoleFuture};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// The role's name.
const NAME: &str = "leashed";

/// The role of this module.
pub(crate) const ROLE: Role = Role {
    name: NAME,
    about: "another program, which ends with who started it: PARENT PROGRAM [ARGUMENT…]",
    run: |arguments| -> RoleFuture { Box::pin(async move { run(&arguments) }) },
};

/// A command for `program` that ends with this process.
pub(super) fn command(program: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("/proc/self/exe");
    let parent = std::process::id().to_string();
    command.args(["agent", NAME, &parent, program]);
    command
}

fn run(arguments: &[String]) -> Result<(), RoleError> {
    let [parent, program, rest @ ..] = arguments else {
        return Err("it is told who started it, and what to run".into());
    };
    set_pdeathsig(Signal::SIGKILL)?;
    // It may have ended before the kernel was asked.
    if getppid().to_string() != *parent {
        return Err("who started it is gone".into());
    }
    let error = Command::new(program).args(rest).exec();
    Err(format!("running `{program}`: {error}").into())
}
