//! `inroads compare` and `inroads gate`: one run held against another.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use inroads_harness::agent::Repertoire;
use inroads_harness::clock;
use inroads_harness::comparison::{Acknowledgements, Comparison, Decision, Rules};
use inroads_harness::engine::new_run_id;
use inroads_harness::ids::MethodId;
use inroads_harness::plan::{Plan, Profile};
use inroads_harness::run::{CONTROL, Run};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::measuring::Measuring;
use super::{print, report};
use crate::agents::repertoire;
use crate::cli::{Compare, Gate, GateRules, Inconclusive};
use crate::exit::Exit;

/// Shows what changed.
pub(crate) fn compare(arguments: &Compare) -> Exit {
    let rules = GateRules {
        rules: arguments.rules.clone(),
        ..GateRules::default()
    };
    let baseline = std::slice::from_ref(&arguments.baseline);
    let compared = Judge::new(baseline, &rules).and_then(|judge| {
        let candidate = report::read(&arguments.candidate).map_err(Exit::usage)?;
        judge.compare(&candidate)
    });
    compared.map_or_else(
        |exit| exit,
        |comparison| {
            show(&comparison, arguments.json).map_or_else(Exit::failed, |()| Exit::Success)
        },
    )
}

/// Judges.
pub(crate) async fn run(arguments: Gate) -> Exit {
    match try_run(arguments).await {
        Ok(exit) | Err(exit) => exit,
    }
}

async fn try_run(arguments: Gate) -> Result<Exit, Exit> {
    let judge = Judge::new(&arguments.baseline, &arguments.rules)?;
    let candidate = report::read(&arguments.candidate).map_err(Exit::usage)?;
    let comparison = if arguments.rules.confirm {
        judge.judge_again(&candidate, &arguments).await?
    } else {
        judge.compare(&candidate)?
    };
    if let Some(file) = &arguments.write {
        let text = serde_json::to_string_pretty(&comparison).map_err(Exit::failed)? + "\n";
        std::fs::write(file, text)
            .with_context(|| format!("writing `{}`", file.display()))
            .map_err(Exit::failed)?;
    }
    show(&comparison, arguments.json).map_err(Exit::failed)?;
    Ok(judge.exit(&comparison, &candidate))
}

fn show(comparison: &Comparison, json: bool) -> anyhow::Result<()> {
    if json {
        return print(&(serde_json::to_string(comparison)? + "\n"));
    }
    print(&inroads_reports::comparison(comparison))
}

/// The runs of a baseline, and when a change from them is a regression.
pub(super) struct Judge {
    baselines: Vec<Run>,
    rules: Rules,
    accepted: Acknowledgements,
    confirm: bool,
    inconclusive: Inconclusive,
}

impl Judge {
    /// Reads all that is needed.
    pub(super) fn new(baselines: &[PathBuf], choice: &GateRules) -> Result<Self, Exit> {
        let text = |file: &PathBuf| {
            std::fs::read_to_string(file).with_context(|| format!("reading `{}`", file.display()))
        };
        let rules = rules(choice.rules.as_deref());
        let accepted = match &choice.acknowledged {
            None => Ok(Acknowledgements::default()),
            Some(file) => text(file).and_then(|text| {
                Acknowledgements::read(&text).with_context(|| {
                    format!(
                        "reading `{}`\n(hint: an entry is `[[acknowledge]]` with `what`, `by`, `reason` and `until = \"YYYY-MM-DD\"`)",
                        file.display()
                    )
                })
            }),
        };
        let baselines: anyhow::Result<Vec<Vec<Run>>> = baselines
            .iter()
            .map(|path| report::read_all(path))
            .collect();
        Ok(Self {
            baselines: baselines
                .map_err(Exit::usage)?
                .into_iter()
                .flatten()
                .collect(),
            rules: rules?,
            accepted: accepted.map_err(Exit::usage)?,
            confirm: choice.confirm,
            inconclusive: choice.inconclusive,
        })
    }

    /// Holds `candidate` against the baseline.
    pub(super) fn compare(&self, candidate: &Run) -> Result<Comparison, Exit> {
        let hint = "measure a new baseline, `inroads bench all`, where the candidate was measured";
        report::comparable(&self.baselines, candidate, hint).map_err(Exit::NotComparable)?;
        self.all_gate(candidate).map_err(Exit::usage)?;
        let runs = (&self.baselines[..], candidate);
        Ok(Comparison::between(
            runs,
            &self.rules,
            &self.accepted,
            today(),
        ))
    }

    /// Whether what is to gate is there: of a misspelt name nothing would be heard again.
    fn all_gate(&self, candidate: &Run) -> anyhow::Result<()> {
        let repertoire = repertoire();
        let runs = || self.baselines.iter().chain([candidate]);
        for (scenario, metric) in self.rules.blocking() {
            anyhow::ensure!(
                repertoire.scenario(scenario).is_some(),
                "`blocking.{scenario}` names no scenario\n(hint: `inroads list` names them)"
            );
            let figures = runs().flat_map(|run| &run.measurements);
            let mut of_scenario = figures.filter(|it| it.scenario == scenario).peekable();
            anyhow::ensure!(
                of_scenario.peek().is_none() || of_scenario.any(|it| it.metric == metric),
                "`blocking.{scenario}` has `{metric}`, which is no figure of these runs\n(hint: `report --format csv` names them)"
            );
        }
        Ok(())
    }

    /// Whether a required probe of the run came out otherwise than is expected of its method, and nobody has said that
    /// it may.
    pub(super) fn is_surprised_by(&self, run: &Run) -> bool {
        let mut surprises = run
            .probes
            .iter()
            .filter(|it| super::bench::is_required_surprise(it));
        surprises.any(|it| {
            !self
                .accepted
                .accepts(&format!("{}/{}", it.method, it.id), today())
        })
    }

    /// The same, and measures again what looks worse, where that was asked for and there is a place to.
    pub(super) async fn judge(
        &self,
        candidate: &Run,
        plan: &Plan,
        place: Option<(&Measuring<'_>, PathBuf)>,
    ) -> Result<Comparison, Exit> {
        let mut comparison = self.compare(candidate)?;
        let (methods, scenarios) = comparison.suspects();
        let Some((measuring, folder)) = place.filter(|_| self.confirm && !methods.is_empty())
        else {
            return Ok(comparison);
        };
        measuring.progress.say(&format!(
            "worse: {}. Measuring again, in reversed order",
            comparison.reasons.join("; ")
        ));
        let plan = again(plan, measuring.repertoire, &methods, &scenarios);
        let run = measuring.carry_out(&plan, &new_run_id(), &folder).await?;
        if measuring.interrupted.is_cancelled() {
            return Err(Exit::Interrupted);
        }
        comparison.confirm(&self.compare(&run)?, &self.rules);
        Ok(comparison)
    }

    /// Judges a run of another command, and measures as it did.
    async fn judge_again(&self, candidate: &Run, arguments: &Gate) -> Result<Comparison, Exit> {
        let repertoire = repertoire();
        let measuring = Measuring::begin(&repertoire, &arguments.cluster)?
            .with(arguments.laptops.clone(), false);
        let mut profile = Profile::named(&candidate.run.profile).map_err(Exit::usage)?;
        // As many blocks as it took.
        let blocks = candidate.measurements.iter().map(|it| it.block + 1).max();
        profile.blocks = blocks.unwrap_or(profile.blocks);
        profile.most_blocks = profile.blocks;
        let plan = Plan {
            methods: candidate.methods.iter().map(|it| it.id.clone()).collect(),
            scenarios: candidate.scenarios.iter().map(|it| it.id.clone()).collect(),
            probes: candidate.probes.iter().map(|it| it.id.clone()).collect(),
            loads: true,
            profile,
            seed: candidate.run.seed,
            reversed: false,
            handicap: None,
            namespace: arguments.cluster.namespace.clone(),
            command: candidate.run.command.clone(),
        };
        let folder = if arguments.candidate.is_dir() {
            arguments.candidate.clone()
        } else {
            let folder = arguments.candidate.parent();
            folder.unwrap_or(Path::new(".")).to_owned()
        };
        let place = Some((&measuring, folder.join("again")));
        let judged = self.judge(candidate, &plan, place).await;
        measuring.progress.end();
        judged
    }

    /// What a command ends with.
    pub(super) fn exit(&self, comparison: &Comparison, candidate: &Run) -> Exit {
        match comparison.decision {
            Decision::Regressed => Exit::Regression,
            Decision::VerdictChanged => Exit::Surprise,
            _ if self.is_surprised_by(candidate) => Exit::Surprise,
            Decision::Pass => Exit::Success,
            Decision::Inconclusive if self.inconclusive == Inconclusive::Pass => Exit::Success,
            Decision::Incomplete | Decision::Inconclusive => Exit::Inconclusive,
        }
    }
}

/// The rules of a file, or the built-in ones.
pub(super) fn rules(file: Option<&Path>) -> Result<Rules, Exit> {
    let Some(file) = file else {
        return Ok(Rules::default());
    };
    let read = std::fs::read_to_string(file)
        .map_err(anyhow::Error::new)
        .and_then(|text| Ok(Rules::read(&text)?));
    let hint = "(hint: `inroads list --rules` prints one)";
    read.with_context(|| format!("reading `{}`\n{hint}", file.display()))
        .map_err(Exit::usage)
}

/// A plan that measures the suspects again: alone with the control, the methods of each block the other way round. Its
/// probes stay, though nobody asks for their verdicts: some of them replace pods, and figures after that are others.
fn again(
    plan: &Plan,
    repertoire: &Repertoire,
    suspects: &BTreeSet<MethodId>,
    scenarios: &BTreeSet<String>,
) -> Plan {
    let only_asks = |id: &str| {
        let scenario = repertoire.scenario(id);
        scenario.is_some_and(|it| it.loads().is_empty())
    };
    let mut again = plan.clone();
    again
        .methods
        .retain(|id| id.as_str() == CONTROL || suspects.contains(id));
    again
        .scenarios
        .retain(|id| scenarios.contains(id) || only_asks(id));
    again.reversed = true;
    again
}

pub(super) fn today() -> Date {
    clock::wall().to_zoned(TimeZone::UTC).date()
}
