//! What this program can be inside a pod or on a host of the lab: one hidden subcommand for each role.

use std::future::Future;
use std::pin::Pin;

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
