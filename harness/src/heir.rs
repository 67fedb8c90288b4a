//! A process that outlives this one, however this one ends, and settles what it leaves.
//!
//! It is this very program in one of its roles. Nothing tells it but the end of its input, which the kernel sees to
//! when this process is gone.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use crate::role::this_program;

/// It goes to work when this is dropped.
#[derive(Debug)]
pub struct Heir(Child);

impl Heir {
    /// Starts this program in `role`, with what it is to settle.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn appoint(role: &str, estate: impl AsRef<OsStr>) -> io::Result<Self> {
        let mut command = Command::new(this_program());
        command
            .args(["agent", role])
            .arg(estate)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What a terminal sends is not for it: it ends by itself when nothing is left to do.
            .process_group(0);
        command.spawn().map(Self)
    }

    /// Sends it to work, and waits until it has ended.
    pub fn dismiss(mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

/// Waits, as an heir, for the end of who appointed it.
///
/// # Errors
/// Where its input cannot be read.
pub async fn succeed() -> io::Result<()> {
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    Ok(())
}
