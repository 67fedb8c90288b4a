//! The laptop's resolver while a method that routes is connected: the cluster's names are asked of the
//! cluster's DNS, everything else of whoever was asked before.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use inroads_harness::dns::{self, ResolvConf};
use inroads_harness::method::MethodError;
use inroads_harness::stage::Stage;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::laptop::{Changes, RESOLV_CONF};
use crate::split_dns::{Listen, SplitDns, SplitDnsConfig};

/// What a laptop must know of the cluster's names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClusterNames {
    domain: String,
    server: IpAddr,
    /// Networks whose addresses the cluster's DNS can name.
    reverse: Vec<IpNet>,
    /// Suffixes that short names are tried with.
    search: Vec<String>,
}

impl ClusterNames {
    /// Those of the cluster that `stage` stands in.
    pub(crate) fn of(stage: &Stage) -> Self {
        let facts = &stage.facts;
        let domain = facts.domain.clone();
        Self {
            search: vec![
                format!("{}.svc.{domain}", stage.namespace),
                format!("svc.{domain}"),
                domain.clone(),
            ],
            domain,
            server: facts.dns,
            reverse: vec![facts.service_cidr, facts.pod_cidr],
        }
    }
}

/// Where the laptop's own resolver answers: a loopback address that no common resolver takes.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77)), dns::PORT);

/// Starts a resolver on this laptop and points `/etc/resolv.conf` to it. Short names are tried in the
/// cluster's domains first, then in those of before.
pub(crate) async fn take_over(
    changes: &mut Changes,
    names: &ClusterNames,
) -> Result<SplitDns, MethodError> {
    let text = tokio::fs::read_to_string(RESOLV_CONF).await;
    let text = text.map_err(MethodError::while_doing(format!("reading `{RESOLV_CONF}`")))?;
    let before = ResolvConf::parse(&text);
    let resolver = SplitDns::start(SplitDnsConfig {
        listen: Listen::On(LISTEN),
        domains: vec![names.domain.clone()],
        networks: names.reverse.clone(),
        cluster: vec![SocketAddr::new(names.server, dns::PORT)],
        office: before
            .nameservers
            .iter()
            .map(|server| SocketAddr::new(*server, dns::PORT))
            .collect(),
    })
    .map_err(MethodError::while_doing("starting the laptop's resolver"))?;
    let after = ResolvConf {
        nameservers: vec![resolver.address().ip()],
        search: names.search.iter().chain(&before.search).cloned().collect(),
        options: before.options,
    };
    changes.replace_file(RESOLV_CONF, &after.to_string())?;
    Ok(resolver)
}
