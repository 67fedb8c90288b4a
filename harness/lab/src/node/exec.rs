//! Commands in running containers, over WebSocket: subprotocols `v4.channel.k8s.io` and `v5.channel.k8s.io`.
//!
//! Each binary message is a channel's number and data: 0 standard input, 1 standard output, 2 standard
//! error, 3 the outcome as a `Status`, 4 the terminal's size. Version 5 adds 255, whose data is the number
//! of a channel that ends: without it, standard input cannot end before the command does.
//! Source: `k8s.io/apimachinery/pkg/util/remotecommand/constants.go`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::server::{Body, plain};
use super::websocket::{self, Socket};

/// The subprotocols, the better one first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const OUTCOME: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// How much output is sent at once, in bytes.
const CHUNK: usize = 32 << 10;

/// What is to be run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    command: Vec<String>,
    stdin: bool,
    tty: bool,
}

/// Answers a request to run a command beside the process `shim`, whose container `spec` describes.
pub(super) fn upgrade(spec: PathBuf, shim: u32, request: Request<Incoming>) -> Response<Body> {
    let wanted = wanted(request.uri().query().unwrap_or_default());
    if wanted.command.is_empty() {
        return plain(StatusCode::BAD_REQUEST, "the request names no command");
    }
    websocket::upgrade(request, &PROTOCOLS, move |socket, _protocol| async move {
        if let Err(error) = serve(&spec, shim, &wanted, socket).await {
            tracing::debug!(%error, "a command in a container ended");
        }
    })
}

fn wanted(query: &str) -> Wanted {
    let mut wanted = Wanted::default();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "command" => wanted.command.push(decode(value)),
            "stdin" => wanted.stdin = value == "true",
            "tty" => wanted.tty = value == "true",
            _ => {}
        }
    }
    wanted
}

/// Undoes the encoding of a query's value: `+` is a space, `%20` as well.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match (
            first,
            digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()),
        ) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*first),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn serve(
    spec: &Path,
    shim: u32,
    wanted: &Wanted,
    socket: Socket,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["lab", "exec"])
        .arg(spec)
        .arg(shim.to_string());
    command
        .arg(if wanted.tty { "tty" } else { "pipes" })
        .args(&wanted.command);
    command.env_clear().kill_on_drop(true);
    let (sink, stream) = socket.split();
    let (messages, outgoing) = mpsc::channel(8);
    let sending = tokio::spawn(send_all(sink, outgoing));
    let status = if wanted.tty {
        on_a_terminal(command, stream, &messages).await?
    } else {
        on_pipes(command, wanted.stdin, stream, &messages).await?
    };
    drop(
        messages
            .send(message(OUTCOME, outcome(status).as_bytes()))
            .await,
    );
    drop(messages);
    Ok(sending.await??)
}

async fn on_pipes(
    mut command: Command,
    stdin: bool,
    stream: SplitStream<Socket>,
    messages: &mpsc::Sender<Message>,
) -> io::Result<ExitStatus> {
    command.stdin(if stdin { Stdio::piped() } else { Stdio::null() });
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let input = child.stdin.take();
    let outputs = [
        child
            .stdout
            .take()
            .map(|stdout| tokio::spawn(copy(stdout, STDOUT, messages.clone()))),
        child
            .stderr
            .take()
            .map(|stderr| tokio::spawn(copy(stderr, STDERR, messages.clone()))),
    ];
    let status = tokio::select! {
        status = child.wait() => status?,
        // The client has gone: the command goes with it.
        () = feed(stream, input, None) => return Err(io::ErrorKind::ConnectionAborted.into()),
    };
    for output in outputs.into_iter().flatten() {
        output.await?;
    }
    Ok(status)
}

async fn on_a_terminal(
    mut command: Command,
    stream: SplitStream<Socket>,
    messages: &mpsc::Sender<Message>,
) -> io::Result<ExitStatus> {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&terminal)?;
    unlockpt(&terminal)?;
    let name = ptsname(&terminal, Vec::new())?;
    let open = || -> io::Result<Stdio> {
        let mut options = std::fs::OpenOptions::new();
        let name = name.to_str().map_err(io::Error::other)?;
        let side = std::os::unix::fs::OpenOptionsExt::custom_flags(
            options.read(true).write(true),
            libc::O_NOCTTY,
        );
        Ok(Stdio::from(side.open(name)?))
    };
    let mut child = command
        .stdin(open()?)
        .stdout(open()?)
        .stderr(open()?)
        .spawn()?;
    drop(command);
    let output = tokio::fs::File::from_std(std::fs::File::from(terminal.try_clone()?));
    let input = tokio::fs::File::from_std(std::fs::File::from(terminal.try_clone()?));
    let copied = tokio::spawn(copy(output, STDOUT, messages.clone()));
    let status = tokio::select! {
        status = child.wait() => status?,
        () = feed(stream, Some(input), Some(terminal)) => return Err(io::ErrorKind::ConnectionAborted.into()),
    };
    // A terminal whose other side is closed ends with an error, which is its end.
    copied.await?;
    Ok(status)
}

/// Passes what the client sends on, until it goes.
async fn feed(
    mut stream: SplitStream<Socket>,
    mut input: Option<impl AsyncWrite + Unpin>,
    terminal: Option<OwnedFd>,
) {
    while let Some(Ok(received)) = stream.next().await {
        let Message::Binary(received) = received else {
            continue;
        };
        match received.split_first() {
            Some((&STDIN, data)) => {
                if let Some(input) = &mut input {
                    drop(input.write_all(data).await);
                    drop(input.flush().await);
                }
            }
            Some((&RESIZE, size)) => resize(terminal.as_ref(), size),
            Some((&CLOSE, [STDIN, ..])) => input = None,
            _ => {}
        }
    }
}

fn resize(terminal: Option<&OwnedFd>, size: &[u8]) {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Size {
        width: u16,
        height: u16,
    }
    if let (Some(terminal), Ok(size)) = (terminal, serde_json::from_slice::<Size>(size)) {
        let size = Winsize {
            ws_row: size.height,
            ws_col: size.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // A terminal without a size still works.
        let _ = tcsetwinsize(terminal, size);
    }
}

async fn copy(mut output: impl AsyncRead + Unpin, channel: u8, messages: mpsc::Sender<Message>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK + 1);
        buffer.extend_from_slice(&[channel]);
        match output.read_buf(&mut (&mut buffer).limit(CHUNK)).await {
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
        sink.send(message).await?;
    }
    // Clients take an end without a code for a broken connection, whatever the outcome said.
    let end = CloseFrame {
        code: CloseCode::Normal,
        reason: Utf8Bytes::default(),
    };
    sink.send(Message::Close(Some(end))).await?;
    sink.close().await
}

fn message(channel: u8, data: &[u8]) -> Message {
    Message::Binary(Bytes::from([&[channel], data].concat()))
}

/// How the command ended, as clients read it.
fn outcome(status: ExitStatus) -> String {
    let code = status.code().unwrap_or(255);
    if code == 0 {
        return json!({ "metadata": {}, "status": "Success" }).to_string();
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_from_a_query() {
        let read = wanted("command=sh&command=-c&command=echo+a%20b%3B+exit&stdin=true&tty=false");
        assert_eq!(read.command, ["sh", "-c", "echo a b; exit"]);
        assert!(read.stdin && !read.tty);
        assert_eq!(decode("%zz%4"), "%zz%4", "what is no encoding stays");
    }
}
