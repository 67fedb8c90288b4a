//! Getting workloads and methods into the cluster.

use futures_util::future::join_all;

use super::{Engine, Prepared, Ready, Record};
use crate::causes::in_one_line;
use crate::cluster::ClusterError;
use crate::event::Event;
use crate::method::{Method, MethodError};
use crate::run::Component;
use crate::scenario::Scenario;
use crate::stage::Stage;

/// A scenario, and what its workload consists of or why it could not be deployed.
pub(super) type DeployedScenario<'a> = (&'a dyn Scenario, Result<Vec<Component>, ClusterError>);

/// A method, and its laptops or why it could not be deployed.
pub(super) type DeployedMethod<'a> = (&'a dyn Method, Result<Vec<Prepared>, MethodError>);

impl Engine<'_> {
    /// Deploys all scenarios and methods at once. What cannot be deployed ends nothing but itself.
    pub(super) async fn deploy<'a>(
        &'a self,
        stage: &Stage,
        methods: Vec<Ready<'a>>,
    ) -> (Vec<DeployedScenario<'a>>, Vec<DeployedMethod<'a>>) {
        let steps = |step: &str| self.observer.on(&Event::Phase(step));
        let scenarios = join_all(self.scenarios().into_iter().map(|scenario| {
            let steps = &steps;
            async move {
                let deploying = stage.deploy_workload(self.cluster, scenario.manifests(), steps);
                (scenario, deploying.await)
            }
        }));
        let methods = join_all(methods.into_iter().map(|(method, laptops)| async move {
            let deployed = method.deploy(stage).await;
            (method, deployed.map(|()| laptops))
        }));
        tokio::join!(scenarios, methods)
    }

    /// The scenarios that can be run, and why the others cannot.
    pub(super) fn take_workloads<'a>(
        &self,
        workloads: Vec<DeployedScenario<'a>>,
        record: &mut Record,
    ) -> (Vec<&'a dyn Scenario>, Vec<String>) {
        let (mut scenarios, mut reasons) = (Vec::new(), Vec::new());
        for (scenario, deployed) in workloads {
            match deployed {
                Ok(components) => {
                    record.includes(&components);
                    record.includes(&scenario.components());
                    scenarios.push(scenario);
                }
                Err(error) => {
                    let reason = in_one_line(&error);
                    for method in self.methods() {
                        record.absent(self, method, &[scenario], &reason);
                    }
                    let text = format!("`{}` was not run: {reason}", scenario.id());
                    self.warn(
                        record,
                        "scenario-not-run",
                        text,
                        "see the reason; the other scenarios were run without it",
                    );
                    reasons.push(reason);
                }
            }
        }
        (scenarios, reasons)
    }
}
