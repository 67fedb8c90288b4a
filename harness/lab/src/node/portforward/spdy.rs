//! Port-forward over SPDY/3.1, the kubelet's end, as kubectl speaks it: by itself, or since 1.31 inside a
//! WebSocket.
//!
//! Each forwarded connection is two streams with one `requestID`: the error stream, which the client ends at
//! once and the kubelet ends with what went wrong, and then the data stream, which can be half-closed. After
//! one side has ended, the other has a second: so it is with real kubelets.
//! Sources: `k8s.io/kubelet/pkg/cri/streaming/portforward/httpstream.go`, and containerd's
//! `sandbox_portforward_linux.go` for the second.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{CHUNK, dial};
use crate::node::pod::PodCell;
use crate::node::spdy::{Decoder, Encoder, Frame};

/// How long one side of a connection may go on after the other has ended.
const LINGER: Duration = Duration::from_secs(1);

/// How many pieces wait for a pod, and for the client, before who sends them has to wait.
const PENDING: usize = 16;

/// What is to be sent to the client.
enum Send {
    Reply(u32),
    Ping(u32),
    Data { stream: u32, data: Bytes, fin: bool },
}

/// A connection to a pod, by its data stream.
struct Forwarded {
    /// Gone once the client has ended its side.
    to_pod: Option<mpsc::Sender<Bytes>>,
    task: AbortHandle,
    error_stream: u32,
}

/// Serves one client until it ends.
pub(super) async fn serve<I, O>(
    pod: Arc<PodCell>,
    mut incoming: I,
    outgoing: O,
) -> Result<(), Box<dyn std::error::Error + std::marker::Send + Sync>>
where
    I: Stream<Item = io::Result<Bytes>> + Unpin,
    O: Sink<Bytes, Error = io::Error> + std::marker::Send + Unpin + 'static,
{
    let (sender, receiver) = mpsc::channel(PENDING);
    let _writer = AbortOnDropHandle::new(tokio::spawn(write(receiver, outgoing)));
    let mut client = Client {
        pod,
        sender,
        error_streams: HashMap::new(),
        forwarded: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
    loop {
        while let Some(frame) = decoder.decode(&mut buffer)? {
            if frame == Frame::GoAway {
                return Ok(());
            }
            client.take(frame).await?;
        }
        tokio::select! {
            bytes = incoming.next() => match bytes {
                Some(bytes) => buffer.extend_from_slice(&bytes?),
                None => return Ok(()),
            },
            Some(ended) = client.tasks.join_next() => {
                if let Ok(stream) = ended {
                    client.forwarded.remove(&stream);
                }
            }
        }
    }
}

struct Client {
    pod: Arc<PodCell>,
    sender: mpsc::Sender<Send>,
    /// The error streams whose data streams are still to come, by their `requestID`.
    error_streams: HashMap<String, u32>,
    forwarded: HashMap<u32, Forwarded>,
    tasks: JoinSet<u32>,
}

impl Client {
    async fn take(&mut self, frame: Frame) -> Result<(), mpsc::error::SendError<Send>> {
        match frame {
            Frame::Open { stream, headers } => self.open(stream, &headers).await,
            Frame::Data { stream, data, fin } => {
                if let Some(forwarded) = self.forwarded.get_mut(&stream) {
                    if let Some(to_pod) = &forwarded.to_pod
                        && !data.is_empty()
                    {
                        // A pod that reads no more has its connection ended by its own task.
                        drop(to_pod.send(data).await);
                    }
                    if fin {
                        forwarded.to_pod = None;
                    }
                }
                Ok(())
            }
            Frame::Reset { stream } => match self.forwarded.remove(&stream) {
                Some(forwarded) => {
                    forwarded.task.abort();
                    self.sender.send(end(forwarded.error_stream)).await
                }
                None => Ok(()),
            },
            Frame::Ping { id } => self.sender.send(Send::Ping(id)).await,
            Frame::GoAway | Frame::Other => Ok(()),
        }
    }

    async fn open(
        &mut self,
        stream: u32,
        headers: &[(String, String)],
    ) -> Result<(), mpsc::error::SendError<Send>> {
        let header = |name: &str| {
            let found = headers
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        self.sender.send(Send::Reply(stream)).await?;
        let request = header("requestID").to_owned();
        if header("streamType") == "error" {
            self.error_streams.insert(request, stream);
            return Ok(());
        }
        let error_stream = self.error_streams.remove(&request);
        let (Some(error_stream), Ok(port)) = (error_stream, header("port").parse::<u16>()) else {
            return self.sender.send(end(stream)).await;
        };
        let (to_pod, from_client) = mpsc::channel(PENDING);
        let (pod, sender) = (self.pod.clone(), self.sender.clone());
        let task = self.tasks.spawn(async move {
            let outcome = forward(&pod, port, stream, from_client, &sender).await;
            let error = outcome
                .err()
                .map(|error| format!("error forwarding port {port} to pod {}: {error}", pod.name));
            drop(sender.send(end(stream)).await);
            let data = error.unwrap_or_default().into();
            let last = Send::Data {
                stream: error_stream,
                data,
                fin: true,
            };
            drop(sender.send(last).await);
            stream
        });
        let forwarded = Forwarded {
            to_pod: Some(to_pod),
            task,
            error_stream,
        };
        self.forwarded.insert(stream, forwarded);
        Ok(())
    }
}

/// Carries one connection until both sides have ended, or one has and a second is over.
async fn forward(
    pod: &PodCell,
    port: u16,
    stream: u32,
    from_client: mpsc::Receiver<Bytes>,
    sender: &mpsc::Sender<Send>,
) -> io::Result<()> {
    let sandbox = pod.sandbox.get();
    let netns = &sandbox
        .ok_or_else(|| io::Error::other("the pod has no network"))?
        .netns;
    let connection: TcpStream = dial(netns, port).await?;
    let (mut from_pod, mut to_pod) = connection.into_split();
    let mut from_client = from_client;
    let mut up = std::pin::pin!(async {
        while let Some(data) = from_client.recv().await {
            to_pod.write_all(&data).await?;
        }
        to_pod.shutdown().await
    });
    let mut down = std::pin::pin!(async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            let count = from_pod.read_buf(&mut buffer).await?;
            let data = buffer.split().freeze();
            let fin = count == 0;
            let sent = sender.send(Send::Data { stream, data, fin }).await;
            if fin || sent.is_err() {
                return Ok(());
            }
        }
    });
    let rest = tokio::select! {
        ended = &mut up => {
            ended?;
            timeout(LINGER, down).await
        }
        ended = &mut down => {
            ended?;
            timeout(LINGER, up).await
        }
    };
    rest.unwrap_or(Ok(()))
}

/// The end of this side of a stream.
fn end(stream: u32) -> Send {
    Send::Data {
        stream,
        data: Bytes::new(),
        fin: true,
    }
}

/// Sends frames, several at once where there are several.
async fn write(
    mut frames: mpsc::Receiver<Send>,
    mut outgoing: impl Sink<Bytes, Error = io::Error> + Unpin,
) {
    let (mut encoder, mut buffer) = (Encoder::default(), BytesMut::new());
    while let Some(frame) = frames.recv().await {
        let mut next = Some(frame);
        while let Some(frame) = next {
            match frame {
                Send::Reply(stream) => encoder.reply(stream, &mut buffer),
                Send::Ping(id) => Encoder::ping(id, &mut buffer),
                Send::Data { stream, data, fin } => {
                    Encoder::data(stream, &data, fin, &mut buffer);
                }
            }
            next = (buffer.len() < CHUNK)
                .then(|| frames.try_recv().ok())
                .flatten();
        }
        if outgoing.send(buffer.split().freeze()).await.is_err() {
            return;
        }
    }
}
