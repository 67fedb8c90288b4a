//! Driving a run: from a plan to a result file.
//!
//! Set the stage; deploy workloads and methods; connect a laptop by each method; ask the probes; find the
//! rate that all can carry; then measure, block by block. What is known so far is saved after every cell,
//! so that an interrupted run leaves a valid file. Whatever was set up is taken down again.

mod cost;
mod crew;
mod machine;
mod record;
mod rounds;
mod summary;

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::agent::Repertoire;
use crate::causes::in_one_line;
use crate::cluster::{Cluster, ClusterError};
use crate::event::{Event, Observer};
use crate::ids::MethodId;
use crate::kubernetes::KubernetesError;
use crate::method::{Interruptions, Method, MethodError};
use crate::plan::Plan;
use crate::probe::Probe;
use crate::run::{ProbeResult, Run, Status, Verdict, Warning};
use crate::scenario::{Scenario, Target, Workload};
use crate::stage::Stage;
use crate::{clock, probe};

pub use crew::Crew;
pub use machine::{build_profile, new_run_id};
use record::Record;

/// What deploying and connecting takes, about: for the estimate only.
const SET_UP: Duration = Duration::from_secs(5);

/// What one method's probes take, about; methods are asked at the same time.
const PROBES: Duration = Duration::from_secs(6);

/// The answers through one method, and what ended by itself during which probe.
type Asked = (
    Vec<ProbeResult>,
    Vec<(MethodId, &'static str, Interruptions)>,
);

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
    /// Nothing can be measured without it.
    #[error("none of the methods could be connected: {0}")]
    NoMethod(String),
}

/// Everything a run works with.
pub struct Engine<'a> {
    /// The cluster.
    pub cluster: &'a dyn Cluster,
    /// All methods and scenarios.
    pub repertoire: &'a Repertoire,
    /// What to do.
    pub plan: &'a Plan,
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
        let mut record = Record::begin(id, self.plan, self.cluster, self.repertoire, file)?;
        let stage = match Stage::set(self.cluster, &self.plan.namespace, id).await {
            Ok(stage) => stage,
            Err(error) => {
                record.finish(Status::Failed)?;
                return Err(error.into());
            }
        };
        let mut crews = Vec::new();
        let outcome = tokio::select! {
            outcome = self.perform(&stage, &mut record, &mut crews) => outcome,
            () = self.cancel.cancelled() => Ok(Status::Partial),
        };
        self.observer.on(&Event::Phase("taking everything down"));
        join_all(crews.into_iter().map(Crew::end)).await;
        let struck = if self.cluster.goes_with_the_run() {
            Ok(())
        } else {
            stage.strike().await
        };
        if let Err(error) = struck {
            let remedy = "look at what holds the namespace, then delete it by hand";
            self.warn(&mut record, "left-behind", error.to_string(), remedy);
        }
        match outcome {
            Ok(status) => Ok(record.finish(status)?),
            Err(error) => {
                record.finish(Status::Failed)?;
                Err(error)
            }
        }
    }

    async fn perform(
        &self,
        stage: &Stage,
        record: &mut Record,
        crews: &mut Vec<Crew>,
    ) -> Result<Status, EngineError> {
        let mut clock = Progress::new(self);
        self.observer
            .on(&Event::Phase("deploying scenarios and methods"));
        let begun = clock::now();
        let deployed = self.deploy(stage).await?;
        let workload = stage.observe().await?;

        self.observer.on(&Event::Phase("connecting laptops"));
        let targets: Vec<Target> = self
            .scenarios()
            .iter()
            .flat_map(|s| s.targets(&workload))
            .collect();
        let first = targets.first().cloned();
        let connecting = deployed.into_iter().map(|(method, deployed)| {
            let (targets, first) = (&targets, first.as_ref());
            async move {
                let crew = match deployed {
                    Ok(()) => {
                        Crew::connect(self.cluster, stage, method, targets, first, begun).await
                    }
                    Err(error) => Err(error),
                };
                (method, crew)
            }
        });
        let mut absent = Vec::new();
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
                Err(error) => {
                    let reason = in_one_line(&error);
                    record.absent(method, &self.scenarios(), &reason);
                    let text = format!("`{}` was not run: {reason}", method.id());
                    self.warn(
                        record,
                        "method-not-run",
                        text,
                        "see the reason; `inroads doctor` tells what this machine lacks",
                    );
                    absent.push(reason);
                }
            }
        }
        if crews.is_empty() {
            return Err(EngineError::NoMethod(absent.join("; ")));
        }
        record.save()?;
        clock.spent(SET_UP);

        self.observer.on(&Event::Phase("asking the probes"));
        self.ask_probes(crews, &workload, record).await;
        record.save()?;
        clock.spent(PROBES);

        let measured = rounds::measure(self, stage, crews, &workload, record, &mut clock).await?;
        Ok(if absent.is_empty() && measured {
            Status::Complete
        } else {
            Status::Partial
        })
    }

    /// Deploys all scenarios and methods at once. A scenario that cannot be deployed ends the run, a method
    /// only itself.
    async fn deploy(
        &self,
        stage: &Stage,
    ) -> Result<Vec<(&dyn Method, Result<(), MethodError>)>, EngineError> {
        let workloads = async {
            let deploying = self
                .scenarios()
                .into_iter()
                .map(|scenario| stage.deploy(scenario.manifests()));
            futures_util::future::try_join_all(deploying).await
        };
        let methods = join_all(
            self.methods()
                .into_iter()
                .map(|method| async move { (method, method.deploy(stage).await) }),
        );
        let (workloads, methods) = tokio::join!(workloads, methods);
        workloads?;
        Ok(methods)
    }

    /// Asks every probe through every method. Methods are asked at the same time, since nothing is measured
    /// meanwhile; but what disturbs a workload is asked afterwards, by one method after the other.
    async fn ask_probes(&self, crews: &mut [Crew], workload: &Workload, record: &mut Record) {
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        for scenario in self.scenarios() {
            for probe in scenario.probes() {
                let list = if scenario.disturbs(probe) {
                    &mut alone
                } else {
                    &mut together
                };
                list.push((scenario, probe));
            }
        }
        let asking = crews
            .iter_mut()
            .map(|crew| self.ask_in_turn(crew, &together, workload));
        let mut asked = join_all(asking).await;
        for question in &alone {
            for crew in &mut *crews {
                let question = std::slice::from_ref(question);
                asked.push(self.ask_in_turn(crew, question, workload).await);
            }
        }
        for (results, interruptions) in asked {
            for (method, during, found) in interruptions {
                record.interrupted(&method, during, found);
            }
            for result in results {
                if result.verdict == Verdict::NotRun {
                    let text = format!("`{}` through `{}` was not asked", result.id, result.method);
                    let remedy = "the reason stands beside the probe";
                    self.warn(record, "probe-not-run", text, remedy);
                }
                record.run.probes.push(result);
            }
        }
    }

    /// Asks one probe after the other through one method.
    async fn ask_in_turn(
        &self,
        crew: &mut Crew,
        questions: &[(&dyn Scenario, &'static Probe)],
        workload: &Workload,
    ) -> Asked {
        let (mut results, mut interruptions) = (Vec::new(), Vec::new());
        let Some(method) = self.repertoire.method(&crew.method) else {
            return (results, interruptions);
        };
        for (scenario, probe) in questions {
            let result = crew.probe(*scenario, probe, workload).await;
            let result =
                result.unwrap_or_else(|error| probe::not_run(probe, method, &in_one_line(&error)));
            self.observer.on(&Event::Probed(&result));
            results.push(result);
            // The next probe must not pay for what this one has broken.
            if let Ok(Some(found)) = crew.interruptions().await {
                interruptions.push((crew.method.clone(), probe.id, found));
            }
        }
        (results, interruptions)
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
        for scenario in engine.scenarios() {
            cell += scenario
                .loads()
                .iter()
                .map(|load| profile.expected(load))
                .sum::<Duration>();
            calibration += profile.warm_up + profile.calibration;
        }
        let total = SET_UP + PROBES + (calibration + cell * profile.blocks) * methods;
        let progress = Self {
            observer: engine.observer,
            done: Duration::ZERO,
            total,
        };
        progress.tell();
        progress
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
