//! Jobs.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use serde_json::{Value, json};

use super::Cluster;

fn job(name: &str, more: Value) -> Value {
    let mut job = json!({"metadata": {"name": name}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "job:1"}],
    }}}});
    json_patch::merge(&mut job["spec"], &more);
    job
}

fn job_condition(cluster: &Cluster, name: &str) -> Option<(String, String)> {
    let job = cluster.find::<Job>(name).unwrap();
    let last = job.status.as_ref()?.conditions.as_ref()?.last()?.clone();
    Some((last.type_, last.reason.unwrap()))
}

#[test]
fn a_job_runs_its_pods_to_the_end() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.create(
        "Job",
        job("sum", json!({"completions": 3, "parallelism": 2})),
    );
    cluster.run();
    assert_eq!(cluster.list::<Pod>().len(), 2);
    cluster.end_pods("Succeeded");
    cluster.run();
    cluster.end_pods("Succeeded");
    let done = ("Complete".to_owned(), "CompletionsReached".to_owned());
    assert_eq!(job_condition(&cluster, "sum"), Some(done));
    assert_eq!(
        cluster
            .find::<Job>("sum")
            .unwrap()
            .status
            .as_ref()
            .unwrap()
            .succeeded,
        Some(3)
    );
    assert!(cluster.reasons().iter().any(|reason| reason == "Completed"));
}

#[test]
fn a_failing_job_is_tried_again_and_given_up() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.create("Job", job("bad", json!({"backoffLimit": 1})));
    cluster.run();
    cluster.end_pods("Failed");
    assert_eq!(cluster.list::<Pod>().len(), 1);
    cluster.pass(11);
    assert_eq!(cluster.list::<Pod>().len(), 2);
    cluster.run();
    cluster.end_pods("Failed");
    let given_up = ("Failed".to_owned(), "BackoffLimitExceeded".to_owned());
    assert_eq!(job_condition(&cluster, "bad"), Some(given_up));
}

#[test]
fn an_indexed_job_numbers_its_pods_and_goes_after_its_time() {
    let mut cluster = Cluster::new(&["a"]);
    let spec = json!({
        "completions": 2, "parallelism": 2, "completionMode": "Indexed", "ttlSecondsAfterFinished": 5,
    });
    cluster.create("Job", job("parts", spec));
    cluster.run();
    let mut indexes: Vec<_> = cluster
        .list::<Pod>()
        .iter()
        .map(|pod| {
            pod.metadata.annotations.as_ref().unwrap()["batch.kubernetes.io/job-completion-index"]
                .clone()
        })
        .collect();
    indexes.sort();
    assert_eq!(indexes, ["0", "1"]);
    cluster.end_pods("Succeeded");
    let status = cluster
        .find::<Job>("parts")
        .unwrap()
        .status
        .clone()
        .unwrap();
    assert_eq!(status.completed_indexes.as_deref(), Some("0,1"));
    cluster.pass(6);
    assert!(cluster.find::<Job>("parts").is_none());
    assert_eq!(cluster.list::<Pod>().len(), 0);
}
