//! One listener of a port-forward, and the connections it carries.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Api, ListParams};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// How much one direction of a connection holds at once, in bytes.
const BUFFER: usize = 128 << 10;

/// What a listener forwards to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A pod.
    Pod { namespace: String, name: String },
    /// A pod of a Service: one, which stays the same while it is there, as kubectl does it.
    Service { namespace: String, name: String },
}

/// A pod and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chosen {
    namespace: String,
    pod: String,
    port: u16,
}

/// Carries the connections of one listener.
pub(super) struct Forwarder {
    client: kube::Client,
    wanted: Wanted,
    port: u16,
    chosen: Mutex<Option<Chosen>>,
}

/// A connection could not be carried.
#[derive(Debug, thiserror::Error)]
enum ForwardError {
    #[error("asking the API server")]
    Api(#[source] Box<kube::Error>),
    #[error("{0}")]
    NoPod(String),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("the kubelet says: {0}")]
    Refused(String),
}

impl From<kube::Error> for ForwardError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

impl Forwarder {
    pub(super) fn new(client: kube::Client, wanted: Wanted, port: u16) -> Self {
        Self {
            client,
            wanted,
            port,
            chosen: Mutex::default(),
        }
    }

    /// Serves for as long as it is polled; connections that are open when it is dropped end with it.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _peer)) => drop(connections.spawn(self.clone().carry(stream))),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
                Some(_ended) = connections.join_next() => {}
            }
        }
    }

    async fn carry(self: Arc<Self>, stream: TcpStream) {
        if let Err(error) = self.try_carry(stream).await {
            tracing::debug!(%error, cause = std::error::Error::source(&error), "a forwarded connection ended");
        }
    }

    async fn try_carry(&self, mut local: TcpStream) -> Result<(), ForwardError> {
        drop(local.set_nodelay(true));
        let chosen = self.choose().await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &chosen.namespace);
        let opened = pods.portforward(&chosen.pod, &[chosen.port]).await;
        let mut forward = match opened {
            Ok(forward) => forward,
            Err(error) => {
                // The pod may be gone: the next connection looks again.
                *self.chosen.lock().await = None;
                return Err(error.into());
            }
        };
        let (Some(mut remote), Some(failure)) = (
            forward.take_stream(chosen.port),
            forward.take_error(chosen.port),
        ) else {
            return Err(ForwardError::NoPod(format!(
                "port {} was not forwarded",
                chosen.port
            )));
        };
        let copied = tokio::select! {
            copied = copy_bidirectional_with_sizes(&mut local, &mut remote, BUFFER, BUFFER) => copied,
            Some(reason) = failure => return Err(ForwardError::Refused(reason)),
        };
        copied.map(drop).map_err(ForwardError::Broken)
    }

    /// The pod and port to use: the last, or the first ready one there is now.
    async fn choose(&self) -> Result<Chosen, ForwardError> {
        let mut chosen = self.chosen.lock().await;
        if let Some(chosen) = &*chosen {
            return Ok(chosen.clone());
        }
        let found = match &self.wanted {
            Wanted::Pod { namespace, name } => Chosen {
                namespace: namespace.clone(),
                pod: name.clone(),
                port: self.port,
            },
            Wanted::Service { namespace, name } => self.find(namespace, name).await?,
        };
        Ok(chosen.insert(found).clone())
    }

    async fn find(&self, namespace: &str, name: &str) -> Result<Chosen, ForwardError> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let service = services.get(name).await?;
        let spec = service.spec.unwrap_or_default();
        let ports = spec.ports.unwrap_or_default();
        // Port-forward is TCP, and a Service may have the same number for UDP.
        let tcp = |protocol: &Option<String>| protocol.as_deref().unwrap_or("TCP") == "TCP";
        let declared = ports
            .iter()
            .find(|p| p.port == i32::from(self.port) && tcp(&p.protocol));
        let target = declared.map(|port| {
            port.target_port
                .clone()
                .unwrap_or(IntOrString::Int(port.port))
        });
        let target = target.ok_or_else(|| {
            ForwardError::NoPod(format!("service {name} has no TCP port {}", self.port))
        })?;
        let selector: Vec<String> = spec
            .selector
            .unwrap_or_default()
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let selected = pods
            .list(&ListParams::default().labels(&selector.join(",")))
            .await?;
        let ready = selected.items.iter().find(|pod| is_ready(pod));
        ready
            .and_then(|pod| {
                let port = pod_port(pod, &target)?;
                Some(Chosen {
                    namespace: namespace.to_owned(),
                    pod: pod.metadata.name.clone()?,
                    port,
                })
            })
            .ok_or_else(|| {
                ForwardError::NoPod(format!("service {name} has no ready pod with that port"))
            })
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .unwrap_or_default()
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The number of a pod's port, which the Service may give by name.
fn pod_port(pod: &Pod, target: &IntOrString) -> Option<u16> {
    let number = match target {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let containers = &pod.spec.as_ref()?.containers;
            let mut ports = containers
                .iter()
                .flat_map(|container| container.ports.iter().flatten());
            ports
                .find(|port| port.name.as_deref() == Some(name))?
                .container_port
        }
    };
    u16::try_from(number).ok()
}
