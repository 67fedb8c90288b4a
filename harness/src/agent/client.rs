//! The controller's side: an agent that can be given orders.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use ipnet::Ipv4Net;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};

use super::protocol::{Answer, Call, MAX_LINE, Order, Reply, Usage};
use crate::Access;
use crate::ids::MethodId;
use crate::measure::Reading;
use crate::method::{Interruptions, Invitation, LaptopNetwork};
use crate::probe::{Attempt, Probe};
use crate::run::{Component, ProbeResult};
use crate::scenario::{LoadOrder, Workload};
use crate::snapshot::Snapshot;

/// Longest time for an order that does not say how long it takes.
const ORDER_LIMIT: Duration = Duration::from_secs(45);

/// What a load may take beyond its warm-up and window: opening connections, draining, encoding.
const LOAD_SLACK: Duration = Duration::from_secs(30);

/// Longest time for an agent to undo its changes and end.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How many of the last lines an agent wrote to stderr stand in an error.
const TAIL: usize = 8;

/// An agent at work.
pub struct Agent {
    name: String,
    replies: FramedRead<Box<dyn AsyncRead + Send + Unpin>, LinesCodec>,
    orders: FramedWrite<Box<dyn AsyncWrite + Send + Unpin>, LinesCodec>,
    child: Option<Child>,
    said: Arc<Mutex<VecDeque<String>>>,
    last_id: u64,
}

/// An agent did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It could not be started.
    #[error("starting the agent on {name}")]
    Start {
        /// Where.
        name: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It carried out the order and failed; the causes follow the first text, joined by `: `.
    #[error("{name}: {reason}")]
    Failed {
        /// Where.
        name: String,
        /// What it said.
        reason: String,
    },
    /// It ended, or said something that is no answer.
    #[error("the agent on {name} is gone{said}")]
    Gone {
        /// Where.
        name: String,
        /// The last it said.
        said: String,
    },
    /// It did not answer in time.
    #[error("the agent on {name} did not answer within {limit_s} s")]
    TimedOut {
        /// Where.
        name: String,
        /// The limit, in seconds.
        limit_s: u64,
    },
}

impl Agent {
    /// Starts `command` as an agent that is spoken to over its standard streams.
    ///
    /// # Errors
    /// [`AgentError::Start`].
    pub fn start(name: &str, mut command: Command) -> Result<Self, AgentError> {
        let failed = |source| AgentError::Start {
            name: name.to_owned(),
            source,
        };
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let missing = || failed(std::io::Error::other("a pipe is missing"));
        let output = child.stdout.take().ok_or_else(missing)?;
        let input = child.stdin.take().ok_or_else(missing)?;
        let mut agent = Self::over(name, output, input);
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(listen(name.to_owned(), stderr, agent.said.clone()));
        }
        agent.child = Some(child);
        Ok(agent)
    }

    /// An agent that is spoken to over any pair of streams.
    pub fn over(
        name: &str,
        output: impl AsyncRead + Send + Unpin + 'static,
        input: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self {
            name: name.to_owned(),
            replies: FramedRead::new(Box::new(output), LinesCodec::new_with_max_length(MAX_LINE)),
            orders: FramedWrite::new(Box::new(input), LinesCodec::new_with_max_length(MAX_LINE)),
            child: None,
            said: Arc::default(),
            last_id: 0,
        }
    }

    /// Connects its laptop.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn connect(
        &mut self,
        method: MethodId,
        invitation: Invitation,
    ) -> Result<(Vec<Access>, Vec<Component>), AgentError> {
        match self
            .call(Order::Connect { method, invitation }, ORDER_LIMIT)
            .await?
        {
            Answer::Connected {
                accesses,
                components,
            } => Ok((accesses, components)),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Undoes the connection.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn disconnect(&mut self) -> Result<(), AgentError> {
        self.done(Order::Disconnect).await
    }

    /// Waits until a TCP connection to `host:port` opens.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn reach(&mut self, access: Access, host: &str, port: u16) -> Result<(), AgentError> {
        self.done(Order::Reach {
            access,
            host: host.to_owned(),
            port,
        })
        .await
    }

    /// At which of these addresses nothing answers over TCP, not even with a refusal.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn knock(
        &mut self,
        addresses: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, AgentError> {
        match self.call(Order::Knock { addresses }, ORDER_LIMIT).await? {
            Answer::Silent(addresses) => Ok(addresses),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Makes one attempt at a probe.
    ///
    /// # Errors
    /// See [`AgentError`]; an attempt that fails is no error.
    pub async fn attempt(
        &mut self,
        scenario: &str,
        probe: &Probe,
        access: &Access,
        workload: &Workload,
    ) -> Result<Attempt, AgentError> {
        let order = Order::Attempt {
            scenario: scenario.to_owned(),
            probe: probe.id.to_owned(),
            access: access.clone(),
            workload: workload.clone(),
        };
        match self
            .call(order, ORDER_LIMIT + probe.attempt_limit())
            .await?
        {
            Answer::Attempted(attempt) => Ok(attempt),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Takes a snapshot of its laptop's network.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn snapshot(&mut self) -> Result<Snapshot, AgentError> {
        match self.call(Order::Snapshot, ORDER_LIMIT).await? {
            Answer::Snapshot(snapshot) => Ok(snapshot),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Routes a network by the office's router, as if a part of the office were there; `None` takes that back.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn overlap(&mut self, network: Option<Ipv4Net>) -> Result<(), AgentError> {
        self.done(Order::Overlap { network }).await
    }

    /// Slows the laptop's connections down until this agent ends: each answer is held back for `delay`.
    ///
    /// # Errors
    /// Where it cannot be done.
    pub async fn handicap(&mut self, delay: Duration) -> Result<(), AgentError> {
        self.done(Order::Handicap { delay }).await
    }

    /// Has it end at once, as SIGKILL ends a process, and waits for that.
    ///
    /// # Errors
    /// Where it goes on.
    pub async fn die(mut self) -> Result<(), AgentError> {
        match self.call(Order::Die, END_LIMIT).await {
            Err(AgentError::Gone { .. }) => self.end().await,
            Err(other) => Err(other),
            Ok(answer) => Err(self.unexpected(&answer)),
        }
    }

    /// Asks one probe.
    ///
    /// # Errors
    /// See [`AgentError`]; a probe that fails is no error.
    pub async fn probe(
        &mut self,
        scenario: &str,
        probe: &Probe,
        method: &MethodId,
        accesses: &[Access],
        workload: &Workload,
    ) -> Result<ProbeResult, AgentError> {
        let order = Order::Probe {
            scenario: scenario.to_owned(),
            probe: probe.id.to_owned(),
            method: method.clone(),
            accesses: accesses.to_vec(),
            workload: workload.clone(),
        };
        let attempts = u32::try_from(accesses.len() + 1).unwrap_or(u32::MAX);
        let limit = probe.attempt_limit() * attempts + ORDER_LIMIT;
        match self.call(order, limit).await? {
            Answer::Probed(result) => Ok(result),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Runs one load.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn measure(
        &mut self,
        scenario: &str,
        load: &LoadOrder,
        access: &Access,
        workload: &Workload,
    ) -> Result<Vec<Reading>, AgentError> {
        let order = Order::Measure {
            scenario: scenario.to_owned(),
            load: load.clone(),
            access: access.clone(),
            workload: workload.clone(),
        };
        match self
            .call(order, load.warm_up.longest() + load.window + LOAD_SLACK)
            .await?
        {
            Answer::Measured(readings) => Ok(readings),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Waits until its connection carries again, and returns how often it was interrupted so far.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn settle(&mut self) -> Result<Interruptions, AgentError> {
        match self.call(Order::Settle, ORDER_LIMIT).await? {
            Answer::Settled(interruptions) => Ok(interruptions),
            other => Err(self.unexpected(&other)),
        }
    }

    /// What its process has used, with those that it has started.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn usage(&mut self) -> Result<Usage, AgentError> {
        match self.call(Order::Usage, ORDER_LIMIT).await? {
            Answer::Used(usage) => Ok(usage),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Which networks its laptop routes, and which programs it has.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn network(&mut self) -> Result<LaptopNetwork, AgentError> {
        match self.call(Order::Network, ORDER_LIMIT).await? {
            Answer::Network(network) => Ok(network),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Ends it: its input closes, it undoes what it changed, and its process is waited for.
    ///
    /// # Errors
    /// [`AgentError::TimedOut`] where it had to be killed.
    pub async fn end(self) -> Result<(), AgentError> {
        let Self {
            name,
            orders,
            replies,
            child,
            ..
        } = self;
        drop((orders, replies));
        let Some(mut child) = child else {
            return Ok(());
        };
        match timeout(END_LIMIT, child.wait()).await {
            Ok(Ok(_status)) => Ok(()),
            Ok(Err(source)) => Err(AgentError::Start { name, source }),
            Err(_elapsed) => {
                drop(child.kill().await);
                Err(AgentError::TimedOut {
                    name,
                    limit_s: END_LIMIT.as_secs(),
                })
            }
        }
    }

    async fn done(&mut self, order: Order) -> Result<(), AgentError> {
        match self.call(order, ORDER_LIMIT).await? {
            Answer::Done => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    async fn call(&mut self, order: Order, limit: Duration) -> Result<Answer, AgentError> {
        self.last_id += 1;
        let call = Call {
            id: self.last_id,
            order,
        };
        let line = serde_json::to_string(&call).map_err(|error| self.gone(&error.to_string()))?;
        if self.orders.send(line).await.is_err() {
            return Err(self.gone(""));
        }
        match timeout(limit, self.reply()).await {
            Ok(Ok(Answer::Failed(reasons))) => Err(AgentError::Failed {
                name: self.name.clone(),
                reason: reasons.join(": "),
            }),
            Ok(other) => other,
            Err(_elapsed) => Err(AgentError::TimedOut {
                name: self.name.clone(),
                limit_s: limit.as_secs(),
            }),
        }
    }

    /// The answer to the last order; answers to orders that were given up before it are dropped.
    async fn reply(&mut self) -> Result<Answer, AgentError> {
        while let Some(line) = self.replies.next().await {
            let line = line.map_err(|error| self.gone(&error.to_string()))?;
            let reply: Reply =
                serde_json::from_str(&line).map_err(|error| self.gone(&error.to_string()))?;
            if reply.id == self.last_id {
                return Ok(reply.answer);
            }
        }
        // What it wrote to stderr last may still be on its way.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(self.gone(""))
    }

    fn unexpected(&self, answer: &Answer) -> AgentError {
        self.gone(&format!("it answered {answer:?}"))
    }

    fn gone(&self, detail: &str) -> AgentError {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = said
            .iter()
            .map(String::as_str)
            .chain((!detail.is_empty()).then_some(detail))
            .collect();
        let said = if lines.is_empty() {
            String::new()
        } else {
            format!(": {}", lines.join(" | "))
        };
        AgentError::Gone {
            name: self.name.clone(),
            said,
        }
    }
}

/// Keeps the last lines an agent wrote to stderr.
async fn listen(name: String, stderr: ChildStderr, said: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::debug!(agent = name, "{line}");
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() == TAIL {
            said.pop_front();
        }
        said.push_back(line);
    }
}
