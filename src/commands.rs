//! The commands, one module each.

pub(crate) mod bench;
pub(crate) mod choose;
pub(crate) mod clean;
pub(crate) mod cluster;
pub(crate) mod doctor;
pub(crate) mod gate;
pub(crate) mod list;
mod measuring;
pub(crate) mod report;
pub(crate) mod selftest;
pub(crate) mod shell;

use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;
use clap::CommandFactory as _;
use inroads_clusters::{ContextOptions, Docker, KindOptions, RealCluster};
use inroads_harness::Cluster;
use inroads_harness::cluster::ClusterError;
use inroads_harness::method::{Method, Vantage};
use inroads_lab::{Lab, LabOptions, LabState, Status};
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, ClusterChoice, KindChoice, LaptopsChoice, Rbac, Which};
use crate::exit::Exit;
use crate::progress::Progress;

/// Prints completions for a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "inroads", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Prints the schema of the result file.
pub(crate) fn schema() -> anyhow::Result<()> {
    print(&inroads_reports::schema())
}

/// Prints the rights that a run needs.
pub(crate) fn rbac(arguments: &Rbac) -> anyhow::Result<()> {
    print(&inroads_clusters::rbac(
        &arguments.namespace,
        !arguments.no_cost,
    ))
}

/// Makes an image of this program.
pub(crate) async fn image(name: &str) -> anyhow::Result<()> {
    let docker = Docker::find().await?;
    inroads_clusters::build_image(&docker, name, "inroads.dev/agent=true").await?;
    print(&format!(
        "{name} is made; `docker push {name}` gives it to a registry\n"
    ))
}

/// Writes a result to standard output. A reader that has left is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

/// The laptops of a lab: one for each of `methods` that has one, and one for none.
fn laptops(methods: &[&dyn Method]) -> Vec<String> {
    let on_laptops = methods
        .iter()
        .filter(|method| method.vantage() == Vantage::Laptop);
    on_laptops
        .map(|method| method.id().as_label())
        .chain(["none".to_owned()])
        .collect()
}

/// What a run asks of its cluster.
struct Wanted<'a> {
    choice: &'a ClusterChoice,
    /// The run's id.
    run: &'a str,
    /// Whether a kind cluster of ours stays.
    keep: bool,
    cancel: &'a CancellationToken,
}

/// Gets the cluster that was asked for, with laptops for `methods` where it is made for this, and says which
/// and why.
async fn cluster(
    wanted: &Wanted<'_>,
    methods: &[&dyn Method],
    progress: &Progress,
) -> Result<Box<dyn Cluster>, Exit> {
    let Wanted {
        choice,
        run,
        keep,
        cancel,
    } = *wanted;
    let steps = |step: &str| progress.step(&format!("cluster: {step}"));
    let which = match &choice.cluster {
        Which::Auto => best(progress).await,
        which => which.clone(),
    };
    match which {
        Which::LabNamed(name) => lab_named(&name),
        Which::Auto | Which::Lab => tokio::select! {
            lab = fresh_lab(methods, progress) => lab,
            () = cancel.cancelled() => Err(Exit::Interrupted),
        },
        Which::Kind => {
            let options = kind_options(&choice.kind);
            let made = RealCluster::kind(run, &options, cancel, &steps).await;
            let mut cluster = made.map_err(Exit::cluster)?;
            if keep && let Some(kubeconfig) = cluster.keep().map_err(Exit::failed)? {
                progress.say(&format!(
                    "the cluster stays. Use it with\n  kubectl --kubeconfig {} get nodes\n  inroads bench all --cluster kind={run}\nand remove it with\n  inroads cluster down --name {run}",
                    kubeconfig.display()
                ));
            }
            Ok(Box::new(cluster))
        }
        Which::KindNamed(name) => RealCluster::kind_named(run, &name, cancel, &steps)
            .await
            .map(|cluster| Box::new(cluster) as _)
            .map_err(Exit::cluster),
        Which::Context(name) => {
            let options = ContextOptions {
                name,
                kubeconfig: choice.kubeconfig.clone(),
                agent_image: choice.agent_image.clone(),
            };
            if !choice.yes {
                ask_before_writing(&options, progress).await?;
            }
            let used = RealCluster::context(run, &options, cancel, &steps).await;
            used.map(|cluster| Box::new(cluster) as _)
                .map_err(Exit::cluster)
        }
    }
}

/// The cluster whose pods are laptops, where it is another one than the one that is measured.
async fn laptops_cluster(
    choice: &LaptopsChoice,
    wanted: &Wanted<'_>,
    progress: &Progress,
) -> Result<Option<Box<dyn Cluster>>, Exit> {
    if choice.laptops_kubeconfig.is_none() && choice.laptops_context.is_none() {
        return Ok(None);
    }
    let options = ContextOptions {
        name: choice.laptops_context.clone(),
        kubeconfig: choice.laptops_kubeconfig.clone(),
        agent_image: choice.laptops_image.clone(),
    };
    if !wanted.choice.yes {
        ask_before_writing(&options, progress).await?;
    }
    let steps = |step: &str| progress.step(&format!("cluster of the laptops: {step}"));
    // A run's name for what it leaves on this machine is taken by the cluster that is measured.
    let name = format!("{}-laptops", wanted.run);
    let used = RealCluster::context(&name, &options, wanted.cancel, &steps).await;
    used.map(|cluster| Some(Box::new(cluster) as _))
        .map_err(Exit::cluster)
}

fn kind_options(choice: &KindChoice) -> KindOptions {
    KindOptions {
        config: choice.kind_config.clone(),
        node_image: choice.node_image.clone(),
    }
}

fn lab_named(name: &str) -> Result<Box<dyn Cluster>, Exit> {
    match LabState::find(name).map_err(Exit::failed)? {
        Status::Up(state) => Ok(Box::new(Lab::attach(&state).map_err(Exit::failed)?)),
        Status::Absent | Status::Dead => Err(Exit::usage(anyhow::anyhow!(
            "there is no lab `{name}`\n(hint: start it with `inroads cluster up --name {name}`)"
        ))),
    }
}

async fn fresh_lab(methods: &[&dyn Method], progress: &Progress) -> Result<Box<dyn Cluster>, Exit> {
    let options = LabOptions {
        laptops: laptops(methods),
        api_port: 0,
    };
    let lab = Lab::start(options, |step| progress.step(&format!("lab: {step}")))
        .await
        .map_err(Exit::failed)?;
    progress.say(&format!(
        "lab ready after {:.2} s",
        lab.ready_after().as_secs_f64()
    ));
    Ok(Box::new(lab))
}

/// kind where all that it takes is here, else the lab; says which and why.
async fn best(progress: &Progress) -> Which {
    let found = async {
        let docker = Docker::find().await?;
        inroads_clusters::kind_version(&docker).await?;
        Ok::<_, ClusterError>(inroads_clusters::local_node_image(&docker).await)
    };
    let (which, why) = match found.await {
        Ok(Some(image)) => (
            Which::Kind,
            format!("kind with {image}, since Docker, kind and the image are here"),
        ),
        Ok(None) => (
            Which::Lab,
            "an embedded lab, since no image of a kind node is here".to_owned(),
        ),
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.lines().next().unwrap_or_default().to_owned();
            (Which::Lab, format!("an embedded lab, since {reason}"))
        }
    };
    progress.say(&format!("cluster: {why}"));
    which
}

/// Asks on a terminal; elsewhere the flag is needed.
async fn ask_before_writing(options: &ContextOptions, progress: &Progress) -> Result<(), Exit> {
    let (is_test, title) = inroads_clusters::looks_like_a_test(options)
        .await
        .map_err(Exit::cluster)?;
    if is_test {
        return Ok(());
    }
    let warning = format!(
        "{title} does not look like a cluster for tests. A run deploys workloads and opens ways into it for as \
         long as it lasts"
    );
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Exit::usage(anyhow::anyhow!(
            "{warning}\n(hint: if that is what you want, say `--yes`)"
        )));
    }
    progress.end();
    let mut stderr = std::io::stderr();
    let asked = write!(stderr, "{warning}.\nGo on? [y/N] ").and_then(|()| stderr.flush());
    asked.map_err(Exit::failed)?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(Exit::failed)?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Exit::usage(anyhow::anyhow!("nothing was changed")))
}
