use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::clock::Stopwatch;
use crate::dns::framing::{framed, read_message};
use crate::dns::message;

const LIMIT: Duration = Duration::from_secs(5);

/// Answers every question with itself, and what is none with nothing.
fn echo() -> (SocketAddr, Server) {
    serve(|message: &[u8], reply: Reply| {
        if message::question(message).is_ok() {
            reply.send(message);
        }
    })
}

fn serve(responder: impl Responder) -> (SocketAddr, Server) {
    let sockets = Sockets::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = sockets.local_addr().unwrap();
    (address, Server::start(sockets, Arc::new(responder)))
}

fn question(id: u16) -> Vec<u8> {
    let mut message = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x03web\x04test\0\0\x01\0\x01".to_vec();
    message::set_id(&mut message, id);
    message
}

async fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    socket
}

async fn ask_tcp(stream: &mut TcpStream, message: &[u8]) -> Vec<u8> {
    stream.write_all(&framed(message).unwrap()).await.unwrap();
    timeout(LIMIT, read_message(stream))
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn garbage_is_survived_by_both_listeners() {
    let (address, _server) = echo();
    let udp = client(address).await;
    let mut noise = Vec::new();
    for length in 0..600_usize {
        noise.clear();
        noise.resize_with(length, rand::random::<u8>);
        udp.send(&noise).await.unwrap();
        if length % 20 == 0 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The server may close in the middle of it, which is its right.
            let _ = stream.write_all(&noise).await;
        }
    }
    udp.send(&question(77)).await.unwrap();
    let mut buffer = [0; 512];
    while message::id(&buffer) != 77 {
        timeout(LIMIT, udp.recv(&mut buffer))
            .await
            .unwrap()
            .unwrap();
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask_tcp(&mut stream, &question(7)).await, question(7));
}

#[tokio::test]
async fn ten_thousand_questions_are_all_answered() {
    let (address, _server) = echo();
    let started = Stopwatch::start();
    let clients = (0..10_u16).map(|client_number| async move {
        let udp = client(address).await;
        let mut buffer = [0; 512];
        // Fifty at a time: more than that the kernel may drop, which is no business of the server.
        for round in 0..20_u16 {
            let ids = client_number * 1000 + round * 50..client_number * 1000 + (round + 1) * 50;
            for id in ids.clone() {
                udp.send(&question(id)).await.unwrap();
            }
            for _ in ids {
                timeout(LIMIT, udp.recv(&mut buffer))
                    .await
                    .unwrap()
                    .unwrap();
            }
        }
    });
    futures_util::future::join_all(clients).await;
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "took {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn questions_on_one_connection_do_not_wait_for_each_other() {
    // The first is never answered until its reply is dropped with the server.
    let kept = std::sync::Mutex::new(Vec::new());
    let (address, _server) =
        serve(
            move |message: &[u8], reply: Reply| match message::id(message) {
                1 => kept.lock().unwrap().push(reply),
                _ => reply.send(message),
            },
        );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(&framed(&question(1)).unwrap())
        .await
        .unwrap();
    assert_eq!(ask_tcp(&mut stream, &question(2)).await, question(2));
}

#[tokio::test]
async fn what_is_asked_before_the_stream_ends_is_answered() {
    let (address, _server) = echo();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let two = [framed(&question(1)).unwrap(), framed(&question(2)).unwrap()].concat();
    stream.write_all(&two).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answers = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut answers))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answers, two);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let (address, _server) = echo();
    let error = Sockets::bind(address).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("listening for DNS on `{address}`")
    );
}

#[tokio::test]
async fn shutting_down_frees_the_address() {
    let (address, server) = echo();
    let open = TcpStream::connect(address).await.unwrap();
    server.shutdown().await;
    drop(open);
    std::net::UdpSocket::bind(address).unwrap();
}
