//! Making and deleting kind clusters.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use inroads_harness::causes::in_one_line;
use inroads_harness::cluster::ClusterError;
use tokio_util::sync::CancellationToken;

use crate::docker::{Docker, missing};
use crate::ledger::Ledger;
use crate::tool::{Tool, is_there, timed_out};

/// The configurations that this program holds, by name.
const CONFIGS: &[(&str, &str)] = &[
    (
        "default",
        include_str!("../../../kind-configs/default.yaml"),
    ),
    ("single", include_str!("../../../kind-configs/single.yaml")),
    (
        "dual-stack",
        include_str!("../../../kind-configs/dual-stack.yaml"),
    ),
    ("ipvs", include_str!("../../../kind-configs/ipvs.yaml")),
    (
        "nftables",
        include_str!("../../../kind-configs/nftables.yaml"),
    ),
    ("ha", include_str!("../../../kind-configs/ha.yaml")),
];

/// The label by which kind's nodes name their cluster.
const CLUSTER_LABEL: &str = "io.x-k8s.kind.cluster";

/// kind's own images of nodes.
const KIND_IMAGES: &str = "kindest/node";

/// Those that `kind-configs/offline/build` makes.
const OUR_IMAGES: &str = "inroads/kind-node";

/// Longest time for a cluster to be made, its image not pulled yet.
const CREATE_LIMIT: Duration = Duration::from_secs(600);

/// Longest time for anything else.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// How often, and how many times, nodes are looked for that come up late.
const LATE_PAUSE: Duration = Duration::from_secs(1);
const LATE_LOOKS: u32 = 10;

/// How a cluster is to be made.
#[derive(Debug, Clone, Default)]
pub struct KindOptions {
    /// The name of a configuration, or the path of one; `default` otherwise.
    pub config: Option<String>,
    /// The image of the nodes; what is here, or kind's own, otherwise.
    pub node_image: Option<String>,
}

/// The names of all configurations that this program holds.
fn configs() -> impl Iterator<Item = &'static str> {
    CONFIGS.iter().map(|(name, _)| *name)
}

/// kind, found and asked for its version, such as `v0.27.0`.
///
/// # Errors
/// [`ClusterError::Missing`] where it is not on PATH, with the next step.
pub async fn version(docker: &Docker) -> Result<String, ClusterError> {
    if !is_there("kind", docker.path()) {
        return Err(missing(
            "`kind` is not on PATH",
            "install it (https://kind.sigs.k8s.io, or Debian's package `kind` from trixie on; \
             `kind-configs/offline/build --install` does it); `--cluster lab` needs none",
        ));
    }
    let asked = Tool::new("kind", docker.path()).args(["version"]);
    let said = asked
        .run_within(COMMAND_LIMIT, "asking kind for its version", "is it stuck?")
        .await?;
    let version = said
        .split_ascii_whitespace()
        .find(|word| word.starts_with('v'));
    Ok(version.unwrap_or("unknown").to_owned())
}

/// The image that nodes are made of where none is asked for: kind's own where one is here, else one that was
/// built here, else none, and kind pulls its own.
pub async fn local_node_image(docker: &Docker) -> Option<String> {
    for repository in [KIND_IMAGES, OUR_IMAGES] {
        if let Some(image) = docker.images(repository).await.into_iter().next() {
            return Some(image);
        }
    }
    None
}

/// Makes the cluster that `ledger` is for and writes its kubeconfig.
///
/// # Errors
/// Where kind fails or takes too long, with the phase it was in and where its logs are.
pub(crate) async fn create(
    docker: &Docker,
    ledger: &mut Ledger,
    options: &KindOptions,
    cancel: &CancellationToken,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<(), ClusterError> {
    let config = config(options.config.as_deref().unwrap_or("default"))?;
    let image = match &options.node_image {
        Some(image) => Some(image.clone()),
        None => local_node_image(docker).await,
    };
    let name = format!("inroads-{}", ledger.name());
    if !nodes_of(docker, &name).await?.is_empty() {
        return Err(missing(
            &format!("a kind cluster `{name}` exists, and this is not its owner's run"),
            &format!("choose another name, or delete it: `kind delete cluster --name {name}`"),
        ));
    }
    let network = std::env::var("KIND_EXPERIMENTAL_DOCKER_NETWORK").unwrap_or("kind".to_owned());
    let inspect = docker.command(["network", "inspect", &network]);
    let is_new = inspect.run("looking for kind's network").await.is_err();
    ledger.network = is_new.then_some(network);
    ledger.cluster = Some(name.clone());
    ledger.write()?;

    let kubeconfig = ledger.kubeconfig();
    let mut kind = Tool::new("kind", docker.path())
        .args([
            "create",
            "cluster",
            "--retain",
            "--name",
            &name,
            "--config",
            "-",
            "--kubeconfig",
        ])
        .args([&kubeconfig])
        .input(config);
    if let Some(image) = &image {
        kind = kind.args(["--image", image]);
    }
    let phase = std::sync::Mutex::new("starting kind".to_owned());
    let heard = |line: &str| {
        if let Some(step) = step_of(line) {
            progress(&step);
            if let Ok(mut phase) = phase.lock() {
                *phase = step;
            }
        }
    };
    let outcome = tokio::select! {
        made = kind.follow("making the kind cluster", heard) => made.map(drop),
        () = tokio::time::sleep(CREATE_LIMIT) => {
            Err(timed_out("making the kind cluster", CREATE_LIMIT, "is the machine very busy?"))
        },
        () = cancel.cancelled() => return Err(ClusterError::Interrupted),
    };
    let Err(error) = outcome else {
        return Ok(());
    };
    let phase = phase.into_inner().unwrap_or_default();
    Err(explain(docker, ledger, &name, &phase, image.as_deref(), &error).await)
}

/// What a user needs to know of a cluster that did not come up: the phase, the reason, the logs, the next step.
async fn explain(
    docker: &Docker,
    ledger: &Ledger,
    name: &str,
    phase: &str,
    image: Option<&str>,
    error: &ClusterError,
) -> ClusterError {
    if let Err(full) = docker.check_full() {
        // kubeadm and its like print a stack instead.
        let phase = format!("the kind cluster did not come up, in the phase `{phase}`");
        return ClusterError::while_doing(phase)(full);
    }
    let reason = in_one_line(error);
    let said = reason.to_lowercase();
    let hint = if said.contains("failed to pull image") || said.contains("pull access denied") {
        "no registry answers: build an image here with `kind-configs/offline/build`, or name one that is \
         here with `--node-image`"
            .to_owned()
    } else if said.contains("no space left") {
        "make room (`docker system df` shows what Docker holds)".to_owned()
    } else if nodes_of(docker, name)
        .await
        .is_ok_and(|nodes| nodes.is_empty())
    {
        "kind says why; `docker info` may say more".to_owned()
    } else {
        let logs = export_logs(docker, name, &ledger.logs()).await;
        logs.map_or_else(
            |error| format!("its logs could not be kept: {}", in_one_line(&error)),
            |()| format!("the nodes' logs are in {}", ledger.logs().display()),
        )
    };
    let image = image.unwrap_or("kind's own image");
    missing(
        &format!("the kind cluster did not come up from {image}, in the phase `{phase}`: {reason}"),
        &hint,
    )
}

/// Keeps the logs of all nodes.
pub(crate) async fn export_logs(
    docker: &Docker,
    name: &str,
    folder: &Path,
) -> Result<(), ClusterError> {
    Tool::new("kind", docker.path())
        .args(["export", "logs", "--name", name])
        .args([folder])
        .run_within(
            COMMAND_LIMIT,
            "keeping the nodes' logs",
            "look into the nodes",
        )
        .await
        .map(drop)
}

/// Deletes a cluster whose making was broken off: what the engine was asked for before may still come up for a
/// while.
pub(crate) async fn delete_unfinished(
    docker: &Docker,
    name: &str,
    kubeconfig: &Path,
) -> Result<(), ClusterError> {
    for _ in 0..LATE_LOOKS {
        delete(docker, name, kubeconfig).await?;
        tokio::time::sleep(LATE_PAUSE).await;
        if nodes_of(docker, name).await?.is_empty() {
            tokio::time::sleep(LATE_PAUSE).await;
            if nodes_of(docker, name).await?.is_empty() {
                return Ok(());
            }
        }
    }
    delete(docker, name, kubeconfig).await
}

/// Deletes a cluster; one that is not there is no error.
pub(crate) async fn delete(
    docker: &Docker,
    name: &str,
    kubeconfig: &Path,
) -> Result<(), ClusterError> {
    if nodes_of(docker, name).await?.is_empty() {
        return Ok(());
    }
    let doing = format!("deleting the kind cluster `{name}`");
    let kind = Tool::new("kind", docker.path())
        .args(["delete", "cluster", "--name", name, "--kubeconfig"])
        .args([kubeconfig]);
    let hint = format!("try `kind delete cluster --name {name}` by hand");
    kind.run_within(COMMAND_LIMIT, &doing, &hint)
        .await
        .map(drop)
}

/// The containers that are the nodes of a kind cluster.
pub(crate) async fn nodes_of(docker: &Docker, name: &str) -> Result<Vec<String>, ClusterError> {
    let filter = format!("label={CLUSTER_LABEL}={name}");
    docker.containers(&filter, "{{.Names}}").await
}

/// All containers of this engine that are nodes of some kind cluster, with the cluster's name.
pub(crate) async fn all_nodes(docker: &Docker) -> Result<BTreeMap<String, String>, ClusterError> {
    let format = format!("{{{{.Names}}}} {{{{.Label \"{CLUSTER_LABEL}\"}}}}");
    let lines = docker
        .containers(&format!("label={CLUSTER_LABEL}"), &format)
        .await?;
    let pairs = lines.iter().filter_map(|line| line.split_once(' '));
    Ok(pairs
        .map(|(node, cluster)| (node.to_owned(), cluster.to_owned()))
        .collect())
}

/// A configuration by its name, or else by its path.
fn config(name: &str) -> Result<String, ClusterError> {
    if let Some((_, text)) = CONFIGS.iter().find(|(known, _)| *known == name) {
        return Ok((*text).to_owned());
    }
    std::fs::read_to_string(name).map_err(|error| {
        let known: Vec<&str> = configs().collect();
        missing(
            &format!("`{name}` is no configuration of a kind cluster: {error}"),
            &format!("name a file, or one of {}", known.join(", ")),
        )
    })
}

/// The step that a line of kind's announces: ` • Preparing nodes 📦 📦  ...`.
fn step_of(line: &str) -> Option<String> {
    let text = line.trim().strip_prefix('•')?.trim().trim_end_matches('.');
    let words: Vec<&str> = text
        .split_ascii_whitespace()
        .filter(|word| word.is_ascii())
        .collect();
    Some(words.join(" ").to_lowercase())
}

/// A phase of waiting that did not end.
pub(crate) fn never_ready(phase: &str, limit: Duration, logs: &Path) -> ClusterError {
    timed_out(
        phase,
        limit,
        &format!("the nodes' logs are in {}", logs.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_from_what_kind_prints_elsewhere() {
        let step = step_of(" • Preparing nodes 📦 📦 📦  ...").unwrap();
        assert_eq!(step, "preparing nodes");
        for other in [" ✓ Preparing nodes 📦", "Creating cluster \"x\" ...", ""] {
            assert_eq!(step_of(other), None, "{other}");
        }
    }

    #[test]
    fn every_configuration_is_one_of_a_cluster_and_says_what_it_is_for() {
        for (name, text) in CONFIGS {
            let parsed: serde_json::Value = serde_saphyr::from_str(text).unwrap();
            assert_eq!(parsed["kind"], "Cluster", "{name}");
            assert!(
                parsed["nodes"]
                    .as_array()
                    .is_some_and(|nodes| !nodes.is_empty()),
                "{name}"
            );
            assert!(text.starts_with('#'), "{name}");
        }
    }

    #[test]
    fn a_configuration_that_is_not_there_names_those_that_are() {
        let error = config("triple-stack").unwrap_err().to_string();
        assert!(error.contains("dual-stack"), "{error}");
    }
}
