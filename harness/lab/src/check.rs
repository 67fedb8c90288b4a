//! What of all that a lab needs this machine gives to this user: each tried, none assumed.
//!
//! It runs in a process of its own, which enters namespaces like a lab's first one and ends after it.

use std::io::Write as _;

use nlink::netlink::link::{BridgeLink, VethLink};
use nlink::netlink::nftables::{BaseChain, Chain, Family, NatHook, Priority, Rule};
use nlink::netlink::{Connection, Nftables, Route};
use serde::{Deserialize, Serialize};

use crate::boot;
use crate::process::{ExitStatus, SingleThread};

/// One thing that was tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub what: String,
    /// Whether a lab needs it; without the others it is only slower or less.
    pub needed: bool,
    /// Why it cannot be had; `None` where it can.
    pub problem: Option<String>,
}

/// Tries everything and prints the findings as JSON.
pub(crate) fn run(single: SingleThread) -> ExitStatus {
    let findings = try_all(single);
    let text = serde_json::to_string(&findings).expect("findings are plain data");
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    ExitStatus::SUCCESS
}

fn try_all(single: SingleThread) -> Vec<Finding> {
    let entered = boot::enter_namespaces(single).map_err(|error| error.to_string());
    let mut findings = vec![finding(
        "user, network, mount and PID namespaces",
        true,
        entered,
    )];
    if findings[0].problem.is_some() {
        return findings;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime.map_err(|error| error.to_string()) else {
        return findings;
    };
    runtime.block_on(async {
        findings.push(finding(
            "a bridge and veth pairs",
            true,
            links().await.map_err(|e| e.to_string()),
        ));
        findings.push(finding(
            "nftables with NAT",
            true,
            rules().await.map_err(|e| e.to_string()),
        ));
    });
    findings.push(finding(
        "/dev/net/tun, for WireGuard by TUN instead of a veth pair",
        false,
        tun(),
    ));
    findings
}

async fn links() -> nlink::Result<()> {
    let links = Connection::<Route>::new()?;
    links.add_link(BridgeLink::new("check0")).await?;
    links.add_link(VethLink::new("check1", "check2")).await?;
    links.set_link_master("check1", "check0").await
}

async fn rules() -> nlink::Result<()> {
    let rules = Connection::<Nftables>::new()?;
    let chain = Chain::new("check", "postrouting")?
        .family(Family::Ip)
        .base(BaseChain::nat(NatHook::Postrouting, Priority::SrcNat));
    let rule = Rule::new("check", "postrouting")
        .family(Family::Ip)
        .masquerade();
    rules
        .transaction()
        .add_table("check", Family::Ip)
        .add_chain(chain)
        .add_rule(rule)
        .commit(&rules)
        .await
}

fn tun() -> Result<(), String> {
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    opened.map(drop).map_err(|error| error.to_string())
}

fn finding(what: &str, needed: bool, outcome: Result<(), String>) -> Finding {
    Finding {
        what: what.to_owned(),
        needed,
        problem: outcome.err(),
    }
}
