//! The kubeconfig of a lab.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::spec::Ready;

/// A kubeconfig with which `kubectl` has all rights on the lab `name`, from this machine.
pub(super) fn kubeconfig(name: &str, ready: &Ready) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: {name}\n\
         clusters:\n\
         - name: {name}\n\
         \x20 cluster:\n\
         \x20   server: https://{api}\n\
         \x20   certificate-authority-data: {ca}\n\
         contexts:\n\
         - name: {name}\n\
         \x20 context:\n\
         \x20   cluster: {name}\n\
         \x20   user: {name}-admin\n\
         users:\n\
         - name: {name}-admin\n\
         \x20 user:\n\
         \x20   token: {token}\n",
        api = ready.api,
        ca = BASE64.encode(&ready.ca),
        token = ready.admin_token.expose(),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use inroads_harness::access::Secret;

    use super::*;

    #[test]
    fn kube_can_read_it() {
        let ready = Ready {
            api: "127.0.0.1:1234".parse().unwrap(),
            ca: "PEM".to_owned(),
            admin_token: Secret::new("secret".to_owned()),
            kubernetes: String::new(),
            hosts: BTreeMap::new(),
            ready_ms: 0,
        };
        let read = kube::config::Kubeconfig::from_yaml(&kubeconfig("lab", &ready)).unwrap();
        assert_eq!(read.current_context.as_deref(), Some("lab"));
        let server = read.clusters[0].cluster.as_ref().unwrap().server.as_deref();
        assert_eq!(server, Some("https://127.0.0.1:1234"));
    }
}
