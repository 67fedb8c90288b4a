//! The specification, paragraph by paragraph.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use k8s_openapi::api::core::v1::{Namespace, Service};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::authority::Answer;

const DOMAIN: &str = "cluster.local.";

pub(in crate::cluster_dns) fn object<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn namespace(name: &str) -> Arc<Namespace> {
    object(json!({ "metadata": { "name": name } }))
}

fn service(name: &str, spec: Value) -> Arc<Service> {
    object(json!({ "metadata": { "name": name, "namespace": "default" }, "spec": spec }))
}

fn slice(service: &str, ports: Value, endpoints: Value) -> Arc<EndpointSlice> {
    object(json!({
        "metadata": {
            "name": format!("{service}-abcde"),
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    }))
}

/// What older clusters have instead of slices.
fn endpoints(service: &str, subsets: Value) -> Arc<Endpoints> {
    object(json!({ "metadata": { "name": service, "namespace": "default" }, "subsets": subsets }))
}

/// A cluster with one Service of each kind.
pub(in crate::cluster_dns) fn cluster() -> Records {
    let http = json!([{ "name": "http", "port": 80, "protocol": "TCP" }]);
    let named = json!([
        { "name": "http", "port": 8080, "protocol": "TCP" },
        { "name": "gossip", "port": 7946, "protocol": "UDP" },
    ]);
    let snapshot = Snapshot {
        namespaces: vec![namespace("default"), namespace("empty")],
        services: vec![
            service(
                "web",
                json!({ "clusterIP": "10.96.1.2", "clusterIPs": ["10.96.1.2"], "ports": http }),
            ),
            service(
                "dual",
                json!({
                    "clusterIPs": ["10.96.1.3", "fd00:96::3"],
                    "ports": [{ "port": 443 }, { "name": "metrics", "port": 9090 }],
                }),
            ),
            service("db", json!({ "clusterIP": "None", "ports": named })),
            service("idle", json!({ "clusterIP": "None", "ports": http })),
            service("portless", json!({ "clusterIP": "None" })),
            service("crowd", json!({ "clusterIP": "None", "ports": http })),
            service(
                "elsewhere",
                json!({ "type": "ExternalName", "externalName": "www.office.test" }),
            ),
            service(
                "alias",
                json!({ "type": "ExternalName", "externalName": "web.default.svc.cluster.local." }),
            ),
            service(
                "address",
                json!({ "type": "ExternalName", "externalName": "192.0.2.1" }),
            ),
            service("pending", json!({ "clusterIP": "", "ports": http })),
        ],
        slices: vec![
            slice(
                "web",
                json!([{ "name": "http", "port": 8080, "protocol": "TCP" }]),
                json!([
                    { "addresses": ["10.244.1.9"], "conditions": { "ready": true } },
                ]),
            ),
            slice(
                "db",
                json!([
                    { "name": "http", "port": 8080, "protocol": "TCP" },
                    { "name": "gossip", "port": 7946, "protocol": "UDP" },
                    { "name": "", "port": 1, "protocol": "TCP" },
                ]),
                json!([
                    { "addresses": ["10.244.1.5"], "hostname": "db-0", "conditions": { "ready": true } },
                    { "addresses": ["10.244.2.6"], "conditions": {} },
                    { "addresses": ["10.244.2.7"], "hostname": "db-2", "conditions": { "ready": false } },
                ]),
            ),
            slice(
                "idle",
                http.clone(),
                json!([{ "addresses": ["10.244.1.8"], "conditions": { "ready": false } }]),
            ),
            slice(
                "crowd",
                http,
                (1..=120)
                    .map(|last| json!({ "addresses": [format!("10.244.3.{last}")] }))
                    .collect(),
            ),
            slice(
                "portless",
                json!([]),
                json!([{ "addresses": ["10.244.1.7"] }]),
            ),
        ],
        ..Snapshot::default()
    };
    Records::of(&snapshot, &identity(), 42)
}

pub(in crate::cluster_dns) fn identity() -> Identity {
    Identity {
        domain: absolute(DOMAIN).unwrap(),
        addresses: vec!["10.244.0.2".parse().unwrap()],
    }
}

fn answer(records: &Records, name: &str, kind: RecordType) -> Answer {
    records.names.answer(&absolute(name).unwrap(), kind)
}

/// The data of an answer, in order, where there is one.
fn ask(name: &str, kind: RecordType) -> Vec<String> {
    let answer = answer(&cluster(), name, kind);
    assert_eq!(answer.code, ResponseCode::NoError, "{name}");
    sorted(&answer.answers)
}

fn sorted(records: &[hickory_proto::rr::Record]) -> Vec<String> {
    let mut data: Vec<String> = records.iter().map(|it| it.data.to_string()).collect();
    data.sort();
    data
}

fn code(name: &str, kind: RecordType) -> ResponseCode {
    let answer = answer(&cluster(), name, kind);
    assert_eq!(answer.answers.len(), 0, "{name}");
    assert_eq!(
        answer.authorities[0].record_type(),
        RecordType::SOA,
        "{name}"
    );
    answer.code
}

fn pointers(address: &str) -> Vec<String> {
    let name = address.parse::<IpAddr>().unwrap().into();
    sorted(&cluster().addresses.answer(&name, RecordType::PTR).answers)
}

#[test]
fn section_2_2_the_version_is_told() {
    let answer = answer(&cluster(), "dns-version.cluster.local", RecordType::TXT);
    assert_eq!(sorted(&answer.answers), ["1.1.0"]);
    assert_eq!(answer.answers[0].ttl, 28_800);
}

#[test]
fn section_2_3_1_a_service_has_the_address_of_its_cluster_ip() {
    assert_eq!(
        ask("web.default.svc.cluster.local", RecordType::A),
        ["10.96.1.2"]
    );
    assert_eq!(
        ask("WEB.Default.SVC.cluster.LOCAL", RecordType::A),
        ["10.96.1.2"]
    );
    assert_eq!(
        ask("dual.default.svc.cluster.local", RecordType::A),
        ["10.96.1.3"]
    );
    assert_eq!(
        ask("dual.default.svc.cluster.local", RecordType::AAAA),
        ["fd00:96::3"]
    );
    assert_eq!(
        answer(&cluster(), "web.default.svc.cluster.local", RecordType::A).answers[0].ttl,
        5
    );
}

#[test]
fn section_2_3_2_named_ports_have_srv_records() {
    let name = "_http._tcp.web.default.svc.cluster.local";
    assert_eq!(
        ask(name, RecordType::SRV),
        ["0 100 80 web.default.svc.cluster.local."]
    );
    let answer = answer(&cluster(), name, RecordType::SRV);
    assert_eq!(
        sorted(&answer.additionals),
        ["10.96.1.2"],
        "the target's address comes along"
    );
    assert_eq!(
        answer.additionals[0].name,
        absolute("web.default.svc.cluster.local").unwrap()
    );
    assert_eq!(
        code("_http._udp.web.default.svc.cluster.local", RecordType::SRV),
        ResponseCode::NXDomain
    );
    assert_eq!(
        code("_https._tcp.web.default.svc.cluster.local", RecordType::SRV),
        ResponseCode::NXDomain
    );
    assert_eq!(
        code("_._tcp.dual.default.svc.cluster.local", RecordType::SRV),
        ResponseCode::NXDomain,
        "unnamed"
    );
}

#[test]
fn beyond_the_specification_a_service_lists_all_its_ports() {
    assert_eq!(
        ask("dual.default.svc.cluster.local", RecordType::SRV),
        [
            "0 25 443 dual.default.svc.cluster.local.",
            "0 25 9090 dual.default.svc.cluster.local."
        ]
    );
    assert_eq!(
        ask("_http._tcp.web.default.svc.cluster.local", RecordType::A),
        ["10.96.1.2"]
    );
    assert_eq!(
        ask("10-244-1-9.web.default.svc.cluster.local", RecordType::A),
        ["10.244.1.9"]
    );
}

#[test]
fn section_2_3_3_cluster_ips_have_names() {
    assert_eq!(pointers("10.96.1.2"), ["web.default.svc.cluster.local."]);
    assert_eq!(pointers("fd00:96::3"), ["dual.default.svc.cluster.local."]);
    assert_eq!(pointers("10.96.1.99"), [""; 0]);
}

#[test]
fn section_2_4_1_a_headless_service_has_the_addresses_of_all_ready_endpoints() {
    assert_eq!(
        ask("db.default.svc.cluster.local", RecordType::A),
        ["10.244.1.5", "10.244.2.6"]
    );
    assert_eq!(
        ask("db-0.db.default.svc.cluster.local", RecordType::A),
        ["10.244.1.5"]
    );
    assert_eq!(
        ask("10-244-2-6.db.default.svc.cluster.local", RecordType::A),
        ["10.244.2.6"]
    );
    assert_eq!(
        code("10-244-1-5.db.default.svc.cluster.local", RecordType::A),
        ResponseCode::NXDomain
    );
    assert_eq!(
        code("db-2.db.default.svc.cluster.local", RecordType::A),
        ResponseCode::NXDomain,
        "not ready"
    );
    assert_eq!(
        ask("portless.default.svc.cluster.local", RecordType::A),
        ["10.244.1.7"]
    );
    assert_eq!(
        code("db.default.svc.cluster.local", RecordType::AAAA),
        ResponseCode::NoError
    );
}

/// The specification says `NXDOMAIN` since kubernetes/dns#245, because CoreDNS and kube-dns did.
#[test]
fn section_2_4_1_without_ready_endpoints_there_is_no_such_name() {
    assert_eq!(
        code("idle.default.svc.cluster.local", RecordType::A),
        ResponseCode::NXDomain
    );
    assert_eq!(
        code("_http._tcp.idle.default.svc.cluster.local", RecordType::SRV),
        ResponseCode::NXDomain
    );
}

#[test]
fn section_2_4_2_each_endpoint_and_named_port_has_an_srv_record() {
    let name = "_http._tcp.db.default.svc.cluster.local";
    assert_eq!(
        ask(name, RecordType::SRV),
        [
            "0 50 8080 10-244-2-6.db.default.svc.cluster.local.",
            "0 50 8080 db-0.db.default.svc.cluster.local.",
        ]
    );
    let answer = answer(&cluster(), name, RecordType::SRV);
    assert_eq!(sorted(&answer.additionals), ["10.244.1.5", "10.244.2.6"]);
    assert_eq!(
        ask("_gossip._udp.db.default.svc.cluster.local", RecordType::SRV).len(),
        2
    );
    assert_eq!(
        ask("db.default.svc.cluster.local", RecordType::SRV).len(),
        6
    );
}

#[test]
fn section_2_4_3_endpoints_have_names() {
    assert_eq!(
        pointers("10.244.1.5"),
        ["db-0.db.default.svc.cluster.local."]
    );
    assert_eq!(
        pointers("10.244.2.6"),
        ["10-244-2-6.db.default.svc.cluster.local."]
    );
    assert_eq!(pointers("10.244.2.7"), [""; 0], "not ready");
    assert_eq!(
        pointers("10.244.1.9"),
        [""; 0],
        "behind a virtual address, without a name of its own"
    );
}

#[test]
fn section_2_5_an_external_name_is_an_alias() {
    let out = answer(
        &cluster(),
        "elsewhere.default.svc.cluster.local",
        RecordType::A,
    );
    assert_eq!(sorted(&out.answers), ["www.office.test."]);
    assert_eq!(
        out.leads_to,
        absolute("www.office.test"),
        "others know the rest"
    );
    assert_eq!(
        ask("elsewhere.default.svc.cluster.local", RecordType::CNAME),
        ["www.office.test."]
    );
    assert_eq!(
        ask("alias.default.svc.cluster.local", RecordType::A),
        ["10.96.1.2", "web.default.svc.cluster.local."]
    );
    assert_eq!(
        code("address.default.svc.cluster.local", RecordType::A),
        ResponseCode::NXDomain
    );
}

#[test]
fn section_2_6_a_pod_has_the_address_that_its_name_says() {
    assert_eq!(
        ask("10-244-9-9.default.pod.cluster.local", RecordType::A),
        ["10.244.9.9"]
    );
    assert_eq!(
        ask("10-244-9-9.EMPTY.Pod.cluster.local", RecordType::A),
        ["10.244.9.9"]
    );
    assert_eq!(
        ask("fd00--1.default.pod.cluster.local", RecordType::AAAA),
        ["fd00::1"]
    );
    assert_eq!(
        code("10-244-9-9.default.pod.cluster.local", RecordType::AAAA),
        ResponseCode::NoError
    );
    for missing in [
        "10-244-9-999.default.pod.cluster.local",
        "pod-name.default.pod.cluster.local",
        "10-244-9-9.nowhere.pod.cluster.local",
        "x.10-244-9-9.default.pod.cluster.local",
        "10-244-9-9.default.svc.cluster.local",
    ] {
        assert_eq!(
            code(missing, RecordType::A),
            ResponseCode::NXDomain,
            "{missing}"
        );
    }
}

#[test]
fn names_with_something_below_are_there_and_others_are_not() {
    for there in [
        "cluster.local",
        "svc.cluster.local",
        "pod.cluster.local",
        "default.svc.cluster.local",
        "empty.svc.cluster.local",
        "empty.pod.cluster.local",
        "_tcp.web.default.svc.cluster.local",
        "web.default.svc.cluster.local",
    ] {
        assert_eq!(
            code(there, RecordType::TXT),
            ResponseCode::NoError,
            "{there}"
        );
    }
    for missing in [
        "nowhere.svc.cluster.local",
        "web.nowhere.svc.cluster.local",
        "missing.default.svc.cluster.local",
        "pending.default.svc.cluster.local",
        "web.default.cluster.local",
        "default.cluster.local",
        "a.b.c.d.svc.cluster.local",
    ] {
        assert_eq!(
            code(missing, RecordType::A),
            ResponseCode::NXDomain,
            "{missing}"
        );
    }
}

#[test]
fn the_zone_names_its_server() {
    assert_eq!(
        ask("cluster.local", RecordType::SOA),
        ["ns.dns.cluster.local. hostmaster.cluster.local. 42 7200 1800 86400 5"]
    );
    assert_eq!(
        ask("cluster.local", RecordType::NS),
        ["ns.dns.cluster.local."]
    );
    assert_eq!(
        ask("ns.dns.cluster.local", RecordType::A),
        ["10.244.0.2"],
        "no Service leads here"
    );
    let dns = Snapshot {
        services: vec![service("kube-dns", json!({ "clusterIP": "10.96.0.10" }))],
        slices: vec![slice(
            "kube-dns",
            json!([]),
            json!([{ "addresses": ["10.244.0.2"] }]),
        )],
        ..Snapshot::default()
    };
    let records = Records::of(&dns, &identity(), 1);
    let served = answer(&records, "ns.dns.cluster.local", RecordType::A);
    assert_eq!(sorted(&served.answers), ["10.96.0.10"]);
}

#[test]
fn endpoints_of_several_slices_come_together() {
    let endpoint = |address: &str| json!([{ "addresses": [address] }]);
    let snapshot = Snapshot {
        services: vec![service("db", json!({ "clusterIP": "None" }))],
        slices: vec![
            slice("db", json!([]), endpoint("10.244.1.1")),
            slice("db", json!([]), endpoint("10.244.1.2")),
            // The same endpoint may stand in two slices for a moment.
            slice("db", json!([]), endpoint("10.244.1.2")),
        ],
        ..Snapshot::default()
    };
    let records = Records::of(&snapshot, &identity(), 1);
    let found = answer(&records, "db.default.svc.cluster.local", RecordType::A);
    assert_eq!(sorted(&found.answers), ["10.244.1.1", "10.244.1.2"]);
}

#[test]
fn endpoints_say_what_slices_say() {
    let db = || vec![service("db", json!({ "clusterIP": "None" }))];
    let ports = json!([{ "name": "http", "port": 8080, "protocol": "TCP" }]);
    let new = Snapshot {
        services: db(),
        slices: vec![slice(
            "db",
            ports.clone(),
            json!([
                { "addresses": ["10.244.1.1"], "hostname": "db-0" },
                { "addresses": ["10.244.1.2"] },
                { "addresses": ["10.244.1.3"], "conditions": { "ready": false } },
            ]),
        )],
        ..Snapshot::default()
    };
    let old = Snapshot {
        services: db(),
        endpoints: vec![endpoints(
            "db",
            json!([{
                "addresses": [{ "ip": "10.244.1.1", "hostname": "db-0" }, { "ip": "10.244.1.2" }],
                "notReadyAddresses": [{ "ip": "10.244.1.3" }],
                "ports": ports,
            }]),
        )],
        ..Snapshot::default()
    };
    let [new, old] = [new, old].map(|it| Records::of(&it, &identity(), 1));
    for (name, kind, count) in [
        ("db.default.svc.cluster.local", RecordType::A, 2),
        ("db-0.db.default.svc.cluster.local", RecordType::A, 1),
        ("10-244-1-2.db.default.svc.cluster.local", RecordType::A, 1),
        ("10-244-1-3.db.default.svc.cluster.local", RecordType::A, 0),
        (
            "_http._tcp.db.default.svc.cluster.local",
            RecordType::SRV,
            2,
        ),
    ] {
        let answers = sorted(&answer(&old, name, kind).answers);
        assert_eq!(answers, sorted(&answer(&new, name, kind).answers), "{name}");
        assert_eq!(answers.len(), count, "{name}");
    }
}

proptest! {
    #[test]
    fn no_question_makes_it_panic(
        labels in proptest::collection::vec("[-_a-zA-Z0-9]{1,12}", 0..6),
        known in prop_oneof![Just("default.svc.cluster.local"), Just("default.pod.cluster.local"), Just("db.default.svc.cluster.local")],
        kind: u16,
    ) {
        let name = Name::from_labels(labels.iter().map(String::as_bytes).chain(known.split('.').map(str::as_bytes)));
        let answer = cluster().names.answer(&name.unwrap(), kind.into());
        prop_assert!(!answer.answers.is_empty() || !answer.authorities.is_empty());
    }

    #[test]
    fn no_object_makes_it_panic(name in "\\PC{0,70}", hostname in "\\PC{0,70}", external in "\\PC{0,70}", port: i32) {
        let snapshot = Snapshot {
            namespaces: vec![namespace(&name)],
            services: vec![
                service(&name, json!({ "clusterIP": "None", "ports": [{ "name": name, "port": port }] })),
                service("x", json!({ "type": "ExternalName", "externalName": external })),
                service("y", json!({ "clusterIP": hostname })),
            ],
            slices: vec![slice(&name, json!([{ "name": hostname, "port": port, "protocol": external }]), json!([
                { "addresses": ["10.244.1.1", external], "hostname": hostname },
            ]))],
            endpoints: vec![endpoints(&name, json!([{
                "addresses": [{ "ip": "10.244.1.2", "hostname": hostname }, { "ip": external }],
                "ports": [{ "name": hostname, "port": port, "protocol": external }],
            }]))],
        };
        let _ = Records::of(&snapshot, &identity(), 1);
    }
}
