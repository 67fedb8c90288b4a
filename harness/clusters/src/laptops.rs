//! Laptops of real clusters: containers on the nodes' network, or this machine itself.
//!
//! A container laptop has a network of its own, so that routes, links, resolver and hosts are changed only
//! inside it. It sees this machine's programs, read-only: any client that is installed here can be tried.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use async_trait::async_trait;
use inroads_harness::cluster::{ClusterError, Laptop};
use inroads_harness::kubernetes::RUN_LABEL;
use inroads_harness::role::{Role, RoleError, this_program, told_to_stop};
use ipnet::IpNet;
use nlink::netlink::route::{Ipv4Route, RouteType};
use nlink::netlink::{Connection, Route};
use testcontainers::bollard::models::DeviceMapping;
use testcontainers::core::{AccessMode, Mount, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::docker::Docker;
use crate::program::PROGRAM;

/// What a container laptop sees of this machine.
const SHARED: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/etc/ssl",
    "/etc/alternatives",
    "/opt",
];

/// Where virtual links are made.
const TUN: &str = "/dev/net/tun";

/// `inroads agent rest NETWORK…`: the first process of a container laptop.
pub(crate) const ROLE: Role = Role {
    name: "rest",
    about: "keeps a laptop up until it is told to stop",
    run: |networks| Box::pin(rest(networks)),
};

/// What a laptop that is up prints.
const UP: &str = "up";

/// A metric behind that of every other route.
const LAST: u32 = u32::MAX;

/// An office's router does not know the cluster's networks. The engine's sends all that it does not know out of the
/// machine, where something else may answer: so the laptop itself says that they cannot be reached.
async fn rest(networks: Vec<String>) -> Result<(), RoleError> {
    let links = Connection::<Route>::new()?;
    for network in networks {
        let IpNet::V4(network) = network.parse()? else {
            continue;
        };
        let route = Ipv4Route::from_addr(network.network(), network.prefix_len())
            .route_type(RouteType::Unreachable)
            .metric(LAST);
        links.add_route(route).await?;
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{UP}").and_then(|()| stdout.flush())?;
    Ok(told_to_stop().await?)
}

/// Where the laptops of a cluster are.
pub(crate) enum Laptops {
    /// Containers, made when they are asked for.
    Containers(Box<Containers>),
    /// This machine, for methods that change nothing on it; with the reason why there is nothing better.
    Host(String),
}

impl Laptops {
    pub(crate) async fn get(&self, name: &str) -> Result<Box<dyn Laptop>, ClusterError> {
        match self {
            Self::Containers(containers) => containers.get(name).await,
            Self::Host(why) => Ok(Box::new(Host {
                name: name.to_owned(),
                why: why.clone(),
            })),
        }
    }
}

/// Container laptops of one run.
pub(crate) struct Containers {
    pub(crate) run: String,
    pub(crate) image: String,
    pub(crate) network: String,
    /// The cluster's networks, which no office's router knows.
    pub(crate) unknown: Vec<IpNet>,
    pub(crate) docker: Docker,
    pub(crate) made: Mutex<HashMap<String, ContainerAsync<GenericImage>>>,
}

impl Containers {
    async fn get(&self, name: &str) -> Result<Box<dyn Laptop>, ClusterError> {
        let mut made = self.made.lock().await;
        let id = match made.get(name) {
            Some(container) => container.id().to_owned(),
            None => {
                let container = self.make(name).await?;
                let id = container.id().to_owned();
                made.insert(name.to_owned(), container);
                id
            }
        };
        Ok(Box::new(Container {
            name: name.to_owned(),
            id,
            path: self.docker.path().to_owned(),
        }))
    }

    async fn make(&self, name: &str) -> Result<ContainerAsync<GenericImage>, ClusterError> {
        let (repository, tag) = self
            .image
            .split_once(':')
            .unwrap_or((&self.image, "latest"));
        let shared = SHARED
            .iter()
            .filter(|folder| Path::new(folder).is_dir())
            .map(|folder| {
                Mount::bind_mount(*folder, *folder).with_access_mode(AccessMode::ReadOnly)
            });
        let request = GenericImage::new(repository, tag)
            .with_wait_for(WaitFor::message_on_stdout(UP))
            .with_cmd(
                ["agent".to_owned(), ROLE.name.to_owned()]
                    .into_iter()
                    .chain(self.unknown.iter().map(ToString::to_string)),
            )
            .with_container_name(format!("inroads-{}-{name}", self.run))
            .with_hostname(format!("laptop-{name}"))
            .with_network(&self.network)
            .with_label(RUN_LABEL, &self.run)
            .with_cap_add("NET_ADMIN")
            .with_host_config_modifier(|host| {
                host.publish_all_ports = Some(false);
                if Path::new(TUN).exists() {
                    host.devices = Some(vec![DeviceMapping {
                        path_on_host: Some(TUN.to_owned()),
                        path_in_container: Some(TUN.to_owned()),
                        cgroup_permissions: Some("rw".to_owned()),
                    }]);
                }
            });
        let request = shared.fold(request, |request, mount| request.with_mount(mount));
        request
            .start()
            .await
            .map_err(ClusterError::while_doing(format!(
                "starting the laptop `{name}`"
            )))
    }

    /// Removes them all.
    pub(crate) async fn end(self) -> Result<(), ClusterError> {
        let mut outcome = Ok(());
        for (name, container) in self.made.into_inner() {
            let removed = container.rm().await;
            let doing = format!("removing the laptop `{name}`");
            outcome = outcome.and(removed.map_err(ClusterError::while_doing(doing)));
        }
        outcome
    }
}

/// Removes the laptops of a run, whoever made them.
pub(crate) async fn remove(docker: &Docker, run: &str) -> Result<(), ClusterError> {
    let filter = format!("label={RUN_LABEL}={run}");
    let left = docker.containers(&filter, "{{.ID}}").await?;
    if left.is_empty() {
        return Ok(());
    }
    let remove = docker.command(["rm", "--force", "--volumes"]).args(left);
    remove.run("removing laptops").await.map(drop)
}

/// A container laptop.
struct Container {
    name: String,
    id: String,
    path: std::ffi::OsString,
}

#[async_trait]
impl Laptop for Container {
    fn name(&self) -> &str {
        &self.name
    }

    fn command(&self, program: &OsStr, variables: &[(&str, &str)]) -> Command {
        let mut command = self.exec();
        if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            command.arg("--tty");
        }
        // By name only: values are nothing for a list of processes.
        for (name, value) in variables {
            command.args(["--env", name]).env(name, value);
        }
        command.arg(&self.id).arg(program);
        command
    }

    fn inroads(&self) -> Command {
        let mut command = self.exec();
        command.args([&self.id, PROGRAM]);
        command
    }
}

impl Container {
    fn exec(&self) -> Command {
        let mut command = Command::new("docker");
        command
            .env("PATH", &self.path)
            .args(["exec", "--interactive"]);
        command
    }
}

/// This machine as a laptop.
struct Host {
    name: String,
    why: String,
}

impl Laptop for Host {
    fn name(&self) -> &str {
        &self.name
    }

    fn command(&self, program: &OsStr, variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program);
        command.envs(variables.iter().copied());
        command
    }

    fn inroads(&self) -> Command {
        Command::new(this_program())
    }

    fn unchangeable(&self) -> Option<&str> {
        Some(&self.why)
    }
}
