//! What this program can be inside a pod or on a host of the lab: one hidden subcommand for each role.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use tokio::signal::unix::{SignalKind, signal};

/// A long-running part that `inroads agent NAME` starts.
#[derive(Debug, Clone, Copy)]
pub struct Role {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, one line.
    pub about: &'static str,
    /// Runs it with the arguments behind its name, until it is told to stop.
    pub run: fn(Vec<String>) -> RoleFuture,
}

/// A role at work.
pub type RoleFuture = Pin<Box<dyn Future<Output = Result<(), RoleError>> + Send>>;

/// Why a role ended early.
pub type RoleError = Box<dyn std::error::Error + Send + Sync>;

/// This program, as it was started: the file may have been replaced since.
#[must_use]
pub fn this_program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"))
}

/// Returns when this process is told to stop. A role in a pod is the first process there, which no signal
/// ends that it does not ask for.
///
/// # Errors
/// Where the kernel does not let it ask.
pub async fn told_to_stop() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
