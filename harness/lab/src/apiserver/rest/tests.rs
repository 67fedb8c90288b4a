use serde_json::json;

use super::*;
use crate::apiserver::{
    kinds::CONTENT_FINALIZER,
    managed::OnConflict,
    patch::Patch,
    registry::{CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, PODS, SECRETS, SERVICES},
};

const OPTIONS: WriteOptions<'static> = WriteOptions {
    manager: "test",
    validation: FieldValidation::Strict,
    mode: Mode::Store,
};

fn rest() -> Rest {
    let rest = Rest::new(ServiceNetwork::default(), false);
    create(&rest, &NAMESPACES, json!({"metadata": {"name": "default"}})).unwrap();
    rest
}

fn create(rest: &Rest, resource: &'static Resource, value: Value) -> Result<Arc<Object>, Status> {
    let namespace = if resource.namespaced { "default" } else { "" };
    rest.create(resource, namespace, value, &OPTIONS)
        .map(|written| written.object)
}

fn target(resource: &'static Resource, name: &str) -> Target {
    Target {
        resource,
        key: Key::new("default", name),
        part: Part::Main,
    }
}

fn merge(patch: Value) -> Patch {
    Patch::Merge(patch)
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]},
    })
}

fn deployment(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "web:1"}]},
            },
        },
    })
}

#[test]
fn a_new_pod_has_the_defaults_of_the_real_server() {
    let pod = create(&rest(), &PODS, pod("p")).unwrap();
    let spec = &pod.value()["spec"];
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("serviceAccountName", json!("default")),
        ("enableServiceLinks", json!(true)),
    ] {
        assert_eq!(spec[field], value, "{field}");
    }
    let container = &spec["containers"][0];
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(pod.value()["status"]["phase"], "Pending");
    assert_eq!(pod.value()["status"]["qosClass"], "BestEffort");
    assert_eq!(pod.value()["metadata"]["generation"], 1);
    assert!(!pod.uid().is_empty());
}

#[test]
fn a_token_is_mounted_where_the_lab_wants_it() {
    let rest = Rest::new(ServiceNetwork::default(), true);
    create(&rest, &NAMESPACES, json!({"metadata": {"name": "default"}})).unwrap();
    let with = create(&rest, &PODS, pod("with")).unwrap();
    let mount = &with.value()["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(
        mount["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    assert_eq!(mount["name"], with.value()["spec"]["volumes"][0]["name"]);
    let mut value = pod("without");
    value["spec"]["automountServiceAccountToken"] = false.into();
    let without = create(&rest, &PODS, value).unwrap();
    assert!(without.value()["spec"].get("volumes").is_none());
}

#[test]
fn what_does_not_fit_is_refused_with_reason_and_field() {
    let rest = rest();
    let mut nothing_in_it = pod("p");
    nothing_in_it["spec"]["containers"] = json!([]);
    let mut twice = pod("p");
    twice["spec"]["containers"] = json!([{"name": "c", "image": "x"}, {"name": "c", "image": "x"}]);
    let mut no_volume = pod("p");
    no_volume["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let cases = [
        (
            nothing_in_it,
            "Pod \"p\" is invalid: spec.containers: Required value",
        ),
        (
            twice,
            "Pod \"p\" is invalid: spec.containers[1].name: Duplicate value: \"c\"",
        ),
        (
            no_volume,
            "Pod \"p\" is invalid: spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
    ];
    for (value, message) in cases {
        let status = create(&rest, &PODS, value).unwrap_err();
        assert_eq!(
            (status.reason, status.message.as_str()),
            ("Invalid", message)
        );
        assert_eq!(status.code, http::StatusCode::UNPROCESSABLE_ENTITY);
    }
    let mut unknown = pod("p");
    unknown["spec"]["replicas"] = 2.into();
    assert_eq!(
        create(&rest, &PODS, unknown).unwrap_err().message,
        "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \
         \"spec.replicas\""
    );
    let mut nobody = pod("p");
    nobody["spec"]["serviceAccountName"] = "nobody".into();
    let status = create(&rest, &PODS, nobody).unwrap_err();
    assert_eq!(status.reason, "Forbidden");
    assert!(
        status
            .message
            .contains("serviceaccount \"nobody\" not found"),
        "{status}"
    );
}

#[test]
fn an_object_needs_a_namespace_that_is_not_leaving() {
    let rest = rest();
    let elsewhere = rest
        .create(&PODS, "elsewhere", pod("p"), &OPTIONS)
        .unwrap_err();
    assert_eq!(elsewhere.message, "namespaces \"elsewhere\" not found");
    let delete =
        |name: &str| rest.delete(&NAMESPACES, &Key::new("", name), &DeleteOptions::default());
    assert_eq!(delete("default").unwrap_err().reason, "Forbidden");
    create(&rest, &NAMESPACES, json!({"metadata": {"name": "team"}})).unwrap();
    assert!(matches!(delete("team").unwrap(), Deleted::Later(_)));
    let status = rest.create(&PODS, "team", pod("p"), &OPTIONS).unwrap_err();
    assert!(
        status.message.contains("because it is being terminated"),
        "{status}"
    );

    let key = Key::new("", "team");
    let mut namespace = rest.get(&NAMESPACES, &key).unwrap().value().clone();
    assert_eq!(namespace["status"]["phase"], "Terminating");
    assert_eq!(namespace["spec"]["finalizers"], json!([CONTENT_FINALIZER]));
    namespace["spec"]["finalizers"] = json!([]);
    let target = Target {
        resource: &NAMESPACES,
        key: key.clone(),
        part: Part::Finalize,
    };
    rest.update(&target, namespace, &OPTIONS).unwrap();
    assert!(rest.get(&NAMESPACES, &key).unwrap_err().is_not_found());
}

#[test]
fn names_are_generated_and_never_taken_twice() {
    let rest = rest();
    let mut value = pod("");
    value["metadata"] = json!({"generateName": "web-"});
    let first = create(&rest, &PODS, value.clone()).unwrap();
    let second = create(&rest, &PODS, value).unwrap();
    assert!(first.name().starts_with("web-") && first.name().len() == 9);
    assert_ne!(first.name(), second.name());
    let again = create(&rest, &PODS, pod(first.name())).unwrap_err();
    assert_eq!(again.reason, "AlreadyExists");
}

#[test]
fn an_update_from_an_old_reading_is_a_conflict() {
    let rest = rest();
    let read = create(&rest, &CONFIG_MAPS, json!({"metadata": {"name": "c"}})).unwrap();
    let target = target(&CONFIG_MAPS, "c");
    rest.patch(&target, &merge(json!({"data": {"a": "1"}})), &OPTIONS)
        .unwrap();
    let status = rest
        .update(&target, read.value().clone(), &OPTIONS)
        .unwrap_err();
    assert!(status.is_conflict());
    assert!(
        status.message.contains("the object has been modified"),
        "{status}"
    );
}

#[test]
fn an_update_that_changes_nothing_is_not_a_change() {
    let rest = rest();
    let created = create(&rest, &DEPLOYMENTS, deployment("d")).unwrap();
    let target = target(&DEPLOYMENTS, "d");
    let written = rest.update(&target, deployment("d"), &OPTIONS).unwrap();
    assert_eq!(written.object.version(), created.version());
}

#[test]
fn the_generation_counts_changes_of_the_spec_only() {
    let rest = rest();
    create(&rest, &DEPLOYMENTS, deployment("d")).unwrap();
    let main = target(&DEPLOYMENTS, "d");
    let generation = |patch: Value, target: &Target| {
        let written = rest.patch(target, &merge(patch), &OPTIONS).unwrap();
        written.object.value()["metadata"]["generation"].clone()
    };
    assert_eq!(
        generation(json!({"metadata": {"labels": {"a": "b"}}}), &main),
        1
    );
    assert_eq!(generation(json!({"spec": {"replicas": 3}}), &main), 2);
    let status = Target {
        part: Part::Status,
        ..main
    };
    assert_eq!(generation(json!({"status": {"replicas": 3}}), &status), 2);
}

#[test]
fn the_status_is_written_by_its_subresource_alone() {
    let rest = rest();
    let mut value = deployment("d");
    value["status"] = json!({"replicas": 9});
    create(&rest, &DEPLOYMENTS, value).unwrap();
    let main = target(&DEPLOYMENTS, "d");
    let both = merge(json!({"spec": {"replicas": 3}, "status": {"replicas": 9}}));
    let written = rest.patch(&main, &both, &OPTIONS).unwrap();
    assert_eq!(written.object.value()["status"].get("replicas"), None);
    let status = Target {
        part: Part::Status,
        ..main
    };
    let both = merge(json!({"spec": {"replicas": 7}, "status": {"replicas": 9}}));
    let written = rest.patch(&status, &both, &OPTIONS).unwrap();
    assert_eq!(written.object.value()["status"]["replicas"], 9);
    assert_eq!(written.object.value()["spec"]["replicas"], 3);
}

#[test]
fn immutable_fields_stay() {
    let rest = rest();
    create(&rest, &DEPLOYMENTS, deployment("d")).unwrap();
    let patch = merge(json!({"spec": {
        "selector": {"matchLabels": {"app": "db"}},
        "template": {"metadata": {"labels": {"app": "db"}}},
    }}));
    let status = rest
        .patch(&target(&DEPLOYMENTS, "d"), &patch, &OPTIONS)
        .unwrap_err();
    assert_eq!(
        status.message,
        "Deployment.apps \"d\" is invalid: spec.selector: Invalid value: \
         {\"matchLabels\":{\"app\":\"db\"}}: field is immutable"
    );

    create(&rest, &PODS, pod("p")).unwrap();
    let image = json!({"spec": {"containers": [{"name": "c", "image": "web:2"}]}});
    rest.patch(&target(&PODS, "p"), &Patch::Strategic(image), &OPTIONS)
        .unwrap();
    let node = merge(json!({"spec": {"nodeName": "worker-1"}}));
    let status = rest
        .patch(&target(&PODS, "p"), &node, &OPTIONS)
        .unwrap_err();
    assert!(
        status
            .message
            .contains("pod updates may not change fields other than"),
        "{status}"
    );
}

#[test]
fn services_are_given_addresses_and_ports_and_keep_them() {
    let rest = rest();
    let service = |name: &str, spec: Value| {
        create(
            &rest,
            &SERVICES,
            json!({"metadata": {"name": name}, "spec": spec}),
        )
    };
    let web = service("web", json!({"type": "NodePort", "ports": [{"port": 80}]})).unwrap();
    let spec = web.value()["spec"].clone();
    let address = spec["clusterIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10."));
    assert_eq!(spec["clusterIPs"], json!([address]));
    let port = spec["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30_000..=32_767).contains(&port));
    assert_eq!(spec["ports"][0]["targetPort"], 80);

    let taken = service("db", json!({"clusterIP": address, "ports": [{"port": 80}]})).unwrap_err();
    assert!(
        taken.message.contains("provided IP is already allocated"),
        "{taken}"
    );
    let taken = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    let taken = service("db", taken).unwrap_err();
    assert!(
        taken.message.contains("provided port is already allocated"),
        "{taken}"
    );
    let outside = json!({"clusterIP": "192.0.2.1", "ports": [{"port": 80}]});
    let outside = service("db", outside).unwrap_err();
    assert!(
        outside.message.contains("is not in the valid range"),
        "{outside}"
    );

    let patch = merge(json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}]}}));
    let written = rest
        .patch(&target(&SERVICES, "web"), &patch, &OPTIONS)
        .unwrap();
    assert_eq!(written.object.value()["spec"]["clusterIP"], address);
    assert_eq!(written.object.value()["spec"]["ports"][0]["nodePort"], port);
    let patch = merge(json!({"spec": {"clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.7"]}}));
    let status = rest
        .patch(&target(&SERVICES, "web"), &patch, &OPTIONS)
        .unwrap_err();
    assert!(status.message.contains("field is immutable"), "{status}");

    let headless = json!({"clusterIP": "None", "selector": {"app": "db"}});
    let headless = service("headless", headless).unwrap();
    assert_eq!(headless.value()["spec"]["clusterIPs"], json!(["None"]));
    let patch = merge(json!({"spec": {"type": "ClusterIP"}}));
    let written = rest
        .patch(&target(&SERVICES, "web"), &patch, &OPTIONS)
        .unwrap();
    assert_eq!(
        written.object.value()["spec"]["ports"][0].get("nodePort"),
        None
    );
}

#[test]
fn a_dry_run_shows_the_result_and_stores_nothing() {
    let rest = rest();
    let dry = WriteOptions {
        mode: Mode::DryRun,
        ..OPTIONS
    };
    let written = rest.create(
        &CONFIG_MAPS,
        "default",
        json!({"metadata": {"name": "c"}}),
        &dry,
    );
    assert_eq!(written.unwrap().object.name(), "c");
    assert!(
        rest.get(&CONFIG_MAPS, &Key::new("default", "c"))
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn unknown_fields_are_warned_of_and_dropped() {
    let rest = rest();
    let warn = WriteOptions {
        validation: FieldValidation::Warn,
        ..OPTIONS
    };
    let value = json!({"metadata": {"name": "c"}, "dta": {}});
    let written = rest.create(&CONFIG_MAPS, "default", value, &warn).unwrap();
    assert_eq!(written.warnings, ["unknown field \"dta\""]);
    assert_eq!(written.object.value().get("dta"), None);
}

#[test]
fn applying_creates_changes_and_takes_back() {
    let rest = rest();
    let target = target(&CONFIG_MAPS, "c");
    let apply = |data: Value| {
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data});
        rest.apply(&target, config, OnConflict::Refuse, &OPTIONS)
            .unwrap()
    };
    assert!(apply(json!({"a": "1", "b": "2"})).created);
    let written = apply(json!({"a": "1"}));
    assert!(!written.created);
    assert_eq!(written.object.value()["data"], json!({"a": "1"}));
    assert_eq!(
        apply(json!({"a": "1"})).object.version(),
        written.object.version()
    );
}

#[test]
fn an_applied_deployment_keeps_its_defaults_unowned() {
    let rest = rest();
    let target = target(&DEPLOYMENTS, "d");
    let written = rest
        .apply(&target, deployment("d"), OnConflict::Refuse, &OPTIONS)
        .unwrap();
    let value = written.object.value();
    assert_eq!(value["spec"]["replicas"], 1);
    let fields = &value["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert!(fields.get("f:replicas").is_none());
    assert!(fields.get("f:template").is_some());
}

#[test]
fn finalizers_keep_a_deleted_object_until_the_last_is_gone() {
    let rest = rest();
    let value = json!({"metadata": {"name": "s", "finalizers": ["example.com/a"]}});
    create(&rest, &SECRETS, value).unwrap();
    let key = Key::new("default", "s");
    let deleted = rest
        .delete(&SECRETS, &key, &DeleteOptions::default())
        .unwrap();
    assert!(matches!(deleted, Deleted::Later(_)));
    assert!(rest.get(&SECRETS, &key).unwrap().is_terminating());
    let patch = merge(json!({"metadata": {"finalizers": ["example.com/b"]}}));
    let status = rest
        .patch(&target(&SECRETS, "s"), &patch, &OPTIONS)
        .unwrap_err();
    assert!(
        status.message.contains("no new finalizers can be added"),
        "{status}"
    );
    let patch = merge(json!({"metadata": {"finalizers": null}}));
    rest.patch(&target(&SECRETS, "s"), &patch, &OPTIONS)
        .unwrap();
    assert!(rest.get(&SECRETS, &key).unwrap_err().is_not_found());
}

#[test]
fn a_pod_on_a_node_ends_gracefully_and_one_without_at_once() {
    let rest = rest();
    let delete = |name: &str, grace_seconds: Option<i64>| {
        let options = DeleteOptions {
            grace_seconds,
            ..DeleteOptions::default()
        };
        rest.delete(&PODS, &Key::new("default", name), &options)
            .unwrap()
    };
    create(&rest, &PODS, pod("unbound")).unwrap();
    assert!(matches!(delete("unbound", None), Deleted::Now(_)));

    create(&rest, &PODS, pod("bound")).unwrap();
    rest.bind(&Key::new("default", "bound"), "worker-1")
        .unwrap();
    let Deleted::Later(object) = delete("bound", None) else {
        panic!("it went at once")
    };
    assert_eq!(object.value()["metadata"]["deletionGracePeriodSeconds"], 30);
    let Deleted::Later(again) = delete("bound", Some(60)) else {
        panic!("it went at once")
    };
    assert_eq!(again.version(), object.version());
    let Deleted::Later(sooner) = delete("bound", Some(5)) else {
        panic!("it went at once")
    };
    assert_eq!(sooner.value()["metadata"]["deletionGracePeriodSeconds"], 5);
    assert!(matches!(delete("bound", Some(0)), Deleted::Now(_)));
}

#[test]
fn a_pod_is_bound_once() {
    let rest = rest();
    create(&rest, &PODS, pod("p")).unwrap();
    let key = Key::new("default", "p");
    rest.bind(&key, "worker-1").unwrap();
    assert!(rest.bind(&key, "worker-2").unwrap_err().is_conflict());
    let bound = rest.get(&PODS, &key).unwrap();
    assert_eq!(bound.value()["spec"]["nodeName"], "worker-1");
    assert_eq!(
        bound.value()["status"]["conditions"][0]["type"],
        "PodScheduled"
    );
}

#[test]
fn a_scale_is_the_replicas_and_nothing_else() {
    let rest = rest();
    create(&rest, &DEPLOYMENTS, deployment("d")).unwrap();
    let target = target(&DEPLOYMENTS, "d");
    let scale = rest.patch_scale(&target, &merge(json!({"spec": {"replicas": 4}})), &OPTIONS);
    let scale = scale.unwrap();
    assert_eq!(scale["spec"]["replicas"], 4);
    assert_eq!(scale["status"]["selector"], "app=web");
    let stale = json!({"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 5}});
    assert!(
        rest.update_scale(&target, &stale, &OPTIONS)
            .unwrap_err()
            .is_conflict()
    );
}
