//! The kubelet's main loop: one worker for each pod that the API binds to this node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::watch;

use super::pod::{self, PodCell};
use super::{Node, NodeError};

/// The pods of this node that have a worker.
#[derive(Default)]
pub(crate) struct Pods(Mutex<HashMap<String, Entry>>);

struct Entry {
    cell: Arc<PodCell>,
    updates: watch::Sender<Pod>,
}

impl Pods {
    /// The pod of this name, if it has a worker.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Arc<PodCell>> {
        let pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pods.values()
            .map(|entry| &entry.cell)
            .find(|cell| cell.namespace == namespace && cell.name == name)
            .cloned()
    }

    /// All pods that have a worker.
    pub(crate) fn all(&self) -> Vec<Arc<PodCell>> {
        let pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pods.values().map(|entry| entry.cell.clone()).collect()
    }
}

/// Gives every pod of this node a worker and tells it of changes, for as long as it runs.
pub(crate) async fn follow(node: Arc<Node>) -> Result<(), NodeError> {
    let mine = watcher::Config::default().fields(&format!("spec.nodeName={}", node.spec.name));
    let mut events =
        std::pin::pin!(watcher(Api::<Pod>::all(node.client.clone()), mine).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => tell(&node, pod),
            // Gone from the API without our leave: forced. The worker learns it as a deletion.
            Ok(watcher::Event::Delete(mut pod)) => {
                let now = pod.metadata.deletion_timestamp.take();
                pod.metadata.deletion_timestamp =
                    now.or_else(|| pod.metadata.creation_timestamp.clone());
                pod.metadata.deletion_grace_period_seconds = Some(0);
                if known(&node, &pod) {
                    tell(&node, pod);
                }
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => tracing::warn!(%error, "watching pods"),
        }
    }
    Ok(())
}

fn known(node: &Node, pod: &Pod) -> bool {
    let pods = node.pods.0.lock().unwrap_or_else(PoisonError::into_inner);
    pods.contains_key(&pod.uid().unwrap_or_default())
}

fn tell(node: &Arc<Node>, pod: Pod) {
    let uid = pod.uid().unwrap_or_default();
    let mut pods = node.pods.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(entry) = pods.get(&uid) {
        entry.updates.send_replace(pod);
        return;
    }
    let cell = Arc::new(PodCell::new(&pod));
    let (updates, changes) = watch::channel(pod);
    pods.insert(
        uid.clone(),
        Entry {
            cell: cell.clone(),
            updates,
        },
    );
    let node = node.clone();
    tokio::spawn(async move {
        pod::work(&node, &cell, changes).await;
        node.pods
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&uid);
    });
}
