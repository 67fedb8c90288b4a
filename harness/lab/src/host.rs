//! A host of the lab outside the cluster: a network, a resolver and a name of its own, held by a process
//! that does nothing else. `inroads lab enter` puts commands beside it.

use std::io::{Read as _, Write as _};
use std::path::Path;

use nix::sched::{CloneFlags, unshare};

use crate::office;
use crate::process::ExitStatus;
use crate::rootfs;

/// Becomes the host `name` and stays until standard input ends. The network namespace is the one that the
/// process was started in; `folder` holds the resolver's files.
pub(crate) fn hold(name: &str, folder: &Path) -> ExitStatus {
    match become_host(name, folder) {
        Ok(()) => {
            drop(std::io::stdin().lock().read_to_end(&mut Vec::new()));
            ExitStatus::SUCCESS
        }
        Err(error) => {
            drop(writeln!(std::io::stderr().lock(), "host `{name}`: {error}"));
            ExitStatus::FAILURE
        }
    }
}

/// The same for the office's server, which serves.
pub(crate) fn hold_office(name: &str, folder: &Path) -> ExitStatus {
    let serve = || -> Result<(), Box<dyn std::error::Error>> {
        become_host(name, folder)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(runtime.block_on(office::run_office(office::Settings::default()))?)
    };
    match serve() {
        Ok(()) => ExitStatus::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr().lock(), "host `{name}`: {error}"));
            ExitStatus::FAILURE
        }
    }
}

/// Gives this process mount and UTS namespaces of its own, with the files of a host.
///
/// # Errors
/// Where the kernel refuses one of the steps; the message names it.
pub(crate) fn become_host(name: &str, folder: &Path) -> Result<(), HostError> {
    unshare_host(name)?;
    Ok(rootfs::become_host(folder)?)
}

/// The same for a node.
///
/// # Errors
/// As [`become_host`].
pub(crate) fn become_node(name: &str, folder: &Path) -> Result<(), HostError> {
    unshare_host(name)?;
    Ok(rootfs::become_node(folder)?)
}

/// A process could not become a host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error("making the host's namespaces: {0}")]
    Namespaces(#[from] nix::Error),
    #[error(transparent)]
    Files(#[from] rootfs::FileError),
}

fn unshare_host(name: &str) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?;
    nix::unistd::sethostname(name)
}
