//! The row of a pod in a table. STATUS is made up from many places, by the rules that `kubectl` users
//! know: `Init:0/1`, `CrashLoopBackOff`, `Completed`, `Terminating`, …

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::Value;

use super::Kind;
use crate::apiserver::table::{AGE, Column, NAME, age, since};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    Column::text("Ready"),
    Column::text("Status"),
    Column::text("Restarts"),
    AGE,
    Column::text("IP").wide(),
    Column::text("Node").wide(),
    Column::text("Nominated Node").wide(),
    Column::text("Readiness Gates").wide(),
];

pub(super) fn cells(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let summary = Summary::of(pod, &status, spec.init_containers.iter().flatten().count());
    let or_none = |text: &Option<String>| match text.as_deref() {
        None | Some("") => Value::from("<none>"),
        Some(text) => Value::from(text),
    };
    let restarts = match summary.last_restart {
        Some(then) => format!("{} ({} ago)", summary.restarts, since(Some(&then), now)),
        None => summary.restarts.to_string(),
    };
    vec![
        pod.name().into(),
        format!("{}/{}", summary.ready, spec.containers.len()).into(),
        summary.reason.into(),
        restarts.into(),
        age(&pod.metadata, now),
        or_none(&status.pod_ip),
        or_none(&spec.node_name),
        or_none(&status.nominated_node_name),
        match spec.readiness_gates.iter().flatten().count() {
            0 => "<none>".into(),
            gates => {
                let types = spec
                    .readiness_gates
                    .iter()
                    .flatten()
                    .map(|gate| &gate.condition_type);
                let open = types.filter(|ty| has_condition(&status, ty)).count();
                format!("{open}/{gates}").into()
            }
        },
    ]
}

struct Summary {
    reason: String,
    ready: usize,
    restarts: i32,
    last_restart: Option<Time>,
}

impl Summary {
    fn of(pod: &Pod, status: &PodStatus, init_containers: usize) -> Self {
        let phase = status.phase.clone().unwrap_or_default();
        let reason = status.reason.clone().filter(|reason| !reason.is_empty());
        let mut summary = Self {
            reason: reason.unwrap_or_else(|| phase.clone()),
            ready: 0,
            restarts: 0,
            last_restart: None,
        };
        let initializing = summary.add_init_containers(status, init_containers);
        if !initializing || has_condition(status, "Initialized") {
            summary.restarts = 0;
            summary.add_containers(status);
        }
        let lost = status.reason.as_deref() == Some("NodeLost");
        if pod.is_terminating() && lost {
            summary.reason = "Unknown".to_owned();
        } else if pod.is_terminating() && !matches!(phase.as_str(), "Succeeded" | "Failed") {
            summary.reason = "Terminating".to_owned();
        }
        summary
    }

    /// Whether one of them has yet to complete.
    fn add_init_containers(&mut self, status: &PodStatus, total: usize) -> bool {
        for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
            self.add_restarts(container);
            let state = container.state.clone().unwrap_or_default();
            let waiting = state.waiting.and_then(|waiting| waiting.reason);
            self.reason = match (state.terminated, waiting) {
                (Some(ended), _) if ended.exit_code == 0 => continue,
                (Some(ended), _) => format!("Init:{}", why_ended(&ended)),
                (None, Some(reason)) if !reason.is_empty() && reason != "PodInitializing" => {
                    format!("Init:{reason}")
                }
                _ => format!("Init:{index}/{total}"),
            };
            return true;
        }
        false
    }

    fn add_containers(&mut self, status: &PodStatus) {
        let mut running = false;
        for container in status.container_statuses.iter().flatten().rev() {
            self.add_restarts(container);
            let state = container.state.clone().unwrap_or_default();
            let waiting = state.waiting.and_then(|waiting| waiting.reason);
            if let Some(reason) = waiting.filter(|reason| !reason.is_empty()) {
                self.reason = reason;
            } else if let Some(ended) = state.terminated {
                self.reason = why_ended(&ended);
            } else if container.ready && state.running.is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if running && self.reason == "Completed" {
            let reason = if has_condition(status, "Ready") {
                "Running"
            } else {
                "NotReady"
            };
            self.reason = reason.to_owned();
        }
    }

    fn add_restarts(&mut self, container: &ContainerStatus) {
        self.restarts += container.restart_count;
        let ended = container
            .last_state
            .as_ref()
            .and_then(|last| last.terminated.as_ref());
        if let Some(at) = ended.and_then(|ended| ended.finished_at.clone()) {
            self.last_restart = Some(self.last_restart.take().map_or(at.clone(), |it| it.max(at)));
        }
    }
}

fn why_ended(ended: &ContainerStateTerminated) -> String {
    match (ended.reason.as_deref(), ended.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", ended.exit_code),
    }
}

fn has_condition(status: &PodStatus, ty: &str) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == ty && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(pod: Value) -> Vec<String> {
        let mut pod = pod;
        pod["metadata"] = json!({"name": "p", "creationTimestamp": "1970-01-01T00:00:00Z"});
        decode_and_show(&pod)
    }

    fn decode_and_show(pod: &Value) -> Vec<String> {
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        let now = Timestamp::from_second(300).unwrap();
        let text = |cell: &Value| cell.as_str().unwrap().to_owned();
        cells(&pod, now).iter().map(text).collect()
    }

    fn with_container(state: Value, ready: bool) -> Value {
        json!({
            "spec": {"containers": [{"name": "c"}], "nodeName": "worker-1"},
            "status": {"phase": "Running", "podIP": "10.244.1.2", "containerStatuses": [
                {"name": "c", "ready": ready, "restartCount": 0, "state": state},
            ]},
        })
    }

    #[test]
    fn a_running_pod_shows_where_it_runs() {
        let cells = shown(with_container(json!({"running": {}}), true));
        assert_eq!(
            cells,
            [
                "p",
                "1/1",
                "Running",
                "0",
                "5m",
                "10.244.1.2",
                "worker-1",
                "<none>",
                "<none>"
            ]
        );
    }

    #[test]
    fn the_status_is_the_most_telling_reason() {
        let cases = [
            (
                json!({"waiting": {"reason": "CrashLoopBackOff"}}),
                "CrashLoopBackOff",
            ),
            (
                json!({"waiting": {"reason": "ContainerCreating"}}),
                "ContainerCreating",
            ),
            (
                json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
                "Completed",
            ),
            (
                json!({"terminated": {"exitCode": 1, "reason": "Error"}}),
                "Error",
            ),
            (json!({"terminated": {"exitCode": 3}}), "ExitCode:3"),
            (
                json!({"terminated": {"exitCode": 137, "signal": 9}}),
                "Signal:9",
            ),
            (json!({}), "Running"),
        ];
        for (state, expected) in cases {
            assert_eq!(shown(with_container(state, false))[1..3], ["0/1", expected]);
        }
    }

    #[test]
    fn init_containers_come_first() {
        let pod = |state: Value| {
            json!({
                "spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]},
                "status": {"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "restartCount": 2, "state": state},
                ]},
            })
        };
        assert_eq!(shown(pod(json!({"running": {}})))[2..4], ["Init:0/1", "2"]);
        let failed = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
        assert_eq!(shown(pod(failed))[2], "Init:Error");
        let done = json!({"terminated": {"exitCode": 0}});
        assert_eq!(shown(pod(done))[2], "Pending");
    }

    #[test]
    fn a_deleted_pod_is_terminating_and_restarts_tell_when() {
        let mut pod = with_container(json!({"running": {}}), true);
        pod["status"]["containerStatuses"][0]["restartCount"] = 3.into();
        pod["status"]["containerStatuses"][0]["lastState"] =
            json!({"terminated": {"exitCode": 1, "finishedAt": "1970-01-01T00:04:00Z"}});
        pod["metadata"] = json!({"name": "p", "deletionTimestamp": "1970-01-01T00:05:00Z"});
        assert_eq!(
            decode_and_show(&pod)[2..5],
            ["Terminating", "3 (60s ago)", "<unknown>"]
        );
    }
}
