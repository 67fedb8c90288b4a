//! From addresses to names.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::rr::{Name, RData, RecordType};
use inroads_harness::access::Access;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::OpError;
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::Workload;

use super::super::question::{Asker, server};
use super::super::{ADDRESSED, HEADLESS, libc};
use super::{ask, missing};

/// A virtual address has its Service's name (Kubernetes DNS specification §2.3.3), and a pod of a headless
/// Service its own (§2.4.3). There may be others beside: CoreDNS before 1.8 names a pod after each of its Services.
pub(super) async fn ptr(dialer: &Dialer, workload: &Workload) -> Result<Attempt, OpError> {
    let virtual_address = workload.service(ADDRESSED).map_err(missing)?.cluster_ip;
    let virtual_address =
        virtual_address.ok_or_else(|| OpError(format!("service/{ADDRESSED} has no address")))?;
    let pods = workload.endpoints(HEADLESS).map_err(missing)?;
    let (pod, facts) = pods
        .first()
        .ok_or_else(|| OpError("the StatefulSet has no pods".to_owned()))?;
    let wanted = [
        (virtual_address, workload.fqdn(ADDRESSED)),
        (facts.ip, format!("{pod}.{}", workload.fqdn(HEADLESS))),
    ];
    let texts = wanted.iter().map(|(ip, name)| format!("{ip} is {name}"));
    let expected = texts.collect::<Vec<_>>().join(", ");

    let mut asker = Asker::open(dialer, server(dialer, workload)?).await?;
    let mut seen = Vec::new();
    for (ip, name) in &wanted {
        let found = names(&mut asker, *ip).await?;
        let text = format!("{ip} over {}: {}", asker.transport(), list(&found));
        if !found.contains(&name.to_ascii_lowercase()) {
            return Ok(Attempt::fail(expected, text));
        }
        seen.push(text);
        if matches!(dialer.access(), Access::Unmodified) {
            let by_libc = libc::name(*ip).await;
            let text = by_libc.as_ref().unwrap_or_else(|error| &error.0);
            seen.push(format!("libc: {text}"));
            if !by_libc.is_ok_and(|name| found.contains(&name.to_ascii_lowercase())) {
                return Ok(Attempt::fail(expected, seen.join(", ")));
            }
        }
    }
    Ok(Attempt::pass(expected, seen.join(", ")))
}

/// The names of an address, in lower case and without a dot at the end.
async fn names(asker: &mut Asker, address: IpAddr) -> Result<BTreeSet<String>, OpError> {
    let question = Name::from(address).to_ascii();
    let answer = ask(asker, &question, RecordType::PTR).await?;
    let names = answer
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::PTR(name) => {
                let name = name.to_ascii().to_ascii_lowercase();
                Some(name.trim_end_matches('.').to_owned())
            }
            _ => None,
        });
    Ok(names.collect())
}

fn list(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "no name".to_owned();
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.join(", ")
}
