//! A pod's status, from what is known of its containers: a pure function.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The kubelet's name as a field manager and as the source of events.
pub(crate) const KUBELET: &str = "kubelet";

/// What is known of a container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) phase: Phase,
    pub(crate) last: Option<Ended>,
    pub(crate) restarts: i32,
    /// Whether its probes let it serve.
    pub(crate) ready: bool,
}

/// Where a container is in its life.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    Waiting { reason: String, message: String },
    Running { since: Timestamp, pid: u32 },
    Ended(Ended),
}

/// How a program ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) started: Timestamp,
    pub(crate) finished: Timestamp,
}

impl Default for Phase {
    fn default() -> Self {
        Self::Waiting {
            reason: "ContainerCreating".to_owned(),
            message: String::new(),
        }
    }
}

/// The pod's own circumstances.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    pub(crate) host: Ipv4Addr,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) started: Timestamp,
    pub(crate) now: Timestamp,
}

/// The status of `pod`, whose init containers and containers are known as `init` and `main`, in the
/// specification's order. Conditions keep the time of their last change.
pub(crate) fn pod_status(
    pod: &Pod,
    init: &[Known],
    main: &[Known],
    at: &Circumstances,
) -> PodStatus {
    let spec = pod.spec.clone().unwrap_or_default();
    let restart_policy = spec.restart_policy.as_deref().unwrap_or("Always");
    let init_containers = spec.init_containers.unwrap_or_default();
    let initialised = init
        .iter()
        .all(|known| matches!(&known.phase, Phase::Ended(ended) if ended.code == 0));
    let phase = phase(init, main, restart_policy);
    let all_ready = initialised && main.iter().all(|known| known.ready) && phase == "Running";
    let condition =
        |kind: &str, holds: bool, reason: Option<&str>| condition(pod, kind, holds, reason, at.now);
    let not_ready = if phase == "Succeeded" {
        "PodCompleted"
    } else {
        "ContainersNotReady"
    };
    let unready = (!all_ready).then_some(not_ready);
    PodStatus {
        phase: Some(phase.to_owned()),
        host_ip: Some(at.host.to_string()),
        host_ips: Some(vec![HostIP {
            ip: at.host.to_string(),
        }]),
        pod_ip: at.address.map(|address| address.to_string()),
        pod_ips: at.address.map(|address| {
            vec![PodIP {
                ip: address.to_string(),
            }]
        }),
        start_time: Some(Time(at.started)),
        qos_class: Some("BestEffort".to_owned()),
        conditions: Some(vec![
            condition("PodScheduled", true, None),
            condition(
                "Initialized",
                initialised,
                (!initialised).then_some("ContainersNotInitialized"),
            ),
            condition("ContainersReady", all_ready, unready),
            condition("Ready", all_ready, unready),
        ]),
        init_container_statuses: (!init.is_empty()).then(|| statuses(&init_containers, init)),
        container_statuses: Some(statuses(&spec.containers, main)),
        ..PodStatus::default()
    }
}

fn phase(init: &[Known], main: &[Known], restart_policy: &str) -> &'static str {
    let codes = |all: &[Known]| -> Vec<Option<i32>> {
        all.iter()
            .map(|known| match &known.phase {
                Phase::Ended(ended) => Some(ended.code),
                _ => None,
            })
            .collect()
    };
    let failed =
        |codes: &[Option<i32>]| codes.iter().any(|code| code.is_some_and(|code| code != 0));
    let (init, main_codes) = (codes(init), codes(main));
    if failed(&init) && restart_policy == "Never" {
        return "Failed";
    }
    if !main.is_empty() && main_codes.iter().all(Option::is_some) && restart_policy != "Always" {
        if !failed(&main_codes) {
            return "Succeeded";
        }
        if restart_policy == "Never" {
            return "Failed";
        }
    }
    let begun = |known: &Known| !matches!(known.phase, Phase::Waiting { .. }) || known.restarts > 0;
    if main.iter().all(begun) {
        "Running"
    } else {
        "Pending"
    }
}

fn statuses(containers: &[Container], known: &[Known]) -> Vec<ContainerStatus> {
    containers
        .iter()
        .zip(known)
        .map(|(container, known)| status_of(container, known))
        .collect()
}

fn status_of(container: &Container, known: &Known) -> ContainerStatus {
    let image = container.image.clone().unwrap_or_default();
    let running = matches!(known.phase, Phase::Running { .. });
    let state = match &known.phase {
        Phase::Waiting { reason, message } => ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(reason.clone()),
                message: (!message.is_empty()).then(|| message.clone()),
            }),
            ..ContainerState::default()
        },
        Phase::Running { since, .. } => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(Time(*since)),
            }),
            ..ContainerState::default()
        },
        Phase::Ended(ended) => terminated(ended),
    };
    ContainerStatus {
        name: container.name.clone(),
        image_id: image.clone(),
        image,
        ready: known.ready && running,
        started: Some(running),
        restart_count: known.restarts,
        container_id: match &known.phase {
            Phase::Running { pid, .. } => Some(format!("inroads://{pid}")),
            _ => None,
        },
        state: Some(state),
        last_state: known.last.as_ref().map(terminated),
        ..ContainerStatus::default()
    }
}

fn terminated(ended: &Ended) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: ended.code,
            reason: Some(
                if ended.code == 0 {
                    "Completed"
                } else {
                    "Error"
                }
                .to_owned(),
            ),
            started_at: Some(Time(ended.started)),
            finished_at: Some(Time(ended.finished)),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

fn condition(
    pod: &Pod,
    kind: &str,
    holds: bool,
    reason: Option<&str>,
    now: Timestamp,
) -> PodCondition {
    let status = if holds { "True" } else { "False" };
    let before = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let before = before
        .into_iter()
        .flatten()
        .find(|c| c.type_ == kind && c.status == status);
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.map(ToOwned::to_owned),
        last_transition_time: before
            .and_then(|c| c.last_transition_time.clone())
            .or(Some(Time(now))),
        ..PodCondition::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32) -> Known {
        let at = Timestamp::UNIX_EPOCH;
        Known {
            phase: Phase::Ended(Ended {
                code,
                started: at,
                finished: at,
            }),
            ..Known::default()
        }
    }

    fn running(ready: bool) -> Known {
        Known {
            phase: Phase::Running {
                since: Timestamp::UNIX_EPOCH,
                pid: 7,
            },
            ready,
            ..Known::default()
        }
    }

    #[test]
    fn the_phase_follows_the_restart_policy() {
        for (init, main, policy, expected) in [
            (vec![], vec![Known::default()], "Always", "Pending"),
            (vec![], vec![running(false)], "Always", "Running"),
            (vec![], vec![ended(0)], "Never", "Succeeded"),
            (vec![], vec![ended(1)], "Never", "Failed"),
            (vec![], vec![ended(1)], "OnFailure", "Running"),
            (vec![], vec![ended(0), running(true)], "Never", "Running"),
            (vec![ended(1)], vec![Known::default()], "Never", "Failed"),
            (vec![ended(1)], vec![Known::default()], "Always", "Pending"),
        ] {
            assert_eq!(
                phase(&init, &main, policy),
                expected,
                "{init:?} {main:?} {policy}"
            );
        }
    }

    #[test]
    fn a_pod_is_ready_when_all_of_it_is() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "spec": { "containers": [{ "name": "a" }, { "name": "b" }] }
        }))
        .unwrap();
        let at = Circumstances {
            host: Ipv4Addr::LOCALHOST,
            address: None,
            started: Timestamp::UNIX_EPOCH,
            now: Timestamp::UNIX_EPOCH,
        };
        let ready = |main: &[Known]| {
            let status = pod_status(&pod, &[], main, &at);
            let conditions = status.conditions.unwrap();
            conditions
                .iter()
                .find(|c| c.type_ == "Ready")
                .unwrap()
                .status
                .clone()
        };
        assert_eq!(ready(&[running(true), running(true)]), "True");
        assert_eq!(ready(&[running(true), running(false)]), "False");
    }
}
