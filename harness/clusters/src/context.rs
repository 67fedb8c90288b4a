//! Clusters that a kubeconfig names, by the rules that kubectl has.

use std::net::IpAddr;
use std::path::Path;

use inroads_harness::cluster::ClusterError;
use inroads_harness::kubernetes;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::docker::missing;

/// Words in a name by which a cluster says that it is there to be tried with.
const TEST_WORDS: &[&str] = &[
    "kind",
    "k3d",
    "minikube",
    "docker-desktop",
    "rancher-desktop",
    "colima",
    "microk8s",
    "orbstack",
    "lab",
    "test",
    "testing",
    "dev",
    "develop",
    "sandbox",
    "playground",
    "ci",
    "e2e",
    "staging",
    "inroads",
];

/// A cluster that a kubeconfig names.
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) client: kube::Client,
    /// The server's URL, as the kubeconfig has it.
    pub(crate) server: String,
    /// Whom it is trusted by, PEM; empty where the system's authorities are.
    pub(crate) ca: String,
}

impl Context {
    /// Reads the context `name`, or the current one, of `file`, or of what `KUBECONFIG` names, or of
    /// `~/.kube/config`.
    ///
    /// # Errors
    /// Where there is none of that name, with those that there are.
    pub(crate) async fn read(
        name: Option<&str>,
        file: Option<&Path>,
    ) -> Result<Self, ClusterError> {
        let kubeconfig = match file {
            Some(file) => Kubeconfig::read_from(file),
            None => Kubeconfig::read(),
        };
        let kubeconfig = kubeconfig.map_err(|error| {
            missing(
                &format!("no kubeconfig can be read: {error}"),
                "name one with `--kubeconfig` or KUBECONFIG",
            )
        })?;
        let known: Vec<String> = kubeconfig
            .contexts
            .iter()
            .map(|context| context.name.clone())
            .collect();
        let current = kubeconfig
            .current_context
            .clone()
            .filter(|name| !name.is_empty());
        let name = name
            .map(ToOwned::to_owned)
            .or(current)
            .ok_or_else(|| missing("the kubeconfig has no current context", &there_are(&known)))?;
        if !known.contains(&name) {
            return Err(missing(
                &format!("the kubeconfig has no context `{name}`"),
                &there_are(&known),
            ));
        }
        let options = KubeConfigOptions {
            context: Some(name.clone()),
            ..KubeConfigOptions::default()
        };
        let doing = || ClusterError::while_doing(format!("using the context `{name}`"));
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(doing())?;
        let server = config
            .cluster_url
            .to_string()
            .trim_end_matches('/')
            .to_owned();
        let ca = config
            .root_cert
            .iter()
            .flatten()
            .map(|der| pem(der))
            .collect();
        let client = kubernetes::client_of(config)?;
        Ok(Self {
            name,
            client,
            server,
            ca,
        })
    }

    /// Its name and server.
    pub(crate) fn title(&self) -> String {
        format!("`{}` ({})", self.name, self.server)
    }

    /// Whether it looks like a cluster that is there to be tried with. An article on these methods ends with
    /// the warning that they open production to whole offices.
    pub(crate) fn looks_like_a_test(&self) -> bool {
        looks_like_a_test(&self.name)
            || host_of(&self.server).is_some_and(|host| host.is_loopback())
    }

    /// Whether other hosts cannot reach the server by its URL.
    pub(crate) fn is_on_loopback(&self) -> bool {
        host_of(&self.server).is_some_and(|host| host.is_loopback())
            || self.server.contains("://localhost")
    }
}

fn looks_like_a_test(name: &str) -> bool {
    name.to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| TEST_WORDS.contains(&word))
        || TEST_WORDS.contains(&name.to_lowercase().as_str())
}

fn host_of(url: &str) -> Option<IpAddr> {
    let uri: http::Uri = url.parse().ok()?;
    uri.host()?.trim_matches(['[', ']']).parse().ok()
}

fn there_are(known: &[String]) -> String {
    match known {
        [] => "it has none at all".to_owned(),
        known => format!("there are {}", known.join(", ")),
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_make_a_test_cluster() {
        for name in [
            "kind-inroads",
            "minikube",
            "team-a-dev",
            "ci_7",
            "docker-desktop",
        ] {
            assert!(looks_like_a_test(name), "{name}");
        }
        for name in [
            "production",
            "prod-eu",
            "latest",
            "devotion",
            "kindness",
            "arn:aws:eks:eu-1:1:cluster/shop",
        ] {
            assert!(!looks_like_a_test(name), "{name}");
        }
    }

    #[test]
    fn a_certificate_is_the_same_in_both_forms() {
        let text = pem(&[7; 100]);
        assert!(text.lines().all(|line| line.len() <= 64), "{text}");
        assert!(text.contains("BwcHBw"), "{text}");
    }
}
