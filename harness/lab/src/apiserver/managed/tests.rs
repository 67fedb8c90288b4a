use serde_json::{Value, json};

use super::*;
use crate::apiserver::schema::named;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn writer(manager: &str) -> Writer<'_> {
    Writer {
        manager,
        subresource: None,
        now: NOW,
    }
}

fn applied(live: &Value, manager: &str, config: &Value) -> Value {
    try_apply(live, manager, config).unwrap()
}

fn try_apply(live: &Value, manager: &str, config: &Value) -> Result<Value, Conflicts> {
    apply(
        live,
        config,
        &writer(manager),
        OnConflict::Refuse,
        named("Deployment"),
    )
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
}

fn nothing() -> Value {
    json!({"metadata": {"name": "web"}})
}

fn containers(containers: Value) -> Value {
    deployment(json!({"template": {"spec": {"containers": containers}}}))
}

#[test]
fn the_first_apply_creates_and_owns_what_it_says() {
    let live = applied(&nothing(), "me", &deployment(json!({"replicas": 2})));
    assert_eq!(live["spec"], json!({"replicas": 2}));
    assert_eq!(
        live["metadata"]["managedFields"],
        json!([{
            "manager": "me", "operation": "Apply", "apiVersion": "apps/v1",
            "time": "1970-01-01T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }])
    );
}

#[test]
fn a_field_dropped_from_the_next_apply_is_removed() {
    let first = deployment(json!({"replicas": 2, "paused": true}));
    let live = applied(&nothing(), "me", &first);
    let live = applied(&live, "me", &deployment(json!({"replicas": 2})));
    assert_eq!(live["spec"], json!({"replicas": 2}));
}

#[test]
fn a_dropped_item_goes_with_the_defaults_that_the_server_filled_in() {
    let first = containers(json!([{"name": "a"}, {"name": "b", "image": "x"}]));
    let mut live = applied(&nothing(), "me", &first);
    live["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"] = "Always".into();
    let live = applied(&live, "me", &containers(json!([{"name": "a"}])));
    assert_eq!(live["spec"], containers(json!([{"name": "a"}]))["spec"]);
}

#[test]
fn a_dropped_struct_goes_with_its_defaults_too() {
    let first = containers(json!([{"name": "a", "readinessProbe": {"tcpSocket": {"port": 80}}}]));
    let mut live = applied(&nothing(), "me", &first);
    live["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["periodSeconds"] =
        10.into();
    let live = applied(&live, "me", &containers(json!([{"name": "a"}])));
    assert_eq!(live["spec"], containers(json!([{"name": "a"}]))["spec"]);
}

#[test]
fn what_another_manager_also_owns_stays() {
    let live = applied(
        &nothing(),
        "me",
        &deployment(json!({"replicas": 2, "paused": true})),
    );
    let live = applied(&live, "you", &deployment(json!({"replicas": 2})));
    let live = applied(&live, "me", &deployment(json!({"paused": true})));
    assert_eq!(live["spec"], json!({"replicas": 2, "paused": true}));
    let live = applied(&live, "you", &deployment(json!({})));
    assert_eq!(live["spec"], json!({"paused": true}));
}

#[test]
fn a_differing_value_is_a_conflict_unless_it_is_forced() {
    let live = applied(&nothing(), "me", &deployment(json!({"replicas": 2})));
    let config = deployment(json!({"replicas": 3}));
    let conflicts = try_apply(&live, "you", &config).unwrap_err();
    let status = conflicts.into_status();
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"me\" using apps/v1: .spec.replicas"
    );
    assert_eq!(
        status.details["causes"][0]["reason"],
        "FieldManagerConflict"
    );

    let forced = apply(
        &live,
        &config,
        &writer("you"),
        OnConflict::TakeOver,
        named("Deployment"),
    )
    .unwrap();
    assert_eq!(forced["spec"]["replicas"], 3);
    let managers = forced["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(
        managers.iter().map(|it| &it["manager"]).collect::<Vec<_>>(),
        ["you"]
    );
}

#[test]
fn ports_are_told_apart_by_number_and_protocol() {
    let port = |protocol: Option<&str>| {
        let mut port = json!({"containerPort": 53});
        if let Some(protocol) = protocol {
            port["protocol"] = protocol.into();
        }
        containers(json!([{"name": "dns", "ports": [port]}]))
    };
    let live = applied(&nothing(), "me", &port(None));
    let live = applied(&live, "you", &port(Some("UDP")));
    let ports = &live["spec"]["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(ports.as_array().unwrap().len(), 2);
    let live = applied(&live, "you", &port(Some("TCP")));
    let ports = &live["spec"]["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(ports, &json!([{"containerPort": 53, "protocol": "TCP"}]));
}

#[test]
fn an_update_takes_fields_from_an_apply() {
    let live = applied(&nothing(), "me", &deployment(json!({"replicas": 2})));
    let mut after = live.clone();
    after["spec"]["replicas"] = 5.into();
    record_update(
        Some(&live),
        &mut after,
        &writer("kubectl"),
        named("Deployment"),
    );
    let managers = after["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(managers.len(), 1);
    assert_eq!(managers[0]["manager"], "kubectl");
    assert_eq!(managers[0]["operation"], "Update");

    let conflicts = try_apply(&after, "me", &deployment(json!({"replicas": 2}))).unwrap_err();
    assert!(
        conflicts
            .into_status()
            .message
            .contains("\"kubectl\" using apps/v1")
    );
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let config = containers(json!([{"name": "a", "env": [{"name": "X", "value": "1"}]}]));
    let live = applied(&nothing(), "me", &config);
    let later = Writer {
        now: Timestamp::MAX,
        ..writer("me")
    };
    let again = apply(
        &live,
        &config,
        &later,
        OnConflict::Refuse,
        named("Deployment"),
    )
    .unwrap();
    assert_eq!(again, live);
}

#[test]
fn applied_items_keep_their_order_and_others_stay_among_them() {
    let names =
        |names: &[&str]| containers(names.iter().map(|name| json!({"name": name})).collect());
    let live = applied(&nothing(), "you", &names(&["a", "x", "c"]));
    let live = applied(&live, "me", &names(&["c", "b", "a"]));
    let list = live["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap();
    let order: Vec<_> = list.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(order, ["c", "b", "a", "x"]);
}

#[test]
fn empty_managed_fields_in_an_update_clear_the_record() {
    let live = applied(&nothing(), "me", &deployment(json!({"replicas": 2})));
    let mut after = live.clone();
    after["metadata"]["managedFields"] = json!([]);
    record_update(
        Some(&live),
        &mut after,
        &writer("kubectl"),
        named("Deployment"),
    );
    assert_eq!(after["metadata"].get("managedFields"), None);
}
