//! `direct`: the control. The same client in a pod, which costs nothing to get in.

use async_trait::async_trait;
use inroads_harness::ids::MethodId;
use inroads_harness::method::{
    Capability, Connection, Invitation, Manifest, Method, MethodError, Part, Vantage,
};
use inroads_harness::scenario::Target;
use inroads_harness::stage::Stage;

/// The method.
pub(crate) struct Direct;

#[async_trait]
impl Method for Direct {
    fn id(&self) -> MethodId {
        MethodId::of("direct")
    }

    fn title(&self) -> &'static str {
        "in the cluster"
    }

    fn summary(&self) -> &'static str {
        "the control: the same client in a pod, with no way in at all"
    }

    fn needs(&self) -> &'static [&'static str] {
        &["cluster: create a Deployment, port-forward to its pod"]
    }

    fn exposes(&self) -> &'static [Capability] {
        &[
            Capability::Tcp,
            Capability::HalfClose,
            Capability::Udp,
            Capability::Icmp,
            Capability::Dns,
            Capability::Resolver,
            Capability::PodIp,
            Capability::ClusterIp,
        ]
    }

    fn limit(&self, _capability: Capability) -> &'static str {
        "a pod has all of the cluster's network"
    }

    fn vantage(&self) -> Vantage {
        Vantage::Pod
    }

    fn parts(&self) -> &'static [Part] {
        &[]
    }

    fn manifests(&self) -> &'static [Manifest] {
        &[Manifest {
            file: "direct.yaml",
            yaml: include_str!("../manifests/direct.yaml"),
        }]
    }

    async fn deploy(&self, stage: &Stage) -> Result<(), MethodError> {
        stage.deploy(self.manifests()).await?;
        if stage.laptops > 1 {
            stage.scale("direct", stage.laptops).await?;
        }
        Ok(())
    }

    async fn invite(
        &self,
        _stage: &Stage,
        _targets: &[Target],
        _laptop: usize,
    ) -> Result<Invitation, MethodError> {
        Err(no_laptop())
    }

    async fn connect(&self, _invitation: Invitation) -> Result<Box<dyn Connection>, MethodError> {
        Err(no_laptop())
    }
}

fn no_laptop() -> MethodError {
    MethodError::Refused {
        reason: "`direct` has no laptop: its client is in a pod".to_owned(),
        hint: "choose another method, or `kubectl exec` into the pod".to_owned(),
    }
}
