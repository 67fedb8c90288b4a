//! `forward:kubectl`: one `kubectl port-forward` for each Service and pod.

use std::collections::BTreeMap;

use async_trait::async_trait;
use inroads_harness::access::{Access, AddressMap};
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
use crate::forward;

/// The method.
pub(crate) struct PortForward;

#[async_trait]
impl Method for PortForward {
    fn id(&self) -> MethodId {
        MethodId::of("forward:kubectl")
    }

    fn title(&self) -> &'static str {
        "kubectl port-forward"
    }

    fn summary(&self) -> &'static str {
        "the real kubectl: one `kubectl port-forward` for each Service and pod, started again when it ends"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[
            "laptop: kubectl",
            "cluster: get and create on pods/portforward, get on pods and services, list on pods",
            "network: the API server reachable from the laptop",
            "clients: the listener's address instead of the target's",
        ]
    }

    fn exposes(&self) -> &'static [Capability] {
        &[Capability::Tcp]
    }

    fn limit(&self, capability: Capability) -> &'static str {
        match capability {
            Capability::HalfClose => {
                "one second after either side has ended, the kubelet ends the other"
            }
            other => forward::Forward.limit(other),
        }
    }

    fn peer(&self) -> Option<&'static str> {
        Some(PROGRAM)
    }

    fn programs(&self) -> &'static [&'static str] {
        &[PROGRAM]
    }

    fn parts(&self) -> &'static [Part] {
        &[Part::ApiServer, Part::Kubelets]
    }

    fn manifests(&self) -> &'static [Manifest] {
        forward::MANIFESTS
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
        account::invite(stage, forward::ACCOUNT, targets).await
    }

    fn without_credential(&self, invitation: Invitation) -> Result<Invitation, MethodError> {
        account::without_token(&invitation)
    }

    async fn connect(&self, invitation: Invitation) -> Result<Box<dyn Connection>, MethodError> {
        let told: Told = invitation.unpack()?;
        let component = component().await?;
        let kubeconfig = Kubeconfig::of(&told)?;
        let asked = by_object(&told);
        let jobs = asked.iter().map(|((kind, namespace, name), targets)| {
            let kind = match kind {
                Kind::Service => "service",
                Kind::Pod => "pod",
            };
            Job::PortForward {
                namespace: (*namespace).to_owned(),
                object: format!("{kind}/{name}"),
                ports: targets.keys().copied().collect(),
            }
        });
        let started = Keeper::start(kubeconfig, jobs.collect()).await;
        let (keeper, locals) =
            started.map_err(MethodError::while_doing("starting kubectl port-forward"))?;
        let mut map = AddressMap::default();
        for (targets, locals) in asked.values().zip(locals) {
            for ((port, hosts), local) in targets.iter().zip(locals) {
                for host in hosts {
                    map.insert(host, *port, local);
                }
            }
        }
        Ok(Box::new(Connected {
            access: Access::Rewritten(map),
            component,
            keeper,
        }))
    }
}

/// The objects of the targets, and of each its ports with the hosts that stand for them.
type ByObject<'a> = BTreeMap<(Kind, &'a str, &'a str), BTreeMap<u16, Vec<&'a str>>>;

fn by_object(told: &Told) -> ByObject<'_> {
    let mut objects = ByObject::new();
    for target in &told.targets {
        let object = account::found_at(target, &told.namespace);
        let hosts = objects.entry(object).or_default().entry(target.port);
        hosts
            .or_default()
            .extend(target.hosts.iter().map(String::as_str));
    }
    objects
}

#[cfg(test)]
mod tests {
    use inroads_harness::access::Secret;
    use inroads_harness::scenario::Object;

    use super::*;

    #[test]
    fn each_object_is_forwarded_once_with_all_its_ports() {
        let target = |object: Object, host: &str, port| Target {
            object,
            hosts: vec![host.to_owned()],
            port,
        };
        let web = || Object::Service("web".to_owned());
        let told = Told {
            api_server: "https://192.0.2.1:6443".to_owned(),
            ca: String::new(),
            token: Secret::new(String::new()),
            namespace: "inroads".to_owned(),
            targets: vec![
                target(web(), "10.96.0.7", 7007),
                target(Object::Pod("web-0".to_owned()), "10.244.1.2", 80),
                target(web(), "10.96.0.7", 80),
                target(web(), "web.inroads", 80),
                target(Object::ClusterDns, "10.96.0.10", 53),
            ],
        };
        let objects = by_object(&told);
        assert_eq!(objects.len(), 3);
        let of_web = &objects[&(Kind::Service, "inroads", "web")];
        assert_eq!(of_web.keys().copied().collect::<Vec<_>>(), [80, 7007]);
        assert_eq!(of_web[&80], ["10.96.0.7", "web.inroads"]);
        let dns = (Kind::Service, "kube-system", "kube-dns");
        assert!(objects[&dns].contains_key(&53));
    }
}
