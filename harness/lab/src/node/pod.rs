//! One pod on this node, from the first sight of it to its removal.

mod life;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use inroads_harness::clock;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use nlink::netlink::namespace::Netns;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Node;
use super::container_log::ContainerLog;
use super::runtime;
use super::status::{self, Circumstances, Known, Phase};
use crate::net::{self, NetError};
use crate::rootfs::{LAB_DIR, Resolver};
use crate::spec::{CLUSTER_DOMAIN, OFFICE_DOMAIN, addresses};
use life::Change;

/// How long before something that failed on this node is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What others on the node may know of a pod while it is there.
pub(crate) struct PodCell {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) started: Timestamp,
    pub(crate) sandbox: OnceLock<Sandbox>,
    containers: Mutex<BTreeMap<String, Running>>,
}

/// A pod's network.
pub(crate) struct Sandbox {
    pub(crate) netns: Netns,
    pub(crate) address: Ipv4Addr,
}

/// A container's log, and its process while it runs.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) log: ContainerLog,
    pub(crate) pid: Option<u32>,
}

impl PodCell {
    pub(crate) fn new(pod: &Pod) -> Self {
        Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            started: clock::wall(),
            sandbox: OnceLock::new(),
            containers: Mutex::default(),
        }
    }

    /// The container of this name, or the only one there is.
    pub(crate) fn container(&self, name: &str) -> Option<Running> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// All containers.
    pub(crate) fn containers(&self) -> BTreeMap<String, Running> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The pod's folder on this node.
    pub(crate) fn folder(&self) -> PathBuf {
        PathBuf::from(LAB_DIR).join("pods").join(&self.uid)
    }

    fn log_of(&self, container: &str) -> ContainerLog {
        let mut containers = self
            .containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let fresh = || Running {
            log: ContainerLog::new(self.folder().join(format!("{container}.log"))),
            pid: None,
        };
        containers
            .entry(container.to_owned())
            .or_insert_with(fresh)
            .log
            .clone()
    }

    fn set_pid(&self, container: &str, pid: Option<u32>) {
        let mut containers = self
            .containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = containers.get_mut(container) {
            running.pid = pid;
        }
    }
}

/// Looks after a pod until it is gone, here and from the API.
pub(crate) async fn work(node: &Arc<Node>, cell: &Arc<PodCell>, updates: watch::Receiver<Pod>) {
    let mut worker = Worker::new(node.clone(), cell.clone(), updates);
    worker.live().await;
    worker.bury().await;
}

struct Worker {
    node: Arc<Node>,
    cell: Arc<PodCell>,
    updates: watch::Receiver<Pod>,
    init: Vec<Known>,
    main: Vec<Known>,
    stop: CancellationToken,
    lives: TaskTracker,
    reported: Option<serde_json::Value>,
    /// Whether the API could not be told the latest.
    untold: bool,
}

impl Worker {
    fn new(node: Arc<Node>, cell: Arc<PodCell>, updates: watch::Receiver<Pod>) -> Self {
        let spec = updates.borrow().spec.clone().unwrap_or_default();
        Self {
            node,
            cell,
            updates,
            init: vec![Known::default(); spec.init_containers.map_or(0, |all| all.len())],
            main: vec![Known::default(); spec.containers.len()],
            stop: CancellationToken::new(),
            lives: TaskTracker::new(),
            reported: None,
            untold: false,
        }
    }

    /// Brings the pod up and keeps its status in step until it is to be deleted.
    async fn live(&mut self) {
        if self.doomed() {
            return;
        }
        while let Err(error) = self.make_sandbox().await {
            tracing::warn!(pod = self.cell.name, %error, "making the pod's network");
            if self.doomed_within(RETRY).await {
                return;
            }
        }
        let pod = self.updates.borrow().clone();
        let spec = pod.spec.clone().unwrap_or_default();
        let (changes, mut seen) = mpsc::channel(64);
        self.report().await;
        for (index, container) in spec.init_containers.iter().flatten().enumerate() {
            self.start(&pod, container, index, Group::Init, &changes);
            while !matches!(&self.init[index].phase, Phase::Ended(ended) if ended.code == 0) {
                if self.step(&mut seen).await.is_break() {
                    return;
                }
            }
        }
        for (index, container) in spec.containers.iter().enumerate() {
            self.start(&pod, container, index, Group::Main, &changes);
        }
        while self.step(&mut seen).await.is_continue() {}
    }

    /// Takes in the next thing that happens; breaks when the pod is to be deleted.
    async fn step(
        &mut self,
        seen: &mut mpsc::Receiver<(Group, usize, Change)>,
    ) -> std::ops::ControlFlow<()> {
        tokio::select! {
            Some((group, index, change)) = seen.recv() => {
                let known = match group {
                    Group::Init => &mut self.init[index],
                    Group::Main => &mut self.main[index],
                };
                change.apply(known);
                // What else has happened meanwhile goes into the same report.
                if seen.is_empty() {
                    self.report().await;
                }
            }
            changed = self.updates.changed() => {
                if changed.is_err() || self.doomed() {
                    return std::ops::ControlFlow::Break(());
                }
            }
            // Nothing else may ever happen to this pod.
            () = tokio::time::sleep(RETRY), if self.untold => self.report().await,
        }
        std::ops::ControlFlow::Continue(())
    }

    fn start(
        &self,
        pod: &Pod,
        container: &Container,
        index: usize,
        group: Group,
        changes: &mpsc::Sender<(Group, usize, Change)>,
    ) {
        let life = life::Life {
            node: self.node.clone(),
            cell: self.cell.clone(),
            pod: pod.clone(),
            container: container.clone(),
            folder: self.cell.folder(),
            log: self.cell.log_of(&container.name),
            is_init: group == Group::Init,
            stop: self.stop.clone(),
            updates: self.updates.clone(),
        };
        let changes = changes.clone();
        self.lives.spawn(async move {
            life.run(|change| {
                let changes = changes.clone();
                async move { drop(changes.send((group, index, change)).await) }
            })
            .await;
        });
    }

    /// Stops what runs, takes the network apart, and lets the API forget the pod.
    async fn bury(&mut self) {
        self.stop.cancel();
        self.lives.close();
        self.lives.wait().await;
        if let Some(sandbox) = self.cell.sandbox.get() {
            // The link goes with the namespace; the name may be wanted again before that.
            drop(
                self.node
                    .links
                    .del_link_if_exists(port_name(&self.cell.uid))
                    .await,
            );
            self.node.ipam.lock().await.give_back(sandbox.address);
        }
        drop(tokio::fs::remove_dir_all(self.cell.folder()).await);
        let api: Api<Pod> = Api::namespaced(self.node.client.clone(), &self.cell.namespace);
        let mut now = DeleteParams::default().grace_period(0);
        now.preconditions = Some(Preconditions {
            uid: Some(self.cell.uid.clone()),
            resource_version: None,
        });
        // Nobody else will ever let it be forgotten.
        while let Err(error) = api.delete(&self.cell.name, &now).await {
            if is_gone(&error) {
                return;
            }
            tracing::warn!(pod = self.cell.name, %error, "letting the API forget a pod");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Whether the pod is to be deleted.
    fn doomed(&mut self) -> bool {
        self.updates
            .borrow_and_update()
            .metadata
            .deletion_timestamp
            .is_some()
    }

    async fn doomed_within(&mut self, time: Duration) -> bool {
        drop(tokio::time::timeout(time, self.updates.changed()).await);
        self.doomed()
    }

    /// Makes the pod's network namespace, link, address, routes and resolver.
    async fn make_sandbox(&self) -> Result<(), NetError> {
        let address = self.node.ipam.lock().await.take();
        let address = address.ok_or("all of the node's addresses are in use");
        let address = address.map_err(NetError::while_doing("taking an address for the pod"))?;
        let made = self.connect(address).await;
        match made {
            Ok(netns) => {
                drop(self.cell.sandbox.set(Sandbox { netns, address }));
                Ok(())
            }
            Err(error) => {
                self.node.ipam.lock().await.give_back(address);
                Err(error)
            }
        }
    }

    async fn connect(&self, address: Ipv4Addr) -> Result<Netns, NetError> {
        let netns = net::new_netns()?;
        let port = port_name(&self.cell.uid);
        net::connect_pod(
            &self.node.links,
            &port,
            &netns,
            address,
            self.node.pod_gateway(),
        )
        .await?;
        let pod = self.updates.borrow().clone();
        for (key, value) in runtime::sysctls_of(&pod) {
            let doing = format!("setting `{key}` for the pod");
            netns
                .sysctl()
                .set(&key, &value)
                .map_err(NetError::while_doing(doing))?;
        }
        self.resolver(&pod, address)
            .write(&self.cell.folder().join("resolver"))
            .map_err(NetError::while_doing("writing the pod's resolver files"))?;
        Ok(netns)
    }

    /// What `dnsPolicy: ClusterFirst` gives a pod, or the node's own resolver.
    fn resolver(&self, pod: &Pod, address: Ipv4Addr) -> Resolver {
        let spec = pod.spec.as_ref();
        let hostname = spec
            .and_then(|spec| spec.hostname.clone())
            .unwrap_or_else(|| self.cell.name.clone());
        let mut resolver = if spec.and_then(|spec| spec.dns_policy.as_deref()) == Some("Default") {
            Resolver::new(
                &hostname,
                addresses::OFFICE,
                &[OFFICE_DOMAIN.to_owned()],
                None,
            )
        } else {
            let search = [
                format!("{}.svc.{CLUSTER_DOMAIN}", self.cell.namespace),
                format!("svc.{CLUSTER_DOMAIN}"),
                CLUSTER_DOMAIN.to_owned(),
                OFFICE_DOMAIN.to_owned(),
            ];
            Resolver::new(&hostname, addresses::DNS, &search, Some(5))
        };
        let subdomain = spec.and_then(|spec| spec.subdomain.clone());
        let full = subdomain
            .map(|sub| {
                format!(
                    "{hostname}.{sub}.{}.svc.{CLUSTER_DOMAIN} ",
                    self.cell.namespace
                )
            })
            .unwrap_or_default();
        resolver.hosts =
            format!("127.0.0.1 localhost\n::1 localhost\n{address} {full}{hostname}\n");
        resolver
    }

    /// Tells the API how the pod is, if that has changed.
    async fn report(&mut self) {
        let pod = self.updates.borrow().clone();
        let at = Circumstances {
            host: self.node.spec.address,
            address: self.cell.sandbox.get().map(|sandbox| sandbox.address),
            started: self.cell.started,
            now: clock::wall(),
        };
        let status = status::pod_status(&pod, &self.init, &self.main, &at);
        let Ok(status) = serde_json::to_value(&status) else {
            return;
        };
        if self.reported.as_ref() == Some(&status) {
            self.untold = false;
            return;
        }
        let api: Api<Pod> = Api::namespaced(self.node.client.clone(), &self.cell.namespace);
        let patch = Patch::Merge(serde_json::json!({
            "metadata": { "uid": self.cell.uid },
            "status": status,
        }));
        match api
            .patch_status(&self.cell.name, &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => {
                self.reported = Some(status);
                self.untold = false;
            }
            Err(error) => {
                tracing::debug!(pod = self.cell.name, %error, "reporting a pod's status");
                self.untold = true;
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Init,
    Main,
}

/// Whether the API says that there is no such pod any more, or another of that name.
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
}

/// The name of a pod's link on the node: at most 15 bytes.
fn port_name(uid: &str) -> String {
    let digits: String = uid
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(11)
        .collect();
    format!("veth{digits}")
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn only_a_pod_that_is_not_there_is_given_up() {
        for (code, gone) in [
            (404, true),
            (409, true),
            (403, false),
            (429, false),
            (503, false),
        ] {
            let mut status = Status::failure("no", "No");
            status.code = code;
            assert_eq!(is_gone(&kube::Error::Api(Box::new(status))), gone, "{code}");
        }
    }
}
