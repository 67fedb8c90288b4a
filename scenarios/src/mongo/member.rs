//! A pod of the replica set: the stand-in, set up for a StatefulSet.

use std::net::SocketAddr;

use clap::Parser;
use http::StatusCode;
use inroads_harness::dns::ResolvConf;
use inroads_harness::pages;
use inroads_harness::role::{Role, RoleError, RoleFuture};
use inroads_mongo_stand_in::{Config, Node};
use tokio::net::TcpListener;

/// The role of this module.
pub(crate) const ROLE: Role = Role {
    name: "mongo-stand-in",
    about: "a member of the mongo-replica-set scenario's set, which speaks MongoDB's protocol",
    run: |arguments| -> RoleFuture { Box::pin(run(arguments)) },
};

#[derive(Debug, Parser)]
#[command(name = "mongo-stand-in", no_binary_name = true)]
struct Arguments {
    /// Where to listen for clients and members.
    #[arg(long, default_value = "0.0.0.0:27017")]
    listen: SocketAddr,
    /// Where to say whether this member is ready, at `/readyz`.
    #[arg(long)]
    health: Option<SocketAddr>,
    /// The set's name.
    #[arg(long, default_value = "rs0")]
    set: String,
    /// How many members the set has: the first pods of the StatefulSet.
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// The headless Service of the StatefulSet.
    #[arg(long)]
    service: String,
    /// The namespace of both.
    #[arg(long)]
    namespace: String,
    /// The cluster's DNS domain. Where it is not given it is what the pod's own search path says.
    #[arg(long)]
    domain: Option<String>,
    /// This pod's name: the StatefulSet's, a dash and a number.
    #[arg(long)]
    pod: String,
}

async fn run(arguments: Vec<String>) -> Result<(), RoleError> {
    let arguments = Arguments::try_parse_from(arguments)?;
    let domain = match &arguments.domain {
        Some(domain) => domain.clone(),
        None => domain_of_pod(&arguments.namespace)?,
    };
    let (members, me) = names(&arguments, &domain)?;
    let node = Node::new(Config::new(&arguments.set, members, &me)?);
    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|error| format!("listening on {}: {error}", arguments.listen))?;
    if let Some(health) = arguments.health {
        let asked = node.clone();
        let pages = pages::listen(health).await?;
        tokio::spawn(pages::serve(pages, move |path| match path {
            "/readyz" if asked.has_joined() => pages::plain(StatusCode::OK, "ok\n"),
            "/readyz" => pages::plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "not a member of its set yet\n",
            ),
            _ => pages::not_found(),
        }));
    }
    node.serve(listener).await;
    Err("the member's own tasks ended".into())
}

/// The addresses of all members, and this one's.
fn names(arguments: &Arguments, domain: &str) -> Result<(Vec<String>, String), RoleError> {
    let Arguments {
        service,
        namespace,
        pod,
        listen,
        ..
    } = arguments;
    let (stateful_set, _) = pod
        .rsplit_once('-')
        .ok_or_else(|| format!("`{pod}` is no name of a StatefulSet's pod: it has no number"))?;
    let name = |pod: &str| format!("{pod}.{service}.{namespace}.svc.{domain}:{}", listen.port());
    let members = (0..arguments.members).map(|number| name(&format!("{stateful_set}-{number}")));
    Ok((members.collect(), name(pod)))
}

/// The cluster's domain, which a kubelet puts into the search path of pods (Kubernetes documentation, "DNS for
/// Services and Pods").
fn domain_of_pod(namespace: &str) -> Result<String, RoleError> {
    const FILE: &str = "/etc/resolv.conf";
    let text = std::fs::read_to_string(FILE).map_err(|error| format!("reading {FILE}: {error}"))?;
    domain_in(&text, namespace).ok_or_else(|| {
        format!("{FILE} searches no domain of `{namespace}`\n(hint: give it by --domain)").into()
    })
}

fn domain_in(resolv_conf: &str, namespace: &str) -> Option<String> {
    let beginning = format!("{namespace}.svc.");
    let searched = ResolvConf::parse(resolv_conf).search;
    let mut domains = searched.iter();
    domains.find_map(|domain| {
        let rest = domain.trim_end_matches('.').strip_prefix(&beginning)?;
        Some(rest.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_the_names_of_the_stateful_sets_pods() {
        let words = "--service=mongo --namespace=team --pod=mongo-2 --members=3";
        let arguments = Arguments::try_parse_from(words.split(' ')).unwrap();
        let (members, me) = names(&arguments, "cluster.local").unwrap();
        assert_eq!(members.len(), 3);
        assert_eq!(members[0], "mongo-0.mongo.team.svc.cluster.local:27017");
        assert_eq!(me, members[2]);
        let words = "--service=mongo --namespace=team --pod=mongo";
        let arguments = Arguments::try_parse_from(words.split(' ')).unwrap();
        assert!(names(&arguments, "cluster.local").is_err());
    }

    #[test]
    fn the_domain_is_what_the_pod_searches() {
        let text =
            "search team.svc.k8s.example svc.k8s.example k8s.example\nnameserver 10.96.0.10\n";
        assert_eq!(domain_in(text, "team").as_deref(), Some("k8s.example"));
        assert_eq!(domain_in(text, "other"), None);
    }
}
