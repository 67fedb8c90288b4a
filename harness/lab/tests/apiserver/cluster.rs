//! A running API server with one node, and clients for it.

use std::{net::TcpListener, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use inroads_harness::access::Secret;
use inroads_lab::{
    apiserver::{Config, FixedTokens, ServiceNetwork, VERSION, run},
    pki::{Authority, Trust},
};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    Api, Client,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::kubelet::Kubelet;

pub(crate) const NODE: &str = "worker-1";
const ADMIN: &str = "admin-token";
const NODE_TOKEN: &str = "node-token";
/// Longer than anything here takes, so that a defect is a failure and not a test that never ends.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) server: String,
    certificate: String,
    trust: Trust,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    _kubelet: Kubelet,
}

impl Cluster {
    /// An API server, and a node that is ready.
    pub(crate) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = Authority::new("inroads-lab-test").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let config = Config {
            listeners: vec![listener],
            identity: authority.issue_api_server([]).unwrap(),
            trust: authority.trust().clone(),
            tokens: FixedTokens {
                admin: Secret::new(ADMIN.to_owned()),
                nodes: [(NODE.to_owned(), Secret::new(NODE_TOKEN.to_owned()))].into(),
                kubelet: Secret::new(crate::kubelet::TOKEN.to_owned()),
            },
            network: ServiceNetwork::default(),
            advertise: "192.0.2.1:6443".parse().unwrap(),
            version: VERSION.to_owned(),
            mount_service_account_tokens: true,
        };
        let stop = CancellationToken::new();
        let running = run(config, stop.clone());
        let task = tokio::spawn(async move { running.await.unwrap() });

        let server = format!("https://{address}");
        let certificate = STANDARD.encode(authority.trust().pem());
        let client = client(&server, &certificate, ADMIN).await;
        let as_node = self::client(&server, &certificate, NODE_TOKEN).await;
        let kubelet = Kubelet::start(&authority, as_node).await;
        let trust = authority.trust().clone();
        Self {
            client,
            server,
            certificate,
            trust,
            stop,
            task: Some(task),
            _kubelet: kubelet,
        }
    }

    /// A client without credentials.
    pub(crate) async fn anonymous(&self) -> Client {
        let mut config = kubeconfig(&self.server, &self.certificate, "");
        config["users"][0]["user"] = json!({});
        connect(config).await
    }

    pub(crate) async fn client_with(&self, token: &str) -> Client {
        client(&self.server, &self.certificate, token).await
    }

    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The kubeconfig of the administrator, for `kubectl`.
    pub(crate) fn kubeconfig(&self) -> String {
        kubeconfig(&self.server, &self.certificate, ADMIN).to_string()
    }

    /// Waits until the namespace `default` can be deployed to.
    pub(crate) async fn ready(&self) {
        let accounts: Api<ServiceAccount> = Api::default_namespaced(self.client.clone());
        let there = await_condition(accounts, "default", |account: Option<&ServiceAccount>| {
            account.is_some()
        });
        soon(there).await.unwrap();
    }

    /// Stops the server and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let task = self.task.take().unwrap();
        soon(task).await.unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What must come, comes soon.
pub(crate) fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let boxed = Box::pin(future);
    async { timeout(PATIENCE, boxed).await.expect("it took too long") }
}

async fn client(server: &str, certificate: &str, token: &str) -> Client {
    connect(kubeconfig(server, certificate, token)).await
}

async fn connect(config: Value) -> Client {
    let config: Kubeconfig = serde_json::from_value(config).unwrap();
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(config, &options)
        .await
        .unwrap();
    // Answers are looked at as they are; by default a 503 would be asked for again and again.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

fn kubeconfig(server: &str, certificate: &str, token: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{
            "name": "lab",
            "cluster": {"server": server, "certificate-authority-data": certificate},
        }],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "user"}}],
    })
}
