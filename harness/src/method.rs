//! What a way into the cluster is.

use std::fmt;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::access::{Access, Secret};
use crate::ids::MethodId;
use crate::kubernetes::KubernetesError;
use crate::run::Component;
use crate::scenario::Target;
use crate::stage::Stage;

/// A way in. One value serves both sides: the controller calls [`deploy`](Self::deploy) and
/// [`invite`](Self::invite), the laptop's agent calls [`connect`](Self::connect) with the invitation.
#[async_trait]
pub trait Method: Send + Sync {
    /// Its name.
    fn id(&self) -> MethodId;

    /// Its name for humans, a few words.
    fn title(&self) -> &'static str;

    /// How it works, one sentence.
    fn summary(&self) -> &'static str;

    /// The rights and settings it needs, and from whom.
    fn needs(&self) -> &'static [&'static str];

    /// What it carries.
    fn exposes(&self) -> &'static [Capability];

    /// Why it does not carry `capability`, one clause. Asked only for what it does not expose.
    fn limit(&self, capability: Capability) -> &'static str;

    /// The program by others that does its work, where it is run to be compared with ours: a peer. `all`
    /// leaves peers out.
    fn peer(&self) -> Option<&'static str> {
        None
    }

    /// The programs that it runs on the laptop, which must be installed there.
    fn programs(&self) -> &'static [&'static str] {
        &[]
    }

    /// Where its client stands.
    fn vantage(&self) -> Vantage {
        Vantage::Laptop
    }

    /// Whether connecting changes the laptop: its routes, links or files.
    fn changes_laptop(&self) -> bool {
        false
    }

    /// Whether its laptop speaks to the nodes' own addresses: as gateways, or at node ports.
    fn speaks_to_nodes(&self) -> bool {
        false
    }

    /// What of the cluster works for it: read for the cost of a cell.
    fn parts(&self) -> &'static [Part];

    /// Its in-cluster part: plain manifests, by file name.
    fn manifests(&self) -> &'static [Manifest];

    /// Refuses, before anything is changed anywhere, what cannot work here.
    ///
    /// # Errors
    /// [`MethodError::Refused`], with the reason and a next step.
    fn preflight(&self, _stage: &Stage, _laptop: &LaptopNetwork) -> Result<(), MethodError> {
        Ok(())
    }

    /// Puts its in-cluster part in place and waits until it is ready.
    ///
    /// # Errors
    /// Where the API refuses or the part does not become ready in time.
    async fn deploy(&self, stage: &Stage) -> Result<(), MethodError> {
        Ok(stage.deploy(self.manifests()).await?)
    }

    /// What the laptop of number `laptop`, below [`Stage::laptops`], must know to connect. It may hold secrets and
    /// goes to the agent only.
    ///
    /// # Errors
    /// Where the API does not give what is asked for.
    async fn invite(
        &self,
        stage: &Stage,
        targets: &[Target],
        laptop: usize,
    ) -> Result<Invitation, MethodError>;

    /// What is left of an invitation for somebody on the LAN who was not invited: all that can be found out there, and
    /// none of its secrets.
    ///
    /// # Errors
    /// [`MethodError::BadInvitation`] where it is another method's.
    fn without_credential(&self, invitation: Invitation) -> Result<Invitation, MethodError> {
        Ok(invitation)
    }

    /// Connects this laptop. Runs in the laptop's agent. Whatever it changes on the laptop is undone
    /// when the connection closes or is dropped.
    ///
    /// # Errors
    /// Where the laptop lacks a right, or the other side does not answer. Nothing is left changed.
    async fn connect(&self, invitation: Invitation) -> Result<Box<dyn Connection>, MethodError>;
}

/// A laptop connected by a method. Dropping it undoes what connecting changed on the laptop.
#[async_trait]
pub trait Connection: Send + Sync {
    /// How clients can use it, in order of effort.
    fn accesses(&self) -> Vec<Access>;

    /// Which implementations carry it, for the report.
    fn components(&self) -> Vec<Component> {
        Vec::new()
    }

    /// Waits until it carries again, where what carries it has ended by itself, and says how often that has
    /// been so far.
    async fn interruptions(&self) -> Interruptions {
        Interruptions::default()
    }

    /// Disconnects and undoes, and says what could not be undone.
    ///
    /// # Errors
    /// Where something on the laptop may be left changed; the message names it.
    async fn close(self: Box<Self>) -> Result<(), MethodError>;
}

/// That what carries a connection has ended by itself, and was started again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interruptions {
    /// How often, since it was connected.
    pub count: u64,
    /// What it said the last time, one line.
    pub said: String,
}

/// What a laptop must know to connect: the method's own form, opaque to everyone between.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Invitation(Secret<Value>);

impl Invitation {
    /// Packs a method's own form.
    ///
    /// # Panics
    /// Where `form` cannot be JSON, which a plain struct always can.
    pub fn pack(form: &impl Serialize) -> Self {
        Self(Secret::new(
            serde_json::to_value(form).expect("an invitation is plain data"),
        ))
    }

    /// Unpacks it again.
    ///
    /// # Errors
    /// [`MethodError::BadInvitation`] where it is another method's, or from another version.
    pub fn unpack<T: serde::de::DeserializeOwned>(&self) -> Result<T, MethodError> {
        serde_json::from_value(self.0.expose().clone()).map_err(MethodError::BadInvitation)
    }
}

/// A file of plain manifests that a reader can apply to a cluster by hand.
#[derive(Debug, Clone, Copy)]
pub struct Manifest {
    /// Its file name, `socks.yaml`.
    pub file: &'static str,
    /// Its text: YAML documents.
    pub yaml: &'static str,
}

/// What a method carries.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// HTTP requests, where TCP connections as such are not carried.
    Http,
    /// TCP connections.
    Tcp,
    /// TCP's half-close (RFC 9293 §3.6): one side ends its stream, the other goes on.
    HalfClose,
    /// UDP datagrams.
    Udp,
    /// ICMP echo.
    Icmp,
    /// Names of the cluster's DNS, for clients on the laptop.
    Dns,
    /// Those names by the laptop's own resolver, as every program there gets them.
    Resolver,
    /// Any address of a pod.
    PodIp,
    /// Any virtual address of a Service.
    ClusterIp,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::HalfClose => "half-close",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Dns => "dns",
            Self::Resolver => "resolver",
            Self::PodIp => "pod-ip",
            Self::ClusterIp => "cluster-ip",
        })
    }
}

/// Where a method's client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vantage {
    /// On a laptop on the office LAN.
    Laptop,
    /// In a pod: the control, which costs nothing to get in.
    Pod,
}

/// A part of the cluster that works for a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The pods that carry the label `inroads.dev/part` with this value.
    Pods(&'static str),
    /// The API server.
    ApiServer,
    /// The kubelets of all nodes.
    Kubelets,
}

impl Part {
    /// The labels of its pods, where it is pods of its own.
    #[must_use]
    pub fn pods(&self) -> Option<String> {
        match self {
            Self::Pods(part) => Some(pods_of(part)),
            Self::ApiServer | Self::Kubelets => None,
        }
    }
}

/// The labels of the pods that are the part of this name.
#[must_use]
pub fn pods_of(part: &str) -> String {
    format!("inroads.dev/part={part}")
}

/// The laptop as it was before: its own network, as far as a method must not collide with it, and its
/// programs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LaptopNetwork {
    /// Its address on the LAN; none where it has no way to the rest of the world.
    #[serde(default)]
    pub address: Option<std::net::IpAddr>,
    /// Destinations that have a route of their own, the default route apart.
    pub routes: Vec<ipnet::IpNet>,
    /// Those [`Method::programs`] that are installed.
    #[serde(default)]
    pub programs: Vec<String>,
}

/// A method could not be deployed or connected.
#[derive(Debug, thiserror::Error)]
pub enum MethodError {
    /// It cannot work here, and nothing was changed.
    #[error("{reason}\n(hint: {hint})")]
    Refused {
        /// Why not.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// The API refused or failed.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// The agent got something that is no invitation of this method.
    #[error("the invitation is not this method's")]
    BadInvitation(#[source] serde_json::Error),
    /// A step failed.
    #[error("{doing}")]
    Failed {
        /// What was being done, and to what.
        doing: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl MethodError {
    /// For `map_err`: what was being done when the cause came up.
    pub fn while_doing<E>(doing: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Failed {
            doing: doing.into(),
            source: source.into(),
        }
    }
}
