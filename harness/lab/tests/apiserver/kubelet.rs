//! A kubelet that pretends: pods bound to its node become ready, deleted ones go, and its HTTP paths
//! answer with real bytes.

use std::{convert::Infallible, process::Stdio, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, Stream, StreamExt, TryStreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use inroads_lab::pki::Authority;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use crate::cluster::NODE;

pub(crate) const TOKEN: &str = "kubelet-token";

type Body = BoxBody<Bytes, Infallible>;

pub(crate) struct Kubelet {
    tasks: Vec<AbortHandle>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Kubelet {
    pub(crate) async fn start(authority: &Authority, client: Client) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let identity = authority
            .issue_kubelet(NODE, ["127.0.0.1".parse().unwrap()])
            .unwrap();
        let tls = TlsAcceptor::from(identity.server_config(&["http/1.1"]).unwrap());
        let serving = tokio::spawn(serve(listener, tls)).abort_handle();
        register(&client, port).await;
        let running = tokio::spawn(run_pods(client)).abort_handle();
        Self {
            tasks: vec![serving, running],
        }
    }
}

async fn register(client: &Client, port: u16) {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "nodeInfo": {
                "kubeletVersion": "v1.33.0", "osImage": "test", "kernelVersion": "6", "bootID": "",
                "architecture": "amd64", "containerRuntimeVersion": "none://1", "machineID": "",
                "kubeProxyVersion": "", "operatingSystem": "linux", "systemUUID": "",
            },
        },
    }))
    .unwrap();
    Api::all(client.clone())
        .create(&PostParams::default(), &node)
        .await
        .unwrap();
}

/// Follows the node's pods, as a kubelet does.
async fn run_pods(client: Client) {
    let pods: Api<Pod> = Api::all(client.clone());
    let mine = watcher::Config::default().fields(&format!("spec.nodeName={NODE}"));
    let mut changes = watcher(pods, mine)
        .default_backoff()
        .applied_objects()
        .boxed();
    while let Some(pod) = changes.try_next().await.unwrap() {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
        let name = pod.name_any();
        if pod.metadata.deletion_timestamp.is_some() {
            let _gone_already = pods
                .delete(&name, &DeleteParams::default().grace_period(0))
                .await;
        } else if pod.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Pending") {
            let status = json!({"status": status_of(&pod)});
            let params = PatchParams::default();
            let _gone = pods
                .patch_status(&name, &params, &Patch::Strategic(status))
                .await;
        }
    }
}

/// Pods of the image `job` end at once, pods of `broken` never start, all others serve.
fn status_of(pod: &Pod) -> Value {
    let containers = &pod.spec.as_ref().unwrap().containers;
    let image = containers[0].image.clone().unwrap_or_default();
    let (phase, ready, state) = match image.split(':').next() {
        Some("job") => (
            "Succeeded",
            false,
            json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
        ),
        Some("broken") => (
            "Pending",
            false,
            json!({"waiting": {"reason": "ImagePullBackOff", "message": "no"}}),
        ),
        _ => (
            "Running",
            true,
            json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
        ),
    };
    let now = jiff::Timestamp::now().to_string();
    let statuses: Value = containers
        .iter()
        .map(|container| {
            json!({
                "name": container.name, "image": image, "imageID": "", "ready": ready,
                "restartCount": 0, "started": ready, "state": state,
            })
        })
        .collect();
    let condition = |ty: &str| {
        let status = if ready { "True" } else { "False" };
        json!({"type": ty, "status": status, "lastTransitionTime": now})
    };
    json!({
        "phase": phase, "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "hostIP": "127.0.0.1",
        "startTime": now, "containerStatuses": statuses,
        "conditions": [condition("Initialized"), condition("Ready"), condition("ContainersReady")],
    })
}

async fn serve(listener: TcpListener, tls: TlsAcceptor) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let tls = tls.clone();
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(request)) });
            let _closed = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

fn answer(request: Request<Incoming>) -> Response<Body> {
    let expected = format!("Bearer {TOKEN}");
    let token = request.headers().get(header::AUTHORIZATION);
    if token.is_none_or(|token| token != expected.as_str()) {
        return text(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let steps: Vec<_> = path.split('/').skip(1).collect();
    match steps.as_slice() {
        ["containerLogs", _, pod, _] => logs(pod, &query),
        ["portForward", _, _] => upgrade(request, "v4.channel.k8s.io", move |socket| {
            port_forward(socket, ports(&query))
        }),
        ["exec", ..] => upgrade(request, "v5.channel.k8s.io", move |socket| {
            exec(socket, query)
        }),
        _ => {
            let (method, headers) = (request.method(), request.headers());
            let seen = json!({"method": method.as_str(), "path": path, "query": query,
                "authorized": headers.contains_key(header::AUTHORIZATION)});
            text(StatusCode::OK, seen.to_string())
        }
    }
}

fn logs(pod: &str, query: &str) -> Response<Body> {
    if pod == "silent" {
        let why = "container \"c\" in pod \"silent\" is waiting to start: ContainerCreating";
        return text(StatusCode::BAD_REQUEST, why);
    }
    let first = stream::iter(["one\n", "two\n", "three\n"]);
    let rest = stream::once(async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        "four\n"
    });
    if query.contains("follow=true") {
        chunked(first.chain(rest))
    } else if query.contains("tailLines=1") {
        text(StatusCode::OK, "three\n")
    } else {
        chunked(first)
    }
}

/// Answers a WebSocket handshake by hand, and runs the socket.
fn upgrade<F>(
    mut request: Request<Incoming>,
    protocol: &'static str,
    run: impl FnOnce(Socket) -> F + Send + 'static,
) -> Response<Body>
where
    F: Future<Output = ()> + Send,
{
    let headers: &HeaderMap = request.headers();
    let offered = headers
        .get(header::SEC_WEBSOCKET_PROTOCOL)
        .map(HeaderValue::as_bytes);
    let offered = String::from_utf8_lossy(offered.unwrap_or_default()).into_owned();
    assert_eq!(request.method(), Method::GET);
    assert!(
        offered.split(',').any(|it| it.trim() == protocol),
        "offered {offered}"
    );
    let key = derive_accept_key(headers[header::SEC_WEBSOCKET_KEY].as_bytes());
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = TokioIo::new(upgraded.await.unwrap());
        run(WebSocketStream::from_raw_socket(stream, Role::Server, None).await).await;
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, key)
        .header(header::SEC_WEBSOCKET_PROTOCOL, protocol)
        .body(Full::new(Bytes::new()).boxed())
        .unwrap()
}

/// `kubectl` takes a close without a code for a broken connection.
fn goodbye() -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }))
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

fn ports(query: &str) -> Vec<u16> {
    let ports = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("ports="));
    let decoded = ports.map(|ports| ports.replace("%2C", ","));
    let all: Vec<_> = decoded
        .flat_map(|it| it.split(',').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    all.iter().map(|port| port.parse().unwrap()).collect()
}

/// One port of v4.channel.k8s.io: data on channel 0, errors on channel 1.
async fn port_forward(socket: Socket, ports: Vec<u16>) {
    let (mut to_client, mut from_client) = socket.split();
    let port = ports[0];
    for channel in [0, 1] {
        let [low, high] = port.to_le_bytes();
        to_client
            .send(Message::binary(vec![channel, low, high]))
            .await
            .unwrap();
    }
    let target = TcpStream::connect(("127.0.0.1", port)).await;
    let Ok(target) = target else {
        let refused = [&[1_u8], "connection refused".as_bytes()].concat();
        to_client.send(Message::binary(refused)).await.unwrap();
        let _closed = to_client.send(goodbye()).await;
        return;
    };
    let (mut from_target, mut to_target) = target.into_split();
    let down = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from_target.read(&mut buffer[1..]).await {
            let framed = Message::binary(buffer[..=length].to_vec());
            if to_client.send(framed).await.is_err() {
                return;
            }
        }
        let _closed = to_client.send(goodbye()).await;
    };
    let up = async {
        while let Some(Ok(message)) = from_client.next().await {
            match message {
                Message::Binary(frame) if frame.first() == Some(&0) => {
                    let Ok(()) = to_target.write_all(&frame[1..]).await else {
                        return;
                    };
                }
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = down => {}
        () = up => {}
    }
}

/// Runs the command for real: stdin on channel 0, stdout on 1, the status on 3; 255 closes stdin.
async fn exec(socket: Socket, query: String) {
    let command = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("command="));
    let command: Vec<_> = command
        .map(|word| {
            percent_encoding::percent_decode_str(word)
                .decode_utf8_lossy()
                .into_owned()
        })
        .collect();
    let mut child = tokio::process::Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take(), child.stdout.take().unwrap());
    let (mut to_client, mut from_client) = socket.split();
    if !query.contains("stdin=true") {
        stdin = None;
    }
    let feed = async {
        while let Some(Ok(message)) = from_client.next().await {
            let Message::Binary(frame) = message else {
                continue;
            };
            match (frame.first(), &mut stdin) {
                (Some(0), Some(stdin)) => stdin.write_all(&frame[1..]).await.unwrap(),
                (Some(255), _) => stdin = None,
                _ => {}
            }
        }
        std::future::pending::<()>().await;
    };
    let show = async {
        let mut buffer = vec![0; 4096];
        buffer[0] = 1;
        while let Ok(length @ 1..) = stdout.read(&mut buffer[1..]).await {
            to_client
                .send(Message::binary(buffer[..=length].to_vec()))
                .await
                .unwrap();
        }
        let status = child.wait().await.unwrap();
        let said = match status.code() {
            Some(0) => json!({"metadata": {}, "status": "Success"}),
            code => json!({
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": format!("command terminated with non-zero exit code: {code:?}"),
                "details": {"causes": [
                    {"reason": "ExitCode", "message": code.unwrap_or(1).to_string()},
                ]},
            }),
        };
        let said = [&[3_u8], said.to_string().as_bytes()].concat();
        to_client.send(Message::binary(said)).await.unwrap();
        let _closed = to_client.send(goodbye()).await;
    };
    tokio::select! {
        () = feed => {}
        () = show => {}
    }
}

fn chunked(chunks: impl Stream<Item = &'static str> + Send + Sync + 'static) -> Response<Body> {
    let frames = chunks.map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes()))));
    Response::new(BodyExt::boxed(StreamBody::new(frames)))
}

fn text(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text.into())).boxed());
    *response.status_mut() = code;
    response
}

/// A service in the pod's place: it listens on 127.0.0.1, where all pods of this kubelet are.
pub(crate) async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Sends back what it is sent, on any number of connections.
pub(crate) async fn echo() -> u16 {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _closed = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    port
}

/// An HTTP server that tells what it was asked.
pub(crate) async fn website() -> u16 {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let service =
                    service_fn(|request| async move { Ok::<_, Infallible>(page(request).await) });
                let _closed = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    });
    port
}

async fn page(request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/moved" => {
            let mut response = text(StatusCode::FOUND, "");
            let place = HeaderValue::from_static("/elsewhere?x=1");
            response.headers_mut().insert(header::LOCATION, place);
            response
        }
        "/socket" => upgrade(request, "v4.channel.k8s.io", async |mut socket: Socket| {
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() {
                    socket.send(message).await.unwrap();
                }
            }
        }),
        _ => {
            let headers = request.headers();
            let header = |name: &str| {
                headers
                    .get(name)
                    .and_then(|it| it.to_str().ok())
                    .map(str::to_owned)
            };
            let mut seen = json!({
                "method": request.method().as_str(),
                "path": path,
                "query": request.uri().query(),
                "host": header("host"),
                "authorization": header("authorization"),
                "forwarded": header("x-forwarded-uri"),
            });
            let body = request.into_body().collect().await.unwrap().to_bytes();
            seen["body"] = String::from_utf8_lossy(&body).into_owned().into();
            text(StatusCode::OK, seen.to_string())
        }
    }
}
