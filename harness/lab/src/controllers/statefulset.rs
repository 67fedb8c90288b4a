//! StatefulSets: pods with a number, a name of their own, and an order.

mod plan;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus},
    core::v1::{Pod, PodTemplateSpec},
};

use super::{Context, Controller, Item, ownership, pods, revisions};
use crate::apiserver::{
    kinds::Kind,
    registry::{PODS, Resource, STATEFUL_SETS},
    status::Status,
    store::Change,
};
use plan::{Action, Order, Replica, Wanted};

const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

pub(super) struct StatefulSets;

impl Controller for StatefulSets {
    fn name(&self) -> &'static str {
        "statefulset-controller"
    }

    fn follows(&self) -> Vec<&'static Resource> {
        vec![&STATEFUL_SETS, &PODS]
    }

    fn concerned(&self, context: &Context<'_>, change: &Change) -> Vec<Item> {
        ownership::concerned::<StatefulSet>(context, change)
    }

    fn reconcile(
        &mut self,
        context: &Context<'_>,
        item: &Item,
    ) -> Result<Option<Timestamp>, Status> {
        let client = &context.client;
        let Some(set) = client.find::<StatefulSet>(&item.key.namespace, &item.key.name) else {
            return Ok(None);
        };
        let newest = revisions::current(context, &*set, &set.spec.template)?;
        let status = set.status.clone().unwrap_or_default();
        let current = status
            .current_revision
            .unwrap_or_else(|| newest.name().to_owned());
        let claimed = ownership::claim_pods(context, &*set)?;
        let members = members(&set, claimed);
        if !set.is_terminating() {
            let view = View {
                context,
                set: &set,
                newest: &newest,
                current: &current,
            };
            view.act(&members)?;
        }
        update_status(context, &set, &members, &newest, current)?;
        let settle = set.spec.min_ready_seconds.unwrap_or(0);
        Ok(pods::next_available(
            members.values().map(|pod| &**pod),
            settle,
            context.now,
        ))
    }
}

/// One look at a StatefulSet.
struct View<'a> {
    context: &'a Context<'a>,
    set: &'a StatefulSet,
    newest: &'a ControllerRevision,
    /// The name of the revision that the set is at, or comes from.
    current: &'a str,
}

impl View<'_> {
    fn act(&self, members: &BTreeMap<i32, Arc<Pod>>) -> Result<(), Status> {
        let settle = self.set.spec.min_ready_seconds.unwrap_or(0);
        let replica = |pod: &Arc<Pod>| Replica {
            ends: pod.is_terminating(),
            failed: pods::is_finished(pod),
            healthy: pods::is_available(pod, settle, self.context.now) && !pod.is_terminating(),
            updated: revision_of(pod) == Some(self.newest.name()),
        };
        let replicas = members
            .iter()
            .map(|(ordinal, pod)| (*ordinal, replica(pod)))
            .collect();
        for action in plan::next(&self.wanted(), &replicas) {
            match action {
                Action::Create(ordinal) => self.create(ordinal)?,
                Action::Delete(ordinal) => {
                    if let Some(pod) = members.get(&ordinal) {
                        pods::delete(self.context, self.set, pod)?;
                    }
                }
            }
        }
        let live = |revision: &ControllerRevision| {
            let name = revision.name();
            let mut used = members.values().map(|pod| revision_of(pod));
            name == self.current || name == self.newest.name() || used.any(|it| it == Some(name))
        };
        let limit = self.set.spec.revision_history_limit;
        revisions::clean_up(self.context, self.set, limit, live)
    }

    fn wanted(&self) -> Wanted {
        let spec = &self.set.spec;
        let update = spec.update_strategy.clone().unwrap_or_default();
        let rolling = update.type_.as_deref() != Some("OnDelete");
        let partition = update
            .rolling_update
            .and_then(|rolling| rolling.partition)
            .unwrap_or(0);
        let parallel = spec.pod_management_policy.as_deref() == Some("Parallel");
        let first = first_ordinal(self.set);
        Wanted {
            ordinals: first..first + spec.replicas.unwrap_or(1),
            order: if parallel {
                Order::Parallel
            } else {
                Order::OneByOne
            },
            update_from: rolling.then_some(first + partition),
        }
    }

    fn create(&self, ordinal: i32) -> Result<(), Status> {
        let (template, revision) = self.template_for(ordinal)?;
        let name = format!("{}-{ordinal}", self.set.name());
        let owner = ownership::reference(self.set);
        let mut pod = pods::from_template(&template, self.set.namespace(), owner);
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(POD_NAME_LABEL.to_owned(), name.clone());
        labels.insert(POD_INDEX_LABEL.to_owned(), ordinal.to_string());
        labels.insert(revisions::HASH_LABEL.to_owned(), revision);
        let spec = pod.spec.get_or_insert_default();
        spec.hostname = Some(name.clone());
        spec.subdomain = self
            .set
            .spec
            .service_name
            .clone()
            .filter(|it| !it.is_empty());
        pod.metadata.name = Some(name);

        pods::create(self.context, self.set, &pod)
    }

    /// Pods that a partition holds back are made of the revision that the set comes from.
    fn template_for(&self, ordinal: i32) -> Result<(PodTemplateSpec, String), Status> {
        let held_back = self.wanted().update_from.is_some_and(|from| ordinal < from);
        let client = &self.context.client;
        let before = held_back
            .then(|| client.find::<ControllerRevision>(self.set.namespace(), self.current))
            .flatten();
        match before {
            Some(before) => Ok((revisions::template(&before)?, before.name().to_owned())),
            None => Ok((
                self.set.spec.template.clone(),
                self.newest.name().to_owned(),
            )),
        }
    }
}

/// The set's pods by their numbers.
fn members(set: &StatefulSet, claimed: Vec<Arc<Pod>>) -> BTreeMap<i32, Arc<Pod>> {
    let ordinal = |pod: &Arc<Pod>| {
        let rest = pod.name().strip_prefix(set.name())?.strip_prefix('-')?;
        rest.parse::<i32>().ok()
    };
    claimed
        .into_iter()
        .filter_map(|pod| Some((ordinal(&pod)?, pod)))
        .collect()
}

fn first_ordinal(set: &StatefulSet) -> i32 {
    set.spec
        .ordinals
        .as_ref()
        .and_then(|ordinals| ordinals.start)
        .unwrap_or(0)
}

fn revision_of(pod: &Pod) -> Option<&str> {
    pods::label(pod, revisions::HASH_LABEL)
}

fn update_status(
    context: &Context<'_>,
    set: &StatefulSet,
    members: &BTreeMap<i32, Arc<Pod>>,
    newest: &ControllerRevision,
    current: String,
) -> Result<(), Status> {
    let settle = set.spec.min_ready_seconds.unwrap_or(0);
    let count = |holds: &dyn Fn(&Pod) -> bool| {
        i32::try_from(members.values().filter(|pod| holds(pod)).count()).unwrap_or(i32::MAX)
    };
    let is_of =
        |pod: &Pod, revision: &str| !pod.is_terminating() && revision_of(pod) == Some(revision);
    let before = set.status.clone().unwrap_or_default();
    let mut status = StatefulSetStatus {
        replicas: count(&|_| true),
        ready_replicas: Some(count(&|pod| pods::is_ready(pod))).filter(|count| *count > 0),
        available_replicas: Some(count(&|pod| pods::is_available(pod, settle, context.now))),
        current_replicas: Some(count(&|pod| is_of(pod, &current))).filter(|count| *count > 0),
        updated_replicas: Some(count(&|pod| is_of(pod, newest.name()))).filter(|count| *count > 0),
        update_revision: Some(newest.name().to_owned()),
        collision_count: Some(0),
        observed_generation: set.metadata.generation,
        current_revision: Some(current),
        conditions: before.conditions.clone(),
    };
    // The update is complete: from now on the set comes from its newest revision.
    let wanted = set.spec.replicas.unwrap_or(1);
    let is_wanted = |count: Option<i32>| count.unwrap_or(0) == wanted;
    if status.replicas == wanted
        && is_wanted(status.updated_replicas)
        && is_wanted(status.ready_replicas)
    {
        status.current_revision.clone_from(&status.update_revision);
        status.current_replicas = status.updated_replicas;
    }
    if status == before {
        return Ok(());
    }
    let updated = StatefulSet {
        status: Some(status),
        ..set.clone()
    };
    context.client.update_status(&updated).map(drop)
}
