//! What a request's path and query ask for. Pure; whether it exists and is allowed comes later.

use std::str::FromStr;

use http::Method;
use percent_encoding::percent_decode_str;

use super::{
    rbac::{Action, On, ResourceName},
    registry::Resource,
    rest::{FieldValidation, Filter, Mode},
    selector::{FieldSelector, LabelSelector},
    status::Status,
};

/// A path of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Resource(ResourcePath),
    /// Anything else: discovery, health, …
    Path(String),
}

/// `/apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE/REST…`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// What follows the subresource's slash, as it was sent.
    pub(crate) rest: Option<String>,
}

impl Route {
    pub(crate) fn parse(path: &str) -> Self {
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let parsed = match segments.as_slice() {
            ["api", version, below @ ..] => ResourcePath::parse("", version, below),
            ["apis", group, version, below @ ..] => ResourcePath::parse(group, version, below),
            _ => None,
        };
        parsed.map_or_else(|| Self::Path(path.to_owned()), Self::Resource)
    }

    /// What is to be authorized.
    pub(crate) fn action(&self, method: &Method, query: &Query) -> Action {
        let path = match self {
            Self::Path(path) => {
                let verb = method.as_str().to_lowercase();
                return Action {
                    verb,
                    on: On::Path(path.clone()),
                };
            }
            Self::Resource(path) => path,
        };
        let selected = query
            .get("fieldSelector")
            .and_then(|text| text.parse().ok());
        let selected = selected
            .as_ref()
            .and_then(FieldSelector::name)
            .map(str::to_owned);
        let name = path.name.clone().or(selected).unwrap_or_default();
        let namespace = match path.resource.as_str() {
            "namespaces" if path.name.is_some() => name.clone(),
            _ => path.namespace.clone().unwrap_or_default(),
        };
        let on = On::Resource(ResourceName {
            group: path.group.clone(),
            resource: path.resource.clone(),
            subresource: path.subresource.clone().unwrap_or_default(),
            namespace,
            name,
        });
        Action {
            verb: path.verb(method, query).to_owned(),
            on,
        }
    }
}

impl ResourcePath {
    fn parse(group: &str, version: &str, below: &[&str]) -> Option<Self> {
        let (namespace, below) = match below {
            ["namespaces", _, "status" | "finalize", ..] => (None, below),
            ["namespaces", namespace, resource, ..] if !resource.is_empty() => {
                (Some(*namespace), &below[2..])
            }
            _ => (None, below),
        };
        let (resource, below) = below.split_first()?;
        let part = |index: usize| below.get(index).filter(|part| !part.is_empty());
        if resource.is_empty() {
            return None;
        }
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            resource: (*resource).to_owned(),
            namespace: namespace.map(decode),
            name: part(0).map(|name| decode(name)),
            subresource: part(1).map(|subresource| decode(subresource)),
            rest: (below.len() > 2).then(|| below[2..].join("/")),
        })
    }

    /// The verb by which roles allow the request.
    pub(crate) fn verb(&self, method: &Method, query: &Query) -> &'static str {
        match (method.as_str(), self.name.is_some()) {
            ("GET" | "HEAD", true) if query.is_set("watch") && self.subresource.is_none() => {
                "watch"
            }
            ("GET" | "HEAD", true) => "get",
            ("GET" | "HEAD", false) if query.is_set("watch") => "watch",
            ("GET" | "HEAD", false) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "delete",
            ("DELETE", false) => "deletecollection",
            _ => "",
        }
    }
}

/// The parameters of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        };
        Self(
            text.split('&')
                .filter(|pair| !pair.is_empty())
                .map(pair)
                .collect(),
        )
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    pub(crate) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// `?watch`, `?watch=1`, `?watch=true`
    pub(crate) fn is_set(&self, key: &str) -> bool {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.is_some_and(|(_, value)| !matches!(value.as_str(), "false" | "0"))
    }

    pub(crate) fn number<N: FromStr>(&self, key: &str) -> Result<Option<N>, Status> {
        let parse = |text: &str| {
            text.parse().or(Err(Status::bad_request(format!(
                "{key} must be a number, not {text:?}"
            ))))
        };
        self.get(key).map(parse).transpose()
    }

    pub(crate) fn filter(&self, resource: &Resource) -> Result<Filter, Status> {
        let refuse = |error: &dyn std::error::Error| Status::bad_request(error.to_string());
        let labels = match self.get("labelSelector") {
            Some(text) => text.parse::<LabelSelector>().map_err(|error| {
                Status::bad_request(format!("unable to parse requirement: {error}"))
            })?,
            None => LabelSelector::default(),
        };
        let fields = self.get("fieldSelector").unwrap_or_default();
        let fields = fields
            .parse::<FieldSelector>()
            .map_err(|error| refuse(&error))?;
        let fields = fields
            .supported_by(resource)
            .map_err(|error| refuse(&error))?;
        Ok(Filter { labels, fields })
    }

    pub(crate) fn mode(&self) -> Result<Mode, Status> {
        match self.get("dryRun") {
            None => Ok(Mode::Store),
            Some("All") => Ok(Mode::DryRun),
            Some(other) => Err(Status::unprocessable(format!(
                "dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ))),
        }
    }

    pub(crate) fn field_validation(&self) -> Result<FieldValidation, Status> {
        match self.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => Err(Status::unprocessable(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \
                 \"Strict\", \"Warn\""
            ))),
        }
    }
}

/// `[SCHEME:]NAME[:PORT]`: which port of a pod or Service a proxy request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyTarget<'a> {
    pub(crate) scheme: Scheme,
    pub(crate) name: &'a str,
    /// A number or a port's name.
    pub(crate) port: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl<'a> ProxyTarget<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, Status> {
        let refused = || Status::bad_request(format!("invalid proxy target {text:?}"));
        let some = |port: &'a str| Some(port).filter(|port| !port.is_empty());
        let parts: Vec<_> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("http", *name, None),
            [name, port] if *name != "http" && *name != "https" => ("http", *name, some(port)),
            [scheme, name] => (*scheme, *name, None),
            [scheme, name, port] => (*scheme, *name, some(port)),
            _ => return Err(refused()),
        };
        let scheme = match scheme {
            "http" | "" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(refused()),
        };
        if name.is_empty() {
            Err(refused())
        } else {
            Ok(Self { scheme, name, port })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> ResourcePath {
        match Route::parse(path) {
            Route::Resource(path) => path,
            Route::Path(path) => panic!("{path} is no resource"),
        }
    }

    #[test]
    fn paths_of_resources_are_taken_apart() {
        let pods = resource("/api/v1/namespaces/default/pods");
        assert_eq!((pods.group.as_str(), pods.resource.as_str()), ("", "pods"));
        assert_eq!(
            (pods.namespace.as_deref(), pods.name),
            (Some("default"), None)
        );
        let scale = resource("/apis/apps/v1/namespaces/a/deployments/web/scale");
        assert_eq!(scale.group, "apps");
        assert_eq!(scale.name.as_deref(), Some("web"));
        assert_eq!(scale.subresource.as_deref(), Some("scale"));
        let proxy = resource("/api/v1/namespaces/a/services/http%3Aweb%3A80/proxy/b//c%20d/");
        assert_eq!(proxy.name.as_deref(), Some("http:web:80"));
        assert_eq!(proxy.rest.as_deref(), Some("b//c%20d/"));
        assert_eq!(resource("/api/v1/nodes/n/proxy").rest, None);
        assert_eq!(resource("/api/v1/nodes/n/proxy/").rest.as_deref(), Some(""));
    }

    #[test]
    fn a_namespace_is_an_object_and_a_place() {
        let namespace = resource("/api/v1/namespaces/default");
        assert_eq!(
            (namespace.resource.as_str(), namespace.namespace),
            ("namespaces", None)
        );
        assert_eq!(namespace.name.as_deref(), Some("default"));
        let finalize = resource("/api/v1/namespaces/default/finalize");
        assert_eq!(finalize.subresource.as_deref(), Some("finalize"));
        assert_eq!(resource("/api/v1/namespaces/").name, None);
        let action = Route::parse("/api/v1/namespaces/a").action(&Method::GET, &Query::default());
        let On::Resource(on) = action.on else {
            panic!()
        };
        assert_eq!((on.namespace.as_str(), on.name.as_str()), ("a", "a"));
    }

    #[test]
    fn everything_else_is_a_plain_path() {
        for path in [
            "/",
            "/api",
            "/apis",
            "/api/v1",
            "/apis/apps",
            "/apis/apps/v1",
            "/version",
        ] {
            assert_eq!(Route::parse(path), Route::Path(path.to_owned()));
        }
    }

    #[test]
    fn the_verb_follows_from_method_name_and_watch() {
        let verb = |method: Method, path: &str, query: &str| {
            Route::parse(path)
                .action(&method, &Query::parse(query))
                .verb
        };
        assert_eq!(verb(Method::GET, "/api/v1/pods", ""), "list");
        assert_eq!(verb(Method::GET, "/api/v1/pods", "watch=true"), "watch");
        assert_eq!(verb(Method::GET, "/api/v1/pods", "watch=false"), "list");
        assert_eq!(verb(Method::GET, "/api/v1/nodes/n", ""), "get");
        assert_eq!(
            verb(Method::DELETE, "/api/v1/nodes", ""),
            "deletecollection"
        );
        assert_eq!(verb(Method::POST, "/api/v1/nodes", ""), "create");
        assert_eq!(verb(Method::GET, "/version", ""), "get");
    }

    #[test]
    fn a_list_of_one_name_is_authorized_for_that_name() {
        let query = Query::parse("fieldSelector=metadata.name%3Dweb");
        let action = Route::parse("/api/v1/namespaces/a/pods").action(&Method::GET, &query);
        let On::Resource(on) = action.on else {
            panic!()
        };
        assert_eq!(on.name, "web");
    }

    #[test]
    fn queries_are_decoded_and_may_repeat() {
        let query = Query::parse("command=sh&command=-c&command=a+b%26c&stdin=true&tty");
        assert_eq!(
            query.all("command").collect::<Vec<_>>(),
            ["sh", "-c", "a b&c"]
        );
        assert!(query.is_set("stdin") && query.is_set("tty") && !query.is_set("stdout"));
        assert_eq!(query.number::<u64>("limit").unwrap(), None);
        assert!(Query::parse("limit=x").number::<u64>("limit").is_err());
    }

    #[test]
    fn a_proxy_target_has_a_scheme_a_name_and_a_port() {
        let parsed = |text| {
            ProxyTarget::parse(text)
                .map(|it| (it.scheme, it.name, it.port))
                .ok()
        };
        assert_eq!(parsed("web"), Some((Scheme::Http, "web", None)));
        assert_eq!(parsed("web:80"), Some((Scheme::Http, "web", Some("80"))));
        assert_eq!(
            parsed("http:web:80"),
            Some((Scheme::Http, "web", Some("80")))
        );
        assert_eq!(parsed("https:web:"), Some((Scheme::Https, "web", None)));
        assert_eq!(parsed(":web:80"), Some((Scheme::Http, "web", Some("80"))));
        assert_eq!(parsed("ftp:web:80"), None);
        assert_eq!(parsed(""), None);
    }
}
