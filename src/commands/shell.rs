//! `inroads shell`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;

use anyhow::anyhow;
use futures_util::future::join_all;
use inroads_harness::access::Access;
use inroads_harness::agent::Repertoire;
use inroads_harness::cluster::{ClusterError, ClusterKind};
use inroads_harness::engine::{Crew, Laptops, new_run_id};
use inroads_harness::method::{Method, Vantage};
use inroads_harness::{Cluster, Laptop, Stage, clock, software};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::{Wanted, cluster};
use crate::agents::repertoire;
use crate::cli::Shell;
use crate::exit::Exit;
use crate::progress::Progress;

/// The laptop that no method connects.
const NONE: &str = "none";

/// Runs a command on a laptop, connected by a method or by none.
pub(crate) async fn run(arguments: Shell) -> Exit {
    match try_run(arguments).await {
        Ok(exit) | Err(exit) => exit,
    }
}

async fn try_run(arguments: Shell) -> Result<Exit, Exit> {
    let repertoire = repertoire();
    let method = chosen(&repertoire, &arguments.method)?;
    let progress = Progress::start();
    let id = new_run_id();
    let wanted = Wanted {
        choice: &arguments.cluster,
        run: &id,
        keep: false,
        cancel: &CancellationToken::new(),
    };
    let cluster = cluster(&wanted, method.as_slice(), &progress).await?;
    let outcome = in_cluster(
        cluster.as_ref(),
        &repertoire,
        method,
        &arguments,
        &id,
        &progress,
    )
    .await;
    let released = cluster.release().await;
    let status = outcome.map_err(Exit::Failed)?;
    released.map_err(Exit::failed)?;
    Ok(Exit::Passed(status))
}

fn chosen<'a>(repertoire: &'a Repertoire, name: &str) -> Result<Option<&'a dyn Method>, Exit> {
    if name == NONE {
        return Ok(None);
    }
    let methods: Vec<&dyn Method> = repertoire
        .methods
        .iter()
        .map(Box::as_ref)
        .filter(|m| m.vantage() == Vantage::Laptop)
        .collect();
    let known: Vec<String> = methods
        .iter()
        .map(|method| format!("`{}`", method.id()))
        .collect();
    let found = methods
        .into_iter()
        .find(|method| method.id().as_str() == name);
    found.map(Some).ok_or_else(|| {
        Exit::usage(anyhow!(
            "no laptop is connected by `{name}`\n(hint: there are {}, and `none`)",
            known.join(", ")
        ))
    })
}

/// Deploys everything, connects, runs the command, and takes it all down.
async fn in_cluster(
    cluster: &dyn Cluster,
    repertoire: &Repertoire,
    method: Option<&dyn Method>,
    arguments: &Shell,
    id: &str,
    progress: &Progress,
) -> anyhow::Result<u8> {
    let stage = Stage::set(cluster, &arguments.cluster.namespace, id).await?;
    let ended = async {
        progress.step("deploying the scenarios' workloads");
        deploy_workloads(cluster, &stage, repertoire, progress).await?;
        let laptop = cluster.laptop(&arguments.method.replace(':', "-")).await?;
        let crew = match method {
            Some(method) => Some(connect(cluster, &stage, repertoire, method, progress).await?),
            None => None,
        };
        progress.say(&advice(crew.as_ref(), &arguments.method, &stage));
        progress.end();
        // A laptop of the lab sees this machine's files, so what was unpacked for workloads can be used there.
        let path = software::path_with_unpacked().filter(|_| stage.facts.kind == ClusterKind::Lab);
        let path = path.and_then(|path| path.into_string().ok());
        let command = command(laptop.as_ref(), path, crew.as_ref(), &arguments.command);
        let status = attend(command).await;
        if let Some(crew) = crew {
            crew.end().await;
        }
        status
    }
    .await;
    let struck = stage.strike().await;
    let status = ended?;
    struck?;
    Ok(status)
}

/// Deploys all scenarios. One whose software cannot be had is told and left out.
async fn deploy_workloads(
    cluster: &dyn Cluster,
    stage: &Stage,
    repertoire: &Repertoire,
    progress: &Progress,
) -> anyhow::Result<()> {
    let steps = |step: &str| progress.step(step);
    let deploying = repertoire.scenarios.iter().map(|scenario| {
        let deploying = stage.deploy_workload(cluster, scenario.manifests(), &steps);
        async move { (scenario, deploying.await) }
    });
    for (scenario, deployed) in join_all(deploying).await {
        match deployed {
            Err(error @ ClusterError::Missing { .. }) => {
                progress.say(&format!("`{}` is not there: {error}", scenario.id()));
            }
            other => drop(other?),
        }
    }
    Ok(())
}

async fn connect(
    cluster: &dyn Cluster,
    stage: &Stage,
    repertoire: &Repertoire,
    method: &dyn Method,
    progress: &Progress,
) -> anyhow::Result<Crew> {
    progress.step(&format!("connecting by `{}`", method.id()));
    let begun = clock::now();
    let (prepared, _silent) = Crew::prepare(Laptops::OfCluster(cluster), stage, method).await?;
    method.deploy(stage).await?;
    let workload = stage.observe().await?;
    let targets = workload.targets(repertoire.scenarios.iter().map(Box::as_ref));
    Ok(Crew::connect(prepared, stage, method, &targets, targets.first(), begun).await?)
}

/// What to try, and what a client must be told.
fn advice(crew: Option<&Crew>, name: &str, stage: &Stage) -> String {
    let web = format!("web.{}.svc.{}", stage.namespace, stage.facts.domain);
    let mut text = format!("laptop `{name}`: try http://{web}/");
    let Some(crew) = crew else {
        return text + " (no method connects this laptop)";
    };
    match crew.access() {
        Access::Unmodified => {}
        Access::Socks5 { proxy, .. } => {
            let _ = write!(
                text,
                "\nclients use the proxy socks5h://{proxy}, which ALL_PROXY names for them"
            );
        }
        Access::Rewritten(map) => {
            for (from, to) in map.iter() {
                let _ = write!(text, "\n  {from} is at {to}");
            }
        }
        Access::UrlPrefix { server, prefixes } => {
            for (from, prefix) in prefixes.iter() {
                let _ = write!(text, "\n  {from} is at http://{server}{prefix}/");
            }
        }
    }
    text
}

fn command(
    laptop: &dyn Laptop,
    path: Option<String>,
    crew: Option<&Crew>,
    words: &[OsString],
) -> Command {
    let mut variables = vec![("INROADS_LAPTOP", laptop.name().to_owned())];
    if let Some(path) = path {
        variables.push(("PATH", path));
    }
    if let Some(Access::Socks5 {
        proxy,
        username,
        password,
    }) = crew.map(Crew::access)
    {
        let url = format!("socks5h://{username}:{}@{proxy}", password.expose());
        for name in [
            "ALL_PROXY",
            "all_proxy",
            "HTTP_PROXY",
            "http_proxy",
            "HTTPS_PROXY",
            "https_proxy",
        ] {
            variables.push((name, url.clone()));
        }
    }
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let Some((program, rest)) = words.split_first() else {
        let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
        return laptop.command(&shell, &variables);
    };
    let mut command = laptop.command(program, &variables);
    command.args(rest);
    command
}

/// Runs the command in the foreground and gives its exit code as shells have it. What the terminal sends
/// is the command's: this process only waits for it.
async fn attend(mut command: Command) -> anyhow::Result<u8> {
    let mut child = command.spawn()?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status?;
                let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
                return Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
            }
            _ = interrupt.recv() => {}
            _ = terminate.recv() => drop(child.start_kill()),
        }
    }
}
