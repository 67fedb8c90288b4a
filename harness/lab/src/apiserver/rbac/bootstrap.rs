//! The roles and bindings that every cluster begins with.

use serde_json::Value;

use crate::apiserver::{registry, rest::Rest, status::Status};

/// Creates them, in a store that has none yet.
pub(crate) fn create(rest: &Rest) -> Result<(), Status> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(include_str!("roles.yaml"))
        .map_err(|error| Status::internal(format!("read the built-in roles: {error}")))?;
    documents.into_iter().try_for_each(|document| {
        let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
        let resource = registry::of_kind(&text("apiVersion"), &text("kind"))
            .ok_or_else(|| Status::internal(format!("no such kind: {}", text("kind"))))?;
        let options = crate::apiserver::rest::WriteOptions::trusted("kube-apiserver");
        rest.create(resource, "", document, &options).map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::{
        admission::ServiceNetwork,
        rbac::{Action, On, ResourceName, is_allowed},
        user::User,
    };

    fn can(rest: &Rest, user: &User, verb: &str, resource: &str, group: &str) -> bool {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let on = On::Resource(ResourceName {
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: "default".to_owned(),
            name: "x".to_owned(),
        });
        is_allowed(
            rest,
            user,
            &Action {
                verb: verb.to_owned(),
                on,
            },
        )
    }

    #[test]
    fn masters_may_do_everything_and_nodes_their_work() {
        let rest = Rest::new(ServiceNetwork::default(), false);
        create(&rest).unwrap();
        assert!(can(
            &rest,
            &User::administrator(),
            "delete",
            "namespaces",
            ""
        ));
        let node = User::node("worker-1");
        assert!(can(&rest, &node, "patch", "pods/status", ""));
        assert!(can(&rest, &node, "create", "serviceaccounts/token", ""));
        assert!(!can(&rest, &node, "patch", "deployments", "apps"));
        let anyone = User::new("jane", ["system:authenticated"]);
        assert!(can(
            &rest,
            &anyone,
            "create",
            "selfsubjectaccessreviews",
            "authorization.k8s.io"
        ));
        assert!(!can(&rest, &anyone, "get", "pods", ""));
        let path = |path: &str| Action {
            verb: "get".to_owned(),
            on: On::Path(path.to_owned()),
        };
        assert!(is_allowed(&rest, &anyone, &path("/apis/apps/v1")));
        assert!(!is_allowed(&rest, &anyone, &path("/metrics")));
        assert!(is_allowed(&rest, &User::anonymous(), &path("/version")));
        assert!(!is_allowed(&rest, &User::anonymous(), &path("/apis")));
    }
}
