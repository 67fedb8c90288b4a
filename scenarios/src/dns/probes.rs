//! What the `dns` scenario asks: the Kubernetes DNS specification, executed from where the client stands.
//!
//! An unmodified client is asked both by libc, which most programs use, and by a question of our own to
//! the server that the system names, which shows code, authority and types. Through other accesses a
//! client's own libc is out of reach, and the cluster's server is asked.

mod large;
mod names;
mod reverse;
mod split;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use inroads_harness::access::Access;
use inroads_harness::clock;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::OpError;
use inroads_harness::method::Capability;
use inroads_harness::probe::{Attempt, Probe};
use inroads_harness::scenario::{ScenarioError, Workload};

pub(crate) use split::office_found;

use super::question::{Asker, question, server};
use super::{ADDRESSED, HEADLESS, PORT_NAME, libc};

/// All probes, in report order.
pub(super) const ALL: &[Probe] = &[
    Probe::must(
        "dns/service-fqdn",
        "the full name of a Service is its virtual address",
        &[Capability::Dns],
    ),
    Probe::must(
        "dns/service-short",
        "a Service is found by its short names, as in a pod",
        &[Capability::Dns],
    ),
    Probe::must(
        "dns/libc-parity",
        "the C library and a question on the wire agree",
        &[Capability::Dns, Capability::Resolver],
    ),
    Probe::must(
        "dns/headless-set",
        "the name of a headless Service is all its ready pods",
        &[Capability::Dns],
    ),
    Probe::must(
        "dns/statefulset-pod",
        "each pod of a StatefulSet has its own name",
        &[Capability::Dns],
    ),
    Probe::must(
        "dns/srv",
        "SRV of a named port lists usable targets with port, priority and weight",
        &[Capability::Dns],
    ),
    Probe::must(
        "dns/ptr",
        "a virtual address and a pod's address have their names",
        &[Capability::Dns],
    ),
    Probe::must(
        "dns/external-name",
        "an ExternalName is an alias that the cluster's side follows",
        &[Capability::Dns],
    ),
    Probe::must(
        "dns/nxdomain",
        "a missing name is NXDOMAIN at once, a missing type is NODATA, both with the zone's SOA",
        &[Capability::Dns],
    ),
    Probe::must(
        "dns/large-answer",
        "an answer over 512 and 1232 bytes is cut over UDP, says so, and is whole over TCP",
        &[Capability::Dns, Capability::Udp],
    ),
    Probe::must(
        "dns/split",
        "the office's names still resolve, and its DNS sees no name of the cluster",
        &[Capability::Dns],
    ),
];

/// How soon "no" must come.
const AT_ONCE: Duration = Duration::from_secs(1);

/// One attempt at the probe `id`.
pub(super) async fn attempt(id: &str, dialer: &Dialer, workload: &Workload) -> Attempt {
    let asked = match id {
        "dns/service-fqdn" => service_fqdn(dialer, workload).await,
        "dns/service-short" => names::service_short(dialer, workload).await,
        "dns/libc-parity" => names::libc_parity(dialer, workload).await,
        "dns/statefulset-pod" => names::statefulset_pod(dialer, workload).await,
        "dns/ptr" => reverse::ptr(dialer, workload).await,
        "dns/external-name" => names::external_name(dialer, workload).await,
        "dns/large-answer" => large::large_answer(dialer, workload).await,
        "dns/split" => split::split(dialer, workload).await,
        "dns/headless-set" => headless_set(dialer, workload).await,
        "dns/srv" => srv(dialer, workload).await,
        "dns/nxdomain" => nxdomain(dialer, workload).await,
        other => Err(OpError(format!("there is no probe `{other}`"))),
    };
    asked.unwrap_or_else(|error| {
        let probe = ALL.iter().find(|probe| probe.id == id);
        Attempt::fail(
            probe.map_or("a probe of this scenario", |probe| probe.asks),
            error.0,
        )
    })
}

/// Kubernetes DNS specification §2.3.1.
async fn service_fqdn(dialer: &Dialer, workload: &Workload) -> Result<Attempt, OpError> {
    let service = workload.service(ADDRESSED).map_err(missing)?;
    let expected: BTreeSet<IpAddr> = service.cluster_ip.into_iter().collect();
    addresses(dialer, workload, &workload.fqdn(ADDRESSED), &expected).await
}

/// Kubernetes DNS specification §2.4.1.
async fn headless_set(dialer: &Dialer, workload: &Workload) -> Result<Attempt, OpError> {
    let pods = workload.endpoints(HEADLESS).map_err(missing)?;
    let expected: BTreeSet<IpAddr> = pods.iter().map(|(_, pod)| pod.ip).collect();
    addresses(dialer, workload, &workload.fqdn(HEADLESS), &expected).await
}

/// Whether `name` has exactly the addresses `expected`.
async fn addresses(
    dialer: &Dialer,
    workload: &Workload,
    name: &str,
    expected: &BTreeSet<IpAddr>,
) -> Result<Attempt, OpError> {
    let wanted = format!("{name} is {}", list(expected));
    if matches!(dialer.access(), Access::Unmodified) {
        match libc::addresses(name).await {
            Ok(found) if found == *expected => {}
            Ok(found) => return Ok(Attempt::fail(wanted, format!("libc has {}", list(&found)))),
            Err(error) => return Ok(Attempt::fail(wanted, error.0)),
        }
    }
    let mut asker = Asker::open(dialer, server(dialer, workload)?).await?;
    let answer = ask(&mut asker, name, RecordType::A).await?;
    let found: BTreeSet<IpAddr> = answer
        .answers
        .iter()
        .filter_map(|record| address(&record.data))
        .collect();
    let seen = format!(
        "{} over {}: {}",
        answer.metadata.response_code,
        asker.transport(),
        list(&found)
    );
    Ok(if found == *expected {
        Attempt::pass(wanted, seen)
    } else {
        Attempt::fail(wanted, seen)
    })
}

/// Kubernetes DNS specification §2.4.2, and RFC 2782: each target must resolve to a pod.
async fn srv(dialer: &Dialer, workload: &Workload) -> Result<Attempt, OpError> {
    let service = workload.service(HEADLESS).map_err(missing)?;
    let pods = workload.endpoints(HEADLESS).map_err(missing)?;
    let port = service.ports.get(PORT_NAME).copied().unwrap_or_default();
    let name = format!("_{PORT_NAME}._tcp.{}", workload.fqdn(HEADLESS));
    let expected = format!(
        "{} targets with port {port}, each the name of a pod",
        pods.len()
    );

    let mut asker = Asker::open(dialer, server(dialer, workload)?).await?;
    let answer = ask(&mut asker, &name, RecordType::SRV).await?;
    let mut found = BTreeSet::new();
    let mut seen = Vec::new();
    for record in &answer.answers {
        let RData::SRV(srv) = &record.data else {
            continue;
        };
        let target = ask(&mut asker, &srv.target.to_ascii(), RecordType::A).await?;
        let ips: Vec<IpAddr> = target
            .answers
            .iter()
            .filter_map(|record| address(&record.data))
            .collect();
        seen.push(format!(
            "{} {} {} {}",
            srv.priority, srv.weight, srv.port, srv.target
        ));
        if srv.port == port {
            found.extend(ips);
        }
    }
    let pods: BTreeSet<IpAddr> = pods.iter().map(|(_, pod)| pod.ip).collect();
    let seen = format!("{}: {}", answer.metadata.response_code, seen.join(", "));
    Ok(if found == pods && answer.answers.len() == pods.len() {
        Attempt::pass(expected, seen)
    } else {
        Attempt::fail(expected, seen)
    })
}

/// RFC 2308 §2: both kinds of "no" carry the SOA of the zone that says so, here the cluster's.
async fn nxdomain(dialer: &Dialer, workload: &Workload) -> Result<Attempt, OpError> {
    let expected = format!(
        "NXDOMAIN and NODATA from the zone `{}`, at once",
        workload.domain
    );
    let mut asker = Asker::open(dialer, server(dialer, workload)?).await?;
    let missing = workload.fqdn("no-such-service");
    let cases = [
        (missing.as_str(), RecordType::A, ResponseCode::NXDomain),
        (
            &workload.fqdn(ADDRESSED),
            RecordType::MX,
            ResponseCode::NoError,
        ),
    ];
    let mut seen = Vec::new();
    for (name, kind, code) in cases {
        let started = clock::now();
        let answer = ask(&mut asker, name, kind).await?;
        let took = started.elapsed();
        let zone = authority(&answer);
        let text = format!(
            "{kind} {name}: {} with {} answers, SOA {}, {} ms",
            answer.metadata.response_code,
            answer.answers.len(),
            zone.as_ref()
                .map_or("missing".to_owned(), ToString::to_string),
            took.as_millis()
        );
        let ours = zone.is_some_and(|zone| is_cluster_zone(&zone, &workload.domain));
        let right = answer.metadata.response_code == code && answer.answers.is_empty();
        if !(right && ours && took < AT_ONCE) {
            return Ok(Attempt::fail(expected, text));
        }
        seen.push(text);
    }
    Ok(Attempt::pass(expected, seen.join("; ")))
}

async fn ask(asker: &mut Asker, name: &str, kind: RecordType) -> Result<Message, OpError> {
    let name = format!("{}.", name.trim_end_matches('.'));
    read(asker.ask(&mut question(&name, kind)?).await?)
}

/// All addresses of a name, of both families; none where it does not exist.
pub(super) async fn lookup(asker: &mut Asker, name: &str) -> Result<BTreeSet<IpAddr>, OpError> {
    let mut found = BTreeSet::new();
    for kind in [RecordType::A, RecordType::AAAA] {
        let answer = ask(asker, name, kind).await?;
        found.extend(answer.answers.iter().filter_map(|it| address(&it.data)));
    }
    Ok(found)
}

/// An answer, from its bytes.
fn read(answer: &[u8]) -> Result<Message, OpError> {
    Message::from_vec(answer)
        .map_err(|error| OpError(format!("the answer cannot be read: {error}")))
}

/// The workload lacks something that it should have.
fn missing(error: ScenarioError) -> OpError {
    OpError(error.to_string())
}

fn authority(answer: &Message) -> Option<Name> {
    let soa = answer
        .authorities
        .iter()
        .find(|record| matches!(record.data, RData::SOA(_)));
    soa.map(|record| record.name.clone())
}

fn is_cluster_zone(zone: &Name, domain: &str) -> bool {
    Name::from_ascii(format!("{domain}.")).is_ok_and(|domain| domain.zone_of(zone))
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    }
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    if addresses.is_empty() {
        return "no address".to_owned();
    }
    addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
