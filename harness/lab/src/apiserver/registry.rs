//! The table of the resources that the API server serves: one entry each, and one line in [`ALL`].
//!
//! A resource that is not here does not exist: the lab accepts nothing that it would not act upon (a
//! NetworkPolicy, for one, would be a promise that nobody keeps).

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    coordination::v1::Lease,
    core::v1::{
        ConfigMap, Endpoints, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount,
    },
    discovery::v1::EndpointSlice,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};

use super::kinds::{Behaviour, Of};

/// What is known about a resource.
pub(crate) struct Resource {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) namespaced: bool,
    pub(crate) subresources: &'static [&'static str],
    /// The fields by which lists can be selected, beside name and namespace.
    pub(crate) selectable: &'static [&'static str],
    /// Its type in the table of types.
    pub(crate) schema: &'static str,
    /// `metadata.generation` counts the changes of its spec.
    pub(crate) generation: bool,
    pub(crate) behaviour: &'static dyn Behaviour,
}

pub(crate) static ALL: &[&Resource] = &[
    &CONFIG_MAPS,
    &ENDPOINTS,
    &EVENTS,
    &NAMESPACES,
    &NODES,
    &PODS,
    &SECRETS,
    &SERVICE_ACCOUNTS,
    &SERVICES,
    &CONTROLLER_REVISIONS,
    &DAEMON_SETS,
    &DEPLOYMENTS,
    &REPLICA_SETS,
    &STATEFUL_SETS,
    &JOBS,
    &LEASES,
    &ENDPOINT_SLICES,
    &CLUSTER_ROLE_BINDINGS,
    &CLUSTER_ROLES,
    &ROLE_BINDINGS,
    &ROLES,
];

/// The resource of a path, if it is served.
pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    let matches = |resource: &&&Resource| {
        (resource.group, resource.version, resource.plural) == (group, version, plural)
    };
    ALL.iter().find(matches).copied()
}

/// The resource of an object, by its `apiVersion` and `kind`.
pub(crate) fn of_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    let matches =
        |resource: &&&Resource| resource.kind == kind && resource.api_version() == api_version;
    ALL.iter().find(matches).copied()
}

impl Resource {
    /// `v1`, `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `pods`, `deployments.apps`.
    pub(crate) fn qualified(&self) -> String {
        qualify(self.plural, self.group)
    }

    /// `Pod`, `Deployment.apps`.
    pub(crate) fn qualified_kind(&self) -> String {
        qualify(self.kind, self.group)
    }

    pub(crate) fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    pub(crate) fn has(&self, subresource: &str) -> bool {
        self.subresources.contains(&subresource)
    }

    const fn new(
        kind: &'static str,
        plural: &'static str,
        singular: &'static str,
        behaviour: &'static dyn Behaviour,
    ) -> Self {
        Self {
            group: "",
            version: "v1",
            kind,
            plural,
            singular,
            short_names: &[],
            categories: &[],
            namespaced: true,
            subresources: &[],
            selectable: &[],
            schema: kind,
            generation: false,
            behaviour,
        }
    }
}

fn qualify(name: &str, group: &str) -> String {
    match group {
        "" => name.to_owned(),
        group => format!("{name}.{group}"),
    }
}

/// Resources are told apart by where they stand in the table.
impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.qualified())
    }
}

pub(crate) static NAMESPACES: Resource = Resource {
    short_names: &["ns"],
    namespaced: false,
    subresources: &["status", "finalize"],
    selectable: &["status.phase"],
    ..Resource::new(
        "Namespace",
        "namespaces",
        "namespace",
        &Of::<Namespace>::NEW,
    )
};

pub(crate) static NODES: Resource = Resource {
    short_names: &["no"],
    namespaced: false,
    subresources: &["status", "proxy"],
    selectable: &["spec.unschedulable"],
    ..Resource::new("Node", "nodes", "node", &Of::<Node>::NEW)
};

pub(crate) static PODS: Resource = Resource {
    short_names: &["po"],
    categories: &["all"],
    subresources: &[
        "status",
        "log",
        "exec",
        "attach",
        "portforward",
        "proxy",
        "binding",
        "eviction",
    ],
    selectable: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ],
    generation: true,
    ..Resource::new("Pod", "pods", "pod", &Of::<Pod>::NEW)
};

pub(crate) static SERVICES: Resource = Resource {
    short_names: &["svc"],
    categories: &["all"],
    subresources: &["status", "proxy"],
    selectable: &["spec.clusterIP", "spec.type"],
    ..Resource::new("Service", "services", "service", &Of::<Service>::NEW)
};

pub(crate) static ENDPOINTS: Resource = Resource {
    short_names: &["ep"],
    ..Resource::new("Endpoints", "endpoints", "endpoints", &Of::<Endpoints>::NEW)
};

pub(crate) static CONFIG_MAPS: Resource = Resource {
    short_names: &["cm"],
    ..Resource::new(
        "ConfigMap",
        "configmaps",
        "configmap",
        &Of::<ConfigMap>::NEW,
    )
};

pub(crate) static SECRETS: Resource = Resource {
    selectable: &["type"],
    ..Resource::new("Secret", "secrets", "secret", &Of::<Secret>::NEW)
};

pub(crate) static SERVICE_ACCOUNTS: Resource = Resource {
    short_names: &["sa"],
    subresources: &["token"],
    ..Resource::new(
        "ServiceAccount",
        "serviceaccounts",
        "serviceaccount",
        &Of::<ServiceAccount>::NEW,
    )
};

pub(crate) static EVENTS: Resource = Resource {
    short_names: &["ev"],
    selectable: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    ..Resource::new("Event", "events", "event", &Of::<Event>::NEW)
};

pub(crate) static DEPLOYMENTS: Resource = Resource {
    group: "apps",
    short_names: &["deploy"],
    categories: &["all"],
    subresources: &["status", "scale"],
    generation: true,
    ..Resource::new(
        "Deployment",
        "deployments",
        "deployment",
        &Of::<Deployment>::NEW,
    )
};

pub(crate) static REPLICA_SETS: Resource = Resource {
    group: "apps",
    short_names: &["rs"],
    categories: &["all"],
    subresources: &["status", "scale"],
    selectable: &["status.replicas"],
    generation: true,
    ..Resource::new(
        "ReplicaSet",
        "replicasets",
        "replicaset",
        &Of::<ReplicaSet>::NEW,
    )
};

pub(crate) static STATEFUL_SETS: Resource = Resource {
    group: "apps",
    short_names: &["sts"],
    categories: &["all"],
    subresources: &["status", "scale"],
    generation: true,
    ..Resource::new(
        "StatefulSet",
        "statefulsets",
        "statefulset",
        &Of::<StatefulSet>::NEW,
    )
};

pub(crate) static DAEMON_SETS: Resource = Resource {
    group: "apps",
    short_names: &["ds"],
    categories: &["all"],
    subresources: &["status"],
    generation: true,
    ..Resource::new(
        "DaemonSet",
        "daemonsets",
        "daemonset",
        &Of::<DaemonSet>::NEW,
    )
};

pub(crate) static CONTROLLER_REVISIONS: Resource = Resource {
    group: "apps",
    ..Resource::new(
        "ControllerRevision",
        "controllerrevisions",
        "controllerrevision",
        &Of::<ControllerRevision>::NEW,
    )
};

pub(crate) static JOBS: Resource = Resource {
    group: "batch",
    categories: &["all"],
    subresources: &["status"],
    selectable: &["status.successful"],
    generation: true,
    ..Resource::new("Job", "jobs", "job", &Of::<Job>::NEW)
};

pub(crate) static LEASES: Resource = Resource {
    group: "coordination.k8s.io",
    ..Resource::new("Lease", "leases", "lease", &Of::<Lease>::NEW)
};

pub(crate) static ENDPOINT_SLICES: Resource = Resource {
    group: "discovery.k8s.io",
    ..Resource::new(
        "EndpointSlice",
        "endpointslices",
        "endpointslice",
        &Of::<EndpointSlice>::NEW,
    )
};

pub(crate) static ROLES: Resource = Resource {
    group: "rbac.authorization.k8s.io",
    ..Resource::new("Role", "roles", "role", &Of::<Role>::NEW)
};

pub(crate) static ROLE_BINDINGS: Resource = Resource {
    group: "rbac.authorization.k8s.io",
    ..Resource::new(
        "RoleBinding",
        "rolebindings",
        "rolebinding",
        &Of::<RoleBinding>::NEW,
    )
};

pub(crate) static CLUSTER_ROLES: Resource = Resource {
    group: "rbac.authorization.k8s.io",
    namespaced: false,
    ..Resource::new(
        "ClusterRole",
        "clusterroles",
        "clusterrole",
        &Of::<ClusterRole>::NEW,
    )
};

pub(crate) static CLUSTER_ROLE_BINDINGS: Resource = Resource {
    group: "rbac.authorization.k8s.io",
    namespaced: false,
    ..Resource::new(
        "ClusterRoleBinding",
        "clusterrolebindings",
        "clusterrolebinding",
        &Of::<ClusterRoleBinding>::NEW,
    )
};
