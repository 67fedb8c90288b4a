//! The controller's side of a lab: starting one, finding one that is up, using it, ending it.

mod kubeconfig;
mod state;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use inroads_harness::cluster::{
    Cluster, ClusterError, ClusterKind, Facts, Laptop, Node, Office, QueryLog, Steps, Supply,
};
use inroads_harness::kubernetes;
use inroads_harness::role::this_program;
use inroads_harness::run::{Component, Provenance};
use inroads_harness::software::Software;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::check::Finding;
use crate::office;
use crate::spec::{CLUSTER_DOMAIN, LabSpec, NODES, OFFICE_DOMAIN, Ready, Report, STAY, addresses};
use crate::world::{laptop_host, node_address, pods_of};
pub use state::{LabState, Status};

/// Longest time for a lab to be ready, on a machine that is busy with other things.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Longest time for a lab to be gone.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How many of the last lines that a lab wrote stand in an error.
const TAIL: usize = 8;

/// How a lab is to be started.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// Names of the laptops to make.
    pub laptops: Vec<String>,
    /// The port of this machine's loopback for the API server; 0 takes any.
    pub api_port: u16,
}

/// A lab that is ready.
pub struct Lab {
    ready: Ready,
    /// Its first process, as this process sees it.
    first: i32,
    client: kube::Client,
    facts: Facts,
    /// Where this controller started it, what keeps it: it ends with the lifeline.
    own: Option<(Child, ChildStdin)>,
}

impl Lab {
    /// Starts a lab that ends with this value, and with this process however that ends. `progress` is told
    /// of each step.
    ///
    /// # Errors
    /// Where this machine cannot carry a lab, with what to do about it.
    pub async fn start(
        options: LabOptions,
        progress: impl FnMut(&str),
    ) -> Result<Self, ClusterError> {
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let mut command = launch(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().map_err(failed())?;
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(listen(stderr, said.clone()));
        }
        let mut lifeline = tell(&mut child, &spec_of(options)).await?;
        lifeline.flush().await.map_err(failed())?;
        let (first, ready) = await_ready(&mut child, &said, progress).await?;
        Self::of(first, ready, Some((child, lifeline)))
    }

    /// Starts a lab that stays until [`LabState::end`], and notes where it is found.
    ///
    /// # Errors
    /// As [`start`](Self::start), and where one of that name is up already.
    pub async fn start_detached(
        name: &str,
        options: LabOptions,
        progress: impl FnMut(&str),
    ) -> Result<LabState, ClusterError> {
        let place = state::Place::claim(name)?;
        let log = std::fs::File::create(place.log()).map_err(failed())?;
        let mut child = launch(Stdio::from(log)).spawn().map_err(failed())?;
        let started = async {
            let mut lifeline = tell(&mut child, &spec_of(options)).await?;
            let said = Arc::default();
            let (first, ready) = await_ready(&mut child, &said, progress).await?;
            let state = place.fill(first, ready)?;
            // Only what can be found again, and ended, may stay.
            lifeline.write_all(&[STAY]).await.map_err(failed())?;
            lifeline.flush().await.map_err(failed())?;
            Ok(state)
        }
        .await;
        if started.is_err() {
            drop(child.kill().await);
        }
        started
    }

    /// A lab that is up already; ending this value leaves it as it is.
    ///
    /// # Errors
    /// Where its state cannot be used.
    pub fn attach(state: &LabState) -> Result<Self, ClusterError> {
        Self::of(state.first(), state.ready().clone(), None)
    }

    fn of(
        first: i32,
        ready: Ready,
        own: Option<(Child, ChildStdin)>,
    ) -> Result<Self, ClusterError> {
        let client = kubernetes::client(
            &format!("https://{}", ready.api),
            &ready.ca,
            &ready.admin_token,
        )?;
        let facts = facts(&ready);
        Ok(Self {
            ready,
            first,
            client,
            facts,
            own,
        })
    }

    /// What of all that a lab needs this machine gives to this user.
    ///
    /// # Errors
    /// Where not even that can be found out.
    pub async fn check() -> Result<Vec<Finding>, ClusterError> {
        const DOING: &str = "finding out what this machine gives";
        let output = Command::new(this_program())
            .args(["lab", "check"])
            .output()
            .await
            .map_err(ClusterError::while_doing(DOING))?;
        serde_json::from_slice(&output.stdout).map_err(ClusterError::while_doing(DOING))
    }

    /// How long it took to be ready, as it measured it itself: from its first namespace on.
    #[must_use]
    pub fn ready_after(&self) -> Duration {
        Duration::from_millis(self.ready.ready_ms)
    }
}

#[async_trait]
impl Cluster for Lab {
    fn client(&self) -> kube::Client {
        self.client.clone()
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn image(&self) -> &'static str {
        "inroads-agent"
    }

    async fn supply(&self, image: &str, progress: Steps<'_>) -> Result<Supply, ClusterError> {
        let software = Software::of_image(image).ok_or_else(|| ClusterError::Missing {
            what: format!("the lab has nothing for the image `{image}`"),
            hint: "use `--cluster kind`, or a cluster that can pull it".to_owned(),
        })?;
        let provided = software.provide(progress).await?;
        Ok(Supply {
            image: image.to_owned(),
            component: provided.component(),
            pulled: false,
        })
    }

    fn components(&self) -> Vec<Component> {
        let part = |name: &str, provenance| Component {
            name: name.to_owned(),
            version: format!("inroads {}", env!("CARGO_PKG_VERSION")),
            provenance,
        };
        vec![
            part("kube-apiserver", Provenance::StandIn),
            part("kubelet", Provenance::StandIn),
            part("kube-proxy", Provenance::StandIn),
            part("cluster DNS", Provenance::StandIn),
            part("web server", Provenance::Real),
        ]
    }

    async fn laptop(&self, name: &str) -> Result<Box<dyn Laptop>, ClusterError> {
        let host = laptop_host(name);
        let process = self.ready.hosts.get(&host);
        let process = *process.ok_or_else(|| ClusterError::NoLaptop(name.to_owned()))?;
        Ok(Box::new(LabLaptop {
            name: name.to_owned(),
            lab: self.first,
            process,
        }))
    }

    async fn release(mut self: Box<Self>) -> Result<(), ClusterError> {
        let Some((mut child, lifeline)) = self.own.take() else {
            return Ok(());
        };
        drop(lifeline);
        if tokio::time::timeout(END_LIMIT, child.wait()).await.is_ok() {
            return Ok(());
        }
        // Its first process has this one's death as its own.
        child
            .kill()
            .await
            .map_err(ClusterError::while_doing("ending the lab"))
    }
}

/// A laptop of the lab: commands are put beside its process.
struct LabLaptop {
    name: String,
    lab: i32,
    process: i32,
}

impl Laptop for LabLaptop {
    fn name(&self) -> &str {
        &self.name
    }

    fn command(&self, program: &OsStr, variables: &[(&str, &str)]) -> Command {
        let mut command = self.enter("command");
        command.arg(program).envs(variables.iter().copied());
        command
    }

    fn inroads(&self) -> Command {
        self.enter("self")
    }
}

impl LabLaptop {
    fn enter(&self, how: &str) -> Command {
        let mut command = Command::new(this_program());
        command.args([
            "lab",
            "enter",
            &self.lab.to_string(),
            &self.process.to_string(),
            how,
        ]);
        command
    }
}

fn spec_of(options: LabOptions) -> LabSpec {
    LabSpec {
        laptops: options.laptops,
        api_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, options.api_port)),
    }
}

/// The lab's first process, in a group of its own, so that an interrupt at the terminal reaches the
/// controller alone, which then ends things in order.
fn launch(stderr: Stdio) -> Command {
    let mut command = Command::new(this_program());
    command
        .args(["lab", "init"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .process_group(0);
    command
}

async fn tell(child: &mut Child, spec: &LabSpec) -> Result<ChildStdin, ClusterError> {
    let mut input = child
        .stdin
        .take()
        .ok_or("its input is not a pipe")
        .map_err(failed())?;
    let mut line = serde_json::to_vec(spec).map_err(failed())?;
    line.push(b'\n');
    input.write_all(&line).await.map_err(failed())?;
    Ok(input)
}

/// Follows the lab's reports until it is ready.
async fn await_ready(
    child: &mut Child,
    said: &Mutex<VecDeque<String>>,
    mut progress: impl FnMut(&str),
) -> Result<(i32, Ready), ClusterError> {
    let output = child
        .stdout
        .take()
        .ok_or("its output is not a pipe")
        .map_err(failed())?;
    let mut lines = BufReader::new(output).lines();
    let reports = async {
        let mut first = 0;
        while let Some(line) = lines.next_line().await.map_err(failed())? {
            match serde_json::from_str(&line).map_err(failed())? {
                Report::Started { pid } => first = pid,
                Report::Progress(step) => progress(&step),
                Report::Ready(ready) => return Ok((first, *ready)),
                Report::Failed(causes) => return Err(failed()(causes.join(": "))),
            }
        }
        // What it wrote last may still be on its way.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        Err(failed()(format!(
            "it ended without a word; it wrote: {}",
            said.join(" | ")
        )))
    };
    tokio::time::timeout(START_LIMIT, reports)
        .await
        .unwrap_or_else(|_elapsed| {
            Err(ClusterError::TimedOut {
                phase: "starting the lab".to_owned(),
                limit_s: START_LIMIT.as_secs(),
                hint: "is the machine very busy? `inroads doctor` shows the load".to_owned(),
            })
        })
}

/// Keeps the last lines that the lab's processes write.
async fn listen(stderr: tokio::process::ChildStderr, said: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::debug!(target: "lab", "{line}");
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() == TAIL {
            said.pop_front();
        }
        said.push_back(line);
    }
}

fn facts(ready: &Ready) -> Facts {
    let node = |(index, name): (usize, &&str)| Node {
        name: (*name).to_owned(),
        address: node_address(index).into(),
        pod_cidr: Some(pods_of(index).into()),
        control_plane: index == 0,
    };
    Facts {
        kind: ClusterKind::Lab,
        kubernetes: ready.kubernetes.clone(),
        cni: "veth pairs and host routes".to_owned(),
        kube_proxy: "nftables".to_owned(),
        nodes: NODES.iter().enumerate().map(node).collect(),
        pod_cidr: addresses::PODS.into(),
        service_cidr: addresses::SERVICES.into(),
        dns: addresses::DNS.into(),
        domain: CLUSTER_DOMAIN.to_owned(),
        api_server: format!("https://{}:{}", node_address(0), addresses::API_PORT),
        api_server_ca: ready.ca.clone(),
        office: Some(Office {
            name: format!("intranet.{OFFICE_DOMAIN}"),
            address: addresses::OFFICE.into(),
            log: Some(QueryLog {
                server: (addresses::OFFICE, 80).into(),
                path: office::LOG_PATH.to_owned(),
            }),
        }),
    }
}

fn failed<E>() -> impl FnOnce(E) -> ClusterError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    ClusterError::while_doing("starting the lab")
}
