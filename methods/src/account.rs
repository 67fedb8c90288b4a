//! Acting on the cluster as a ServiceAccount: what a laptop is told by methods that go through the API server.

use inroads_harness::access::Secret;
use inroads_harness::kubernetes::KubernetesError;
use inroads_harness::method::{Invitation, MethodError};
use inroads_harness::scenario::{Object, Target};
use inroads_harness::stage::Stage;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use serde::{Deserialize, Serialize};

/// How long a token is good for, in seconds: longer than any run.
const TOKEN_SECONDS: i64 = 6 * 3600;

/// What a laptop is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) api_server: String,
    pub(crate) ca: String,
    pub(crate) token: Secret<String>,
    pub(crate) namespace: String,
    pub(crate) targets: Vec<Target>,
}

/// Makes a token of `account` and tells all that goes with it.
pub(crate) async fn invite(
    stage: &Stage,
    account: &str,
    targets: &[Target],
) -> Result<Invitation, MethodError> {
    let accounts: Api<ServiceAccount> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let made = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .map_err(KubernetesError::call(
            "making a token of",
            "serviceaccount",
            account,
        ))?;
    Ok(Invitation::pack(&Told {
        api_server: stage.facts.api_server.clone(),
        ca: stage.facts.api_server_ca.clone(),
        token: Secret::new(
            made.status
                .and_then(|status| status.token)
                .unwrap_or_default(),
        ),
        namespace: stage.namespace.clone(),
        targets: targets.to_vec(),
    }))
}

/// The same without the token: a client that nobody knows.
pub(crate) fn without_token(invitation: &Invitation) -> Result<Invitation, MethodError> {
    let told: Told = invitation.unpack()?;
    Ok(Invitation::pack(&Told {
        token: Secret::new(String::new()),
        ..told
    }))
}

/// The kinds of object that can be a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A Service.
    Service,
    /// A pod.
    Pod,
}

/// A target's object: its kind, namespace and name. `namespace` is the run's.
pub(crate) fn found_at<'a>(target: &'a Target, namespace: &'a str) -> (Kind, &'a str, &'a str) {
    match &target.object {
        Object::Service(name) => (Kind::Service, namespace, name),
        Object::ClusterDns => (Kind::Service, "kube-system", "kube-dns"),
        Object::Pod(name) => (Kind::Pod, namespace, name),
    }
}
