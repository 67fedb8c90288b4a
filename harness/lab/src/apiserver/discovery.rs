//! Discovery: which groups, versions and resources there are, in the plain and the aggregated form.

use serde_json::{Value, json};

use super::{
    registry::{self, Resource},
    reviews::{self, Review},
};

/// `/api`
pub(crate) fn core_versions(server: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}],
    })
}

/// `/apis`
pub(crate) fn groups() -> Value {
    let groups: Value = group_names().into_iter().map(group_entry).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`
pub(crate) fn group(name: &str) -> Option<Value> {
    group_names().contains(&name).then(|| {
        let mut group = group_entry(name);
        group["kind"] = "APIGroup".into();
        group["apiVersion"] = "v1".into();
        group
    })
}

/// `/api/v1`, `/apis/GROUP/VERSION`
pub(crate) fn resources(group: &str, version: &str) -> Option<Value> {
    let mut resources: Vec<Value> = in_group(group)
        .filter(|it| it.version == version)
        .flat_map(entries)
        .collect();
    resources.extend(
        reviews_of(group)
            .filter(|it| it.version == version)
            .map(review_entry),
    );
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version,
            "resources": resources,
        })
    })
}

/// `/api` or `/apis` with everything below them, as newer clients ask for it.
pub(crate) fn aggregated(version: &str, core: bool) -> Value {
    let names = if core { vec![""] } else { group_names() };
    let group = |name: &str| {
        let mut resources: Vec<Value> = in_group(name).map(aggregated_entry).collect();
        resources.extend(reviews_of(name).map(aggregated_review));
        json!({
            "metadata": if name.is_empty() { json!({}) } else { json!({"name": name}) },
            "versions": [{"version": "v1", "resources": resources, "freshness": "Current"}],
        })
    };
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": names.into_iter().map(group).collect::<Value>(),
    })
}

/// The verbs of a subresource, and the kind that it speaks.
pub(crate) fn subresource(
    resource: &Resource,
    name: &str,
) -> (&'static [&'static str], (&'static str, &'static str)) {
    const CONNECT: &[&str] = &["create", "get"];
    const ALL: &[&str] = &["create", "delete", "get", "patch", "update"];
    const CHANGE: &[&str] = &["get", "patch", "update"];
    match (resource.kind, name) {
        (_, "scale") => (CHANGE, ("autoscaling", "Scale")),
        (_, "proxy") => (ALL, ("", "ProxyOptions")),
        (_, "log") => (&["get"], ("", "Pod")),
        (_, "exec") => (CONNECT, ("", "PodExecOptions")),
        (_, "attach") => (CONNECT, ("", "PodAttachOptions")),
        (_, "portforward") => (CONNECT, ("", "PodPortForwardOptions")),
        (_, "binding") => (&["create"], ("", "Binding")),
        (_, "eviction") => (&["create"], ("policy", "Eviction")),
        (_, "token") => (&["create"], ("authentication.k8s.io", "TokenRequest")),
        (_, "finalize") => (&["update"], ("", "Namespace")),
        _ => (CHANGE, (resource.group, resource.kind)),
    }
}

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

fn group_names() -> Vec<&'static str> {
    let stored = registry::ALL.iter().map(|resource| resource.group);
    let posted = reviews::ALL.iter().map(|review| review.group);
    let mut names: Vec<_> = stored
        .chain(posted)
        .filter(|group| !group.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn in_group(group: &str) -> impl Iterator<Item = &'static Resource> {
    registry::ALL
        .iter()
        .copied()
        .filter(move |resource| resource.group == group)
}

fn reviews_of(group: &str) -> impl Iterator<Item = &'static Review> {
    reviews::ALL
        .iter()
        .filter(move |review| review.group == group)
}

fn group_entry(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn entries(resource: &'static Resource) -> Vec<Value> {
    let mut main = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": VERBS,
    });
    if !resource.short_names.is_empty() {
        main["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        main["categories"] = json!(resource.categories);
    }
    let below = resource.subresources.iter().map(|name| {
        let (verbs, (group, kind)) = subresource(resource, name);
        let mut entry = json!({
            "name": format!("{}/{name}", resource.plural),
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": kind,
            "verbs": verbs,
        });
        if group != resource.group {
            entry["group"] = group.into();
            entry["version"] = "v1".into();
        }
        entry
    });
    std::iter::once(main).chain(below).collect()
}

fn review_entry(review: &Review) -> Value {
    json!({
        "name": review.plural,
        "singularName": review.kind.to_lowercase(),
        "namespaced": review.namespaced,
        "kind": review.kind,
        "verbs": ["create"],
    })
}

fn aggregated_entry(resource: &'static Resource) -> Value {
    let kind = |group: &str, kind: &str| json!({"group": group, "version": "v1", "kind": kind});
    let below = resource.subresources.iter().map(|name| {
        let (verbs, (group, spoken)) = subresource(resource, name);
        json!({"subresource": name, "responseKind": kind(group, spoken), "verbs": verbs})
    });
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": kind(resource.group, resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": VERBS,
        "subresources": below.collect::<Value>(),
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    entry
}

fn aggregated_review(review: &Review) -> Value {
    json!({
        "resource": review.plural,
        "responseKind": {"group": review.group, "version": review.version, "kind": review.kind},
        "scope": if review.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": review.kind.to_lowercase(),
        "verbs": ["create"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_tell_of_the_same_resources() {
        let mut names = Vec::new();
        let aggregated = aggregated("v2", false);
        for group in aggregated["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap();
            let plain = resources(name, "v1").unwrap();
            let plain = plain["resources"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| &it["name"]);
            let plain: Vec<_> = plain
                .filter(|it| !it.as_str().unwrap().contains('/'))
                .collect();
            let listed = group["versions"][0]["resources"].as_array().unwrap();
            assert_eq!(
                plain,
                listed.iter().map(|it| &it["resource"]).collect::<Vec<_>>()
            );
            names.push(name.to_owned());
        }
        assert_eq!(names, group_names());
        assert!(names.contains(&"apps".to_owned()) && names.len() > 5);
    }

    #[test]
    fn what_is_not_served_is_not_found() {
        assert!(group("networking.k8s.io").is_none());
        assert!(resources("apps", "v1beta1").is_none());
        assert!(resources("", "v1").is_some());
    }
}
