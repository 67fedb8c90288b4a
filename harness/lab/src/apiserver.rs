//! The lab's Kubernetes API server.
//!
//! It serves the Kubernetes API over TLS from objects in memory: good enough that everything is deployed
//! through it, by our own harness and by `kubectl`. Its parts, from the outside in: `server` (connections),
//! `handle` (requests), `rbac` and `tokens` (who may), `rest` (the API's rules), `kinds` (what each kind
//! means), `store` (the objects). The controllers act on the same `rest`: see `crate::controllers`.
//!
//! What it is not: durable, replicated, or able to serve a kind that is not in its `registry`.

mod admission;
mod bootstrap;
mod discovery;
pub(crate) mod duration;
mod field;
mod handle;
pub(crate) mod kinds;
mod managed;
pub(crate) mod object;
mod openapi;
pub(crate) mod patch;
mod proxy;
pub(crate) mod quantity;
mod rbac;
mod receive;
pub(crate) mod registry;
mod respond;
pub(crate) mod rest;
mod reviews;
mod route;
pub(crate) mod schema;
pub(crate) mod selector;
mod server;
pub(crate) mod status;
pub(crate) mod store;
mod syntax;
mod table;
mod tokens;
mod user;
mod watch;
pub(crate) mod words;

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
};

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::pki::{self, Identity, Trust};
use proxy::kubelet::Kubelets;
use rest::Rest;
use server::Server;
use tokens::Tokens;

pub use admission::ServiceNetwork;
pub use tokens::FixedTokens;
pub(crate) use tokens::fresh_token;

/// The version that the API server says it is, unless told otherwise.
pub const VERSION: &str = "v1.33.0-inroads-lab";

/// What an API server needs to run.
#[derive(Debug)]
pub struct Config {
    /// Bound and listening; they may be in other network namespaces.
    pub listeners: Vec<StdListener>,
    /// The certificate and key that it shows.
    pub identity: Identity,
    /// The authority that kubelets' certificates must be from; pods are given it as `kube-root-ca.crt`.
    pub trust: Trust,
    pub tokens: FixedTokens,
    pub network: ServiceNetwork,
    /// Where the Service `kubernetes` leads: an address of this server that pods can reach.
    pub advertise: SocketAddr,
    /// As `/version` tells it, such as [`VERSION`].
    pub version: String,
    /// Whether pods are given a volume with their service account's token, as in a real cluster. The
    /// kubelet must then be able to mount projected volumes.
    pub mount_service_account_tokens: bool,
}

/// Why an API server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("set up the API server's certificates")]
    Pki(#[from] pki::Error),
    #[error("take over a listening socket")]
    Listener(#[source] std::io::Error),
    #[error("create the cluster's first objects: {message}")]
    Bootstrap { message: String },
}

/// Serves the API and runs the controllers until `stop` is cancelled.
///
/// # Errors
/// Before it accepts the first connection: a certificate or a listener that cannot be used.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let rest = Arc::new(Rest::new(
        config.network.clone(),
        config.mount_service_account_tokens,
    ));
    let failed = |status: status::Status| Error::Bootstrap {
        message: status.message,
    };
    bootstrap::create(&rest, &config.network, config.advertise).map_err(failed)?;

    let tunnels = proxy::Tunnels {
        stop: stop.clone(),
        ..Default::default()
    };
    let tls = config.trust.client_config()?;
    let kubelets = Kubelets::new(tls, config.tokens.kubelet.clone(), tunnels.clone());
    let acceptor = TlsAcceptor::from(config.identity.server_config(&["h2", "http/1.1"])?);
    let listeners = config
        .listeners
        .into_iter()
        .map(adopt)
        .collect::<Result<_, _>>()?;
    let server = Arc::new(Server {
        rest: Arc::clone(&rest),
        tokens: Tokens::new(&config.tokens),
        kubelets,
        version: config.version,
        advertise: config.advertise,
        stop: stop.clone(),
    });
    let controllers = crate::controllers::run(rest, config.trust.pem().to_owned(), stop);
    tokio::join!(server::serve(server, listeners, acceptor), controllers);
    tunnels.tasks.close();
    tunnels.tasks.wait().await;
    Ok(())
}

fn adopt(listener: StdListener) -> Result<TcpListener, Error> {
    listener.set_nonblocking(true).map_err(Error::Listener)?;
    TcpListener::from_std(listener).map_err(Error::Listener)
}
