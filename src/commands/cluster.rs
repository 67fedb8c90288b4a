//! `inroads cluster`.

use anyhow::bail;
use inroads_lab::{Lab, LabOptions, LabState, Status};
use serde_json::json;

use super::{laptops, print};
use crate::agents::repertoire;
use crate::cli::Cluster;
use crate::progress::Progress;

/// Starts, ends or shows a cluster that stays.
pub(crate) async fn run(command: Cluster) -> anyhow::Result<()> {
    match command {
        Cluster::Up { name, port } => up(&name.name, port).await,
        Cluster::Down { name } => down(&name.name).await,
        Cluster::Status {
            name,
            kubeconfig,
            json,
        } => status(&name.name, kubeconfig, json),
    }
}

async fn up(name: &str, port: u16) -> anyhow::Result<()> {
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
    let there = LabState::end(name).await?;
    print(&if there {
        format!("lab `{name}` is gone\n")
    } else {
        format!("there was no lab `{name}`\n")
    })
}

fn status(name: &str, only_kubeconfig: bool, as_json: bool) -> anyhow::Result<()> {
    let status = LabState::find(name)?;
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
                "there is no lab `{name}`\n(hint: start it with `inroads cluster up --name {name}`)"
            )
        }
        Status::Absent => print(&format!("there is no lab `{name}`\n")),
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
