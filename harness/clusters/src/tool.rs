//! Other programs, run to their end: what they write to standard error is the reason where they fail.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use inroads_harness::cluster::ClusterError;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

/// How many of the last lines that a program wrote stand in an error.
const TAIL: usize = 8;

/// A program at work for us. It is in a process group of its own, so that an interrupt at the terminal
/// reaches the controller alone, which then ends things in order.
pub(crate) struct Tool {
    command: Command,
    input: Input,
}

enum Input {
    Nothing,
    Text(Vec<u8>),
    File(std::fs::File),
}

impl Tool {
    /// `program`, found on `path`.
    pub(crate) fn new(program: &str, path: &OsStr) -> Self {
        let mut command = Command::new(program);
        command
            .env("PATH", path)
            .process_group(0)
            .kill_on_drop(true);
        Self {
            command,
            input: Input::Nothing,
        }
    }

    pub(crate) fn args<I, S>(mut self, arguments: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.command.args(arguments);
        self
    }

    /// Gives it `text` as its input.
    pub(crate) fn input(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Text(text.into());
        self
    }

    /// Gives it a file as its input.
    pub(crate) fn input_file(mut self, file: std::fs::File) -> Self {
        self.input = Input::File(file);
        self
    }

    /// Runs it and gives what it printed.
    ///
    /// # Errors
    /// Where it cannot be started or fails; `doing` says at what.
    pub(crate) async fn run(self, doing: &str) -> Result<String, ClusterError> {
        self.follow(doing, |_| {}).await
    }

    /// The same, within `limit`.
    pub(crate) async fn run_within(
        self,
        limit: Duration,
        doing: &str,
        hint: &str,
    ) -> Result<String, ClusterError> {
        tokio::time::timeout(limit, self.run(doing))
            .await
            .unwrap_or_else(|_elapsed| Err(timed_out(doing, limit, hint)))
    }

    /// Runs it; `heard` gets each line that it writes to standard error.
    pub(crate) async fn follow(
        mut self,
        doing: &str,
        mut heard: impl FnMut(&str),
    ) -> Result<String, ClusterError> {
        let failed = || ClusterError::while_doing::<std::io::Error>(doing);
        let (stdin, text) = match self.input {
            Input::Nothing => (Stdio::null(), Vec::new()),
            Input::Text(text) => (Stdio::piped(), text),
            Input::File(file) => (Stdio::from(file), Vec::new()),
        };
        let mut child = self
            .command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed())?;
        let mut group = Group(child.id());
        let (input, output, errors) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let write = async {
            // A program that does not read its input to the end says why by itself.
            if let Some(mut input) = input {
                drop(input.write_all(&text).await);
            }
        };
        let read = async {
            let mut printed = Vec::new();
            if let Some(mut output) = output {
                output.read_to_end(&mut printed).await?;
            }
            Ok::<_, std::io::Error>(printed)
        };
        let listen = async {
            let mut said = Vec::new();
            if let Some(errors) = errors {
                let mut lines = BufReader::new(errors).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    tracing::debug!(target: "tool", "{line}");
                    heard(&line);
                    said.push(line);
                }
            }
            said
        };
        let ((), printed, said) = tokio::join!(write, read, listen);
        let status = child.wait().await.map_err(failed())?;
        group.0 = None;
        if status.success() {
            return Ok(String::from_utf8_lossy(&printed.map_err(failed())?).into_owned());
        }
        let last = said.len().saturating_sub(TAIL);
        let said: Vec<&str> = said[last..].iter().map(|line| line.trim()).collect();
        let reason = if said.is_empty() {
            status.to_string()
        } else {
            said.join(" | ")
        };
        Err(ClusterError::while_doing(doing)(reason))
    }
}

/// A program's process group, which ends with this: kind's own children must not go on without it. None where the
/// program has ended, and its number may be another's.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(group) = group {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// A phase took too long.
pub(crate) fn timed_out(phase: &str, limit: Duration, hint: &str) -> ClusterError {
    ClusterError::TimedOut {
        phase: phase.to_owned(),
        limit_s: limit.as_secs(),
        hint: hint.to_owned(),
    }
}

/// Whether `name` is a program on `path`.
pub(crate) fn is_there(name: &str, path: &OsStr) -> bool {
    std::env::split_paths(path).any(|folder| folder.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Tool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Tool::new("sh", &path).args(["-c", script])
    }

    #[tokio::test]
    async fn what_a_program_says_last_is_why_it_failed() {
        let error = shell("echo printed; echo no space left >&2; exit 3")
            .run("making a thing")
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "making a thing");
        let cause = std::error::Error::source(&error).unwrap();
        assert_eq!(cause.to_string(), "no space left");
    }

    #[tokio::test]
    async fn input_goes_in_and_output_comes_out() {
        let printed = shell("cat").input("text").run("copying").await.unwrap();
        assert_eq!(printed, "text");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended_and_the_phase_is_named() {
        let limit = Duration::from_millis(50);
        let ended = shell("sleep 60").run_within(limit, "waiting", "look").await;
        let error = ended.unwrap_err().to_string();
        assert!(error.starts_with("waiting took longer than"), "{error}");
    }
}
