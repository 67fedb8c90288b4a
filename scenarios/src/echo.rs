//! The echo server in the pods: what probes of the wire talk to, over TCP and UDP on one port.
//!
//! A TCP connection begins with one line that says what is wanted: `echo`, and every byte comes back; or
//! `count MILLISECONDS`, and once the client has ended its side (and only then) the server waits that long
//! and answers with the number of bytes it got; or `abort`, and the server resets the connection. A datagram comes
//! back as it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use inroads_harness::role::{Role, RoleError, RoleFuture};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// The role of this module.
pub(crate) const ROLE: Role = Role {
    name: "echo-server",
    about: "the echo server of the http scenario, TCP and UDP",
    run: |arguments| -> RoleFuture { Box::pin(run(arguments)) },
};

/// The longest command line, in bytes.
const LONGEST_COMMAND: u64 = 64;

/// The longest wait that a command can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, Parser)]
#[command(name = "echo-server", no_binary_name = true)]
struct Arguments {
    /// Where to listen, TCP and UDP.
    #[arg(long, default_value = "0.0.0.0:7007")]
    listen: SocketAddr,
}

async fn run(arguments: Vec<String>) -> Result<(), RoleError> {
    let arguments = Arguments::try_parse_from(arguments)?;
    let listener = TcpListener::bind(arguments.listen).await?;
    let socket = UdpSocket::bind(arguments.listen).await?;
    tokio::join!(serve_tcp(listener), serve_udp(Arc::new(socket)));
    Ok(())
}

/// Serves TCP for as long as it is polled.
pub(crate) async fn serve_tcp(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => drop(tokio::spawn(async move { drop(converse(stream).await) })),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Serves UDP for as long as it is polled.
pub(crate) async fn serve_udp(socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; inroads_harness::dial::MAX_DATAGRAM];
    loop {
        // An error tells of an earlier answer that nobody took.
        if let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            drop(socket.send_to(&buffer[..length], peer).await);
        }
    }
}

async fn converse(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut command = String::new();
    (&mut stream)
        .take(LONGEST_COMMAND)
        .read_line(&mut command)
        .await?;
    match command.trim().split_once(' ') {
        // With nothing to wait for, closing is a reset (socket(7), `SO_LINGER`).
        None if command.trim() == "abort" => stream.get_ref().set_zero_linger(),
        None if command.trim() == "echo" => {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let count = stream.read(&mut buffer).await?;
                if count == 0 {
                    return stream.shutdown().await;
                }
                stream.write_all(&buffer[..count]).await?;
            }
        }
        Some(("count", wait)) => {
            let wait = wait
                .parse()
                .map(Duration::from_millis)
                .unwrap_or_default()
                .min(LONGEST_WAIT);
            let mut count: usize = 0;
            let mut buffer = vec![0; 64 << 10];
            loop {
                match stream.read(&mut buffer).await? {
                    0 => break,
                    more => count += more,
                }
            }
            tokio::time::sleep(wait).await;
            stream.write_all(format!("{count}\n").as_bytes()).await?;
            stream.shutdown().await
        }
        _ => {
            stream
                .write_all(b"say `echo`, `abort` or `count MILLISECONDS`\n")
                .await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(say: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let server = tokio::spawn(serve_tcp(listener));
        client.write_all(say).await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        server.abort();
        heard
    }

    #[tokio::test]
    async fn every_byte_comes_back() {
        assert_eq!(ask(b"echo\nhello").await, "hello");
    }

    #[tokio::test]
    async fn the_count_comes_after_the_client_has_ended_its_side() {
        assert_eq!(ask(b"count 1\n12345").await, "5\n");
    }

    #[tokio::test]
    async fn an_abort_is_a_reset_and_not_an_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let server = tokio::spawn(serve_tcp(listener));
        client.write_all(b"abort\n").await.unwrap();
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        server.abort();
    }

    #[tokio::test]
    async fn anything_else_is_told_what_to_say() {
        assert!(ask(b"GET / HTTP/1.1\r\n").await.starts_with("say"));
    }
}
