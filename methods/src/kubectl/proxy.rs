//! `forward:kubectl-proxy`: one `kubectl proxy`, a web server that passes requests on to Services and pods by
//! the API server's `proxy` subresources. It carries HTTP, and nothing else.

use async_trait::async_trait;
use inroads_harness::access::{Access, PrefixMap};
use inroads_harness::ids::MethodId;
use inroads_harness::method::{
    Capability, Connection, Invitation, LaptopNetwork, Manifest, Method, MethodError, Part,
};
use inroads_harness::scenario::Target;
use inroads_harness::stage::Stage;

use super::keeper::Keeper;
use super::kubeconfig::Kubeconfig;
use super::process::Job;
use super::{Connected, PROGRAM, component, preflight};
use crate::account::{self, Kind, Told};

/// The ServiceAccount that the laptop acts as: one of its own, so that `forward` gets no more rights.
const ACCOUNT: &str = "kubectl-proxy";

/// The method.
pub(crate) struct Proxy;

#[async_trait]
impl Method for Proxy {
    fn id(&self) -> MethodId {
        MethodId::of("forward:kubectl-proxy")
    }

    fn title(&self) -> &'static str {
        "kubectl proxy"
    }

    fn summary(&self) -> &'static str {
        "the real kubectl: one `kubectl proxy`, HTTP by paths of the API server"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[
            "laptop: kubectl",
            "cluster: get and create on services/proxy and pods/proxy",
            "network: the API server reachable from the laptop",
            "clients: HTTP, with a path before their own and the proxy's address",
        ]
    }

    fn exposes(&self) -> &'static [Capability] {
        &[Capability::Http]
    }

    fn limit(&self, capability: Capability) -> &'static str {
        match capability {
            Capability::Http => "kubectl proxy carries it",
            Capability::Dns | Capability::Resolver => {
                "names stay unknown to the laptop: each target has a path instead"
            }
            Capability::PodIp | Capability::ClusterIp => {
                "only targets that were named in advance have a path"
            }
            Capability::Tcp | Capability::HalfClose | Capability::Udp | Capability::Icmp => {
                "kubectl proxy carries HTTP/1.1 requests only"
            }
        }
    }

    fn peer(&self) -> Option<&'static str> {
        Some(PROGRAM)
    }

    fn programs(&self) -> &'static [&'static str] {
        &[PROGRAM]
    }

    fn parts(&self) -> &'static [Part] {
        &[Part::ApiServer]
    }

    fn manifests(&self) -> &'static [Manifest] {
        &[Manifest {
            file: "kubectl-proxy.yaml",
            yaml: include_str!("../../manifests/kubectl-proxy.yaml"),
        }]
    }

    fn preflight(&self, _stage: &Stage, laptop: &LaptopNetwork) -> Result<(), MethodError> {
        preflight(laptop)
    }

    async fn invite(
        &self,
        stage: &Stage,
        targets: &[Target],
        _laptop: usize,
    ) -> Result<Invitation, MethodError> {
        account::invite(stage, ACCOUNT, targets).await
    }

    fn without_credential(&self, invitation: Invitation) -> Result<Invitation, MethodError> {
        account::without_token(&invitation)
    }

    async fn connect(&self, invitation: Invitation) -> Result<Box<dyn Connection>, MethodError> {
        let told: Told = invitation.unpack()?;
        let component = component().await?;
        let kubeconfig = Kubeconfig::of(&told)?;
        let started = Keeper::start(kubeconfig, vec![Job::Proxy]).await;
        let (keeper, locals) =
            started.map_err(MethodError::while_doing("starting kubectl proxy"))?;
        let server = locals.into_iter().flatten().next();
        let server = server
            .ok_or("it does not say where it listens")
            .map_err(MethodError::while_doing("starting kubectl proxy"))?;
        let mut prefixes = PrefixMap::default();
        for target in &told.targets {
            for host in &target.hosts {
                prefixes.insert(host, target.port, prefix(target, &told.namespace));
            }
        }
        Ok(Box::new(Connected {
            access: Access::UrlPrefix { server, prefixes },
            component,
            keeper,
        }))
    }
}

/// The path of a target's `proxy` subresource.
fn prefix(target: &Target, namespace: &str) -> String {
    let (kind, namespace, name) = account::found_at(target, namespace);
    let resource = match kind {
        Kind::Service => "services",
        Kind::Pod => "pods",
    };
    let port = target.port;
    format!("/api/v1/namespaces/{namespace}/{resource}/{name}:{port}/proxy")
}

#[cfg(test)]
mod tests {
    use inroads_harness::scenario::Object;

    use super::*;

    #[test]
    fn a_path_names_the_object_and_its_port() {
        let target = |object| Target {
            object,
            hosts: Vec::new(),
            port: 8080,
        };
        assert_eq!(
            prefix(&target(Object::Pod("web-0".to_owned())), "inroads"),
            "/api/v1/namespaces/inroads/pods/web-0:8080/proxy"
        );
        assert_eq!(
            prefix(&target(Object::Service("web".to_owned())), "inroads"),
            "/api/v1/namespaces/inroads/services/web:8080/proxy"
        );
    }
}
