//! Putting plain manifests into a cluster, waiting until they are ready, and taking them out again.

mod applier;

use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::config::AuthInfo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tower::{BoxError, ServiceBuilder};

use crate::access::Secret;
pub use applier::Applier;
pub(crate) use applier::kinds;

/// The label that says who manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Who we are to server-side apply, and in that label.
pub const MANAGER: &str = "inroads";

/// The label that carries the id of the run an object belongs to.
pub const RUN_LABEL: &str = "inroads.dev/run";

/// The namespace that manifest files name, so that they can be applied by hand as they are. Objects outside
/// of it have names that begin with it and a dash.
pub const MANIFEST_NAMESPACE: &str = "inroads";

/// A client of the API server at the URL `api` that trusts the authority `ca` (PEM) alone and shows `token`.
///
/// # Errors
/// [`KubernetesError::Client`] where `api` is no URL, or `ca` no certificate.
pub fn client(
    api: &str,
    ca: &str,
    token: &Secret<String>,
) -> Result<kube::Client, KubernetesError> {
    let mut config = kube::Config::new(api.parse().map_err(KubernetesError::client)?);
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(ca.as_bytes()).collect();
    let roots = roots.map_err(KubernetesError::client)?;
    config.root_cert = Some(roots.iter().map(|root| root.to_vec()).collect());
    config.auth_info = AuthInfo {
        token: Some(token.expose().clone().into()),
        ..AuthInfo::default()
    };
    client_of(config)
}

/// A client as `config` has it.
///
/// # Errors
/// [`KubernetesError::Client`] where its certificates or credentials cannot be used.
pub fn client_of(config: kube::Config) -> Result<kube::Client, KubernetesError> {
    if config.proxy_url.is_some() {
        return kube::Client::try_from(config).map_err(KubernetesError::client);
    }
    let http = https_without_delay(&config)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(KubernetesError::client)?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

/// What `kube` makes by itself, but with `TCP_NODELAY`: without it a forwarded request of two small segments
/// waits 40 ms for a delayed acknowledgement. Go's clients, `kubectl` among them, always set it.
fn https_without_delay(
    config: &kube::Config,
) -> Result<hyper_util::client::legacy::Client<impl Connect + Clone + use<>, Body>, KubernetesError>
{
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = config
        .rustls_https_connector_with_connector(tcp)
        .map_err(KubernetesError::client)?;
    Ok(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(tls))
}

/// Reads the documents of a manifest file.
///
/// # Errors
/// [`KubernetesError::Manifest`], naming the file and the document.
pub fn documents(file: &str, yaml: &str) -> Result<Vec<Value>, KubernetesError> {
    let broken = |document: usize, reason: String| KubernetesError::Manifest {
        file: file.to_owned(),
        document,
        reason,
    };
    yaml.split("\n---")
        .enumerate()
        .map(|(index, text)| {
            serde_saphyr::from_str::<Option<Value>>(text).map_err(|e| broken(index, e.to_string()))
        })
        .filter_map(|parsed| match parsed {
            Ok(None | Some(Value::Null)) => None,
            Ok(Some(value)) => Some(Ok(value)),
            Err(error) => Some(Err(error)),
        })
        .collect()
}

/// The API could not be used, or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// A manifest is not what it should be.
    #[error("`{file}`, document {document}: {reason}")]
    Manifest {
        /// The file.
        file: String,
        /// Which document of it, from 0.
        document: usize,
        /// What is wrong.
        reason: String,
    },
    /// A client could not be made.
    #[error("making a client of the API server")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A call failed.
    #[error("{doing} {kind} `{name}` failed")]
    Call {
        /// `applying`, `reading`, …
        doing: &'static str,
        /// The kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What the API said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An object did not become ready.
    #[error("{what} was not ready within {limit_s} s: {said}")]
    NotReady {
        /// The object.
        what: String,
        /// The limit, in seconds.
        limit_s: u64,
        /// What its pods and events say.
        said: String,
    },
    /// An object did not go away.
    #[error(
        "{what} was not gone {limit_s} s after it was deleted{held}\n(hint: `kubectl get {what} -o yaml` shows the finalizer that holds it)"
    )]
    NotGone {
        /// The object.
        what: String,
        /// The limit, in seconds.
        limit_s: u64,
        /// What holds it, as the API server has it: empty, or with a colon before it.
        held: String,
    },
    /// The API server is gone, and so nothing can be taken down.
    #[error(
        "the API server does not answer: namespace `{namespace}` and all of the run in it are left\n(hint: `inroads clean --cluster context` removes them once it is there again)"
    )]
    Silent {
        /// The run's namespace.
        namespace: String,
    },
    /// The namespace belongs to somebody else.
    #[error("namespace `{0}` exists and is not ours\n(hint: choose another with `--namespace`)")]
    ForeignNamespace(String),
}

impl KubernetesError {
    fn client(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Client(error.into())
    }

    /// For `map_err`: which call failed.
    pub fn call(
        doing: &'static str,
        kind: &str,
        name: &str,
    ) -> impl FnOnce(kube::Error) -> Self + use<> {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        move |source| Self::Call {
            doing,
            kind,
            name,
            source: in_few_words(source),
        }
    }
}

/// What the API said. The client's own text repeats it three times, with every field of it.
fn in_few_words(error: kube::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code).into(),
        other => other.into(),
    }
}

/// Whether the API said that there is no such object.
#[must_use]
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether the API said that we may not.
#[must_use]
pub fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_of_a_file_is_read_and_empty_ones_are_not() {
        let read = documents("x.yaml", "# only a comment\n---\nkind: A\n---\nkind: B\n").unwrap();
        assert_eq!(
            read.iter()
                .map(|d| d["kind"].as_str().unwrap())
                .collect::<Vec<_>>(),
            ["A", "B"]
        );
    }

    #[test]
    fn a_broken_document_is_named() {
        let error = documents("x.yaml", "kind: A\n---\nkind: [\n")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("`x.yaml`, document 1"), "{error}");
    }
}
