//! Names beyond a Service's own: short ones, those of pods, aliases, and whether libc agrees with the wire.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use inroads_harness::access::Access;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::OpError;
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::Workload;

use super::super::question::{Asker, server};
use super::super::{ADDRESSED, ALIAS, HEADLESS, PORT_NAME, libc};
use super::{address, addresses, ask, list, lookup, missing};
use crate::http::asked_name;

/// The search path of a pod (Kubernetes DNS specification, "DNS for Services and Pods"): a name is short by
/// one, two or three labels. Where names are resolved elsewhere, a client connects to them.
pub(super) async fn service_short(
    dialer: &Dialer,
    workload: &Workload,
) -> Result<Attempt, OpError> {
    let service = workload.service(ADDRESSED).map_err(missing)?;
    let namespace = &workload.namespace;
    let names = [
        ADDRESSED.to_owned(),
        format!("{ADDRESSED}.{namespace}"),
        format!("{ADDRESSED}.{namespace}.svc"),
    ];
    let expected = format!("{} mean the Service {ADDRESSED}", names.join(", "));
    let wanted: BTreeSet<IpAddr> = service.cluster_ip.into_iter().collect();
    let port = service.ports.get(PORT_NAME).copied().unwrap_or_default();
    let asked = names.iter().map(async |name| {
        if matches!(dialer.access(), Access::Unmodified) {
            let found = libc::addresses(name).await;
            let found = found.map_err(|error| format!("{name}: {error}"))?;
            return if found == wanted {
                Ok(format!("{name} is {}", list(&found)))
            } else {
                Err(format!("{name} is {}", list(&found)))
            };
        }
        let pod = asked_name(dialer, name, port).await;
        let pod = pod.map_err(|error| format!("connecting to {name}: {error}"))?;
        if service.endpoints.contains(&pod) {
            Ok(format!("{name} leads to {pod}"))
        } else {
            Err(format!("{name} leads to `{pod}`, which is not behind it"))
        }
    });
    Ok(match all_of(join_all(asked).await) {
        Ok(seen) => Attempt::pass(expected, seen),
        Err(seen) => Attempt::fail(expected, seen),
    })
}

/// Every pod of the StatefulSet has its own name (Kubernetes DNS specification §2.4.1).
pub(super) async fn statefulset_pod(
    dialer: &Dialer,
    workload: &Workload,
) -> Result<Attempt, OpError> {
    let pods = workload.endpoints(HEADLESS).map_err(missing)?;
    let (mut expected, mut seen) = (Vec::new(), Vec::new());
    for (pod, facts) in pods {
        let name = format!("{pod}.{}", workload.fqdn(HEADLESS));
        let attempt = addresses(dialer, workload, &name, &BTreeSet::from([facts.ip])).await?;
        let Ok(text) = attempt.seen else {
            return Ok(attempt);
        };
        expected.push(attempt.expected);
        seen.push(format!("{pod}: {text}"));
    }
    if seen.is_empty() {
        return Err(OpError("the StatefulSet has no pods".to_owned()));
    }
    Ok(Attempt::pass(expected.join(", "), seen.join(", ")))
}

/// Kubernetes DNS specification §2.5: an alias, followed on the cluster's side.
pub(super) async fn external_name(
    dialer: &Dialer,
    workload: &Workload,
) -> Result<Attempt, OpError> {
    let service = workload.service(ALIAS).map_err(missing)?;
    let target = service.external_name.as_deref();
    let target = target.ok_or_else(|| OpError(format!("service/{ALIAS} is no alias")))?;
    let name = workload.fqdn(ALIAS);
    let expected = format!("{name} is an alias of {target}, with its addresses");
    let mut asker = Asker::open(dialer, server(dialer, workload)?).await?;
    let wanted = lookup(&mut asker, target).await?;
    let answer = ask(&mut asker, &name, RecordType::A).await?;
    let records = answer.answers.iter();
    let found: BTreeSet<IpAddr> = records.filter_map(|record| address(&record.data)).collect();
    let leads = answer.answers.iter().any(|record| match &record.data {
        RData::CNAME(alias) => {
            let alias = alias.to_ascii();
            alias
                .trim_end_matches('.')
                .eq_ignore_ascii_case(target.trim_end_matches('.'))
        }
        _ => false,
    });
    let alias = if leads { "an alias" } else { "no alias" };
    let seen = format!(
        "{} over {}: {alias}, {}; the target itself is {}",
        answer.metadata.response_code,
        asker.transport(),
        list(&found),
        list(&wanted)
    );
    if !leads || found.is_empty() || found != wanted {
        return Ok(Attempt::fail(expected, seen));
    }
    if matches!(dialer.access(), Access::Unmodified) {
        let by_libc = libc::addresses(&name).await?;
        if by_libc != wanted {
            return Ok(Attempt::fail(
                expected,
                format!("libc has {}; {seen}", list(&by_libc)),
            ));
        }
    }
    Ok(Attempt::pass(expected, seen))
}

/// What libc on this machine says is what is on the wire: for names that exist, and for one that does not.
///
/// libc knows no proxy and no listener, so it is asked as it is, whatever the access.
pub(super) async fn libc_parity(dialer: &Dialer, workload: &Workload) -> Result<Attempt, OpError> {
    let pods = workload.endpoints(HEADLESS).map_err(missing)?;
    let pod = pods.first().map(|(pod, _)| *pod);
    let pod = pod.ok_or_else(|| OpError("the StatefulSet has no pods".to_owned()))?;
    let headless = workload.fqdn(HEADLESS);
    let names = [
        workload.fqdn(ADDRESSED),
        format!("{pod}.{headless}"),
        headless,
    ];
    let expected =
        "libc and a question on the wire have the same addresses, and lack the same name";
    let mut asker = Asker::open(dialer, server(dialer, workload)?).await?;
    let mut seen = Vec::new();
    for name in &names {
        let wire = lookup(&mut asker, name).await?;
        let by_libc = libc::addresses(name).await;
        match by_libc {
            Ok(found) if found == wire && !wire.is_empty() => {
                seen.push(format!("{name}: both have {}", list(&wire)));
            }
            other => {
                let other =
                    other.map_or_else(|error| error.0, |found| format!("libc: {}", list(&found)));
                let wire = format!("{name}: {} on the wire", list(&wire));
                return Ok(Attempt::fail(expected, format!("{wire}; {other}")));
            }
        }
    }
    // Absolute, so that libc asks for nothing else.
    let name = format!("{}.", workload.fqdn("no-such-service"));
    let code = ask(&mut asker, &name, RecordType::A)
        .await?
        .metadata
        .response_code;
    let by_libc = libc::addresses(&name).await;
    let text = by_libc.as_ref().map_or_else(|error| error.0.clone(), list);
    seen.push(format!("{name}: {code}; {text}"));
    let seen = seen.join("; ");
    Ok(if code == ResponseCode::NXDomain && by_libc.is_err() {
        Attempt::pass(expected, seen)
    } else {
        Attempt::fail(expected, seen)
    })
}

/// All texts, or those of the failures.
fn all_of(outcomes: Vec<Result<String, String>>) -> Result<String, String> {
    let (right, wrong): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    let wrong: Vec<String> = wrong.into_iter().filter_map(Result::err).collect();
    if !wrong.is_empty() {
        return Err(wrong.join(", "));
    }
    let right: Vec<String> = right.into_iter().filter_map(Result::ok).collect();
    Ok(right.join(", "))
}
