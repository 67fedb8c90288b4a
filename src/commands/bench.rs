//! `inroads bench` and `inroads conform`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use inroads_harness::agent::Repertoire;
use inroads_harness::comparison::Comparison;
use inroads_harness::engine::new_run_id;
use inroads_harness::ids::MethodId;
use inroads_harness::plan::{Plan, PlanError, Profile};
use inroads_harness::run::{LEFT_BEHIND, Level, ProbeResult, Run, Status};

use super::gate::Judge;
use super::measuring::Measuring;
use super::print;
use crate::agents::repertoire;
use crate::cli::{Asked, Bench, GateRules, LaptopsChoice};
use crate::exit::Exit;

/// Runs the benchmark.
pub(crate) async fn run(arguments: Bench) -> Exit {
    match try_run(arguments, true).await {
        Ok(exit) | Err(exit) => exit,
    }
}

/// Asks the probes alone.
pub(crate) async fn conform(asked: Asked) -> Exit {
    let arguments = Bench {
        asked,
        laptops: LaptopsChoice::default(),
        // Only loads take their times from it.
        profile: "quick".to_owned(),
        seed: None,
        precision: None,
        budget: None,
        baseline: Vec::new(),
        rules: GateRules::default(),
        handicap: None,
    };
    match try_run(arguments, false).await {
        Ok(exit) | Err(exit) => exit,
    }
}

/// Methods, scenarios and probes.
type Selected = (Vec<MethodId>, Vec<String>, BTreeSet<String>);

/// The methods, scenarios and probes that were asked for.
fn select(repertoire: &Repertoire, asked: &Asked, loads: bool) -> Result<Selected, PlanError> {
    let (methods, mut scenarios) =
        Plan::select(repertoire, &asked.methods, &asked.peer, &asked.scenario)?;
    let probes = Plan::select_probes(repertoire, &scenarios, &asked.probe)?;
    if !loads {
        // A workload that nobody asks anything need not be there.
        scenarios.retain(|id| {
            let scenario = repertoire.scenario(id).map(|it| it.probes());
            let mut asked = scenario.unwrap_or_default().iter();
            asked.any(|probe| probes.contains(probe.id))
        });
    }
    Ok((methods, scenarios, probes))
}

async fn try_run(arguments: Bench, loads: bool) -> Result<Exit, Exit> {
    let repertoire = repertoire();
    let plan = plan(&repertoire, &arguments, loads)?;
    let Bench {
        asked,
        laptops,
        baseline,
        rules,
        ..
    } = arguments;
    // A baseline that cannot be read is found before anything is measured.
    let judge = (!baseline.is_empty()).then(|| Judge::new(&baseline, &rules));
    let judge = judge.transpose()?;

    let measuring = Measuring::begin(&repertoire, &asked.cluster)?.with(laptops, asked.keep);
    let id = new_run_id();
    let folder = asked.out.join(&id);
    let run = measuring.carry_out(&plan, &id, &folder).await?;
    let whole = !measuring.interrupted.is_cancelled();
    let judged = match &judge {
        Some(judge) if whole => {
            let place = (&measuring, folder.join("again"));
            Some(judge.judge(&run, &plan, Some(place)).await)
        }
        _ => None,
    };
    measuring.progress.end();
    let comparison = judged.as_ref().and_then(|judged| judged.as_ref().ok());
    show(&run, comparison, &folder, (asked.json, loads)).map_err(Exit::failed)?;
    if measuring.interrupted.is_cancelled() {
        return Ok(Exit::Interrupted);
    }
    let surprised = match &judge {
        Some(judge) => judge.is_surprised_by(&run),
        None => run.probes.iter().any(is_required_surprise),
    };
    let own = match run.run.status {
        _ if surprised => Exit::Surprise,
        Status::Complete if run.warnings.iter().any(|it| it.kind == LEFT_BEHIND) => Exit::Unwell,
        Status::Complete => Exit::Success,
        Status::Partial | Status::Failed => Exit::Unwell,
    };
    Ok(match (judged, judge) {
        // What the run says of itself is not better for what the baseline was.
        (Some(Ok(comparison)), Some(judge)) => match judge.exit(&comparison, &run) {
            Exit::Success => own,
            exit => exit,
        },
        (Some(Err(Exit::NotComparable(error))), _) if matches!(own, Exit::Surprise) => {
            measuring.progress.say(&format!("warning: {error:#}"));
            own
        }
        (Some(Err(exit)), _) => exit,
        _ => own,
    })
}

/// What the command line asks for.
fn plan(repertoire: &Repertoire, arguments: &Bench, loads: bool) -> Result<Plan, Exit> {
    let asked = &arguments.asked;
    let selected = select(repertoire, asked, loads);
    let (methods, scenarios, probes) = selected.map_err(Exit::usage)?;
    let mut profile = Profile::named(&arguments.profile).map_err(Exit::usage)?;
    if let Some(percent) = arguments.precision {
        profile.half_width = f64::from(percent) / 100.0;
    }
    if arguments.precision.is_some() || arguments.budget.is_some() {
        // Whoever says when to stop does not want to be stopped by a number.
        profile.most_blocks = MOST_BLOCKS;
        profile.budget = arguments.budget;
    }
    let handicap = arguments.handicap.clone();
    if let Some(handicap) = handicap.as_ref().filter(|it| !methods.contains(&it.method)) {
        let error = anyhow::anyhow!(
            "`{}` is not measured, so it cannot be slowed down",
            handicap.method
        );
        return Err(Exit::usage(error));
    }
    Ok(Plan {
        methods,
        scenarios,
        probes,
        loads,
        profile,
        seed: arguments
            .seed
            .unwrap_or_else(|| u64::from(rand::random::<u32>())),
        reversed: false,
        handicap,
        namespace: asked.cluster.namespace.clone(),
        command: command_line(),
    })
}

/// The most blocks that a run without a limit of its own has.
const MOST_BLOCKS: u32 = 100;

pub(super) fn is_required_surprise(probe: &ProbeResult) -> bool {
    probe.level == Level::Must && probe.is_surprise()
}

/// Writes the reports beside run.json, and prints the one that was asked for.
fn show(
    run: &Run,
    comparison: Option<&Comparison>,
    folder: &Path,
    (json, loads): (bool, bool),
) -> anyhow::Result<()> {
    let write = |file: &str, text: String| {
        let path = folder.join(file);
        std::fs::write(&path, text).with_context(|| format!("writing `{}`", path.display()))
    };
    write("report.md", inroads_reports::markdown(run, comparison))?;
    write("report.html", inroads_reports::html(run, comparison))?;
    if let Some(comparison) = comparison {
        write(
            "comparison.json",
            serde_json::to_string_pretty(comparison)? + "\n",
        )?;
    }
    if json {
        return print(&(serde_json::to_string(run)? + "\n"));
    }
    print(&if loads {
        inroads_reports::table(run)
    } else {
        inroads_reports::matrix(run)
    })?;
    if let Some(comparison) = comparison {
        print(&format!("\n{}", inroads_reports::comparison(comparison)))?;
    }
    print(&format!(
        "run.json, report.md and report.html are in {}\n",
        folder.display()
    ))
}

/// The command line as the user typed it, without the program's path.
pub(super) fn command_line() -> String {
    let words = std::env::args().skip(1).map(|word| {
        let plain = word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_=./:,".contains(c));
        if plain && !word.is_empty() {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    std::iter::once("inroads".to_owned())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}
