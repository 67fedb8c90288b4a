//! Port-forward, the kubelet's end: over WebSocket with the subprotocol `v4.channel.k8s.io`, and over SPDY
//! (see [`spdy`]), which is what kubectl speaks.
//!
//! Of `v4.channel.k8s.io`, each binary message is a channel's number and data. Port *i* of the request has
//! channel 2*i* for data and 2*i*+1 for an error; the first message on each is the port's number,
//! little-endian. A channel cannot be half-closed, so the end of either side is the end of both: what TCP
//! could still deliver then is lost. Real kubelets have the same limit, and a probe shows it.
//! Source: `k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go`.

mod spdy;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nlink::netlink::namespace::Netns;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::codec::{BytesCodec, FramedWrite};
use tokio_util::io::ReaderStream;
use tokio_util::task::AbortOnDropHandle;

use super::pod::PodCell;
use super::server::{Body, plain};
use super::websocket::{self, Socket};

/// The subprotocol.
const PROTOCOL: &str = "v4.channel.k8s.io";

/// How much is read from a pod at once, in bytes, and so the largest message sent.
const CHUNK: usize = 128 << 10;

/// Most ports of one request: two channels each must fit a byte.
const MOST_PORTS: usize = 127;

/// The subprotocol of kubectl since 1.31: SPDY, in pieces of any length.
const TUNNELLED_SPDY: &str = "SPDY/3.1+portforward.k8s.io";

/// What a client of SPDY without WebSocket asks for, in lower case.
const SPDY: &str = "spdy/3.1";

/// The header by which SPDY's own subprotocol is agreed on, and that subprotocol.
const STREAM_PROTOCOL: (&str, &str) = ("x-stream-protocol-version", "portforward.k8s.io");

/// Answers a request for port-forward and serves it once the connection has changed its protocol.
pub(super) fn upgrade(pod: Arc<PodCell>, request: Request<Incoming>) -> Response<Body> {
    let wanted = request.headers().get(UPGRADE);
    let wanted = wanted.and_then(|value| value.to_str().ok());
    if wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case(SPDY)) {
        return upgrade_to_spdy(pod, request);
    }
    // Over SPDY, each stream names its port.
    let ports = ports(request.uri().query().unwrap_or_default());
    let offered = request.headers().get(SEC_WEBSOCKET_PROTOCOL);
    let offered = offered.and_then(|value| value.to_str().ok());
    let tunnelled = offered.is_some_and(|offered| offered.contains(TUNNELLED_SPDY));
    let ports = match ports {
        Ok(ports) => ports,
        Err(_) if tunnelled => Vec::new(),
        Err(reason) => return plain(StatusCode::BAD_REQUEST, reason),
    };
    let protocols = if tunnelled {
        [TUNNELLED_SPDY]
    } else {
        [PROTOCOL]
    };
    websocket::upgrade(request, &protocols, move |socket, _protocol| async move {
        let served = if tunnelled {
            serve_tunnelled(pod.clone(), socket).await
        } else {
            serve(&pod, &ports, socket).await
        };
        if let Err(error) = served {
            tracing::debug!(pod = pod.name, %error, "a port-forward ended");
        }
    })
}

fn upgrade_to_spdy(pod: Arc<PodCell>, mut request: Request<Incoming>) -> Response<Body> {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
        let incoming = ReaderStream::with_capacity(reader, CHUNK);
        let outgoing = FramedWrite::new(writer, BytesCodec::new());
        if let Err(error) = spdy::serve(pod.clone(), incoming, outgoing).await {
            tracing::debug!(pod = pod.name, %error, "a port-forward ended");
        }
    });
    let switching = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "SPDY/3.1")
        .header(STREAM_PROTOCOL.0, STREAM_PROTOCOL.1)
        .body(Body::default());
    switching.unwrap_or_else(|error| plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// SPDY inside of a WebSocket: the messages' bytes, one after the other.
async fn serve_tunnelled(pod: Arc<PodCell>, socket: Socket) -> Result<(), Failure> {
    let (sink, stream) = socket.split();
    let incoming = stream.filter_map(async |message| match message {
        Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
        Ok(_) => None,
        Err(error) => Some(Err(io::Error::other(error))),
    });
    let outgoing = sink
        .with(async |bytes: Bytes| Ok::<_, Error>(Message::Binary(bytes)))
        .sink_map_err(io::Error::other);
    spdy::serve(pod, Box::pin(incoming), Box::pin(outgoing)).await
}

/// Why a port-forward ended early.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The ports of a query such as `ports=80,443` or `ports=80&ports=443`.
fn ports(query: &str) -> Result<Vec<u16>, String> {
    let lists = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("ports="));
    let texts = lists.flat_map(|list| list.split([',']).flat_map(|item| item.split("%2C")));
    let ports: Vec<u16> = texts
        .map(|text| {
            text.parse()
                .map_err(|error| format!("`{text}` is no port: {error}"))
        })
        .collect::<Result<_, _>>()?;
    match ports.len() {
        0 => Err("the request names no ports".to_owned()),
        1..=MOST_PORTS => Ok(ports),
        many => Err(format!(
            "the request names {many} ports, more than {MOST_PORTS}"
        )),
    }
}

async fn serve(pod: &PodCell, ports: &[u16], socket: Socket) -> Result<(), Failure> {
    let netns = &pod.sandbox.get().ok_or("the pod has no network")?.netns;
    let (mut sink, stream) = socket.split();
    let (messages, outgoing) = mpsc::channel::<Message>(8);
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for (index, port) in ports.iter().enumerate() {
        let data = u8::try_from(2 * index)?;
        for channel in [data, data + 1] {
            let [low, high] = port.to_le_bytes();
            sink.send(Message::Binary(Bytes::copy_from_slice(&[
                channel, low, high,
            ])))
            .await?;
        }
        match dial(netns, *port).await {
            Ok(connection) => {
                let (reader, writer) = connection.into_split();
                writers.push(Some(writer));
                let reading = tokio::spawn(from_pod(reader, data, messages.clone()));
                // A program in the pod that never closes must not keep its connection here.
                readers.push(AbortOnDropHandle::new(reading));
            }
            Err(error) => {
                let text = format!(
                    "failed to connect to port {port} of pod {}: {error}",
                    pod.name
                );
                let message = [&[data + 1], text.as_bytes()].concat();
                sink.send(Message::Binary(message.into())).await?;
                writers.push(None);
            }
        }
    }
    drop(messages);
    // Whichever side ends first ends the connection: the protocol cannot say that only one has.
    tokio::select! {
        sent = send_all(sink, outgoing) => sent?,
        received = to_pod(stream, &mut writers) => received?,
    }
    Ok(())
}

/// Connects to `port` on the pod's own loopback, as kubelets do.
async fn dial(netns: &Netns, port: u16) -> io::Result<TcpStream> {
    let made = netns.socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
    let socket = tokio::net::TcpSocket::from_std_stream(made.map_err(io::Error::other)?.into());
    let connection = socket
        .connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .await?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

async fn from_pod(mut reader: OwnedReadHalf, channel: u8, messages: mpsc::Sender<Message>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK + 1);
        buffer.extend_from_slice(&[channel]);
        match reader.read_buf(&mut (&mut buffer).limit(CHUNK)).await {
            Ok(count) if count > 0 => {
                if messages
                    .send(Message::Binary(buffer.split().freeze()))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            _ => return,
        }
    }
}

async fn send_all(
    mut sink: SplitSink<Socket, Message>,
    mut outgoing: mpsc::Receiver<Message>,
) -> Result<(), Error> {
    while let Some(message) = outgoing.recv().await {
        sink.feed(message).await?;
        while let Ok(message) = outgoing.try_recv() {
            sink.feed(message).await?;
        }
        sink.flush().await?;
    }
    sink.close().await
}

async fn to_pod(
    mut stream: SplitStream<Socket>,
    writers: &mut [Option<OwnedWriteHalf>],
) -> Result<(), Failure> {
    while let Some(message) = stream.next().await {
        let Message::Binary(message) = message? else {
            continue;
        };
        let Some((channel, data)) = message.split_first() else {
            continue;
        };
        if let Some(Some(writer)) = writers.get_mut(usize::from(*channel) / 2)
            && channel % 2 == 0
        {
            writer.write_all(data).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_in_every_form_that_clients_use() {
        assert_eq!(ports("ports=80"), Ok(vec![80]));
        assert_eq!(ports("ports=80,443"), Ok(vec![80, 443]));
        assert_eq!(ports("ports=80%2C443"), Ok(vec![80, 443]));
        assert_eq!(ports("ports=80&ports=443"), Ok(vec![80, 443]));
        for bad in ["", "ports=", "ports=0x50", "ports=65536"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }
}
