//! What the controller and its agents say to each other: one JSON object a line, each way.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::ids::MethodId;
use crate::measure::Reading;
use crate::method::{Interruptions, Invitation, LaptopNetwork};
use crate::probe::Attempt;
use crate::run::{Component, ProbeResult};
use crate::scenario::{LoadOrder, Workload};
use crate::snapshot::Snapshot;

/// The longest line either side accepts, in bytes: a cell's histograms fit many times over.
pub(super) const MAX_LINE: usize = 16 << 20;

/// An order with the number that its answer repeats.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) order: Order,
}

/// An answer with its order's number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) id: u64,
    pub(super) answer: Answer,
}

/// What an agent can be told to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Connect this laptop. Answered with [`Answer::Connected`].
    Connect {
        /// The method.
        method: MethodId,
        /// What it needs to know.
        invitation: Invitation,
    },
    /// Undo the connection. Answered with [`Answer::Done`].
    Disconnect,
    /// Open a TCP connection, for as long as it takes, and close it. Answered with [`Answer::Done`].
    Reach {
        /// Through which access.
        access: Access,
        /// The host, as an unmodified client types it.
        host: String,
        /// The port.
        port: u16,
    },
    /// Find out at which of these addresses nothing answers over TCP, not even with a refusal. Answered with
    /// [`Answer::Silent`].
    Knock {
        /// The addresses.
        addresses: Vec<SocketAddr>,
    },
    /// Make one attempt at a probe. Answered with [`Answer::Attempted`].
    Attempt {
        /// The scenario that has it.
        scenario: String,
        /// The probe's id.
        probe: String,
        /// The access to go through.
        access: Access,
        /// What is in the namespace.
        workload: Workload,
    },
    /// Take a snapshot of the laptop's network. Answered with [`Answer::Snapshot`].
    Snapshot,
    /// Route a network by the office's router, as if a part of the office were there; `None` takes that back.
    /// Answered with [`Answer::Done`].
    Overlap {
        /// The network.
        network: Option<Ipv4Net>,
    },
    /// Slow the laptop's connections down, until this agent ends. Answered with [`Answer::Done`].
    Handicap {
        /// By how much, each answer.
        delay: Duration,
    },
    /// End at once, as SIGKILL ends a process: nothing is undone and nothing answered.
    Die,
    /// Ask one probe. Answered with [`Answer::Probed`].
    Probe {
        /// The scenario that asks.
        scenario: String,
        /// The probe's id.
        probe: String,
        /// The method that this laptop is connected by.
        method: MethodId,
        /// The accesses it offers.
        accesses: Vec<Access>,
        /// What is in the cluster.
        workload: Workload,
    },
    /// Run one load. Answered with [`Answer::Measured`].
    Measure {
        /// The scenario that loads.
        scenario: String,
        /// The load.
        load: LoadOrder,
        /// Through which access.
        access: Access,
        /// What is in the cluster.
        workload: Workload,
    },
    /// Wait until the connection carries again, where it does not. Answered with [`Answer::Settled`].
    Settle,
    /// Say what this process has used. Answered with [`Answer::Used`].
    Usage,
    /// Say which networks this laptop routes, and which programs it has. Answered with [`Answer::Network`].
    Network,
}

/// What an agent answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The laptop is connected.
    Connected {
        /// How clients can use it.
        accesses: Vec<Access>,
        /// What carries it.
        components: Vec<Component>,
    },
    /// Where nothing answers.
    Silent(Vec<SocketAddr>),
    /// What came of an attempt.
    Attempted(Attempt),
    /// What the laptop's network is like.
    Snapshot(Snapshot),
    /// A probe's result.
    Probed(ProbeResult),
    /// A load's figures.
    Measured(Vec<Reading>),
    /// How often the connection was interrupted so far.
    Settled(Interruptions),
    /// What the process has used.
    Used(Usage),
    /// The laptop's networks and programs.
    Network(LaptopNetwork),
    /// It is done.
    Done,
    /// It could not be done: the error with its causes, one line each.
    Failed(Vec<String>),
}

/// What a process has used since it started, with all that it has started itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time, user and system, in seconds.
    pub cpu_s: f64,
    /// The most memory it held at once, in bytes.
    pub peak_bytes: u64,
}
