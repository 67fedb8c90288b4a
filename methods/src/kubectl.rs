//! The real `kubectl`, as a peer of `forward`: what its `port-forward` and its `proxy` make of the same way.
//!
//! Both are started on the laptop as a user would start them, and act as a ServiceAccount with the rights
//! that ours has. A kubectl that ends by itself is started again at once, by a supervisor that is quicker than
//! any user, and each time is counted: `port-forward` ends with the first connection that a pod refuses, and
//! without that nothing could be measured after the probe that asks for a refusal.

mod keeper;
mod kubeconfig;
mod leash;
mod port_forward;
mod process;
mod proxy;
mod said;

use async_trait::async_trait;
use inroads_harness::access::Access;
use inroads_harness::method::{Connection, Interruptions, LaptopNetwork, MethodError};
use inroads_harness::run::{Component, Provenance};
use serde_json::Value;

use keeper::Keeper;
pub(crate) use leash::ROLE as LEASH;
pub(crate) use port_forward::PortForward;
pub(crate) use proxy::Proxy;

/// The program.
const PROGRAM: &str = "kubectl";

/// Refuses where the laptop has no kubectl.
fn preflight(laptop: &LaptopNetwork) -> Result<(), MethodError> {
    if laptop.programs.iter().any(|program| program == PROGRAM) {
        return Ok(());
    }
    Err(MethodError::Refused {
        reason: format!("there is no `{PROGRAM}` on the laptop's PATH"),
        hint: "install it: Debian and Ubuntu have it in the package `kubernetes-client`, newer ones are at \
               https://kubernetes.io/docs/tasks/tools/"
            .to_owned(),
    })
}

/// A laptop that kubectls connect.
struct Connected {
    access: Access,
    component: Component,
    keeper: Keeper,
}

#[async_trait]
impl Connection for Connected {
    fn accesses(&self) -> Vec<Access> {
        vec![self.access.clone()]
    }

    fn components(&self) -> Vec<Component> {
        vec![self.component.clone()]
    }

    async fn interruptions(&self) -> Interruptions {
        self.keeper.interruptions().await
    }

    async fn close(self: Box<Self>) -> Result<(), MethodError> {
        self.keeper.close().await;
        Ok(())
    }
}

/// Which kubectl it is, as it says itself.
async fn component() -> Result<Component, MethodError> {
    const DOING: &str = "asking `kubectl version --client`";
    let asked = process::ask(&["version", "--client", "--output", "json"]).await;
    let output = asked.map_err(MethodError::while_doing(DOING))?;
    let version: Value =
        serde_json::from_slice(&output).map_err(MethodError::while_doing(DOING))?;
    let version = version["clientVersion"]["gitVersion"].as_str();
    Ok(Component {
        name: PROGRAM.to_owned(),
        version: version.unwrap_or("of no known version").to_owned(),
        provenance: Provenance::Real,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_kubectl_the_next_step_is_named() {
        let error = preflight(&LaptopNetwork::default()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no `kubectl`"), "{text}");
        assert!(text.contains("`kubernetes-client`"), "{text}");
        let laptop = LaptopNetwork {
            programs: vec!["kubectl".to_owned()],
            ..LaptopNetwork::default()
        };
        assert!(preflight(&laptop).is_ok());
    }
}
