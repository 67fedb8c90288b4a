//! Starting containers: which program an image stands for, and the process that runs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use inroads_harness::software::{Software, image_base};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt as _;
use nlink::netlink::namespace::Netns;
use tokio::process::Child;

use super::config::{ConfigError, Resolver, expand};
use super::container_log::ContainerLog;
use crate::container::{Capabilities, ContainerSpec};
use crate::rootfs::{PROGRAM, Volume};

/// Where containers find software that was unpacked for them.
const SOFTWARE: &str = "/software";

/// What an image stands for here: there is no registry, so a name leads to a program of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// What is run before the container's own arguments.
    pub(crate) entrypoint: Vec<String>,
    /// The arguments where the container gives none.
    pub(crate) default_arguments: Vec<String>,
    /// The folder that comes first in the container's PATH, as the container sees it.
    pub(crate) programs: Option<PathBuf>,
    /// What of this machine is in the container beside the machine's own programs.
    pub(crate) content: Option<Volume>,
}

impl Image {
    /// The image of this name, whatever its registry and tag. Software that the machine has not is found where
    /// the controller has put it.
    pub(crate) fn find(name: &str) -> Result<Self, StartError> {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let own = |entrypoint: &[&str], default_arguments: &[&str]| Self {
            entrypoint: words(entrypoint),
            default_arguments: words(default_arguments),
            programs: None,
            content: None,
        };
        match image_base(name) {
            "inroads-agent" => return Ok(own(&[PROGRAM], &[])),
            "host" => return Ok(own(&[], &["/bin/sh"])),
            _ => {}
        }
        let software =
            Software::of_image(name).ok_or_else(|| StartError::NoImage(name.to_owned()))?;
        let image = own(&[], &[software.server]);
        match software.place() {
            None => Err(StartError::NoSoftware(software.server)),
            Some(place) => {
                let target = Path::new(SOFTWARE).join(software.image);
                Ok(Self {
                    programs: Some(place.bin_where_bound(&target)),
                    content: place.folder().map(|source| Volume {
                        source: source.to_owned(),
                        target,
                        read_only: true,
                    }),
                    ..image
                })
            }
        }
    }

    /// Adds to a container's environment what the image brings.
    fn complete(&self, environment: &mut [(String, String)]) {
        let Some(programs) = &self.programs else {
            return;
        };
        for (name, value) in environment {
            if name == "PATH" {
                *value = format!("{}:{value}", programs.display());
            }
        }
    }

    /// The images there are, for error messages.
    pub(crate) const KNOWN: &str = "`inroads-agent` (this program), `host` (this machine's own programs) and \
                                    those of servers that it can fetch, such as `redis`";
}

/// A container could not be started; the variant names the reason that its status shows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the lab has no image \"{0}\": it has {known}", known = Image::KNOWN)]
    NoImage(String),
    #[error(
        "this machine has no `{0}` yet: a run of the scenario that needs it fetches it, or install it"
    )]
    NoSoftware(&'static str),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("starting the container's process: {0}")]
    Process(#[from] std::io::Error),
}

impl StartError {
    /// As kubelets name it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoImage(_) | Self::NoSoftware(_) => "ErrImagePull",
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
    let image = Image::find(&name)?;
    let mut environment = resolver.environment(container).await?;
    image.complete(&mut environment);
    let mut volumes = resolver.volumes(container).await?;
    volumes.extend(image.content.clone());
    let pod_spec = resolver.pod.spec.as_ref();
    let hostname = pod_spec.and_then(|spec| spec.hostname.clone());
    Ok(ContainerSpec {
        command: command_of(container, &image, &environment),
        volumes,
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
        let agent = Image::find("inroads-agent").unwrap();
        for name in [
            "inroads-agent:dev",
            "localhost:5000/x/inroads-agent:1",
            "inroads-agent@sha256:00",
        ] {
            assert_eq!(Image::find(name).unwrap(), agent, "{name}");
        }
        let unknown = Image::find("nginx").unwrap_err();
        assert_eq!(unknown.reason(), "ErrImagePull");
        assert!(unknown.to_string().contains("\"nginx\""), "{unknown}");
    }

    #[test]
    fn the_programs_of_an_image_come_first_on_its_path() {
        let image = Image {
            programs: Some(PathBuf::from("/software/redis/bin")),
            ..Image::find("host").unwrap()
        };
        let mut environment = [
            ("HOME".to_owned(), "/root".to_owned()),
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
        ];
        image.complete(&mut environment);
        assert_eq!(environment[1].1, "/software/redis/bin:/usr/bin:/bin");
        assert_eq!(environment[0].1, "/root");
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
