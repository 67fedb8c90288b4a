//! Roles and their bindings. What they allow is decided in `rbac`.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use serde_json::Value;

use super::{Kind, container::validate_choice};
use crate::apiserver::{
    field::{Json, Path, Problems},
    registry::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, Resource},
    syntax,
    table::{AGE, Column, NAME, age},
};

const GROUP: &str = "rbac.authorization.k8s.io";
const CREATED_AT: Column = Column::text("Created At");

impl Kind for Role {
    const RESOURCE: &'static Resource = &ROLES;
    const NAME: fn(&str) -> syntax::Checked = syntax::path_segment;
    const COLUMNS: &'static [Column] = &[NAME, CREATED_AT];

    fn validate(&self, problems: &mut Problems) {
        let rules = self.rules.as_deref().unwrap_or_default();
        validate_rules(rules, Scope::Namespace, problems);
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        vec![self.name().into(), created_at(self)]
    }
}

impl Kind for ClusterRole {
    const RESOURCE: &'static Resource = &CLUSTER_ROLES;
    const NAME: fn(&str) -> syntax::Checked = syntax::path_segment;
    const COLUMNS: &'static [Column] = &[NAME, CREATED_AT];

    fn validate(&self, problems: &mut Problems) {
        let rules = self.rules.as_deref().unwrap_or_default();
        validate_rules(rules, Scope::Cluster, problems);
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        vec![self.name().into(), created_at(self)]
    }
}

const BINDING_COLUMNS: &[Column] = &[
    NAME,
    Column::text("Role"),
    AGE,
    Column::text("Users").wide(),
    Column::text("Groups").wide(),
    Column::text("ServiceAccounts").wide(),
];

impl Kind for RoleBinding {
    const RESOURCE: &'static Resource = &ROLE_BINDINGS;
    const NAME: fn(&str) -> syntax::Checked = syntax::path_segment;
    const COLUMNS: &'static [Column] = BINDING_COLUMNS;

    fn set_defaults(&mut self) {
        set_binding_defaults(&mut self.role_ref, self.subjects.as_mut());
    }

    fn validate(&self, problems: &mut Problems) {
        let subjects = self.subjects.as_deref().unwrap_or_default();
        validate_binding(&self.role_ref, &["ClusterRole", "Role"], subjects, problems);
    }

    fn validate_update(&self, old: &Self, problems: &mut Problems) {
        validate_unchanged_role(&self.role_ref, &old.role_ref, problems);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![
            self.name().into(),
            role_cell(&self.role_ref),
            age(&self.metadata, now),
        ];
        cells.extend(subject_cells(self.subjects.as_deref().unwrap_or_default()));
        cells
    }
}

impl Kind for ClusterRoleBinding {
    const RESOURCE: &'static Resource = &CLUSTER_ROLE_BINDINGS;
    const NAME: fn(&str) -> syntax::Checked = syntax::path_segment;
    const COLUMNS: &'static [Column] = BINDING_COLUMNS;

    fn set_defaults(&mut self) {
        set_binding_defaults(&mut self.role_ref, self.subjects.as_mut());
    }

    fn validate(&self, problems: &mut Problems) {
        let subjects = self.subjects.as_deref().unwrap_or_default();
        validate_binding(&self.role_ref, &["ClusterRole"], subjects, problems);
    }

    fn validate_update(&self, old: &Self, problems: &mut Problems) {
        validate_unchanged_role(&self.role_ref, &old.role_ref, problems);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![
            self.name().into(),
            role_cell(&self.role_ref),
            age(&self.metadata, now),
        ];
        cells.extend(subject_cells(self.subjects.as_deref().unwrap_or_default()));
        cells
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Namespace,
    Cluster,
}

fn validate_rules(rules: &[PolicyRule], scope: Scope, problems: &mut Problems) {
    let path = Path::new("rules");
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        if rule.verbs.is_empty() {
            problems.required(
                &path.field("verbs"),
                "verbs must contain at least one value",
            );
        }
        if rule.non_resource_urls.iter().flatten().next().is_some() {
            if scope == Scope::Namespace {
                let why = "namespaced rules cannot apply to non-resource URLs";
                problems.invalid(
                    &path.field("nonResourceURLs"),
                    Json(&rule.non_resource_urls),
                    why,
                );
            }
            continue;
        }
        if rule.api_groups.iter().flatten().next().is_none() {
            let why = "resource rules must supply at least one api group";
            problems.required(&path.field("apiGroups"), why);
        }
        if rule.resources.iter().flatten().next().is_none() {
            let why = "resource rules must supply at least one resource";
            problems.required(&path.field("resources"), why);
        }
    }
}

fn set_binding_defaults(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    role.api_group.get_or_insert_with(|| GROUP.to_owned());
    for subject in subjects.into_iter().flatten() {
        if matches!(subject.kind.as_str(), "User" | "Group") {
            subject.api_group.get_or_insert_with(|| GROUP.to_owned());
        }
    }
}

fn validate_binding(role: &RoleRef, roles: &[&str], subjects: &[Subject], problems: &mut Problems) {
    let path = Path::new("roleRef");
    validate_choice(
        role.api_group.as_deref(),
        &[GROUP],
        &path.field("apiGroup"),
        problems,
    );
    validate_choice(Some(&role.kind), roles, &path.field("kind"), problems);
    if role.name.is_empty() {
        problems.required(&path.field("name"), "");
    }
    let path = Path::new("subjects");
    for (index, subject) in subjects.iter().enumerate() {
        let path = path.index(index);
        let kinds = ["Group", "ServiceAccount", "User"];
        validate_choice(Some(&subject.kind), &kinds, &path.field("kind"), problems);
        if subject.name.is_empty() {
            problems.required(&path.field("name"), "");
        }
        let no_namespace = subject.namespace.as_ref().is_none_or(String::is_empty);
        if subject.kind == "ServiceAccount" && no_namespace {
            problems.required(&path.field("namespace"), "");
        }
    }
}

fn validate_unchanged_role(new: &RoleRef, old: &RoleRef, problems: &mut Problems) {
    if new != old {
        problems.invalid(&Path::new("roleRef"), Json(new), "cannot change roleRef");
    }
}

fn created_at(role: &impl Kind) -> Value {
    let created = role.metadata().creation_timestamp.as_ref();
    created.map_or_else(
        || "<unknown>".into(),
        |created| created.0.to_string().into(),
    )
}

fn role_cell(role: &RoleRef) -> Value {
    format!("{}/{}", role.kind, role.name).into()
}

fn subject_cells(subjects: &[Subject]) -> [Value; 3] {
    ["User", "Group", "ServiceAccount"].map(|kind| {
        let of_kind = subjects.iter().filter(|subject| subject.kind == kind);
        let names = of_kind.map(|subject| match subject.namespace.as_deref() {
            Some(namespace) if kind == "ServiceAccount" => format!("{namespace}/{}", subject.name),
            _ => subject.name.clone(),
        });
        names.collect::<Vec<_>>().join(", ").into()
    })
}
