//! One kubectl process: what it is started with, when it is ready, and what it said when it ended.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::kubeconfig::{self, Kubeconfig};
use super::{PROGRAM, leash, said};

/// Longest time until one listens: the machine may be busy with others that start.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Longest time for an answer that needs no cluster.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What a dead process wrote may still be on its way.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How many of the last lines on standard error are kept, and how much of each, in characters.
const TAIL: (usize, usize) = (2, 400);

/// What makes a program go elsewhere than to the API server that it is told.
const DETOURS: [&str; 6] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// What a kubectl is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// `kubectl port-forward`
    PortForward {
        namespace: String,
        /// Such as `pod/web-0`.
        object: String,
        /// Its ports, those of a Service as the Service has them.
        ports: Vec<u16>,
    },
    /// `kubectl proxy`
    Proxy,
}

/// A kubectl that listens.
pub(super) struct Running {
    /// Where it listens, in the order of the job's ports.
    pub(super) locals: Vec<SocketAddr>,
    child: Child,
    stderr: Stderr,
    _stdout: AbortOnDropHandle<()>,
}

/// It could not be brought to listen.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("starting `{job}`")]
    Spawn {
        job: Job,
        #[source]
        source: io::Error,
    },
    #[error("`{job}` ended before it listened, {ended}")]
    Ended { job: Job, ended: String },
    #[error("`{job}` says that it listens for port {said} where {asked} was asked for")]
    OtherPort { job: Job, said: u16, asked: u16 },
    #[error("`{job}` did not listen within {} s{said}", START_LIMIT.as_secs())]
    TimedOut { job: Job, said: String },
}

impl Job {
    /// The words behind the program's name. With `locals`, it is to listen there.
    fn words(&self, locals: Option<&[SocketAddr]>) -> Vec<String> {
        let local = |index: usize| locals.and_then(|all| all.get(index)).map(SocketAddr::port);
        match self {
            Self::PortForward {
                namespace,
                object,
                ports,
            } => {
                let mut words = ["port-forward", "--address=127.0.0.1"]
                    .map(str::to_owned)
                    .to_vec();
                words.push(format!("--namespace={namespace}"));
                words.push(object.clone());
                words.extend(ports.iter().enumerate().map(|(index, port)| {
                    let local = local(index).map(|local| local.to_string());
                    format!("{}:{port}", local.unwrap_or_default())
                }));
                words
            }
            Self::Proxy => vec![
                "proxy".to_owned(),
                "--address=127.0.0.1".to_owned(),
                format!("--port={}", local(0).unwrap_or(0)),
            ],
        }
    }

    /// How many listeners it opens.
    fn listeners(&self) -> usize {
        match self {
            Self::PortForward { ports, .. } => ports.len(),
            Self::Proxy => 1,
        }
    }

    /// Where it listens, if `line` says so of its listener number `index`.
    fn listener(&self, line: &str, index: usize) -> Result<Option<SocketAddr>, StartError> {
        let Self::PortForward { object, ports, .. } = self else {
            return Ok(said::serving(line));
        };
        let Some(found) = said::forwarding(line) else {
            return Ok(None);
        };
        // Of a pod, the number is the one that was asked for; a Service may lead to another.
        let asked = ports.get(index).copied().unwrap_or_default();
        if object.starts_with("pod/") && found.pod_port != asked {
            return Err(StartError::OtherPort {
                job: self.clone(),
                said: found.pod_port,
                asked,
            });
        }
        Ok(Some(found.local))
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PortForward { object, .. } => write!(f, "{PROGRAM} port-forward {object}"),
            Self::Proxy => write!(f, "{PROGRAM} proxy"),
        }
    }
}

impl Running {
    /// Starts one and waits until it listens: at `locals`, or where it likes.
    pub(super) async fn start(
        job: &Job,
        kubeconfig: &Kubeconfig,
        locals: Option<&[SocketAddr]>,
    ) -> Result<Self, StartError> {
        let (mut child, stdout, stderr) =
            spawn(job, kubeconfig, locals).map_err(|source| StartError::Spawn {
                job: job.clone(),
                source,
            })?;
        let mut stderr = Stderr::listen(stderr);
        let mut lines = BufReader::new(stdout).lines();
        match timeout(START_LIMIT, listeners(job, &mut lines)).await {
            Ok(found) => {
                let locals = found?;
                if locals.len() < job.listeners() {
                    return Err(StartError::Ended {
                        job: job.clone(),
                        ended: how_it_ended(&mut child, &mut stderr).await,
                    });
                }
                // It goes on to say a line for each connection, and must not be held up by that.
                let rest = tokio::spawn(async move {
                    let mut rest = lines.into_inner();
                    drop(tokio::io::copy(&mut rest, &mut tokio::io::sink()).await);
                });
                Ok(Self {
                    locals,
                    child,
                    stderr,
                    _stdout: AbortOnDropHandle::new(rest),
                })
            }
            Err(_elapsed) => Err(StartError::TimedOut {
                job: job.clone(),
                said: stderr.tail(": "),
            }),
        }
    }

    /// Waits until it has ended by itself, and returns how.
    pub(super) async fn ended(&mut self) -> String {
        how_it_ended(&mut self.child, &mut self.stderr).await
    }

    /// Ends it and waits for that.
    pub(super) async fn end(mut self) -> io::Result<()> {
        self.child.kill().await
    }
}

/// The standard output of a kubectl that is to answer and end.
pub(super) async fn ask(words: &[&str]) -> io::Result<Vec<u8>> {
    let mut command = command();
    command.args(words).stdin(Stdio::null());
    let output = timeout(ANSWER_LIMIT, command.output())
        .await
        .map_err(|_elapsed| {
            let limit = ANSWER_LIMIT.as_secs();
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {limit} s"),
            )
        })??;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "{}: {}",
        output.status,
        said.trim()
    )))
}

/// A kubectl that ends with this process and leaves no file: its cache would be in the user's home.
fn command() -> Command {
    let mut command = leash::command(PROGRAM);
    command.arg("--cache-dir=/dev/null").kill_on_drop(true);
    for name in DETOURS {
        command.env_remove(name);
    }
    command
}

fn spawn(
    job: &Job,
    kubeconfig: &Kubeconfig,
    locals: Option<&[SocketAddr]>,
) -> io::Result<(Child, ChildStdout, ChildStderr)> {
    let mut command = command();
    command
        .arg(format!("--kubeconfig={}", kubeconfig::PATH))
        .args(job.words(locals))
        .stdin(kubeconfig.input()?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    match (child.stdout.take(), child.stderr.take()) {
        (Some(stdout), Some(stderr)) => Ok((child, stdout, stderr)),
        _ => Err(io::Error::other("a pipe is missing")),
    }
}

/// The listeners as they are said; fewer than there should be where the output ends before.
async fn listeners(
    job: &Job,
    lines: &mut Lines<BufReader<ChildStdout>>,
) -> Result<Vec<SocketAddr>, StartError> {
    let mut found = Vec::new();
    while found.len() < job.listeners() {
        match lines.next_line().await {
            Ok(Some(line)) => found.extend(job.listener(&line, found.len())?),
            Ok(None) | Err(_) => break,
        }
    }
    Ok(found)
}

/// Its exit status and its last words, once it has ended.
async fn how_it_ended(child: &mut Child, stderr: &mut Stderr) -> String {
    let status = match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    drop(timeout(LAST_WORDS, &mut stderr.task).await);
    format!("{status}{}", stderr.tail(": "))
}

/// The last lines that a process wrote to its standard error.
struct Stderr {
    lines: Arc<Mutex<VecDeque<String>>>,
    task: AbortOnDropHandle<()>,
}

impl Stderr {
    fn listen(stderr: ChildStderr) -> Self {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let kept = lines.clone();
        let task = tokio::spawn(async move {
            let mut read = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = read.next_line().await {
                tracing::debug!(program = PROGRAM, "{line}");
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == TAIL.0 {
                    kept.pop_front();
                }
                kept.push_back(line.chars().take(TAIL.1).collect());
            }
        });
        Self {
            lines,
            task: AbortOnDropHandle::new(task),
        }
    }

    /// The last lines as one, behind `separator`; nothing where there are none.
    fn tail(&self, separator: &str) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return String::new();
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        format!("{separator}{}", lines.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(object: &str) -> Job {
        Job::PortForward {
            namespace: "inroads".to_owned(),
            object: object.to_owned(),
            ports: vec![80, 7007],
        }
    }

    #[test]
    fn it_chooses_its_ports_once_and_keeps_them() {
        let job = web("service/web");
        let words = job.words(None);
        assert_eq!(words[words.len() - 3..], ["service/web", ":80", ":7007"]);
        let locals = ["127.0.0.1:40001", "127.0.0.1:40002"].map(|text| text.parse().unwrap());
        let words = job.words(Some(&locals));
        assert_eq!(words[words.len() - 2..], ["40001:80", "40002:7007"]);
        assert_eq!(Job::Proxy.words(None).last().unwrap(), "--port=0");
        assert_eq!(
            Job::Proxy.words(Some(&locals)).last().unwrap(),
            "--port=40001"
        );
    }

    #[test]
    fn a_line_belongs_to_the_port_that_was_asked_for_at_its_place() {
        let first = "Forwarding from 127.0.0.1:40001 -> 8080";
        let of_service = web("service/web").listener(first, 0).unwrap();
        assert_eq!(of_service, "127.0.0.1:40001".parse().ok());
        let error = web("pod/web-0").listener(first, 0).unwrap_err().to_string();
        assert!(
            error.contains("8080") && error.contains("80 was"),
            "{error}"
        );
        let second = "Forwarding from 127.0.0.1:40002 -> 7007";
        let of_pod = web("pod/web-0").listener(second, 1).unwrap();
        assert_eq!(of_pod, "127.0.0.1:40002".parse().ok());
    }
}
