//! What answers through an access, and how the client looks from there.

use std::net::IpAddr;
use std::time::Duration;

use inroads_harness::dial::Dialer;
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::Workload;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{POD_PORT, STEADY, address};
use crate::{dns, http};

/// Longest wait for what may not answer at all.
const LIMIT: Duration = Duration::from_secs(3);

/// What is asked of each part of the inside.
type Answers = [(&'static str, Result<String, String>); 3];

/// A Service by its virtual address, a pod by its own, and the cluster's DNS over TCP.
async fn ask(dialer: &Dialer, workload: &Workload) -> Answers {
    let service = async {
        let (host, port) = address(workload, STEADY)?;
        http::asked_name(dialer, &host, port).await
    };
    let pod = async {
        let pods = workload
            .endpoints(STEADY)
            .map_err(|error| error.to_string())?;
        let (_, pod) = pods.first().ok_or("there is no pod")?;
        http::asked_name(dialer, &pod.ip.to_string(), POD_PORT).await
    };
    let names = async {
        let found = dns::looked_up(dialer, workload, &workload.fqdn(STEADY)).await;
        found
            .map(|found| format!("{found:?}"))
            .map_err(|error| error.0)
    };
    let (service, pod, names) = tokio::join!(
        timeout(LIMIT, service),
        timeout(LIMIT, pod),
        timeout(LIMIT, names)
    );
    let late = || Err(format!("no answer within {} s", LIMIT.as_secs()));
    [
        ("a Service", service.unwrap_or_else(|_| late())),
        ("a pod", pod.unwrap_or_else(|_| late())),
        ("the cluster's DNS", names.unwrap_or_else(|_| late())),
    ]
}

/// Which of them answer: at least one must.
pub(super) async fn open(dialer: &Dialer, workload: &Workload) -> Attempt {
    const EXPECTED: &str = "the inside answers";
    let answers = ask(dialer, workload).await;
    let there = answers.iter().filter(|(_, answer)| answer.is_ok());
    let there: Vec<&str> = there.map(|(what, _)| *what).collect();
    if there.is_empty() {
        return Attempt::fail(EXPECTED, why_not(&answers));
    }
    Attempt::pass(EXPECTED, format!("{} answer", there.join(", ")))
}

/// That none of them does.
pub(super) async fn closed(dialer: &Dialer, workload: &Workload) -> Attempt {
    const EXPECTED: &str = "nothing inside answers";
    let answers = ask(dialer, workload).await;
    let found = answers
        .iter()
        .find_map(|(what, it)| Some((what, it.as_ref().ok()?)));
    match found {
        Some((what, answer)) => Attempt::fail(EXPECTED, format!("{what} answered: {answer}")),
        None => Attempt::pass(EXPECTED, format!("no answer ({})", why_not(&answers))),
    }
}

fn why_not(answers: &Answers) -> String {
    let errors = answers
        .iter()
        .filter_map(|(what, it)| Some((what, it.as_ref().err()?)));
    let errors: Vec<String> = errors
        .map(|(what, error)| format!("{what}: {error}"))
        .collect();
    errors.join(", ")
}

/// The address that a pod sees, against the one that the client has for it.
pub(super) async fn source_ip(dialer: &Dialer, workload: &Workload) -> Attempt {
    const EXPECTED: &str = "a pod sees the client's own address";
    let asked = async {
        let pods = workload
            .endpoints(STEADY)
            .map_err(|error| error.to_string())?;
        let (_, pod) = pods.first().ok_or("there is no pod")?;
        let (local, seen) = http::seen_address(dialer, &pod.ip.to_string(), POD_PORT).await?;
        let (host, port) = address(workload, STEADY)?;
        let by_service = http::seen_address(dialer, &host, port).await;
        let by_service = by_service.map_or_else(|error| error, |(_, seen)| seen);
        Ok::<_, String>((local, seen, by_service))
    };
    match asked.await {
        Ok((local, seen, by_service)) => {
            let text = format!(
                "{seen} by the pod's own address, {by_service} by a Service; the client is {local}"
            );
            let loopback = seen.parse().is_ok_and(|seen: IpAddr| seen.is_loopback());
            if seen == local && !loopback {
                Attempt::pass(EXPECTED, text)
            } else {
                Attempt::fail(EXPECTED, text)
            }
        }
        Err(error) => Attempt::fail(EXPECTED, error),
    }
}

/// The office, as the laptop itself reaches it: by name where one is known, and its page.
pub(super) async fn office(workload: &Workload) -> Attempt {
    const EXPECTED: &str = "the office's names and pages are there";
    let Some(office) = &workload.office else {
        // The way that traffic takes was looked at all the same.
        return Attempt::pass(EXPECTED, "no name and no page of the office is known here");
    };
    let mut text = match dns::office_found(office).await {
        Ok(home) => home,
        Err(other) => return Attempt::fail(EXPECTED, other),
    };
    if let Some(log) = &office.log {
        match timeout(LIMIT, TcpStream::connect(log.server)).await {
            Ok(Ok(_stream)) => text += &format!(", and {} takes connections", log.server),
            Ok(Err(error)) => {
                return Attempt::fail(EXPECTED, format!("{text}; {}: {error}", log.server));
            }
            Err(_elapsed) => {
                return Attempt::fail(EXPECTED, format!("{text}; {} is silent", log.server));
            }
        }
    }
    Attempt::pass(EXPECTED, text)
}
