//! Requests to kubelets: logs, exec, attach, port-forward, and their own HTTP paths.
//!
//! Upgrades are of one protocol from end to end: the handshake is passed on, and after it the bytes. That is
//! WebSocket, and for port-forward SPDY too, by itself or inside of a WebSocket, which a real API server takes
//! it out of. SPDY is not spoken for exec and attach; who asks for it is told so.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::TryStreamExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, BodyStream, Limited};
use hyper::body::Incoming;
use inroads_harness::access::Secret;
use k8s_openapi::api::core::v1::{Node, Pod};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    connect, remove_hop_by_hop, restore_upgrade, send,
    upgrade::{self, Tunnels},
    wanted_upgrade,
};
use crate::apiserver::{
    kinds::Kind,
    object::Key,
    registry::{NODES, PODS},
    respond::{self, Body},
    rest::Rest,
    route::Query,
    status::Status,
};

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
const ERROR_LIMIT: usize = 64 * 1024;
const SPDY: &str = "spdy/3.1";

/// How kubelets are reached.
pub(crate) struct Kubelets {
    tls: TlsConnector,
    token: Secret<String>,
    pub(crate) tunnels: Tunnels,
}

/// A stream between a client and a container, or between a client and a pod's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Exec,
    Attach,
    PortForward,
}

impl Kubelets {
    pub(crate) fn new(
        tls: Arc<rustls::ClientConfig>,
        token: Secret<String>,
        tunnels: Tunnels,
    ) -> Self {
        Self {
            tls: TlsConnector::from(tls),
            token,
            tunnels,
        }
    }

    /// `pods/NAME/log`
    pub(crate) async fn log(
        &self,
        rest: &Rest,
        pod: &Key,
        query: &Query,
    ) -> Result<Response<Body>, Status> {
        let found = rest.get(&PODS, pod)?.typed::<Pod>();
        let container = choose_container(&found, query.get("container"))?;
        const PASSED: [&str; 8] = [
            "follow",
            "limitBytes",
            "previous",
            "sinceSeconds",
            "sinceTime",
            "stream",
            "tailLines",
            "timestamps",
        ];
        let path = format!("/containerLogs/{}/{}/{container}", pod.namespace, pod.name);
        let request = request("GET", &path_with(&path, query, &PASSED))?;
        let answer = self.send(rest, &node_of(&found)?, request).await?;
        let answer = checked(answer, StatusCode::OK).await?;
        let chunks = BodyStream::new(answer.into_body())
            .try_filter_map(async |frame| Ok(frame.into_data().ok()))
            .map_err(Into::into);
        let mut response = respond::stream(chunks);
        let text = HeaderValue::from_static("text/plain");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        Ok(response)
    }

    /// `pods/NAME/exec`, `…/attach`, `…/portforward`
    pub(crate) async fn stream<B>(
        &self,
        rest: &Rest,
        pod: &Key,
        stream: Stream,
        query: &Query,
        mut client: Request<B>,
    ) -> Result<Response<Body>, Status> {
        let protocol = upgrade_of(stream, client.headers())?;
        let found = rest.get(&PODS, pod)?.typed::<Pod>();
        let of_container = |verb: &str, passed: &[&str]| {
            let container = choose_container(&found, query.get("container"))?;
            let path = format!("/{verb}/{}/{}/{container}", pod.namespace, pod.name);
            Ok::<_, Status>(path_with(&path, query, passed))
        };
        let path = match stream {
            Stream::Exec => of_container("exec", &["command", "stdin", "stdout", "stderr", "tty"])?,
            Stream::Attach => of_container("attach", &["stdin", "stdout", "stderr", "tty"])?,
            Stream::PortForward => {
                let path = format!("/portForward/{}/{}", pod.namespace, pod.name);
                path_with(&path, query, &["ports"])
            }
        };
        let mut request = request("GET", &path)?;
        copy_handshake(protocol, client.headers(), request.headers_mut());
        let upgraded = upgrade::on_client(&mut client);
        let answer = self.send(rest, &node_of(&found)?, request).await?;
        let answer = checked(answer, StatusCode::SWITCHING_PROTOCOLS).await?;
        Ok(upgrade::tunnel(upgraded, answer, &self.tunnels))
    }

    /// `nodes/NAME/proxy/PATH`: any request, for a kubelet's own paths.
    pub(super) async fn send(
        &self,
        rest: &Rest,
        node: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Status> {
        let node = rest.get(&NODES, &Key::new("", node))?.typed::<Node>();
        let address = kubelet_address(&node)?;
        let token = HeaderValue::from_str(&format!("Bearer {}", self.token.expose()));
        let mut token = token.map_err(|error| Status::internal(error.to_string()))?;
        token.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, token);
        let host = HeaderValue::from_str(&address.to_string());
        request.headers_mut().insert(
            header::HOST,
            host.map_err(|error| Status::internal(error.to_string()))?,
        );
        send(self.connect(address).await?, request).await
    }

    async fn connect(&self, address: SocketAddr) -> Result<TlsStream<TcpStream>, Status> {
        let stream = connect(address).await?;
        let name = ServerName::IpAddress(address.ip().into());
        let failed = |why: &dyn std::fmt::Display| {
            Status::service_unavailable(format!("error dialing kubelet {address}: {why}"))
        };
        let shaken = timeout(HANDSHAKE_LIMIT, self.tls.connect(name, stream)).await;
        shaken
            .map_err(|elapsed| failed(&elapsed))?
            .map_err(|error| failed(&error))
    }
}

/// The protocol to change to. Who wants one that the lab does not speak is told which it does.
fn upgrade_of(stream: Stream, headers: &HeaderMap) -> Result<&'static str, Status> {
    const ADVICE: &str = "here the lab speaks WebSocket only: use kubectl 1.31 or newer, or the v4.channel.k8s.io protocol";
    match (wanted_upgrade(headers).as_deref(), stream) {
        (Some("websocket"), _) => Ok("websocket"),
        (Some(SPDY), Stream::PortForward) => Ok(SPDY),
        (Some(other), _) => Err(Status::bad_request(format!(
            "cannot upgrade to {other}: {ADVICE}"
        ))),
        (None, _) => Err(Status::bad_request("Upgrade request required")),
    }
}

fn copy_handshake(protocol: &str, from: &HeaderMap, to: &mut HeaderMap) {
    restore_upgrade(to, protocol);
    let of_it = ["sec-websocket-", "x-stream-protocol-"];
    let handshake = from
        .iter()
        .filter(|(name, _)| of_it.iter().any(|begin| name.as_str().starts_with(begin)));
    for (name, value) in handshake {
        to.append(name.clone(), value.clone());
    }
    if let Some(origin) = from.get(header::ORIGIN) {
        to.insert(header::ORIGIN, origin.clone());
    }
}

/// The container that was named, or the only one.
fn choose_container(pod: &Pod, named: Option<&str>) -> Result<String, Status> {
    let spec = pod.spec.clone().unwrap_or_default();
    let names: Vec<_> = spec.containers.iter().map(|it| it.name.clone()).collect();
    let first = spec
        .init_containers
        .iter()
        .flatten()
        .map(|it| it.name.clone());
    match named {
        Some(named) if names.iter().cloned().chain(first).any(|name| name == named) => {
            Ok(named.to_owned())
        }
        Some(named) => Err(Status::bad_request(format!(
            "container {named} is not valid for pod {}",
            pod.name()
        ))),
        None => match names.as_slice() {
            [only] => Ok(only.clone()),
            several => Err(Status::bad_request(format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                pod.name(),
                several.join(" ")
            ))),
        },
    }
}

fn node_of(pod: &Pod) -> Result<String, Status> {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    node.filter(|node| !node.is_empty()).ok_or_else(|| {
        Status::bad_request(format!("pod {} does not have a host assigned", pod.name()))
    })
}

fn kubelet_address(node: &Node) -> Result<SocketAddr, Status> {
    let status = node.status.as_ref();
    let mut addresses = status
        .into_iter()
        .flat_map(|it| it.addresses.iter().flatten());
    let address = addresses.find(|address| address.type_ == "InternalIP");
    let address = address.and_then(|address| address.address.parse::<IpAddr>().ok());
    let endpoint = status.and_then(|status| status.daemon_endpoints.as_ref());
    let port = endpoint.and_then(|endpoints| endpoints.kubelet_endpoint.as_ref());
    let port = port.and_then(|endpoint| u16::try_from(endpoint.port).ok());
    let (Some(address), Some(port)) = (address, port) else {
        let message = format!(
            "no preferred addresses found; known addresses of node {}: []",
            node.name()
        );
        return Err(Status::service_unavailable(message));
    };
    Ok(SocketAddr::new(address, port))
}

fn path_with(path: &str, query: &Query, passed: &[&str]) -> String {
    let encode =
        |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
    let pairs: Vec<_> = passed
        .iter()
        .flat_map(|name| {
            query
                .all(name)
                .map(move |value| format!("{name}={}", encode(value)))
        })
        .collect();
    if pairs.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", pairs.join("&"))
    }
}

fn request(method: &str, path: &str) -> Result<Request<Body>, Status> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(respond::full(Default::default()));
    request
        .map_err(|error| Status::bad_request(format!("cannot ask the kubelet for {path}: {error}")))
}

/// The kubelet's answer, if it is the one that was hoped for; else what it says went wrong.
async fn checked(
    answer: Response<Incoming>,
    wanted: StatusCode,
) -> Result<Response<Incoming>, Status> {
    let code = answer.status();
    if code == wanted {
        return Ok(answer);
    }
    let said = Limited::new(answer.into_body(), ERROR_LIMIT)
        .collect()
        .await;
    let said = said.map(|body| body.to_bytes()).unwrap_or_default();
    let message = match serde_json::from_slice::<Value>(&said) {
        Ok(status) if status["kind"] == "Status" => {
            status["message"].as_str().unwrap_or_default().to_owned()
        }
        _ => String::from_utf8_lossy(&said).trim().to_owned(),
    };
    let message = if message.is_empty() {
        format!("the kubelet answered {code}")
    } else {
        message
    };
    Err(Status::of_code(code, message))
}

/// Passes a request on to a kubelet's own path.
pub(super) async fn forward(
    kubelets: &Kubelets,
    rest: &Rest,
    node: &str,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let upgrade = wanted_upgrade(request.headers());
    let client = upgrade::on_client(&mut request);
    remove_hop_by_hop(request.headers_mut());
    if let Some(protocol) = &upgrade {
        restore_upgrade(request.headers_mut(), protocol);
    }
    let answer = kubelets.send(rest, node, request).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(upgrade::tunnel(client, answer, &kubelets.tunnels));
    }
    Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn headers(upgrade: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONNECTION,
            HeaderValue::from_static("keep-alive, Upgrade"),
        );
        headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
        headers
    }

    #[test]
    fn websockets_pass_and_spdy_for_port_forward_alone() {
        for stream in [Stream::PortForward, Stream::Exec, Stream::Attach] {
            let asked = |headers: &HeaderMap| upgrade_of(stream, headers);
            assert_eq!(asked(&headers("websocket")).unwrap(), "websocket");
            let none = asked(&HeaderMap::new()).unwrap_err();
            assert_eq!(none.message, "Upgrade request required");
            let spdy = asked(&headers("SPDY/3.1"));
            if stream == Stream::PortForward {
                assert_eq!(spdy.unwrap(), SPDY);
            } else {
                let refused = spdy.unwrap_err().message;
                assert!(refused.contains("speaks WebSocket only"), "{refused}");
            }
        }
    }

    #[test]
    fn a_container_must_be_named_where_there_are_several() {
        let pod = |names: &[&str]| {
            let containers: Value = names.iter().map(|name| json!({"name": name})).collect();
            let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": containers}});
            serde_json::from_value::<Pod>(pod).unwrap()
        };
        assert_eq!(choose_container(&pod(&["a"]), None).unwrap(), "a");
        assert_eq!(choose_container(&pod(&["a", "b"]), Some("b")).unwrap(), "b");
        assert_eq!(
            choose_container(&pod(&["a", "b"]), None)
                .unwrap_err()
                .message,
            "a container name must be specified for pod p, choose one of: [a b]"
        );
        assert_eq!(
            choose_container(&pod(&["a"]), Some("x"))
                .unwrap_err()
                .message,
            "container x is not valid for pod p"
        );
    }

    #[test]
    fn parameters_are_passed_on_encoded() {
        let query = Query::parse("command=sh&command=a%20%26b&container=c&stdin=true");
        assert_eq!(
            path_with("/exec/n/p/c", &query, &["command", "stdin"]),
            "/exec/n/p/c?command=sh&command=a%20%26b&stdin=true"
        );
    }
}
