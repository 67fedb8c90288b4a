//! Driving a run: from a plan to a result file.
//!
//! Set the stage; deploy workloads and methods; connect a laptop by each method; ask the probes; find the
//! rate that all can carry; then measure, block by block. What is known so far is saved after every cell,
//! so that an interrupted run leaves a valid file. Whatever was set up is taken down again.

mod cost;
mod crew;
mod deployment;
mod fleet;
mod machine;
mod questions;
mod record;
mod rounds;
mod seat;
mod summary;
mod trials;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::agent::{AgentError, Repertoire};
use crate::causes::in_one_line;
use crate::clock::{self, Stopwatch};
use crate::cluster::{Cluster, ClusterError};
use crate::event::{Event, Observer};
use crate::ids::MethodId;
use crate::kubernetes::KubernetesError;
use crate::method::{Method, MethodError, Vantage};
use crate::plan::Plan;
use crate::probe::Probe;
use crate::run::{LEFT_BEHIND, ProbeResult, Run, Status, Warning};
use crate::scenario::Scenario;
use crate::stage::Stage;
use crate::validity::MachineNoise;

pub use crew::{Crew, Laptops};
pub use fleet::{Fleet, PodLaptops};
pub use machine::{build_profile, new_run_id};
use questions::Asking;
use record::Record;
pub use seat::Prepared;

/// What deploying and connecting takes, about: for the estimate only.
const SET_UP: Duration = Duration::from_secs(5);

/// What one method's probes take, about; methods are asked at the same time.
const PROBES: Duration = Duration::from_secs(70);

/// Why probes are not asked on laptops that are pods of the cluster.
const LAPTOPS_INSIDE: &str =
    "the laptops are pods of the cluster that is measured, where every address works unmodified";

/// A run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The API refused or failed.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// The result file could not be written.
    #[error("writing `{}`", path.display())]
    Save {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A method could not be slowed down, which was asked for.
    #[error("slowing a laptop down")]
    Handicap(#[source] AgentError),
    /// Nothing can be asked without a workload.
    #[error("none of the scenarios could be deployed: {0}")]
    NoScenario(String),
    /// Nothing can be measured without it.
    #[error("none of the methods could be connected: {0}")]
    NoMethod(String),
}

/// A method that can run from here, with its laptops.
type Ready<'a> = (&'a dyn Method, Vec<Prepared>);

/// Everything a run works with.
pub struct Engine<'a> {
    /// The cluster.
    pub cluster: &'a dyn Cluster,
    /// Where the clients run; on the cluster's own laptops, where there is none.
    pub laptops: Option<PodLaptops<'a>>,
    /// All methods and scenarios.
    pub repertoire: &'a Repertoire,
    /// What to do.
    pub plan: &'a Plan,
    /// The machine, before anything of the run was started.
    pub machine: MachineNoise,
    /// Who is told.
    pub observer: &'a dyn Observer,
    /// Ends the run early, with what there is.
    pub cancel: CancellationToken,
}

impl Engine<'_> {
    /// Carries the plan out and returns the result, which is also at `file`.
    ///
    /// # Errors
    /// Where nothing could be measured at all, or the file cannot be written. What failed later is in the
    /// result, as a warning.
    pub async fn run(&self, id: &str, file: &Path) -> Result<Run, EngineError> {
        let mut record = Record::begin(id, self, file)?;
        let (stage, fleet) = match self.set(id).await {
            Ok(set) => set,
            Err(error) => {
                record.finish(Status::Failed)?;
                return Err(error.into());
            }
        };
        let mut crews = Vec::new();
        let outcome = tokio::select! {
            outcome = self.perform(&stage, fleet.as_ref(), &mut record, &mut crews) => outcome,
            () = self.cancel.cancelled() => Ok(Status::Partial),
        };
        self.observer.on(&Event::Phase("taking everything down"));
        join_all(crews.into_iter().map(Crew::end)).await;
        let elsewhere = self.laptops.as_ref().and_then(|laptops| laptops.cluster);
        let laptops = elsewhere.zip(fleet.as_ref().map(Fleet::stage));
        let own = (self.cluster, &stage);
        for (cluster, stage) in std::iter::once(own).chain(laptops) {
            if cluster.goes_with_the_run() {
                continue;
            }
            if let Err(error) = stage.strike().await {
                let remedy = "look at what holds the namespace, then delete it by hand";
                self.warn(&mut record, LEFT_BEHIND, error.to_string(), remedy);
            }
        }
        match outcome {
            Ok(status) => Ok(record.finish(status)?),
            Err(error) => {
                record.finish(Status::Failed)?;
                Err(error)
            }
        }
    }

    /// Sets the stage, and the one of laptops that are pods.
    async fn set(&self, id: &str) -> Result<(Stage, Option<Fleet>), KubernetesError> {
        let mut stage = Stage::set(self.cluster, &self.plan.namespace, id).await?;
        stage.laptops = self.laptops_each();
        let fleet = match &self.laptops {
            Some(laptops) => Some(Fleet::new(laptops.stage(&stage).await?, laptops.count)),
            None => None,
        };
        Ok((stage, fleet))
    }

    /// How many laptops each method connects.
    fn laptops_each(&self) -> usize {
        self.laptops.as_ref().map_or(1, |laptops| laptops.count)
    }

    async fn perform(
        &self,
        stage: &Stage,
        fleet: Option<&Fleet>,
        record: &mut Record,
        crews: &mut Vec<Crew>,
    ) -> Result<Status, EngineError> {
        let mut clock = Progress::new(self);
        self.observer
            .on(&Event::Phase("finding out which methods can run from here"));
        let laptops = fleet.map_or(Laptops::OfCluster(self.cluster), Laptops::Pods);
        let (ready, mut absent) = self.prepare(stage, laptops, record).await;

        self.observer
            .on(&Event::Phase("deploying scenarios and methods"));
        let begun = clock::now();
        let (workloads, deployed) = self.deploy(stage, ready).await;
        let (scenarios, undeployed) = self.take_workloads(workloads, record);
        if scenarios.is_empty() {
            return Err(EngineError::NoScenario(undeployed.join("; ")));
        }
        let workload = stage.observe().await?;

        // Looking is no part of setting up.
        let looking = Stopwatch::start();
        let inventory = stage.inventory().await?;
        let begun = begun + looking.elapsed();

        self.observer.on(&Event::Phase("connecting laptops"));
        let targets = workload.targets(scenarios.iter().copied());
        let first = targets.first().cloned();
        let connecting = deployed.into_iter().map(|(method, deployed)| {
            let (targets, first) = (&targets, first.as_ref());
            async move {
                let crew = match deployed {
                    Ok(laptops) => {
                        Crew::connect(laptops, stage, method, targets, first, begun).await
                    }
                    Err(error) => Err(error),
                };
                (method, crew)
            }
        });
        for (method, crew) in join_all(connecting).await {
            match crew {
                Ok(crew) => {
                    self.observer.on(&Event::Connected {
                        method: &crew.method,
                        setup: crew.setup,
                    });
                    record.connected(&crew);
                    crews.push(crew);
                }
                Err(error) => absent.push(self.absent(method, &error, record)),
            }
        }
        if crews.is_empty() {
            return Err(EngineError::NoMethod(absent.join("; ")));
        }
        record.save()?;
        clock.spent(SET_UP);

        self.observer.on(&Event::Phase("asking the probes"));
        for crew in crews.iter() {
            let method = self.repertoire.method(&crew.method);
            if let Some(method) = method.filter(|method| !self.can_be_asked(*method)) {
                record.absent(self, method, &scenarios, LAPTOPS_INSIDE);
                let remedy =
                    "name another cluster for the laptops, or ask the probes without `--laptops`";
                let text = format!("no probe was asked: {LAPTOPS_INSIDE}");
                self.warn(record, "probe-not-run", text, remedy);
            }
        }
        let asking = Asking {
            engine: self,
            stage,
            targets: &targets,
            workload: &workload,
            inventory: &inventory,
        };
        asking.all(crews, &scenarios, record).await;
        record.save()?;
        if !self.plan.probes.is_empty() {
            clock.spent(PROBES);
        }

        let parts = (crews.as_mut_slice(), scenarios.as_slice());
        let measured = !self.plan.loads
            || rounds::measure(self, stage, parts, &workload, record, &mut clock).await?;
        Ok(if absent.is_empty() && undeployed.is_empty() && measured {
            Status::Complete
        } else {
            Status::Partial
        })
    }

    /// Gets the laptops ready and finds out which methods can run from here. Returns these, and why the others cannot.
    async fn prepare<'b>(
        &'b self,
        stage: &Stage,
        laptops: Laptops<'_>,
        record: &mut Record,
    ) -> (Vec<Ready<'b>>, Vec<String>) {
        let preparing = self.methods().into_iter();
        let preparing = preparing
            .map(|method| async move { (method, Crew::prepare(laptops, stage, method).await) });
        let (mut ready, mut absent, mut silent) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (method, prepared) in join_all(preparing).await {
            match prepared {
                Ok((laptops, unanswered)) => {
                    silent.extend(unanswered);
                    ready.push((method, laptops));
                }
                Err(error) => absent.push(self.absent(method, &error, record)),
            }
        }
        if !silent.is_empty() {
            let silent: Vec<String> = silent.iter().map(ToString::to_string).collect();
            let text = format!("no answer to a laptop from the node {}", silent.join(", "));
            let remedy = "node ports may be closed as well: `route`, `socks` and `wireguard` need nodes that laptops reach";
            self.warn(record, "silent-node", text, remedy);
        }
        let able: Vec<MethodId> = ready.iter().map(|(method, _)| method.id()).collect();
        self.observer.on(&Event::Able(&able));
        (ready, absent)
    }

    /// Takes in that a method cannot be used, and returns why.
    fn absent(&self, method: &dyn Method, error: &MethodError, record: &mut Record) -> String {
        let reason = in_one_line(error);
        record.absent(self, method, &self.scenarios(), &reason);
        let text = format!("`{}` was not run: {reason}", method.id());
        let remedy = "see the reason; `inroads doctor` tells what this machine lacks";
        self.warn(record, "method-not-run", text, remedy);
        reason
    }

    /// A probe's result, with what was expected of it.
    fn expecting(&self, mut result: ProbeResult) -> ProbeResult {
        result.foreseen = self.repertoire.expected.of(&result.id, &result.method);
        result
    }

    /// Whether an answer would say anything of the method: a laptop that is a pod of the cluster is in it already.
    fn can_be_asked(&self, method: &dyn Method) -> bool {
        let inside = self.laptops.as_ref().is_some_and(|it| it.cluster.is_none());
        method.vantage() == Vantage::Pod || !inside
    }

    /// The probes of a scenario that are to be asked.
    fn probes_of(&self, scenario: &dyn Scenario) -> impl Iterator<Item = &'static Probe> {
        let asked = scenario.probes().iter();
        asked.filter(|probe| self.plan.probes.contains(probe.id))
    }

    fn methods(&self) -> Vec<&dyn Method> {
        self.plan
            .methods
            .iter()
            .filter_map(|id| self.repertoire.method(id))
            .collect()
    }

    fn scenarios(&self) -> Vec<&dyn Scenario> {
        self.plan
            .scenarios
            .iter()
            .filter_map(|id| self.repertoire.scenario(id))
            .collect()
    }

    /// How long one method's part of a block takes, about.
    fn block(&self, scenarios: &[&dyn Scenario]) -> Duration {
        let loads = scenarios.iter().flat_map(|scenario| scenario.loads());
        loads.map(|load| self.plan.profile.expected(load)).sum()
    }

    fn warn(&self, record: &mut Record, kind: &str, text: String, remedy: &str) {
        let warning = Warning {
            kind: kind.to_owned(),
            text,
            remedy: remedy.to_owned(),
        };
        if !record.run.warnings.contains(&warning) {
            self.observer.on(&Event::Warned(&warning));
            record.run.warnings.push(warning);
        }
    }
}

/// How far a run has come, against the estimate.
struct Progress<'a> {
    observer: &'a dyn Observer,
    done: Duration,
    total: Duration,
}

impl<'a> Progress<'a> {
    fn new(engine: &'a Engine<'a>) -> Self {
        let profile = &engine.plan.profile;
        let methods = u32::try_from(engine.plan.methods.len()).unwrap_or(u32::MAX);
        let mut cell = Duration::ZERO;
        let mut calibration = Duration::ZERO;
        for scenario in engine.scenarios().into_iter().filter(|_| engine.plan.loads) {
            cell += engine.block(&[scenario]);
            calibration += profile.warm_up + profile.calibration;
        }
        let probes = if engine.plan.probes.is_empty() {
            Duration::ZERO
        } else {
            PROBES
        };
        let total = SET_UP + probes + (calibration + cell * profile.blocks) * methods;
        let progress = Self {
            observer: engine.observer,
            done: Duration::ZERO,
            total,
        };
        progress.tell();
        progress
    }

    /// Takes in that there is more to do than was thought.
    fn extend(&mut self, by: Duration) {
        self.total += by;
        self.tell();
    }

    fn spent(&mut self, expected: Duration) {
        self.done += expected;
        self.tell();
    }

    fn tell(&self) {
        self.observer.on(&Event::Progress {
            done: self.done,
            total: self.total,
        });
    }
}
