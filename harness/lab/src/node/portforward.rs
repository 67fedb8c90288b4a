//! Port-forward over WebSocket, the kubelet's end: subprotocol `v4.channel.k8s.io`.
//!
//! Each binary message is a channel's number and data. Port *i* of the request has channel 2*i* for data
//! and 2*i*+1 for an error; the first message on each is the port's number, little-endian. A channel
//! cannot be half-closed, so the end of either side is the end of both: what TCP could still deliver then
//! is lost. Real kubelets have the same limit, and a probe shows it.
//! Source: `k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use nlink::netlink::namespace::Netns;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
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

/// Answers a request for port-forward and serves it once the connection is a WebSocket.
pub(super) fn upgrade(pod: Arc<PodCell>, request: Request<Incoming>) -> Response<Body> {
    let ports = match ports(request.uri().query().unwrap_or_default()) {
        Ok(ports) => ports,
        Err(reason) => return plain(StatusCode::BAD_REQUEST, reason),
    };
    websocket::upgrade(request, &[PROTOCOL], move |socket, _protocol| async move {
        if let Err(error) = serve(&pod, &ports, socket).await {
            tracing::debug!(pod = pod.name, %error, "a port-forward ended");
        }
    })
}

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

async fn serve(
    pod: &PodCell,
    ports: &[u16],
    socket: Socket,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
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
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
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
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
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
