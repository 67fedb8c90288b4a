//! Processes: forking where namespaces demand it, and dying with one's parent.

use std::io;
use std::process::ExitCode;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};

/// That this process has one thread, and so may fork: a fork copies the locks of all threads, and one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SingleThread(());

impl SingleThread {
    /// Finds it out. It stays true in the lab's small processes, none of which starts a thread.
    pub(crate) fn check() -> io::Result<Self> {
        match std::fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(())),
            threads => Err(io::Error::other(format!(
                "cannot fork with {threads} threads"
            ))),
        }
    }
}

/// Runs `child` in a forked process, which ends with what it returns, and returns its process id.
pub(crate) fn fork(_single: SingleThread, child: impl FnOnce() -> ExitStatus) -> io::Result<Pid> {
    #[expect(
        unsafe_code,
        reason = "namespaces of processes need a fork, which has no safe form"
    )]
    // SAFETY: `_single` says that this process has one thread, so the child holds no lock that nobody will release.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            #[expect(
                clippy::exit,
                reason = "a forked child must not return into its parent's code"
            )]
            std::process::exit(status.unwrap_or(ExitStatus(101)).0.into())
        }
    }
}

/// What a process ended with: its exit code, or 128 and the signal's number, as shells have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExitStatus(pub(crate) u8);

impl ExitStatus {
    pub(crate) const SUCCESS: Self = Self(0);
    pub(crate) const FAILURE: Self = Self(1);
    /// The shells' code for a command that could not be executed.
    pub(crate) const NOT_EXECUTED: Self = Self(126);
    /// The shells' code for a command that was not found.
    pub(crate) const NOT_FOUND: Self = Self(127);
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.0)
    }
}

/// Waits until `child` has ended.
pub(crate) fn wait_for(child: Pid) -> io::Result<ExitStatus> {
    loop {
        match waitpid(child, None) {
            Ok(status) => {
                if let Some(ended) = exit_status(status) {
                    return Ok(ended);
                }
            }
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reaps every process that ends below this one until `child` has: the duty of a first process.
pub(crate) fn reap_until(child: Pid) -> io::Result<ExitStatus> {
    loop {
        match waitpid(None, None) {
            Ok(status) if status.pid() == Some(child) => {
                if let Some(ended) = exit_status(status) {
                    return Ok(ended);
                }
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Asks the kernel to kill this process when its parent ends, by whatever cause.
pub(crate) fn die_with_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
}

pub(crate) fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    match status {
        WaitStatus::Exited(_, code) => {
            Some(ExitStatus(u8::try_from(code & 0xff).unwrap_or(u8::MAX)))
        }
        WaitStatus::Signaled(_, signal, _) => Some(ExitStatus(
            128_u8.saturating_add(u8::try_from(signal as i32).unwrap_or(127)),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        // The test harness itself runs this on a second thread.
        let error = SingleThread::check().unwrap_err();
        assert!(error.to_string().contains("threads"), "{error}");
    }

    #[test]
    fn a_signal_counts_as_shells_count_it() {
        let killed = WaitStatus::Signaled(Pid::from_raw(1), Signal::SIGKILL, false);
        assert_eq!(exit_status(killed), Some(ExitStatus(137)));
        assert_eq!(
            exit_status(WaitStatus::Exited(Pid::from_raw(1), 3)),
            Some(ExitStatus(3))
        );
    }
}
