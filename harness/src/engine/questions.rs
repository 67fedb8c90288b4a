//! Asking the probes, each in its manner.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use tokio::time::sleep;

use super::record::Record;
use super::seat::Way;
use super::{Crew, Engine};
use crate::causes::in_one_line;
use crate::clock::Stopwatch;
use crate::event::Event;
use crate::expected::Outcome;
use crate::ids::MethodId;
use crate::kubernetes::KubernetesError;
use crate::method::{Interruptions, Method, Vantage};
use crate::probe::{self, Manner, NO_LAPTOP, Probe, Trial, Whose};
use crate::run::{ProbeResult, Verdict};
use crate::scenario::{Scenario, Target, Workload};
use crate::stage::{Inventory, Stage};

/// How long clients have seen a workload as it was before its pods are replaced.
const WATCHED: Duration = Duration::from_secs(2);

/// How often pods are replaced for those who have not yet seen it.
const REPLACED: usize = 5;

/// What was replaced, or why it could not be; `None` where it was not tried.
type Done = Option<Result<String, String>>;

/// A probe with the scenario that has it.
pub(super) type Question<'a> = (&'a dyn Scenario, &'static Probe);

/// The answers through one method, and what ended by itself during which probe.
#[derive(Default)]
struct Asked {
    results: Vec<ProbeResult>,
    interruptions: Vec<(MethodId, &'static str, Interruptions)>,
}

/// All that asking works with.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) engine: &'a Engine<'a>,
    pub(super) stage: &'a Stage,
    pub(super) targets: &'a [Target],
    pub(super) workload: &'a Workload,
    /// What was in the namespace before any laptop was connected.
    pub(super) inventory: &'a Inventory,
}

impl<'a> Asking<'a> {
    /// Asks every probe through every method, and writes the answers down in the order of the probes. Methods are
    /// asked at the same time, since nothing is measured meanwhile, but for what would disturb others.
    pub(super) async fn all(
        &self,
        crews: &mut [Crew],
        scenarios: &[&dyn Scenario],
        record: &mut Record,
    ) {
        let questions: Vec<Question<'_>> = scenarios
            .iter()
            .flat_map(|scenario| {
                self.engine
                    .probes_of(*scenario)
                    .map(|probe| (*scenario, probe))
            })
            .collect();
        let asked_as = |wanted: fn(Manner) -> bool| -> Vec<Question<'_>> {
            let these = questions.iter().filter(|(_, probe)| wanted(probe.manner));
            these.copied().collect()
        };
        let at_once = asked_as(|it| matches!(it, Manner::Together | Manner::OnLaptops));
        let elsewhere =
            asked_as(|it| matches!(it, Manner::Tried(Trial::Neighbour | Trial::Overlap)));
        let alone = asked_as(|it| it == Manner::Alone);
        let replaced = asked_as(|it| matches!(it, Manner::WhileReplaced(_)));
        let last = asked_as(|it| {
            matches!(
                it,
                Manner::Tried(Trial::Unrelated | Trial::Teardown | Trial::Privilege)
            )
        });

        // On a laptop of their own, one method after the other.
        let guests = self.guests(crews).await;
        let tried = async {
            let mut asked = Asked::default();
            for question in &elsewhere {
                for guest in &guests {
                    asked
                        .results
                        .push(self.try_elsewhere(guest, *question).await);
                }
            }
            asked
        };
        let (mut asked, tried) = tokio::join!(self.of_each(crews, &at_once), tried);
        asked.push(tried);
        for question in &alone {
            for crew in &mut *crews {
                asked.push(self.in_turn(crew, std::slice::from_ref(question)).await);
            }
        }
        for question in &replaced {
            asked.extend(self.while_replaced(crews, *question).await);
        }
        asked.extend(self.of_each(crews, &last).await);

        let mut results = Vec::new();
        for one in asked {
            for (method, during, found) in one.interruptions {
                record.interrupted(&method, during, found);
            }
            results.extend(one.results);
        }
        let place = |id: &str| questions.iter().position(|(_, probe)| probe.id == id);
        results.sort_by_key(|result| place(&result.id));
        for result in results {
            // What cannot be asked of a method is no news.
            if result.verdict == Verdict::NotRun && result.foreseen != Some(Outcome::NotRun) {
                let text = format!("`{}` through `{}` was not asked", result.id, result.method);
                let remedy = "the reason stands beside the probe";
                self.engine.warn(record, "probe-not-run", text, remedy);
            }
            record.run.probes.push(result);
        }
    }

    /// Asks all methods the same questions at the same time.
    async fn of_each(&self, crews: &mut [Crew], questions: &[Question<'_>]) -> Vec<Asked> {
        join_all(crews.iter_mut().map(|crew| self.in_turn(crew, questions))).await
    }

    /// Asks one probe after the other through one method.
    async fn in_turn(&self, crew: &mut Crew, questions: &[Question<'_>]) -> Asked {
        let mut asked = Asked::default();
        let Some(method) = self.method(crew) else {
            return asked;
        };
        for question in questions {
            let (_, probe) = question;
            let mut result = self.ask(crew, method, *question).await;
            // The next probe must not pay for what this one has broken.
            if let Ok(Some(found)) = crew.interruptions().await {
                if matches!(probe.manner, Manner::WhileReplaced(_)) {
                    restarted_by_hand(&mut result, &found);
                }
                asked
                    .interruptions
                    .push((crew.method.clone(), probe.id, found));
            }
            asked.results.push(self.told(result));
        }
        asked
    }

    /// The answer to one probe through one method.
    async fn ask(
        &self,
        crew: &mut Crew,
        method: &dyn Method,
        (scenario, probe): Question<'_>,
    ) -> ProbeResult {
        if let Manner::Tried(trial) = probe.manner {
            let stopwatch = Stopwatch::start();
            let way = self.way(method);
            return match self.try_on(crew, &way, trial, (scenario, probe)).await {
                Ok(attempt) => probe::tried(probe, method, attempt, stopwatch.elapsed()),
                Err(error) => probe::not_run(probe, method, &in_one_line(&error)),
            };
        }
        if probe.manner == Manner::OnLaptops && method.vantage() == Vantage::Pod {
            return probe::not_run(probe, method, NO_LAPTOP);
        }
        let result = crew.probe(scenario, probe, self.workload).await;
        result.unwrap_or_else(|error| probe::not_run(probe, method, &in_one_line(&error)))
    }

    /// Asks all methods a probe that watches pods being replaced.
    async fn while_replaced(&self, crews: &mut [Crew], question: Question<'_>) -> Vec<Asked> {
        let (_, probe) = question;
        match probe.manner {
            Manner::WhileReplaced(Whose::Workload(label)) => {
                let watching = self.of_each(crews, std::slice::from_ref(&question));
                let (asked, done) = self.replacing(label, REPLACED, watching).await;
                asked.into_iter().map(|one| one.with(&done)).collect()
            }
            _ => join_all(crews.iter_mut().map(|crew| self.restarted(crew, question))).await,
        }
    }

    /// Asks one method while its own pods are replaced.
    async fn restarted(&self, crew: &mut Crew, question: Question<'_>) -> Asked {
        let Some(method) = self.method(crew) else {
            return Asked::default();
        };
        let own = method.parts().iter().find_map(|part| part.pods());
        let Some(labels) = own else {
            let reason = if method.parts().is_empty() {
                "it has no part of its own in the cluster, so that none can restart"
            } else {
                "it works by the API server and the kubelets, which serve the whole cluster and are not restarted here"
            };
            let result = probe::not_run(question.1, method, reason);
            return Asked {
                results: vec![self.told(result)],
                ..Asked::default()
            };
        };
        let watching = self.in_turn(crew, std::slice::from_ref(&question));
        let (asked, done) = self.replacing(&labels, 1, watching).await;
        asked.with(&done)
    }

    /// Has the pods with a label replaced, `times` times at most, until `watching` is over. Returns what that came to,
    /// and what was done the last time, or why it could not be.
    async fn replacing<T>(
        &self,
        label: &str,
        times: usize,
        watching: impl Future<Output = T>,
    ) -> (T, Done) {
        let mut done = None;
        let outcome = {
            let acting = async {
                for _ in 0..times {
                    sleep(WATCHED).await;
                    if let Err(error) = self.replace(label, &mut done).await {
                        done = Some(Err(in_one_line(&error)));
                        break;
                    }
                    sleep(WATCHED).await;
                }
                pending::<Infallible>().await
            };
            match select(pin!(watching), pin!(acting)).await {
                Either::Left((outcome, _)) => outcome,
                Either::Right((never, _)) => match never {},
            }
        };
        (outcome, done)
    }

    /// Has the pods with a label replaced, and notes each step as it is done: who watches may have seen enough before
    /// the last.
    async fn replace(&self, label: &str, done: &mut Done) -> Result<(), KubernetesError> {
        let listed = |names: &BTreeSet<String>| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.join(", ")
        };
        let deleted = self.stage.delete_pods(label).await?;
        let stopwatch = Stopwatch::start();
        *done = Some(Ok(format!("{} went", listed(&deleted))));
        let others = self.stage.others(label, &deleted).await?;
        *done = Some(Ok(format!(
            "{} went, and {} came, all ready after {:.1} s",
            listed(&deleted),
            listed(&others),
            stopwatch.elapsed().as_secs_f64()
        )));
        Ok(())
    }

    /// A result that the observer was told of.
    pub(super) fn told(&self, result: ProbeResult) -> ProbeResult {
        let result = self.engine.expecting(result);
        self.engine.observer.on(&Event::Probed(&result));
        result
    }

    /// The method of a crew, where an answer would say anything of it.
    pub(super) fn method(&self, crew: &Crew) -> Option<&'a dyn Method> {
        let method = self.engine.repertoire.method(&crew.method);
        method.filter(|method| self.engine.can_be_asked(*method))
    }

    /// What a laptop is connected to.
    pub(super) fn way<'b>(&'b self, method: &'b dyn Method) -> Way<'b> {
        Way {
            stage: self.stage,
            method,
            targets: self.targets,
        }
    }
}

/// What came back because it was started again did not come back by itself: a user would have had to act.
fn restarted_by_hand(result: &mut ProbeResult, found: &Interruptions) {
    result.seen = format!(
        "{}; but it ended {}× and was started again, as a user would have to: {}",
        result.seen, found.count, found.said
    );
    if result.verdict == Verdict::Pass {
        result.verdict = Verdict::Fail;
        result.effort = None;
    }
}

impl Asked {
    /// The same, with what the controller did meanwhile; where it did nothing, nothing was asked.
    fn with(mut self, done: &Done) -> Self {
        let tried = self.results.iter_mut();
        for result in tried.filter(|result| result.verdict != Verdict::NotRun) {
            let reason = match done {
                Some(Ok(text)) => {
                    result.seen = format!("{}; meanwhile {text}", result.seen);
                    continue;
                }
                Some(Err(reason)) => reason,
                // What fails from the beginning would not do better afterwards.
                None if result.verdict != Verdict::Pass => continue,
                None => "it was over before anything was replaced",
            };
            result.verdict = Verdict::NotRun;
            result.effort = None;
            result.reason = Some(reason.to_owned());
        }
        self
    }
}
