//! Carrying a plan out, from a cluster that is made for it to the end of both.

use std::path::Path;

use anyhow::Context as _;
use inroads_harness::agent::Repertoire;
use inroads_harness::engine::{Engine, EngineError, PodLaptops};
use inroads_harness::plan::Plan;
use inroads_harness::run::Run;
use inroads_harness::validity::MachineNoise;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Wanted, cluster, laptops_cluster};
use crate::cli::{ClusterChoice, LaptopsChoice};
use crate::exit::Exit;
use crate::progress::Progress;

/// What all runs of one command have in common.
pub(super) struct Measuring<'a> {
    pub(super) repertoire: &'a Repertoire,
    cluster: &'a ClusterChoice,
    laptops: LaptopsChoice,
    /// Whether a kind cluster of ours stays.
    keep: bool,
    pub(super) interrupted: CancellationToken,
    pub(super) progress: Progress,
}

impl<'a> Measuring<'a> {
    /// Begins to show progress, and to heed interrupts.
    pub(super) fn begin(
        repertoire: &'a Repertoire,
        cluster: &'a ClusterChoice,
    ) -> Result<Self, Exit> {
        let interrupted = CancellationToken::new();
        catch_interrupts(interrupted.clone()).map_err(Exit::failed)?;
        Ok(Self {
            repertoire,
            cluster,
            laptops: LaptopsChoice::default(),
            keep: false,
            interrupted,
            progress: Progress::start(),
        })
    }

    /// The same with other laptops, and a cluster that may stay.
    pub(super) fn with(self, laptops: LaptopsChoice, keep: bool) -> Self {
        Self {
            laptops,
            keep,
            ..self
        }
    }

    /// Gets a cluster, runs `plan` on it and gives it back. The result is in `folder`, which is made.
    pub(super) async fn carry_out(
        &self,
        plan: &Plan,
        id: &str,
        folder: &Path,
    ) -> Result<Run, Exit> {
        // Before anything of ours makes it busy.
        let machine = MachineNoise::look();
        make_folder(folder)?;
        let chosen = plan.methods.iter();
        let chosen: Vec<_> = chosen.filter_map(|id| self.repertoire.method(id)).collect();
        let wanted = Wanted {
            choice: self.cluster,
            run: id,
            keep: self.keep,
            cancel: &self.interrupted,
        };
        let cluster = cluster(&wanted, &chosen, &self.progress).await;
        // Nothing was measured, so nothing is kept.
        let cluster = cluster.inspect_err(|_exit| drop(std::fs::remove_dir(folder)))?;
        let elsewhere = match laptops_cluster(&self.laptops, &wanted, &self.progress).await {
            Ok(elsewhere) => elsewhere,
            Err(exit) => {
                drop(std::fs::remove_dir(folder));
                cluster.release().await.map_err(Exit::failed)?;
                return Err(exit);
            }
        };
        let laptops = self.laptops.laptops.map(|count| PodLaptops {
            count: count.into(),
            cluster: elsewhere.as_deref(),
        });
        let engine = Engine {
            cluster: cluster.as_ref(),
            laptops,
            repertoire: self.repertoire,
            plan,
            observer: &self.progress,
            machine,
            cancel: self.interrupted.clone(),
        };
        let outcome = engine.run(id, &folder.join("run.json")).await;
        let mut released = cluster.release().await;
        if let Some(elsewhere) = elsewhere {
            released = released.and(elsewhere.release().await);
        }
        let run = outcome.map_err(|error| failed(error, folder))?;
        released.map_err(Exit::failed)?;
        Ok(run)
    }
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
