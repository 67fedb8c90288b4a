//! `inroads bench` and `inroads conform`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use inroads_harness::agent::Repertoire;
use inroads_harness::engine::{Engine, EngineError, PodLaptops, new_run_id};
use inroads_harness::ids::MethodId;
use inroads_harness::plan::{Plan, PlanError, Profile};
use inroads_harness::run::{LEFT_BEHIND, Level, ProbeResult, Run, Status};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Wanted, cluster, laptops_cluster, print};
use crate::agents::repertoire;
use crate::cli::{Asked, Bench, LaptopsChoice};
use crate::exit::Exit;
use crate::progress::Progress;

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
    let Bench {
        asked,
        laptops,
        profile,
        seed,
    } = arguments;
    let selected = select(&repertoire, &asked, loads);
    let (methods, scenarios, probes) = selected.map_err(Exit::usage)?;
    let plan = Plan {
        methods,
        scenarios,
        probes,
        loads,
        profile: Profile::named(&profile).map_err(Exit::usage)?,
        seed: seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
        namespace: asked.cluster.namespace.clone(),
        command: command_line(),
    };
    let id = new_run_id();
    let folder = asked.out.join(&id);
    make_folder(&folder)?;

    let interrupted = CancellationToken::new();
    catch_interrupts(interrupted.clone()).map_err(Exit::failed)?;
    let progress = Progress::start();
    let chosen: Vec<_> = plan
        .methods
        .iter()
        .filter_map(|id| repertoire.method(id))
        .collect();
    let wanted = Wanted {
        choice: &asked.cluster,
        run: &id,
        keep: asked.keep,
        cancel: &interrupted,
    };
    let cluster = cluster(&wanted, &chosen, &progress).await;
    // Nothing was measured, so nothing is kept.
    let cluster = cluster.inspect_err(|_exit| drop(std::fs::remove_dir(&folder)))?;
    let elsewhere = match laptops_cluster(&laptops, &wanted, &progress).await {
        Ok(elsewhere) => elsewhere,
        Err(exit) => {
            drop(std::fs::remove_dir(&folder));
            cluster.release().await.map_err(Exit::failed)?;
            return Err(exit);
        }
    };
    let laptops = laptops.laptops.map(|count| PodLaptops {
        count: count.into(),
        cluster: elsewhere.as_deref(),
    });
    let engine = Engine {
        cluster: cluster.as_ref(),
        laptops,
        repertoire: &repertoire,
        plan: &plan,
        observer: &progress,
        cancel: interrupted.clone(),
    };
    let outcome = engine.run(&id, &folder.join("run.json")).await;
    let mut released = cluster.release().await;
    if let Some(elsewhere) = elsewhere {
        released = released.and(elsewhere.release().await);
    }
    progress.end();
    let run = outcome.map_err(|error| failed(error, &folder))?;
    released.map_err(Exit::failed)?;
    show(&run, &folder, asked.json, loads).map_err(Exit::failed)?;
    Ok(match run.run.status {
        _ if interrupted.is_cancelled() => Exit::Interrupted,
        _ if run.probes.iter().any(is_required_surprise) => Exit::Surprise,
        Status::Complete if run.warnings.iter().any(|it| it.kind == LEFT_BEHIND) => Exit::Unwell,
        Status::Complete => Exit::Success,
        Status::Partial | Status::Failed => Exit::Unwell,
    })
}

fn is_required_surprise(probe: &ProbeResult) -> bool {
    probe.level == Level::Must && probe.is_surprise()
}

/// Makes the run's folder, before anything is started: where it cannot be, nothing needs to be.
fn make_folder(folder: &Path) -> Result<(), Exit> {
    std::fs::create_dir_all(folder)
        .with_context(|| {
            format!(
                "making `{}`\n(hint: choose another place with `--out`)",
                folder.display()
            )
        })
        .map_err(Exit::usage)
}

/// The first interrupt ends the run in order; the second ends this process, and with it the lab.
pub(super) fn catch_interrupts(first: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if first.is_cancelled() {
                #[expect(clippy::exit, reason = "the user has asked twice")]
                std::process::exit(130);
            }
            first.cancel();
        }
    });
    Ok(())
}

fn failed(error: EngineError, folder: &Path) -> Exit {
    // What it was about to write is of no use to anyone.
    if matches!(error, EngineError::Save { .. }) {
        let _ = std::fs::remove_dir(folder);
    }
    Exit::failed(error)
}

fn show(run: &Run, folder: &Path, json: bool, loads: bool) -> anyhow::Result<()> {
    let report = folder.join("report.md");
    std::fs::write(&report, inroads_reports::markdown(run, None))
        .with_context(|| format!("writing `{}`", report.display()))?;
    if json {
        return print(&(serde_json::to_string(run)? + "\n"));
    }
    print(&if loads {
        inroads_reports::table(run)
    } else {
        inroads_reports::matrix(run)
    })?;
    print(&format!(
        "{} and report.md are in {}\n",
        "run.json",
        folder.display()
    ))
}

/// The command line as the user typed it, without the program's path.
fn command_line() -> String {
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
