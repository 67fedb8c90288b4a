//! The control plane's process: the API server with its controllers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use inroads_harness::access::Secret;
use serde::{Deserialize, Serialize};

use crate::process::ExitStatus;

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

/// Runs the control plane that the file `spec` describes.
pub(crate) fn run(_spec: &Path) -> ExitStatus {
    ExitStatus::FAILURE
}
