//! One container of a pod: started, watched, started anew, and stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use inroads_harness::clock;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{PodCell, RETRY};
use crate::node::Node;
use crate::node::config::Resolver;
use crate::node::container_log::ContainerLog;
use crate::node::prober::{self, Finding};
use crate::node::runtime;
use crate::node::status::{Ended, Known, Phase};

/// The pause before a program that keeps ending is started again: none the first time, then this, doubled
/// each time up to the limit; a program that ran for long starts over (the kubelet's own figures).
const BACK_OFF: Duration = Duration::from_secs(10);
const BACK_OFF_LIMIT: Duration = Duration::from_secs(300);
const BACK_OFF_FORGIVEN: Duration = Duration::from_secs(600);

/// The time that a pod's programs have to end when it says nothing of it, in seconds.
const GRACE: i64 = 30;

/// Something happened to a container.
#[derive(Debug)]
pub(super) enum Change {
    Waits {
        reason: String,
        message: String,
    },
    Runs {
        since: Timestamp,
        pid: u32,
        again: bool,
    },
    Serves(bool),
    Ends(Ended),
}

impl Change {
    /// Takes the change into what is known.
    pub(super) fn apply(self, known: &mut Known) {
        match self {
            Self::Waits { reason, message } => {
                if let Phase::Ended(ended) = &known.phase {
                    known.last = Some(ended.clone());
                }
                known.ready = false;
                known.phase = Phase::Waiting { reason, message };
            }
            Self::Runs { since, pid, again } => {
                if let Phase::Ended(ended) = &known.phase {
                    known.last = Some(ended.clone());
                }
                known.restarts += i32::from(again);
                known.phase = Phase::Running { since, pid };
            }
            Self::Serves(ready) => known.ready = ready,
            Self::Ends(ended) => {
                known.ready = false;
                known.phase = Phase::Ended(ended);
            }
        }
    }
}

/// Everything that the life of a container needs.
pub(super) struct Life {
    pub(super) node: Arc<Node>,
    pub(super) cell: Arc<PodCell>,
    pub(super) pod: Pod,
    pub(super) container: Container,
    pub(super) folder: PathBuf,
    pub(super) log: ContainerLog,
    pub(super) is_init: bool,
    pub(super) stop: CancellationToken,
    pub(super) updates: watch::Receiver<Pod>,
}

impl Life {
    /// Runs the container as its pod's restart policy has it, until it is done or the pod stops.
    pub(super) async fn run<F: Future<Output = ()>>(&self, tell: impl Fn(Change) -> F) {
        let mut pause = Duration::ZERO;
        let mut again = false;
        loop {
            let Some(child) = self.start(&tell).await else {
                return;
            };
            let started = clock::now();
            let since = clock::wall();
            tell(Change::Runs {
                since,
                pid: child.id().unwrap_or_default(),
                again,
            })
            .await;
            self.cell.set_pid(&self.container.name, child.id());
            let code = self.attend(child, &tell).await;
            self.cell.set_pid(&self.container.name, None);
            let ended = Ended {
                code,
                started: since,
                finished: clock::wall(),
            };
            tell(Change::Ends(ended)).await;
            if self.stop.is_cancelled() || !self.starts_again(code) {
                return;
            }
            pause = if started.elapsed() >= BACK_OFF_FORGIVEN {
                Duration::ZERO
            } else {
                pause
            };
            if !pause.is_zero() {
                let message = format!("back-off {}s restarting failed container", pause.as_secs());
                tell(Change::Waits {
                    reason: "CrashLoopBackOff".to_owned(),
                    message,
                })
                .await;
            }
            if self.stopped_within(pause).await {
                return;
            }
            pause = (pause * 2).clamp(BACK_OFF, BACK_OFF_LIMIT);
            again = true;
        }
    }

    /// Starts the program, trying until it can be started; `None` where the pod stops first.
    async fn start<F: Future<Output = ()>>(&self, tell: &impl Fn(Change) -> F) -> Option<Child> {
        let sandbox = self.cell.sandbox.get()?;
        loop {
            if self.stop.is_cancelled() {
                return None;
            }
            let resolver = Resolver {
                node: &self.node,
                pod: &self.pod,
                address: sandbox.address,
                folder: &self.folder,
            };
            match runtime::start(&resolver, &self.container, &sandbox.netns, &self.log).await {
                Ok(child) => return Some(child),
                Err(error) => {
                    let (reason, message) = (error.reason().to_owned(), error.to_string());
                    tell(Change::Waits { reason, message }).await;
                    if self.stopped_within(RETRY).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Watches the program until it has ended, by itself or because it was told to.
    async fn attend<F: Future<Output = ()>>(
        &self,
        mut child: Child,
        tell: &impl Fn(Change) -> F,
    ) -> i32 {
        let (findings, mut found) = mpsc::channel(4);
        let address = self.cell.sandbox.get().map(|sandbox| sandbox.address);
        let mut probes = std::pin::pin!(async {
            if let (Some(address), false) = (address, self.is_init) {
                prober::watch(&self.container, address, findings).await;
            }
            std::future::pending::<()>().await;
        });
        loop {
            tokio::select! {
                status = child.wait() => return exit_code(status),
                () = &mut probes => {}
                Some(finding) = found.recv() => match finding {
                    Finding::Ready(ready) => tell(Change::Serves(ready)).await,
                    Finding::Dead => return self.end(child).await,
                },
                () = self.stop.cancelled() => {
                    tell(Change::Serves(false)).await;
                    return self.end(child).await;
                }
            }
        }
    }

    /// Asks the program to end, and ends it when its time is up.
    async fn end(&self, mut child: Child) -> i32 {
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        match tokio::time::timeout(self.grace(), child.wait()).await {
            Ok(status) => exit_code(status),
            Err(_elapsed) => {
                drop(child.start_kill());
                exit_code(child.wait().await)
            }
        }
    }

    /// The time to end, which a deletion may have shortened.
    fn grace(&self) -> Duration {
        let pod = self.updates.borrow();
        let asked = pod.metadata.deletion_grace_period_seconds;
        let declared = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds);
        Duration::from_secs(u64::try_from(asked.or(declared).unwrap_or(GRACE)).unwrap_or(0))
    }

    fn starts_again(&self, code: i32) -> bool {
        let spec = self.pod.spec.as_ref();
        match spec
            .and_then(|spec| spec.restart_policy.as_deref())
            .unwrap_or("Always")
        {
            "Never" => false,
            "OnFailure" => code != 0,
            _ => code != 0 || !self.is_init,
        }
    }

    async fn stopped_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.stop.cancelled())
            .await
            .is_ok()
    }
}

/// The exit code; one ended by a signal counts 128 more than the signal, as the shim has it already.
fn exit_code(status: std::io::Result<std::process::ExitStatus>) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.map_or(255, |status| {
        status
            .code()
            .or_else(|| status.signal().map(|s| 128 + s))
            .unwrap_or(255)
    })
}
