//! Putting objects into a cluster such that they can be told from others, and taking them out again.

use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{
    KubernetesError, MANAGED_BY, MANAGER, MANIFEST_NAMESPACE, RUN_LABEL, is_forbidden, is_not_found,
};
use crate::stage;

/// How often pods are looked at that come or go.
const PODS_PAUSE: Duration = Duration::from_millis(200);

/// Where and for whom objects are applied.
#[derive(Clone)]
pub struct Applier {
    client: kube::Client,
    namespace: String,
    /// None where the objects of all runs are meant.
    run: Option<String>,
}

/// The label of a namespace that an administrator made for our runs, and that stays between them.
const GRANTED_LABEL: &str = "inroads.dev/granted";

/// The namespace that manifests put objects into beside their own.
const SYSTEM_NAMESPACE: &str = "kube-system";

impl Applier {
    /// Applies into `namespace`, labelled as objects of `run`.
    #[must_use]
    pub fn new(client: kube::Client, namespace: &str, run: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            run: Some(run.to_owned()),
        }
    }

    /// For what all runs have left in `namespace` and around it.
    #[must_use]
    pub fn of_all_runs(client: kube::Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            run: None,
        }
    }

    /// Makes the namespace. What an earlier run of ours left is removed first: its pods hold the keys of
    /// that run, and would keep them. A namespace that was granted is emptied instead.
    ///
    /// # Errors
    /// [`KubernetesError::ForeignNamespace`] where it exists and is not ours, and
    /// [`KubernetesError::NotGone`] where what was left does not go within `limit`.
    pub async fn namespace(&self, limit: Duration) -> Result<(), KubernetesError> {
        match self.whose().await? {
            Whose::Nobodys => {}
            Whose::Granted => return self.empty(limit).await,
            Whose::Ours => self.delete_all(limit).await?,
            Whose::Foreign => {
                return Err(KubernetesError::ForeignNamespace(self.namespace.clone()));
            }
        }
        let name = &self.namespace;
        self.apply(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))
            .await
    }

    /// Whose the namespace is.
    async fn whose(&self) -> Result<Whose, KubernetesError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = api.get_opt(&self.namespace).await;
        let found = found.map_err(KubernetesError::call(
            "reading",
            "namespace",
            &self.namespace,
        ))?;
        let Some(namespace) = found else {
            return Ok(Whose::Nobodys);
        };
        let labels = namespace.metadata.labels.unwrap_or_default();
        let label = |name: &str| labels.get(name).map(String::as_str);
        Ok(match (label(MANAGED_BY), label(GRANTED_LABEL)) {
            (Some(MANAGER), Some("true")) => Whose::Granted,
            (Some(MANAGER), _) => Whose::Ours,
            _ => Whose::Foreign,
        })
    }

    /// Deletes the namespace with all that is in it, or, where it was granted, all that is ours in it, and
    /// waits until that is gone. Returns whether the namespace itself went.
    ///
    /// # Errors
    /// [`KubernetesError::NotGone`] after `limit`.
    pub async fn clear(&self, limit: Duration) -> Result<bool, KubernetesError> {
        match self.whose().await? {
            Whose::Ours => self.delete_all(limit).await.map(|()| true),
            Whose::Granted => self.empty(limit).await.map(|()| false),
            Whose::Nobodys | Whose::Foreign => Ok(false),
        }
    }

    /// Removes what is left of any run, and tells what that was.
    ///
    /// # Errors
    /// Where the API refuses, or the namespace does not go.
    pub async fn sweep(&self, limit: Duration) -> Result<Vec<String>, KubernetesError> {
        let mut removed = self.delete_outside().await?;
        if self.clear(limit).await? {
            removed.push(format!("namespace {}", self.namespace));
        }
        Ok(removed)
    }

    /// Deletes the namespace, what is in it first: a namespace that still has pods is looked at again after
    /// ever longer times only.
    async fn delete_all(&self, limit: Duration) -> Result<(), KubernetesError> {
        self.empty(limit).await?;
        self.delete_namespace(limit).await
    }

    /// Deletes all that is ours in the namespace, and waits until its pods are gone.
    async fn empty(&self, limit: Duration) -> Result<(), KubernetesError> {
        let kinds = kinds();
        // Of all runs: what an earlier one left is in the way too. The grant itself carries no run.
        let ours = ListParams::default().labels(&format!("{MANAGED_BY}={MANAGER},{RUN_LABEL}"));
        let deleting = kinds.iter().map(|kind| async {
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &self.namespace, kind);
            let listed = api.list(&ours).await;
            let listed = listed.map_err(KubernetesError::call(
                "listing",
                &kind.plural,
                &self.namespace,
            ))?;
            for object in listed.items {
                let name = object.metadata.name.unwrap_or_default();
                delete(&api, &kind.kind, &name).await?;
            }
            Ok::<_, KubernetesError>(())
        });
        try_join_all(deleting).await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let gone = async {
            loop {
                let left = pods.list(&ListParams::default()).await;
                let left =
                    left.map_err(KubernetesError::call("listing", "pods of", &self.namespace))?;
                if left.items.is_empty() {
                    return Ok(());
                }
                tokio::time::sleep(PODS_PAUSE).await;
            }
        };
        tokio::time::timeout(limit, gone)
            .await
            .unwrap_or_else(|_elapsed| {
                Err(KubernetesError::NotGone {
                    what: format!("pods of namespace/{}", self.namespace),
                    limit_s: limit.as_secs(),
                    held: String::new(),
                })
            })
    }

    /// Applies one object, server-side: moved into the namespace, labelled, forced.
    ///
    /// # Errors
    /// Where the API refuses it; the message names the object.
    pub async fn apply(&self, mut object: Value) -> Result<(), KubernetesError> {
        self.adopt(&mut object);
        let named = Named::of(&object)?;
        let api = self.api(&named);
        let parameters = PatchParams::apply(MANAGER).force();
        let patched = api
            .patch(&named.name, &parameters, &Patch::Apply(&object))
            .await;
        patched.map(drop).map_err(KubernetesError::call(
            "applying",
            &named.kind.kind,
            &named.name,
        ))
    }

    /// Waits until the object is ready: a workload's replicas, a job's completion. Other kinds are ready
    /// as they are.
    ///
    /// # Errors
    /// [`KubernetesError::NotReady`] after `limit`, with what its pods say.
    pub async fn ready(&self, object: &Value, limit: Duration) -> Result<(), KubernetesError> {
        let named = Named::of(object)?;
        if !matches!(
            named.kind.kind.as_str(),
            "Deployment" | "StatefulSet" | "DaemonSet" | "Job"
        ) {
            return Ok(());
        }
        let api = self.api(&named);
        let changes = watcher(
            api,
            watcher::Config::default().fields(&format!("metadata.name={}", named.name)),
        )
        .default_backoff()
        .applied_objects();
        let became_ready = changes.filter_map(async |object| object.ok().filter(is_ready));
        let mut became_ready = std::pin::pin!(became_ready);
        match tokio::time::timeout(limit, became_ready.next()).await {
            Ok(_) => Ok(()),
            Err(_elapsed) => Err(KubernetesError::NotReady {
                what: format!("{}/{}", named.kind.kind.to_lowercase(), named.name),
                limit_s: limit.as_secs(),
                said: self.complaints().await,
            }),
        }
    }

    /// Waits until `count` pods with these labels are ready, and returns their names, in order.
    ///
    /// # Errors
    /// [`KubernetesError::NotReady`] after `limit`, with what its pods say.
    pub async fn ready_pods(
        &self,
        labels: &str,
        count: usize,
        limit: Duration,
    ) -> Result<Vec<String>, KubernetesError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let selected = ListParams::default().labels(labels);
        let ready = async {
            loop {
                let listed = pods.list(&selected).await;
                let listed = listed.map_err(KubernetesError::call("listing", "pods", labels))?;
                let ready = listed.items.into_iter().filter(stage::is_ready);
                let mut names: Vec<String> = ready.filter_map(|pod| pod.metadata.name).collect();
                if names.len() >= count {
                    names.sort();
                    return Ok(names);
                }
                tokio::time::sleep(PODS_PAUSE).await;
            }
        };
        match tokio::time::timeout(limit, ready).await {
            Ok(names) => names,
            Err(_elapsed) => Err(KubernetesError::NotReady {
                what: format!("{count} pods with the label {labels}"),
                limit_s: limit.as_secs(),
                said: self.complaints().await,
            }),
        }
    }

    /// Deletes the namespace with all that is in it, and waits until it is gone.
    async fn delete_namespace(&self, limit: Duration) -> Result<(), KubernetesError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let name = &self.namespace;
        match api.delete(name, &DeleteParams::default()).await {
            Err(error) if is_not_found(&error) => return Ok(()),
            other => drop(other.map_err(KubernetesError::call("deleting", "namespace", name))?),
        }
        let gone = async {
            let events = watcher(
                api,
                watcher::Config::default().fields(&format!("metadata.name={name}")),
            );
            let mut events = std::pin::pin!(events.default_backoff());
            let mut listed_empty = true;
            loop {
                match events.try_next().await {
                    Ok(Some(watcher::Event::Init)) => listed_empty = true,
                    Ok(Some(watcher::Event::InitApply(_))) => listed_empty = false,
                    Ok(Some(watcher::Event::InitDone)) if listed_empty => return,
                    Ok(Some(watcher::Event::Delete(_)) | None) => return,
                    _ => {}
                }
            }
        };
        match tokio::time::timeout(limit, gone).await {
            Ok(()) => Ok(()),
            Err(_elapsed) => Err(KubernetesError::NotGone {
                what: format!("namespace/{name}"),
                limit_s: limit.as_secs(),
                held: self.holds().await,
            }),
        }
    }

    /// What holds the namespace, in the words of its conditions.
    async fn holds(&self) -> String {
        const HOLDING: [&str; 2] = ["NamespaceContentRemaining", "NamespaceFinalizersRemaining"];
        let api: Api<Namespace> = Api::all(self.client.clone());
        let Ok(namespace) = api.get(&self.namespace).await else {
            return String::new();
        };
        let conditions = namespace.status.and_then(|status| status.conditions);
        let said = conditions.into_iter().flatten().filter_map(|condition| {
            let holds = HOLDING.contains(&condition.type_.as_str()) && condition.status == "True";
            condition.message.filter(|_| holds)
        });
        let said: Vec<String> = said.collect();
        if said.is_empty() {
            String::new()
        } else {
            format!(": {}", said.join(" "))
        }
    }

    /// Deletes what the run put outside its namespace: rights, which are all that its manifests put there. Who
    /// may not look everywhere, looks where manifests put them. Returns what was deleted.
    ///
    /// # Errors
    /// Where the API refuses to list or to delete them; the message names the object.
    pub async fn delete_outside(&self) -> Result<Vec<String>, KubernetesError> {
        let kinds = [
            ApiResource::erase::<RoleBinding>(&()),
            ApiResource::erase::<Role>(&()),
            ApiResource::erase::<ClusterRoleBinding>(&()),
            ApiResource::erase::<ClusterRole>(&()),
        ];
        let run = match &self.run {
            Some(run) => format!("{RUN_LABEL}={run}"),
            None => RUN_LABEL.to_owned(),
        };
        let ours = ListParams::default().labels(&format!("{MANAGED_BY}={MANAGER},{run}"));
        let deleting = kinds.iter().map(|kind| async {
            let everywhere: Api<DynamicObject> = Api::all_with(self.client.clone(), kind);
            let system: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), SYSTEM_NAMESPACE, kind);
            let listed = match everywhere.list(&ours).await {
                Err(error) if is_forbidden(&error) && kind.kind.starts_with("Cluster") => {
                    return Ok(Vec::new());
                }
                Err(error) if is_forbidden(&error) => system.list(&ours).await,
                other => other,
            };
            let listed = listed.map_err(KubernetesError::call(
                "listing",
                &kind.plural,
                "outside the namespace",
            ))?;
            let prefix = format!("{}-", self.namespace);
            let outside = listed.items.into_iter().filter(|object| {
                let name = object.metadata.name.as_deref().unwrap_or_default();
                object.metadata.namespace.as_ref() != Some(&self.namespace)
                    && (self.run.is_some() || name.starts_with(&prefix))
            });
            let mut deleted = Vec::new();
            for object in outside {
                let name = object.metadata.name.unwrap_or_default();
                let api: Api<DynamicObject> = match &object.metadata.namespace {
                    Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, kind),
                    None => everywhere.clone(),
                };
                delete(&api, &kind.kind, &name).await?;
                deleted.push(format!("{} {name}", kind.kind.to_lowercase()));
            }
            Ok(deleted)
        });
        Ok(try_join_all(deleting).await?.concat())
    }

    /// Why pods of the namespace are not ready, in the words of their conditions and events.
    async fn complaints(&self) -> String {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut said = Vec::new();
        for pod in pods
            .list(&ListParams::default())
            .await
            .into_iter()
            .flatten()
        {
            let status = pod.status.unwrap_or_default();
            let waiting = status
                .container_statuses
                .unwrap_or_default()
                .into_iter()
                .find_map(|container| {
                    let waiting = container.state?.waiting?;
                    Some(format!(
                        "{} {}",
                        waiting.reason.unwrap_or_default(),
                        waiting.message.unwrap_or_default()
                    ))
                });
            let phase = status.phase.unwrap_or_default();
            let name = pod.metadata.name.unwrap_or_default();
            said.push(format!("pod {name}: {}", waiting.unwrap_or(phase).trim()));
        }
        let warnings = ListParams::default().fields("type=Warning");
        for event in events.list(&warnings).await.into_iter().flatten().take(5) {
            said.push(format!(
                "event {}: {}",
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default()
            ));
        }
        if said.is_empty() {
            "it has no pods".to_owned()
        } else {
            said.join("; ")
        }
    }

    /// Moves an object into our namespace and labels it as ours.
    pub(crate) fn adopt(&self, object: &mut Value) {
        rename_namespace(object, &self.namespace);
        let outside = object["metadata"]["namespace"] != self.namespace.as_str();
        if outside && object["kind"] != "Namespace" {
            rename_outside(object, &self.namespace);
        }
        let mut labels = json!({ MANAGED_BY: MANAGER });
        if let Some(run) = &self.run {
            labels[RUN_LABEL] = Value::from(run.as_str());
        }
        let metadata = &mut object["metadata"];
        if !metadata["labels"].is_object() {
            metadata["labels"] = json!({});
        }
        if let (Some(into), Some(from)) = (metadata["labels"].as_object_mut(), labels.as_object()) {
            into.extend(from.clone());
        }
    }

    fn api(&self, named: &Named) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&named.kind);
        match &named.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }
}

/// Whose a namespace is.
enum Whose {
    /// There is none.
    Nobodys,
    /// A run of ours made it.
    Ours,
    /// It was made for our runs, and stays.
    Granted,
    /// Somebody else's.
    Foreign,
}

/// The kinds of object that manifests put into the namespace. Pods, and what is made for each, come and go with them.
pub(crate) fn kinds() -> [ApiResource; 11] {
    [
        ApiResource::erase::<DaemonSet>(&()),
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<StatefulSet>(&()),
        ApiResource::erase::<Job>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<Endpoints>(&()),
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<RoleBinding>(&()),
        ApiResource::erase::<Role>(&()),
    ]
}

/// Deletes an object; one that is not there is no error.
async fn delete(api: &Api<DynamicObject>, kind: &str, name: &str) -> Result<(), KubernetesError> {
    match api.delete(name, &DeleteParams::background()).await {
        Err(error) if is_not_found(&error) => Ok(()),
        other => other
            .map(drop)
            .map_err(KubernetesError::call("deleting", kind, name)),
    }
}

/// What names an object.
struct Named {
    kind: GroupVersionKind,
    name: String,
    namespace: Option<String>,
}

impl Named {
    fn of(object: &Value) -> Result<Self, KubernetesError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            api_version: String,
            kind: String,
            metadata: Metadata,
        }
        #[derive(serde::Deserialize)]
        struct Metadata {
            name: String,
            namespace: Option<String>,
        }
        let head = Head::deserialize(object).map_err(|error| KubernetesError::Manifest {
            file: object["metadata"]["name"]
                .as_str()
                .unwrap_or("an object")
                .to_owned(),
            document: 0,
            reason: error.to_string(),
        })?;
        let (group, version) = head
            .api_version
            .split_once('/')
            .unwrap_or(("", &head.api_version));
        Ok(Self {
            kind: GroupVersionKind::gvk(group, version, &head.kind),
            name: head.metadata.name,
            namespace: head.metadata.namespace,
        })
    }
}

/// Puts our namespace in the place of the one that manifest files name.
fn rename_namespace(object: &mut Value, namespace: &str) {
    match object {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == "namespace" && value == MANIFEST_NAMESPACE {
                    *value = Value::from(namespace);
                } else {
                    rename_namespace(value, namespace);
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| rename_namespace(item, namespace)),
        _ => {}
    }
}

/// Two runs in two namespaces must not share what they put outside of them: its name begins with the
/// namespace's, and so does that of the role it binds.
fn rename_outside(object: &mut Value, namespace: &str) {
    for pointer in ["/metadata/name", "/roleRef/name"] {
        let Some(name) = object.pointer_mut(pointer) else {
            continue;
        };
        let rest = name
            .as_str()
            .and_then(|name| name.strip_prefix(MANIFEST_NAMESPACE));
        if let Some(rest) = rest.filter(|rest| rest.starts_with('-')) {
            *name = Value::from(format!("{namespace}{rest}"));
        }
    }
}

/// Whether a workload's status says that all it asks for is there, in its present generation.
fn is_ready(object: &DynamicObject) -> bool {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
    // A Job's status has no `observedGeneration` (batch/v1 JobStatus).
    if let Some(wanted) = spec["completions"].as_u64() {
        return status["succeeded"].as_u64() >= Some(wanted);
    }
    if status["observedGeneration"].as_i64() < object.metadata.generation {
        return false;
    }
    let wanted = spec["replicas"]
        .as_u64()
        .or_else(|| status["desiredNumberScheduled"].as_u64());
    let ready = status["readyReplicas"]
        .as_u64()
        .or_else(|| status["numberReady"].as_u64())
        .unwrap_or(0);
    let updated = status["updatedReplicas"]
        .as_u64()
        .or_else(|| status["updatedNumberScheduled"].as_u64())
        .unwrap_or(ready);
    wanted.is_some_and(|wanted| ready >= wanted && updated >= wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_ready_once_it_has_completed_though_it_observes_no_generation() {
        let job = |succeeded: Value| -> DynamicObject {
            let job = json!({
                "apiVersion": "batch/v1", "kind": "Job",
                "metadata": { "name": "form", "generation": 1 },
                "spec": { "completions": 1 },
                "status": { "succeeded": succeeded },
            });
            serde_json::from_value(job).unwrap()
        };
        assert!(is_ready(&job(json!(1))));
        assert!(!is_ready(&job(json!(0))));
        assert!(!is_ready(&job(Value::Null)));
    }

    #[test]
    fn the_namespace_is_changed_wherever_the_manifest_names_it() {
        let mut object = json!({
            "metadata": { "namespace": "inroads" },
            "subjects": [{ "kind": "ServiceAccount", "namespace": "inroads" }, { "namespace": "other" }],
        });
        rename_namespace(&mut object, "mine");
        assert_eq!(object["metadata"]["namespace"], "mine");
        assert_eq!(object["subjects"][0]["namespace"], "mine");
        assert_eq!(object["subjects"][1]["namespace"], "other");
    }

    #[test]
    fn what_is_outside_the_namespace_is_named_after_it() {
        let mut binding = json!({
            "metadata": { "name": "inroads-forward", "namespace": "kube-system" },
            "roleRef": { "kind": "Role", "name": "inroads-forward" },
        });
        rename_outside(&mut binding, "mine");
        assert_eq!(binding["metadata"]["name"], "mine-forward");
        assert_eq!(binding["roleRef"]["name"], "mine-forward");
        let mut other =
            json!({ "metadata": { "name": "inroadsman" }, "roleRef": { "name": "view" } });
        let before = other.clone();
        rename_outside(&mut other, "mine");
        assert_eq!(other, before);
    }

    #[test]
    fn an_older_generation_or_revision_is_not_ready() {
        let deployment = |seen: i64, updated: u64| -> DynamicObject {
            serde_json::from_value(json!({
                "metadata": { "name": "web", "generation": 2 },
                "spec": { "replicas": 2 },
                "status": { "observedGeneration": seen, "readyReplicas": 2, "updatedReplicas": updated },
            }))
            .unwrap()
        };
        assert!(is_ready(&deployment(2, 2)));
        assert!(
            !is_ready(&deployment(1, 2)),
            "the controller has not seen the new generation"
        );
        assert!(
            !is_ready(&deployment(2, 1)),
            "one pod is still of the old revision"
        );
    }
}
