//! The control plane's process: the API server with its controllers.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::Path;

use inroads_harness::access::Secret;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::apiserver::{self, FixedTokens, ServiceNetwork};
use crate::pki::{Identity, Trust};
use crate::process::ExitStatus;
use crate::spec::addresses;

/// What the control plane is told when it starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ControlPlaneSpec {
    /// Where it listens on the LAN.
    pub(crate) listen: SocketAddr,
    /// The certificate authority, PEM.
    pub(crate) ca: String,
    /// The API server's certificate and key, PEM.
    pub(crate) certificate: String,
    /// See `certificate`.
    pub(crate) key: Secret<String>,
    /// The token of the administrator.
    pub(crate) admin_token: Secret<String>,
    /// The tokens of the nodes, by name.
    pub(crate) node_tokens: BTreeMap<String, Secret<String>>,
    /// The token that kubelets want to see.
    pub(crate) kubelet_token: Secret<String>,
}

/// Runs the control plane that the file `spec` describes, in the network namespace that this process was
/// started in. Its standard input is a listener on the loopback of the machine outside.
pub(crate) fn run(spec: &Path) -> ExitStatus {
    match try_run(spec) {
        Ok(()) => ExitStatus::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "control plane: {error}");
            ExitStatus::FAILURE
        }
    }
}

fn try_run(spec: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let spec: ControlPlaneSpec = serde_json::from_slice(&std::fs::read(spec)?)?;
    let outside = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let config = apiserver::Config {
        listeners: vec![TcpListener::bind(spec.listen)?, outside],
        identity: Identity::from_pem(&spec.certificate, spec.key.expose()),
        trust: Trust::from_pem(&spec.ca)?,
        tokens: FixedTokens {
            admin: spec.admin_token,
            nodes: spec.node_tokens,
            kubelet: spec.kubelet_token,
        },
        network: ServiceNetwork {
            cidr: addresses::SERVICES,
            api_server: addresses::API_SERVICE,
            cluster_dns: addresses::DNS,
            ..ServiceNetwork::default()
        },
        advertise: spec.listen,
        version: apiserver::VERSION.to_owned(),
        mount_service_account_tokens: true,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    Ok(runtime.block_on(apiserver::run(config, CancellationToken::new()))?)
}
