//! Role-based access control: may this user do that?
//!
//! The deciding part ([`covers`]) is pure; [`authorize`] gathers the rules that the bindings in the
//! store give a user. Nothing is forbidden by a rule: what no rule allows is refused.

pub(crate) mod bootstrap;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};

use super::{
    rest::Rest,
    status::Status,
    user::{MASTERS, User},
};

/// What somebody wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Action {
    /// `get`, `list`, …
    pub(crate) verb: String,
    pub(crate) on: On,
}

/// To what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Resource(ResourceName),
    /// A path that is no resource: `/version`.
    Path(String),
}

/// A resource as a request names it; whether it exists is another question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourceName {
    pub(crate) group: String,
    pub(crate) resource: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
    /// Empty for cluster-wide resources, and for all namespaces.
    pub(crate) namespace: String,
    /// Empty for all objects.
    pub(crate) name: String,
}

/// Refuses `action` with the sentence of the real API server, unless a rule allows it.
pub(crate) fn authorize(rest: &Rest, user: &User, action: &Action) -> Result<(), Status> {
    if is_allowed(rest, user, action) {
        Ok(())
    } else {
        Err(Status::access_denied(denial(user, action)))
    }
}

pub(crate) fn is_allowed(rest: &Rest, user: &User, action: &Action) -> bool {
    let namespace = match &action.on {
        On::Resource(resource) => resource.namespace.as_str(),
        On::Path(_) => "",
    };
    user.is_in(MASTERS)
        || rules_of(rest, user, namespace)
            .iter()
            .any(|rule| covers(rule, action))
}

/// The rules that bindings give `user`: everywhere, and in `namespace` if that is not empty.
pub(crate) fn rules_of(rest: &Rest, user: &User, namespace: &str) -> Vec<PolicyRule> {
    let client = rest.client("rbac");
    let mut rules = Vec::new();
    for binding in client.list::<ClusterRoleBinding>(None) {
        if is_bound(user, binding.subjects.as_deref(), "") {
            rules.extend(rules_of_role(rest, &binding.role_ref, ""));
        }
    }
    if namespace.is_empty() {
        return rules;
    }
    for binding in client.list::<RoleBinding>(Some(namespace)) {
        if is_bound(user, binding.subjects.as_deref(), namespace) {
            rules.extend(rules_of_role(rest, &binding.role_ref, namespace));
        }
    }
    rules
}

/// Whether `rule` allows `action`.
pub(crate) fn covers(rule: &PolicyRule, action: &Action) -> bool {
    has(Some(&rule.verbs), &action.verb)
        && match &action.on {
            On::Resource(resource) => {
                has(rule.api_groups.as_ref(), &resource.group)
                    && covers_resource(rule, resource)
                    && covers_name(rule, &resource.name)
            }
            On::Path(path) => {
                let matches = |pattern: &String| match pattern.strip_suffix('*') {
                    Some(prefix) => path.starts_with(prefix),
                    None => pattern == path,
                };
                rule.non_resource_urls.iter().flatten().any(matches)
            }
        }
}

fn covers_resource(rule: &PolicyRule, wanted: &ResourceName) -> bool {
    let ResourceName {
        resource,
        subresource,
        ..
    } = wanted;
    let matches = |pattern: &String| match (pattern.split_once('/'), subresource.as_str()) {
        _ if pattern == "*" => true,
        (None, "") => pattern == resource,
        (Some((of, part)), wanted) => (of == "*" || of == resource) && part == wanted,
        (None, _) => false,
    };
    rule.resources.iter().flatten().any(matches)
}

fn covers_name(rule: &PolicyRule, name: &str) -> bool {
    match rule.resource_names.as_deref() {
        None | Some([]) => true,
        Some(names) => names.iter().any(|allowed| allowed == name),
    }
}

fn has(allowed: Option<&Vec<String>>, wanted: &str) -> bool {
    allowed
        .into_iter()
        .flatten()
        .any(|allowed| allowed == "*" || allowed == wanted)
}

fn is_bound(user: &User, subjects: Option<&[Subject]>, namespace: &str) -> bool {
    subjects
        .into_iter()
        .flatten()
        .any(|subject| match subject.kind.as_str() {
            "User" => subject.name == user.name,
            "Group" => user.is_in(&subject.name),
            "ServiceAccount" => {
                let namespace = subject.namespace.as_deref().unwrap_or(namespace);
                user.name == format!("system:serviceaccount:{namespace}:{}", subject.name)
            }
            _ => false,
        })
}

fn rules_of_role(rest: &Rest, role: &RoleRef, namespace: &str) -> Vec<PolicyRule> {
    let client = rest.client("rbac");
    let rules = match role.kind.as_str() {
        "ClusterRole" => client
            .find::<ClusterRole>("", &role.name)
            .and_then(|role| role.rules.clone()),
        _ => client
            .find::<Role>(namespace, &role.name)
            .and_then(|role| role.rules.clone()),
    };
    rules.unwrap_or_default()
}

fn denial(user: &User, action: &Action) -> String {
    let (who, verb) = (&user.name, &action.verb);
    let wanted = match &action.on {
        On::Path(path) => {
            return format!("forbidden: User \"{who}\" cannot {verb} path \"{path}\"");
        }
        On::Resource(wanted) => wanted,
    };
    let ResourceName {
        group,
        resource,
        subresource,
        namespace,
        name,
    } = wanted;
    let mut qualified = resource.clone();
    if !group.is_empty() {
        qualified = format!("{resource}.{group}");
    }
    if !name.is_empty() {
        qualified = format!("{qualified} \"{name}\"");
    }
    let part = match subresource.as_str() {
        "" => resource.clone(),
        part => format!("{resource}/{part}"),
    };
    let place = match namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    format!(
        "{qualified} is forbidden: User \"{who}\" cannot {verb} resource \"{part}\" in API group \
         \"{group}\" {place}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn rule(rule: Value) -> PolicyRule {
        serde_json::from_value(rule).unwrap()
    }

    fn action(verb: &str, group: &str, resource: &str, name: &str) -> Action {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let on = On::Resource(ResourceName {
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: "default".to_owned(),
            name: name.to_owned(),
        });
        Action {
            verb: verb.to_owned(),
            on,
        }
    }

    #[test]
    fn a_rule_covers_its_verbs_groups_resources_and_names() {
        let pods = rule(json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}));
        assert!(covers(&pods, &action("get", "", "pods", "a")));
        assert!(!covers(&pods, &action("list", "", "pods", "")));
        assert!(!covers(&pods, &action("get", "apps", "pods", "a")));
        assert!(!covers(&pods, &action("get", "", "pods/log", "a")));

        let parts = rule(json!({
            "apiGroups": ["*"], "resources": ["pods/portforward", "*/scale"], "verbs": ["*"],
        }));
        assert!(covers(
            &parts,
            &action("create", "", "pods/portforward", "a")
        ));
        assert!(covers(
            &parts,
            &action("patch", "apps", "deployments/scale", "a")
        ));
        assert!(!covers(&parts, &action("get", "", "pods", "a")));

        let one = rule(json!({
            "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["a"],
        }));
        assert!(covers(&one, &action("get", "", "configmaps", "a")));
        assert!(!covers(&one, &action("get", "", "configmaps", "b")));
        assert!(!covers(&one, &action("get", "", "configmaps", "")));
    }

    #[test]
    fn a_rule_for_paths_covers_no_resources() {
        let healthy =
            rule(json!({"nonResourceURLs": ["/healthz", "/openapi/*"], "verbs": ["get"]}));
        let path = |path: &str| Action {
            verb: "get".to_owned(),
            on: On::Path(path.to_owned()),
        };
        assert!(covers(&healthy, &path("/healthz")));
        assert!(covers(&healthy, &path("/openapi/v3")));
        assert!(!covers(&healthy, &path("/metrics")));
        assert!(!covers(&healthy, &action("get", "", "pods", "")));
    }

    #[test]
    fn a_denial_reads_as_from_the_real_server() {
        let user = User::new("jane", ["dev"]);
        assert_eq!(
            denial(&user, &action("get", "", "pods", "x")),
            "pods \"x\" is forbidden: User \"jane\" cannot get resource \"pods\" in API group \"\" \
             in the namespace \"default\""
        );
        assert_eq!(
            denial(&user, &action("create", "apps", "deployments/scale", "")),
            "deployments.apps is forbidden: User \"jane\" cannot create resource \
             \"deployments/scale\" in API group \"apps\" in the namespace \"default\""
        );
        let nodes = Action {
            verb: "list".to_owned(),
            on: On::Resource(ResourceName {
                resource: "nodes".to_owned(),
                ..Default::default()
            }),
        };
        assert!(denial(&user, &nodes).ends_with("in API group \"\" at the cluster scope"));
    }
}
