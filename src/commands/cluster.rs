//! `inroads cluster`.

use anyhow::bail;
use inroads_clusters::Standing;
use inroads_harness::clock::Stopwatch;
use inroads_lab::{Lab, LabOptions, LabState, Status};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{laptops, print};
use crate::agents::repertoire;
use crate::cli::{Cluster, Engine, KindChoice};
use crate::progress::Progress;

/// Starts, ends or shows a cluster that stays.
pub(crate) async fn run(command: Cluster) -> anyhow::Result<()> {
    match command {
        Cluster::Up {
            name,
            cluster: Engine::Lab,
            port,
            ..
        } => up_lab(&name.name, port).await,
        Cluster::Up { name, kind, .. } => up_kind(&name.name, &kind).await,
        Cluster::Down { name } => down(&name.name).await,
        Cluster::Status {
            name,
            kubeconfig,
            json,
        } => status(&name.name, kubeconfig, json),
    }
}

async fn up_kind(name: &str, choice: &KindChoice) -> anyhow::Result<()> {
    let progress = Progress::start();
    let begun = Stopwatch::start();
    let cancel = CancellationToken::new();
    super::measuring::catch_interrupts(cancel.clone())?;
    let steps = |step: &str| progress.step(step);
    let standing = Standing::up(name, &super::kind_options(choice), &cancel, &steps).await;
    progress.end();
    let standing = standing?;
    progress.say(&format!(
        "kind cluster `{}` is up after {:.0} s. Use it with\n  kubectl --kubeconfig {} get nodes\n  inroads bench all --cluster kind={name}\nand remove it with\n  inroads cluster down --name {name}",
        standing.cluster,
        begun.elapsed().as_secs_f64(),
        standing.kubeconfig.display(),
    ));
    print(&format!("{}\n", standing.kubeconfig.display()))
}

async fn up_lab(name: &str, port: u16) -> anyhow::Result<()> {
    let progress = Progress::start();
    let repertoire = repertoire();
    let methods: Vec<_> = repertoire.methods.iter().map(Box::as_ref).collect();
    let options = LabOptions {
        laptops: laptops(&methods),
        api_port: port,
    };
    let state = Lab::start_detached(name, options, |step| progress.step(step)).await;
    progress.end();
    let state = state?;
    let kubeconfig = state.kubeconfig()?;
    progress.say(&format!(
        "lab `{name}` is up after {:.2} s. Use it with\n  kubectl --kubeconfig {} get nodes\n  inroads bench all --cluster lab={name}\nand end it with\n  inroads cluster down --name {name}",
        state.ready_after().as_secs_f64(),
        kubeconfig.display(),
    ));
    print(&format!("{}\n", kubeconfig.display()))
}

async fn down(name: &str) -> anyhow::Result<()> {
    let lab = LabState::end(name).await?;
    let kind = Standing::down(name).await?;
    print(&match (lab, kind) {
        (true, false) => format!("lab `{name}` is gone\n"),
        (false, true) => format!("kind cluster `{name}` is gone\n"),
        (true, true) => format!("the lab and the kind cluster `{name}` are gone\n"),
        (false, false) => format!("there was no cluster `{name}`\n"),
    })
}

fn status(name: &str, only_kubeconfig: bool, as_json: bool) -> anyhow::Result<()> {
    let status = LabState::find(name)?;
    if !matches!(status, Status::Up(_))
        && let Some(standing) = Standing::find(name)?
    {
        return kind_status(name, &standing, only_kubeconfig, as_json);
    }
    if as_json {
        let value = match &status {
            Status::Up(state) => json!({
                "name": name, "status": "up", "api": state.api(), "kubeconfig": state.kubeconfig()?,
            }),
            Status::Absent => json!({ "name": name, "status": "absent" }),
            Status::Dead => json!({ "name": name, "status": "dead" }),
        };
        return print(&format!("{value}\n"));
    }
    match status {
        Status::Up(state) if only_kubeconfig => {
            print(&format!("{}\n", state.kubeconfig()?.display()))
        }
        Status::Up(state) => print(&format!(
            "lab `{name}` is up: https://{}\nkubeconfig: {}\n",
            state.api(),
            state.kubeconfig()?.display()
        )),
        Status::Absent if only_kubeconfig => {
            bail!(
                "there is no cluster `{name}`\n(hint: start it with `inroads cluster up --name {name}`)"
            )
        }
        Status::Absent => print(&format!("there is no cluster `{name}`\n")),
        Status::Dead if only_kubeconfig => {
            bail!(
                "lab `{name}` has ended\n(hint: start it again with `inroads cluster up --name {name}`)"
            )
        }
        Status::Dead => print(&format!(
            "lab `{name}` has ended; `inroads cluster down --name {name}` removes its files\n"
        )),
    }
}

fn kind_status(
    name: &str,
    standing: &Standing,
    only_kubeconfig: bool,
    as_json: bool,
) -> anyhow::Result<()> {
    let kubeconfig = standing.kubeconfig.display();
    if as_json {
        let value = json!({
            "name": name, "status": "up", "kind": standing.cluster, "kubeconfig": standing.kubeconfig,
        });
        return print(&format!("{value}\n"));
    }
    if only_kubeconfig {
        return print(&format!("{kubeconfig}\n"));
    }
    print(&format!(
        "kind cluster `{}` is up\nkubeconfig: {kubeconfig}\n",
        standing.cluster
    ))
}
