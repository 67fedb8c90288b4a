//! Whether addresses are reached: those of pods on every node, those of Services, and all that is behind one.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use inroads_harness::dial::Dialer;
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::Workload;

use super::super::{POD_PORT, VACANT};
use super::wire::refusal;
use super::{asked_name, endpoints, service_address};

/// New connections to one Service: an endpoint of two is missed by chance once in 2³⁹ times.
const CONNECTIONS: usize = 40;

/// How many of them at once.
const AT_ONCE: usize = 10;

/// Every pod behind the Service answers with its own name, and they are on more than one node.
pub(super) async fn pod_ip(dialer: &Dialer, workload: &Workload) -> Attempt {
    let pods = endpoints(workload);
    let nodes: BTreeSet<&str> = pods.iter().map(|(_, pod)| pod.node.as_str()).collect();
    let expected = format!(
        "{} pods on {} nodes answer with their names",
        pods.len(),
        nodes.len()
    );
    if nodes.len() < 2 {
        let reason = format!("the pods are all on {nodes:?}, and another node's are not asked");
        return Attempt::not_tried(expected, reason);
    }
    for (name, pod) in &pods {
        match asked_name(dialer, &pod.ip.to_string(), POD_PORT).await {
            Ok(answer) if answer == *name => {}
            Ok(answer) => {
                return Attempt::fail(expected, format!("{} answered as `{answer}`", pod.ip));
            }
            Err(error) => {
                return Attempt::fail(expected, format!("{} on {}: {error}", pod.ip, pod.node));
            }
        }
    }
    let seen: Vec<String> = pods
        .iter()
        .map(|(name, pod)| format!("{name} on {}", pod.node))
        .collect();
    Attempt::pass(expected, seen.join(", "))
}

/// The Service's virtual address answers.
pub(super) async fn cluster_ip(dialer: &Dialer, workload: &Workload) -> Attempt {
    let (host, port) = match service_address(workload, "http") {
        Ok(address) => address,
        Err(error) => return Attempt::fail("the workload", error),
    };
    let expected = format!("{host}:{port} answers with the name of a pod");
    match asked_name(dialer, &host, port).await {
        Ok(name) if workload.pods.contains_key(&name) => Attempt::pass(expected, name),
        Ok(name) => Attempt::fail(expected, format!("`{name}`, which is no pod")),
        Err(error) => Attempt::fail(expected, error),
    }
}

/// New connections to a Service reach all that is behind it, not one pod for ever.
pub(super) async fn spread(dialer: &Dialer, workload: &Workload) -> Attempt {
    let (host, port) = match service_address(workload, "http") {
        Ok(address) => address,
        Err(error) => return Attempt::fail("the workload", error),
    };
    let pods: BTreeSet<&str> = endpoints(workload).iter().map(|(name, _)| *name).collect();
    let expected = format!(
        "{CONNECTIONS} new connections to {host}:{port} reach all of {} pods",
        pods.len()
    );
    if pods.len() < 2 {
        return Attempt::fail("two pods behind the Service", format!("there are {pods:?}"));
    }
    // One by itself, which fails sooner than many do where there is no way at all.
    if let Err(error) = asked_name(dialer, &host, port).await {
        return Attempt::fail(expected, error);
    }
    let mut reached: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..CONNECTIONS / AT_ONCE {
        let asked = (0..AT_ONCE).map(|_| asked_name(dialer, &host, port));
        for name in join_all(asked).await {
            match name {
                Ok(name) => *reached.entry(name).or_default() += 1,
                Err(error) => return Attempt::fail(expected, error),
            }
        }
    }
    let texts = reached
        .iter()
        .map(|(name, count)| format!("{name} {count} times"));
    let seen = texts.collect::<Vec<_>>().join(", ");
    let names: BTreeSet<&str> = reached.keys().map(String::as_str).collect();
    if names == pods {
        Attempt::pass(expected, seen)
    } else {
        Attempt::fail(expected, seen)
    }
}

/// A Service that nothing is behind refuses, rather than leaving its clients to wait.
pub(super) async fn no_endpoints(dialer: &Dialer, workload: &Workload) -> Attempt {
    let address = workload
        .service(VACANT)
        .map_err(|error| error.to_string())
        .and_then(|service| {
            let port = service.ports.values().next().copied();
            service
                .cluster_ip
                .zip(port)
                .ok_or_else(|| "it has no address".to_owned())
        });
    match address {
        Ok((ip, port)) => refusal(dialer, &ip.to_string(), port).await,
        Err(error) => Attempt::fail("the workload", error),
    }
}
