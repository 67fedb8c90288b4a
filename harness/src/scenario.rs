//! What a scenario is: a workload in the cluster, questions about it, and load on it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::access::{Access, Effort};
use crate::cluster::Office;
use crate::dial::Dialer;
use crate::measure::{ClosedLoop, OpError, OpenLoop, Reading, WarmUp};
use crate::method::{Capability, Manifest};
use crate::probe::{Attempt, Probe};
use crate::run::Component;

/// A workload, the probes that ask about it, and the loads that measure it.
///
/// One value serves both sides: the controller reads its manifests, probes and loads, the agent on the
/// laptop calls [`attempt`](Self::attempt) and [`measure`](Self::measure).
#[async_trait]
pub trait Scenario: Send + Sync {
    /// Its name.
    fn id(&self) -> &'static str;

    /// Its name for humans, a few words.
    fn title(&self) -> &'static str;

    /// What it runs, one sentence.
    fn summary(&self) -> &'static str;

    /// Its workload: plain manifests, by file name.
    fn manifests(&self) -> &'static [Manifest];

    /// What of its workload stands in the results, with its provenance, for the report.
    fn components(&self) -> Vec<Component> {
        Vec::new()
    }

    /// The addresses its clients use: what a method that must be told in advance is told.
    fn targets(&self, workload: &Workload) -> Vec<Target>;

    /// The questions it asks.
    fn probes(&self) -> &'static [Probe];

    /// One attempt at the probe `id` through one access. The caller limits its time.
    async fn attempt(&self, id: &str, dialer: &Dialer, workload: &Workload) -> Attempt;

    /// The loads it runs, in order. The first closed loop calibrates the common rate.
    fn loads(&self) -> &'static [LoadSpec];

    /// What a method must carry for a load to be possible at all.
    fn load_needs(&self, _load: &LoadSpec) -> &'static [Capability] {
        &[Capability::Tcp]
    }

    /// What a user must change in this scenario's clients to go through `access`: more than the access itself
    /// asks for where they cannot use it as it is.
    fn effort(&self, access: &Access) -> Effort {
        access.effort()
    }

    /// Runs one load and returns its figures. Blocks: it is called on a thread of its own, and brings
    /// its own single-threaded runtimes.
    ///
    /// # Errors
    /// Where the load could not be run at all; operations that fail are counted, not errors.
    fn measure(
        &self,
        load: &LoadOrder,
        dialer: &Dialer,
        workload: &Workload,
    ) -> Result<Vec<Reading>, ScenarioError>;
}

/// One kind of load a scenario can run.
#[derive(Debug, Clone, Copy)]
pub struct LoadSpec {
    /// Its name, unique in the scenario.
    pub id: &'static str,
    /// What it does, a few words.
    pub title: &'static str,
    /// Open or closed loop.
    pub shape: Shape,
    /// Connections (or lookups) in flight.
    pub connections: usize,
}

/// How a load decides when to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// At fixed times, whatever the answers do: for latency.
    Open,
    /// As soon as the last answer is in: for throughput.
    Closed,
}

/// A load with everything decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadOrder {
    /// Which load, a [`LoadSpec::id`].
    pub load: String,
    /// Connections (or lookups) in flight.
    pub connections: usize,
    /// Operations each second that an open loop sends; the same for all methods.
    pub rate: Option<f64>,
    /// How long to warm up, never recorded.
    pub warm_up: WarmUp,
    /// Time to measure.
    pub window: Duration,
    /// Seeds whatever the load chooses at random.
    pub seed: u64,
}

impl LoadOrder {
    /// Its closed loop.
    #[must_use]
    pub fn closed(&self) -> ClosedLoop {
        ClosedLoop {
            connections: self.connections,
            warm_up: self.warm_up,
            window: self.window,
        }
    }

    /// Its open loop.
    ///
    /// # Errors
    /// [`ScenarioError::NoSuchLoad`] where it names no rate.
    pub fn open(&self) -> Result<OpenLoop, ScenarioError> {
        let none = || ScenarioError::NoSuchLoad(format!("{} without a rate", self.load));
        Ok(OpenLoop {
            rate: self.rate.ok_or_else(none)?,
            connections: self.connections,
            warm_up: self.warm_up,
            window: self.window,
        })
    }

    /// The part of the laptop of number `index`, where `laptops` run the load together: its share of a rate, a
    /// seed of its own, and the same times for all.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "there are few laptops")]
    pub fn share(&self, index: usize, laptops: usize) -> Self {
        if laptops <= 1 {
            return self.clone();
        }
        Self {
            rate: self.rate.map(|rate| rate / laptops as f64),
            warm_up: WarmUp::Whole(self.warm_up.longest()),
            seed: self.seed.wrapping_add(index as u64),
            ..self.clone()
        }
    }
}

/// What is in the namespace once it is ready: all a client needs to know.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Workload {
    /// The namespace.
    pub namespace: String,
    /// The cluster's DNS domain.
    pub domain: String,
    /// The cluster's DNS server.
    pub dns: Option<IpAddr>,
    /// Services by name.
    pub services: BTreeMap<String, ServiceFacts>,
    /// Pods by name.
    pub pods: BTreeMap<String, PodFacts>,
    /// What is known of the office that laptops stand in.
    #[serde(default)]
    pub office: Option<Office>,
}

/// A Service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceFacts {
    /// Its virtual address; none for a headless Service.
    pub cluster_ip: Option<IpAddr>,
    /// Its ports, by name.
    pub ports: BTreeMap<String, u16>,
    /// Names of the ready pods behind it.
    pub endpoints: Vec<String>,
    /// The name that it is another name for; none where it is no `ExternalName`.
    #[serde(default)]
    pub external_name: Option<String>,
}

/// A pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PodFacts {
    /// Its address.
    pub ip: IpAddr,
    /// The node it runs on.
    pub node: String,
}

impl Workload {
    /// What clients of these scenarios use, each once: two of them may have one in common.
    pub fn targets<'a>(&self, of: impl IntoIterator<Item = &'a dyn Scenario>) -> Vec<Target> {
        let mut all: Vec<Target> = Vec::new();
        for target in of.into_iter().flat_map(|scenario| scenario.targets(self)) {
            if !all.contains(&target) {
                all.push(target);
            }
        }
        all
    }

    /// The full name of a Service (Kubernetes DNS specification §2.3.1).
    #[must_use]
    pub fn fqdn(&self, service: &str) -> String {
        format!("{service}.{}.svc.{}", self.namespace, self.domain)
    }

    /// The Service `name`.
    ///
    /// # Errors
    /// [`ScenarioError::NoSuchObject`]: the workload is not this scenario's.
    pub fn service(&self, name: &str) -> Result<&ServiceFacts, ScenarioError> {
        self.services
            .get(name)
            .ok_or_else(|| ScenarioError::NoSuchObject(format!("service/{name}")))
    }

    /// The ready pods behind the Service `name`.
    ///
    /// # Errors
    /// [`ScenarioError::NoSuchObject`]: the workload is not this scenario's.
    pub fn endpoints(&self, name: &str) -> Result<Vec<(&str, &PodFacts)>, ScenarioError> {
        self.service(name)?
            .endpoints
            .iter()
            .map(|pod| {
                self.pods
                    .get_key_value(pod)
                    .map(|(name, facts)| (name.as_str(), facts))
                    .ok_or_else(|| ScenarioError::NoSuchObject(format!("pod/{pod}")))
            })
            .collect()
    }

    /// A target for the port `port` of the Service `name`.
    ///
    /// # Errors
    /// [`ScenarioError::NoSuchObject`]: the workload has no such Service or port.
    pub fn service_target(&self, name: &str, port: &str) -> Result<Target, ScenarioError> {
        let service = self.service(name)?;
        let number = service
            .ports
            .get(port)
            .ok_or_else(|| ScenarioError::NoSuchObject(format!("service/{name} port {port}")))?;
        Ok(Target {
            object: Object::Service(name.to_owned()),
            hosts: std::iter::once(self.fqdn(name))
                .chain(service.cluster_ip.map(|ip| ip.to_string()))
                .collect(),
            port: *number,
        })
    }

    /// The virtual address of the Service `name` and the number of its port `port`.
    ///
    /// # Errors
    /// [`ScenarioError::NoSuchObject`]: the workload has no such Service, address or port.
    pub fn service_address(&self, name: &str, port: &str) -> Result<(String, u16), ScenarioError> {
        let target = self.service_target(name, port)?;
        let none = || ScenarioError::NoSuchObject(format!("address of service/{name}"));
        let address = self.service(name)?.cluster_ip.ok_or_else(none)?;
        Ok((address.to_string(), target.port))
    }

    /// A target for the cluster's DNS, over TCP or UDP; none where it has no address.
    #[must_use]
    pub fn dns_target(&self) -> Option<Target> {
        Some(Target {
            object: Object::ClusterDns,
            hosts: vec![self.dns?.to_string()],
            port: crate::dns::PORT,
        })
    }

    /// A target for a port of a pod.
    ///
    /// # Errors
    /// [`ScenarioError::NoSuchObject`]: the workload has no such pod.
    pub fn pod_target(&self, name: &str, port: u16) -> Result<Target, ScenarioError> {
        let pod = self
            .pods
            .get(name)
            .ok_or_else(|| ScenarioError::NoSuchObject(format!("pod/{name}")))?;
        Ok(Target {
            object: Object::Pod(name.to_owned()),
            hosts: vec![pod.ip.to_string()],
            port,
        })
    }
}

/// An address in the cluster, with the object behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The object, in the run's namespace unless it says otherwise.
    pub object: Object,
    /// What an unmodified client types for it: names and addresses.
    pub hosts: Vec<String>,
    /// The port that goes with them.
    pub port: u16,
}

/// What stands behind a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Object {
    /// A Service of the run's namespace.
    Service(String),
    /// A pod of the run's namespace.
    Pod(String),
    /// The cluster's DNS.
    ClusterDns,
}

/// A load could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The workload lacks something it should have.
    #[error("the workload has no {0}")]
    NoSuchObject(String),
    /// The scenario has no such load.
    #[error("the scenario has no load `{0}`")]
    NoSuchLoad(String),
    /// The answers are wrong, so timing them would mean nothing.
    #[error("the answer is wrong, so it was not timed: {0}")]
    WrongAnswer(String),
    /// The target could not be reached at all.
    #[error("{doing}")]
    Failed {
        /// What was being done, and to what.
        doing: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What answers is not the workload, or does not answer.
impl From<OpError> for ScenarioError {
    fn from(OpError(reason): OpError) -> Self {
        Self::WrongAnswer(reason)
    }
}

impl ScenarioError {
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
