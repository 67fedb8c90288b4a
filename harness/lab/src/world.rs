//! Building a lab inside its namespaces: the LAN with its hosts, the control plane, the nodes, and
//! waiting until all of it answers.

mod hosts;
mod readiness;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use futures_util::future::try_join_all;
use inroads_harness::access::Secret;
use inroads_harness::causes::causes;
use inroads_harness::clock::Stopwatch;
use nlink::netlink::namespace::Netns;
use nlink::netlink::{Connection, Route};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

use crate::apiserver::fresh_token;
use crate::boot::report;
use crate::control_plane::ControlPlaneSpec;
use crate::net::{self, NetError};
use crate::node::{NodeError, NodeSpec};
use crate::pki::{self, Authority};
use crate::process::ExitStatus;
use crate::rootfs::{self, FileError, LAB_DIR, Resolver};
use crate::spec::{LabSpec, NODES, OFFICE_DOMAIN, Ready, Report, STAY, addresses};
use hosts::{Host, Kind};
pub(crate) use hosts::{laptop_host, node_address, pods_of};

/// The bridge that is the office LAN.
const SWITCH: &str = "lan0";

/// The lab could not be built, or a part of it ended.
#[derive(Debug, thiserror::Error)]
enum WorldError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("making certificates")]
    Pki(#[from] pki::Error),
    #[error("using the lab's API")]
    Node(#[from] NodeError),
    #[error(transparent)]
    Kubernetes(#[from] inroads_harness::kubernetes::KubernetesError),
    #[error("starting {what}")]
    Start {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{what} ended with {status}, which it never should")]
    Ended { what: String, status: String },
    #[error("{phase} took longer than {limit_s} s{said}")]
    TimedOut {
        phase: &'static str,
        limit_s: u64,
        said: String,
    },
}

/// The life of the lab's main process: builds, reports, and stays until the lifeline ends.
pub(crate) fn run(spec: LabSpec, listener: TcpListener) -> ExitStatus {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            report(&Report::Failed(vec![format!(
                "starting the runtime: {error}"
            )]));
            return ExitStatus::FAILURE;
        }
    };
    let status = match runtime.block_on(live(spec, listener)) {
        Ok(()) => ExitStatus::SUCCESS,
        Err(error) => {
            report(&Report::Failed(causes(&error)));
            ExitStatus::FAILURE
        }
    };
    runtime.shutdown_background();
    status
}

async fn live(spec: LabSpec, listener: TcpListener) -> Result<(), WorldError> {
    let life = async {
        let mut world = World::build(spec, listener).await?;
        Err(world.watch().await)
    };
    tokio::select! {
        ended = life => ended,
        () = lifeline() => Ok(()),
    }
}

/// Returns when standard input ends: whoever started the lab is gone, or wants it gone. Never, once it
/// has been told [`STAY`].
async fn lifeline() {
    let mut input = tokio::io::stdin();
    let mut word = [0; 64];
    while let Ok(count @ 1..) = input.read(&mut word).await {
        if word[..count].contains(&STAY) {
            std::future::pending::<()>().await;
        }
    }
}

/// A lab at work.
struct World {
    /// Processes that must not end, by name. Hosts' processes hold their namespaces.
    parts: BTreeMap<String, Child>,
    /// Held so that no namespace goes while the lab is there.
    _networks: Vec<Netns>,
    /// Held because hosts stay until their input ends, and waiting for a process would close it.
    _inputs: Vec<ChildStdin>,
}

impl World {
    async fn build(spec: LabSpec, listener: TcpListener) -> Result<Self, WorldError> {
        let stopwatch = Stopwatch::start();
        let api = listener
            .local_addr()
            .map_err(|source| started("the API server")(source))?;
        tokio::task::block_in_place(rootfs::prepare_etc)?;

        report(&Report::Progress("making the office LAN".to_owned()));
        let switch = net::links_of(None)?;
        net::loopback_up(&switch).await?;
        net::add_switch(&switch, SWITCH, addresses::LAB, addresses::LAN).await?;
        let hosts = hosts::all(&spec.laptops);
        let networks: Vec<Netns> =
            try_join_all(hosts.iter().map(|host| plug_in(&switch, host))).await?;

        report(&Report::Progress(
            "starting the control plane and the nodes".to_owned(),
        ));
        let credentials = Credentials::make()?;
        let mut parts = BTreeMap::new();
        let mut inputs = Vec::new();
        for (host, netns) in hosts.iter().zip(&networks) {
            let mut part = start_host(host, netns, &credentials).await?;
            inputs.extend(part.stdin.take());
            parts.insert(host.name.clone(), part);
        }
        let control_plane = hosts.iter().position(|host| {
            matches!(
                host.kind,
                Kind::Node {
                    control_plane: true,
                    ..
                }
            )
        });
        let control_plane = &networks[control_plane.unwrap_or_default()];
        let server = start_api_server(control_plane, listener, &credentials).await?;
        parts.insert("the API server".to_owned(), server);
        let mut world = Self {
            parts,
            _networks: networks.iter().map(clone_of).collect::<Result<_, _>>()?,
            _inputs: inputs,
        };

        report(&Report::Progress(
            "waiting for nodes and cluster DNS".to_owned(),
        ));
        let kubernetes = tokio::select! {
            ready = readiness::wait(control_plane, &credentials) => ready?,
            ended = world.watch() => return Err(ended),
        };
        let inner = |child: &Child| {
            child
                .id()
                .and_then(|pid| i32::try_from(pid).ok())
                .unwrap_or_default()
        };
        let ready = Ready {
            api,
            ca: credentials.authority.trust().pem().to_owned(),
            admin_token: credentials.admin.clone(),
            kubernetes,
            hosts: world
                .parts
                .iter()
                .filter(|(name, _)| hosts.iter().any(|host| host.name == **name))
                .map(|(name, child)| (name.clone(), inner(child)))
                .collect(),
            ready_ms: u64::try_from(stopwatch.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        report(&Report::Ready(Box::new(ready)));
        Ok(world)
    }

    /// Returns when a part has ended, with which.
    async fn watch(&mut self) -> WorldError {
        let waits = self.parts.iter_mut().map(|(name, child)| {
            Box::pin(async move {
                let status = child.wait().await;
                let status =
                    status.map_or_else(|error| error.to_string(), |status| status.to_string());
                WorldError::Ended {
                    what: name.clone(),
                    status,
                }
            })
        });
        futures_util::future::select_all(waits).await.0
    }
}

/// Everything that lets parts of the lab trust each other. It lives as long as the lab.
struct Credentials {
    authority: Authority,
    admin: Secret<String>,
    /// What nodes show the API server, by name.
    nodes: BTreeMap<String, Secret<String>>,
    /// What the API server shows kubelets.
    kubelet: Secret<String>,
}

impl Credentials {
    fn make() -> Result<Self, pki::Error> {
        Ok(Self {
            authority: Authority::new("inroads lab")?,
            admin: Secret::new(fresh_token()),
            nodes: NODES
                .iter()
                .map(|name| ((*name).to_owned(), Secret::new(fresh_token())))
                .collect(),
            kubelet: Secret::new(fresh_token()),
        })
    }
}

/// Gives a host its network namespace and plugs it into the LAN.
async fn plug_in(switch: &Connection<Route>, host: &Host) -> Result<Netns, NetError> {
    let netns = net::new_netns()?;
    let gateway = (!matches!(host.kind, Kind::Router)).then_some(addresses::ROUTER);
    let port = format!("p{}", host.address.octets()[3]);
    net::plug_in(
        (switch, SWITCH),
        &port,
        &netns,
        host.address,
        addresses::LAN,
        gateway,
    )
    .await?;
    if matches!(host.kind, Kind::Router | Kind::Node { .. }) {
        net::forward_packets(&netns)?;
    }
    Ok(netns)
}

/// Starts the process that is the host, and waits until it says that it is there.
async fn start_host(
    host: &Host,
    netns: &Netns,
    credentials: &Credentials,
) -> Result<Child, WorldError> {
    let folder = Path::new(LAB_DIR).join("hosts").join(&host.name);
    Resolver::new(
        &host.name,
        addresses::OFFICE,
        &[OFFICE_DOMAIN.to_owned()],
        None,
    )
    .write(&folder)?;
    let what = format!("host `{}`", host.name);
    let folder = folder.display().to_string();
    let role = match host.kind {
        Kind::Node { .. } => "node",
        Kind::Office => "office",
        Kind::Router | Kind::Plain => "host",
    };
    let mut child = spawn(netns, &what, &[role, &host.name, &folder], Stdio::piped())?;
    if let Kind::Node {
        control_plane,
        pod_cidr,
    } = host.kind
    {
        let identity = credentials
            .authority
            .issue_kubelet(&host.name, [host.address.into()])?;
        let spec = NodeSpec {
            name: host.name.clone(),
            address: host.address,
            control_plane,
            pod_cidr,
            api: (hosts::node_address(0), addresses::API_PORT).into(),
            ca: credentials.authority.trust().pem().to_owned(),
            certificate: identity.certificate_pem().to_owned(),
            key: Secret::new(identity.key_pem().to_owned()),
            token: credentials.nodes[&host.name].clone(),
            kubelet_token: credentials.kubelet.clone(),
        };
        tell(&mut child, &what, &spec).await?;
    }
    Ok(child)
}

/// Starts the API server in the control-plane node's network. The listener on the machine's own loopback
/// is its standard input: a socket stays in the namespace that it was made in.
async fn start_api_server(
    control_plane: &Netns,
    listener: TcpListener,
    credentials: &Credentials,
) -> Result<Child, WorldError> {
    const WHAT: &str = "the API server";
    let address = hosts::node_address(0);
    let identity = credentials
        .authority
        .issue_api_server([address.into(), addresses::API_SERVICE.into()])?;
    let spec = ControlPlaneSpec {
        listen: (address, addresses::API_PORT).into(),
        ca: credentials.authority.trust().pem().to_owned(),
        certificate: identity.certificate_pem().to_owned(),
        key: Secret::new(identity.key_pem().to_owned()),
        admin_token: credentials.admin.clone(),
        node_tokens: credentials.nodes.clone(),
        kubelet_token: credentials.kubelet.clone(),
    };
    let file = Path::new(LAB_DIR).join("control-plane.json");
    let text = serde_json::to_vec(&spec)
        .map_err(std::io::Error::other)
        .map_err(started(WHAT))?;
    tokio::fs::write(&file, text).await.map_err(started(WHAT))?;
    let listener = Stdio::from(OwnedFd::from(listener));
    spawn(
        control_plane,
        WHAT,
        &["control-plane", &file.display().to_string()],
        listener,
    )
}

/// Gives a part its specification: one line on its standard input, which then stays open for its life.
async fn tell(
    child: &mut Child,
    what: &str,
    spec: &impl serde::Serialize,
) -> Result<(), WorldError> {
    let mut line = serde_json::to_vec(spec)
        .map_err(std::io::Error::other)
        .map_err(started(what))?;
    line.push(b'\n');
    match child.stdin.as_mut() {
        Some(input) => input.write_all(&line).await.map_err(started(what)),
        None => Ok(()),
    }
}

/// Starts `inroads lab …` on a thread inside `netns`, which the process inherits.
fn spawn(netns: &Netns, what: &str, arguments: &[&str], input: Stdio) -> Result<Child, WorldError> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("lab")
        .args(arguments)
        .stdin(input)
        .stdout(Stdio::null())
        .kill_on_drop(true);
    let runtime = tokio::runtime::Handle::current();
    let spawned = netns.run(|| {
        let _entered = runtime.enter();
        command.spawn()
    });
    spawned
        .map_err(std::io::Error::other)
        .and_then(|child| child)
        .map_err(started(what))
}

fn started(what: &str) -> impl FnOnce(std::io::Error) -> WorldError + use<> {
    let what = what.to_owned();
    move |source| WorldError::Start { what, source }
}

fn clone_of(netns: &Netns) -> Result<Netns, NetError> {
    netns
        .try_clone()
        .map_err(NetError::while_doing("keeping a network namespace"))
}
