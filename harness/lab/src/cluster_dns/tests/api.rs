//! A made-up API that lists and is watched.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request as HttpRequest, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::cluster_dns::records::tests::identity;

/// Where an API says what serves a Service.
#[derive(Clone, Copy)]
enum Age {
    /// In slices.
    New,
    /// In Endpoints, as before Kubernetes 1.21.
    Old,
}

/// Serves one Service with one endpoint, and what is sent to `events` to whoever watches Services.
async fn api(age: Age, events: broadcast::Sender<Value>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let events = events.clone();
            let answer = service_fn(move |request: HttpRequest<Incoming>| {
                let answer = answer(age, &request, &events);
                std::future::ready(Ok::<_, Infallible>(answer))
            });
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer);
            tokio::spawn(async move { drop(serving.await) });
        }
    });
    address
}

fn answer(
    age: Age,
    request: &HttpRequest<Incoming>,
    events: &broadcast::Sender<Value>,
) -> Response<BoxBody<Bytes, Infallible>> {
    let path = request.uri().path();
    let services = path == "/api/v1/services";
    if request
        .uri()
        .query()
        .is_some_and(|query| query.contains("watch=true"))
    {
        let events = services.then(|| events.subscribe());
        let lines = futures_util::stream::unfold(events, |events| async {
            let Some(mut events) = events else {
                return std::future::pending().await;
            };
            let event = events.recv().await.ok()?;
            Some((
                Ok(Frame::data(Bytes::from(format!("{event}\n")))),
                Some(events),
            ))
        });
        return Response::new(http_body_util::BodyExt::boxed(StreamBody::new(lines)));
    }
    let (version, kind, items) = match (path, age) {
        ("/apis/discovery.k8s.io/v1", Age::New) => {
            return json_of(json!({
                "apiVersion": "v1",
                "kind": "APIResourceList",
                "groupVersion": "discovery.k8s.io/v1",
                "resources": [],
            }));
        }
        ("/apis/discovery.k8s.io/v1", Age::Old) => {
            let mut missing = json_of(json!("404 page not found"));
            *missing.status_mut() = StatusCode::NOT_FOUND;
            return missing;
        }
        ("/api/v1/services", _) => ("v1", "ServiceList", vec![service("web", "10.96.1.2", "1")]),
        ("/api/v1/namespaces", _) => ("v1", "NamespaceList", vec![]),
        ("/apis/discovery.k8s.io/v1/endpointslices", Age::New) => (
            "discovery.k8s.io/v1",
            "EndpointSliceList",
            vec![json!({
                "metadata": {
                    "name": "web-abcde",
                    "namespace": "default",
                    "labels": { "kubernetes.io/service-name": "web" },
                },
                "addressType": "IPv4",
                "endpoints": [{ "addresses": ["10.244.1.1"], "hostname": "web-0" }],
            })],
        ),
        ("/api/v1/endpoints", Age::Old) => (
            "v1",
            "EndpointsList",
            vec![json!({
                "metadata": { "name": "web", "namespace": "default" },
                "subsets": [{ "addresses": [{ "ip": "10.244.1.1", "hostname": "web-0" }] }],
            })],
        ),
        (other, _) => panic!("`{other}` is more than the role's rights allow"),
    };
    json_of(json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": { "resourceVersion": "1" },
        "items": items,
    }))
}

fn json_of(value: Value) -> Response<BoxBody<Bytes, Infallible>> {
    Response::new(Full::new(Bytes::from(value.to_string())).boxed())
}

fn service(name: &str, address: &str, version: &str) -> Value {
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": "default", "resourceVersion": version },
        "spec": { "clusterIP": address },
    });
    // It must be one, or the test would show nothing.
    let _: Arc<Service> = records::tests::object(service.clone());
    service
}

#[tokio::test]
async fn answers_follow_the_api() {
    let (events, _) = broadcast::channel(16);
    let (dns, server, _serving) = unready();
    assert_eq!(
        show_ready("/ready", &dns).status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    let _following = follow(api(Age::New, events.clone()).await, &dns);

    let listed = until(server, "web.default.svc.cluster.local", "10.96.1.2").await;
    assert!(listed.metadata.authoritative);
    assert_eq!(show_ready("/ready", &dns).status(), StatusCode::OK);

    // The watch begins a moment after the list, and what nobody watches is lost here.
    while events.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    events
        .send(json!({ "type": "ADDED", "object": service("new", "10.96.1.3", "2") }))
        .unwrap();
    until(server, "new.default.svc.cluster.local", "10.96.1.3").await;
    events
        .send(json!({ "type": "MODIFIED", "object": service("new", "10.96.1.4", "3") }))
        .unwrap();
    until(server, "new.default.svc.cluster.local", "10.96.1.4").await;
    events
        .send(json!({ "type": "DELETED", "object": service("new", "10.96.1.4", "4") }))
        .unwrap();
    until(server, "new.default.svc.cluster.local", "NXDomain").await;
    until(server, "web.default.svc.cluster.local", "10.96.1.2").await;
}

#[tokio::test]
async fn an_api_of_any_age_says_where_a_service_is_served() {
    for age in [Age::New, Age::Old] {
        let (events, _) = broadcast::channel(16);
        let (dns, server, _serving) = unready();
        let _following = follow(api(age, events.clone()).await, &dns);
        until(server, "web-0.web.default.svc.cluster.local", "10.244.1.1").await;
    }
}

/// A server that has no records yet.
fn unready() -> (Arc<ClusterDns>, SocketAddr, Server) {
    let dns = Arc::new(ClusterDns::new(identity().domain, None));
    let answering = dns.clone();
    let (server, serving) =
        serve(move |bytes: &[u8], reply: Reply| answering.respond(bytes, reply));
    (dns, server, serving)
}

/// Follows the API at an address until it is dropped.
fn follow(api: SocketAddr, dns: &Arc<ClusterDns>) -> AbortOnDropHandle<watch::WatchError> {
    let config = kube::Config::new(format!("http://{api}").parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let dns = dns.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        watch::follow(client, identity(), &dns).await
    }))
}

/// Asks until the answer is, or its code reads, `wanted`.
async fn until(server: SocketAddr, name: &str, wanted: &str) -> Message {
    let asking = async {
        loop {
            let answer = ask(server, &question(name, RecordType::A)).await;
            let code = format!("{:?}", answer.metadata.response_code);
            let data = answer
                .answers
                .first()
                .map_or(code, |it| it.data.to_string());
            if data == wanted {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, asking)
        .await
        .unwrap_or_else(|_| panic!("`{name}` never was {wanted}"))
}
