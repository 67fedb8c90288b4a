//! Starting containers: which program an image stands for, and the process that runs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt as _;
use nlink::netlink::namespace::Netns;
use tokio::process::Child;

use super::config::{ConfigError, Resolver, expand};
use super::container_log::ContainerLog;
use crate::container::{Capabilities, ContainerSpec};
use crate::rootfs::PROGRAM;

/// What an image stands for here: there is no registry, so a name leads to a program of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// What is run before the container's own arguments.
    pub(crate) entrypoint: Vec<String>,
    /// The arguments where the container gives none.
    pub(crate) default_arguments: Vec<String>,
}

impl Image {
    /// The image of this name, whatever its registry and tag.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let path = name.split_once('@').map_or(name, |(path, _digest)| path);
        let last = path.rsplit('/').next().unwrap_or(path);
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        match last.split_once(':').map_or(last, |(base, _tag)| base) {
            "inroads-agent" => Some(Self {
                entrypoint: words(&[PROGRAM]),
                default_arguments: Vec::new(),
            }),
            "host" => Some(Self {
                entrypoint: Vec::new(),
                default_arguments: words(&["/bin/sh"]),
            }),
            _ => None,
        }
    }

    /// The images there are, for error messages.
    pub(crate) const KNOWN: &str =
        "`inroads-agent` (this program) and `host` (this machine's own programs)";
}

/// A container could not be started; the variant names the reason that its status shows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the lab has no image \"{0}\": it has {known}", known = Image::KNOWN)]
    NoImage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("starting the container's process: {0}")]
    Process(#[from] std::io::Error),
}

impl StartError {
    /// As kubelets name it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoImage(_) => "ErrImagePull",
            Self::Config(_) => "CreateContainerConfigError",
            Self::Process(_) => "CreateContainerError",
        }
    }
}

/// Starts `container` in the pod's network; what it writes goes to `log`.
pub(crate) async fn start(
    resolver: &Resolver<'_>,
    container: &Container,
    netns: &Netns,
    log: &ContainerLog,
) -> Result<Child, StartError> {
    let spec = describe(resolver, container).await?;
    let file = resolver.folder.join(format!("{}.json", container.name));
    let text = serde_json::to_vec(&spec).map_err(std::io::Error::other)?;
    tokio::fs::write(&file, text).await?;

    let mut child = spawn(netns, &file)?;
    if let Some(stdout) = child.stdout.take() {
        tokio::spawn(log.clone().copy("stdout", stdout));
    }
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(log.clone().copy("stderr", stderr));
    }
    Ok(child)
}

/// Starts the container's process on a thread inside its network namespace, which it inherits.
fn spawn(netns: &Netns, spec: &Path) -> Result<Child, std::io::Error> {
    let mut command = tokio::process::Command::new("/proc/self/exe");
    command
        .args(["lab", "container"])
        .arg(spec)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let runtime = tokio::runtime::Handle::current();
    let started = netns.run(|| {
        let _entered = runtime.enter();
        command.spawn()
    });
    started.map_err(std::io::Error::other)?
}

async fn describe(
    resolver: &Resolver<'_>,
    container: &Container,
) -> Result<ContainerSpec, StartError> {
    let name = container.image.clone().unwrap_or_default();
    let image = Image::find(&name).ok_or(StartError::NoImage(name))?;
    let environment = resolver.environment(container).await?;
    let pod_spec = resolver.pod.spec.as_ref();
    let hostname = pod_spec.and_then(|spec| spec.hostname.clone());
    Ok(ContainerSpec {
        command: command_of(container, &image, &environment),
        volumes: resolver.volumes(container).await?,
        environment,
        folder: container
            .working_dir
            .clone()
            .map_or(PathBuf::from("/"), PathBuf::from),
        hostname: hostname.unwrap_or_else(|| resolver.pod.name_any()),
        resolver: resolver.folder.join("resolver"),
        capabilities: capabilities_of(container),
    })
}

/// `command` replaces the image's entrypoint and its arguments, `args` the arguments alone.
fn command_of(
    container: &Container,
    image: &Image,
    environment: &[(String, String)],
) -> Vec<String> {
    let variables: BTreeMap<_, _> = environment.iter().cloned().collect();
    let given = |words: &Option<Vec<String>>| {
        words.as_ref().map(|words| {
            words
                .iter()
                .map(|word| expand(word, &variables))
                .collect::<Vec<_>>()
        })
    };
    let (command, arguments) = (given(&container.command), given(&container.args));
    match (command, arguments) {
        (Some(command), arguments) => [command, arguments.unwrap_or_default()].concat(),
        (None, Some(arguments)) => [image.entrypoint.clone(), arguments].concat(),
        (None, None) => [image.entrypoint.clone(), image.default_arguments.clone()].concat(),
    }
}

fn capabilities_of(container: &Container) -> Capabilities {
    let context = container.security_context.clone().unwrap_or_default();
    let changes = context.capabilities.unwrap_or_default();
    Capabilities {
        all: context.privileged == Some(true),
        add: changes.add.unwrap_or_default(),
        drop: changes.drop.unwrap_or_default(),
    }
}

/// The kernel settings of a pod (`securityContext.sysctls`).
pub(crate) fn sysctls_of(pod: &Pod) -> Vec<(String, String)> {
    let context = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref());
    let sysctls = context
        .and_then(|context| context.sysctls.as_deref())
        .unwrap_or_default();
    sysctls
        .iter()
        .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_whatever_its_registry_tag_and_digest() {
        let agent = Image::find("inroads-agent");
        assert!(agent.is_some());
        for name in [
            "inroads-agent:dev",
            "localhost:5000/x/inroads-agent:1",
            "inroads-agent@sha256:00",
        ] {
            assert_eq!(Image::find(name), agent, "{name}");
        }
        assert_eq!(Image::find("nginx"), None);
    }

    #[test]
    fn arguments_follow_the_entrypoint_unless_a_command_replaces_it() {
        let image = Image::find("inroads-agent").unwrap();
        let words =
            |words: &[&str]| Some(words.iter().map(ToString::to_string).collect::<Vec<_>>());
        let container = |command, args| Container {
            command,
            args,
            ..Container::default()
        };
        let environment = [("A".to_owned(), "1".to_owned())];
        let command = |c: Container| command_of(&c, &image, &environment);
        assert_eq!(
            command(container(None, words(&["agent", "$(A)"]))),
            [PROGRAM, "agent", "1"]
        );
        assert_eq!(
            command(container(words(&["sh"]), words(&["-c", "true"]))),
            ["sh", "-c", "true"]
        );
        assert_eq!(command(container(words(&["sh"]), None)), ["sh"]);
    }
}
