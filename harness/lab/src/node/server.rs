//! The kubelet's own API, which the API server calls: logs, port-forward, statistics.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::logs::{self, LogOptions};
use super::{KUBELET_PORT, Node, NodeError, exec, portforward, stats};
use crate::pki::Identity;
use inroads_harness::metrics::Metrics;

/// A body of any kind.
pub(super) type Body = BoxBody<Bytes, Infallible>;

/// The kubelet's server, listening and not yet serving.
pub(crate) struct Server {
    node: Arc<Node>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

/// Listens on the kubelet's port of this node.
pub(crate) async fn bind(node: &Arc<Node>) -> Result<Server, NodeError> {
    let listener = TcpListener::bind((node.spec.address, KUBELET_PORT))
        .await
        .map_err(NodeError::Listen)?;
    let identity = Identity::from_pem(&node.spec.certificate, node.spec.key.expose());
    let config = identity
        .server_config(&["http/1.1"])
        .map_err(|e| NodeError::Tls(Box::new(e)))?;
    Ok(Server {
        node: node.clone(),
        listener,
        acceptor: TlsAcceptor::from(config),
    })
}

impl Server {
    /// Serves for as long as it runs; a broken connection ends alone.
    pub(crate) async fn serve(self) -> Result<(), NodeError> {
        loop {
            let Ok((stream, _peer)) = self.listener.accept().await else {
                continue;
            };
            let (node, acceptor) = (self.node.clone(), self.acceptor.clone());
            tokio::spawn(async move {
                if let Err(error) = converse(node, acceptor, stream).await {
                    tracing::debug!(%error, "a connection to the kubelet ended");
                }
            });
        }
    }
}

async fn converse(
    node: Arc<Node>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let service = service_fn(move |request| {
        let node = node.clone();
        async move { Ok::<_, Infallible>(answer(&node, request).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await?;
    Ok(())
}

async fn answer(node: &Arc<Node>, request: Request<Incoming>) -> Response<Body> {
    let bearer = request
        .headers()
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    if bearer != Some(&format!("Bearer {}", node.spec.kubelet_token.expose())) {
        return plain(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match segments[..] {
        ["healthz"] => plain(StatusCode::OK, "ok"),
        ["metrics"] => plain(StatusCode::OK, Metrics::of_this_process().into_text()),
        ["stats", "summary"] => json(&stats::summary(node)),
        ["containerLogs", namespace, pod, container] => {
            let options = LogOptions::parse(request.uri().query().unwrap_or_default());
            let found = node
                .pods
                .find(namespace, pod)
                .and_then(|pod| pod.container(container));
            match found {
                Some(running) => stream(logs::read(running.log, options)),
                None => plain(
                    StatusCode::NOT_FOUND,
                    format!("container {container} of {pod} has no log here"),
                ),
            }
        }
        ["portForward", namespace, pod] => match node.pods.find(namespace, pod) {
            Some(pod) if pod.sandbox.get().is_some() => portforward::upgrade(pod, request),
            _ => plain(
                StatusCode::NOT_FOUND,
                format!("pod {pod} does not run here"),
            ),
        },
        ["exec", namespace, pod, container] => {
            let running = node.pods.find(namespace, pod).and_then(|cell| {
                let pid = cell.container(container)?.pid?;
                Some((cell.folder().join(format!("{container}.json")), pid))
            });
            match running {
                Some((spec, pid)) => exec::upgrade(spec, pid, request),
                None => plain(
                    StatusCode::NOT_FOUND,
                    format!("container {container} of {pod} does not run here"),
                ),
            }
        }
        _ => plain(
            StatusCode::NOT_FOUND,
            format!("the lab's kubelet has no {path}"),
        ),
    }
}

pub(super) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()).boxed());
    *response.status_mut() = status;
    response
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = plain(StatusCode::OK, value.to_string());
    response.headers_mut().insert(
        "content-type",
        http::HeaderValue::from_static("application/json"),
    );
    response
}

fn stream(
    chunks: impl futures_util::Stream<Item = Bytes> + Send + Sync + 'static,
) -> Response<Body> {
    let frames = chunks.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    Response::new(http_body_util::BodyExt::boxed(StreamBody::new(frames)))
}
