//! The datagrams of a server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;

use super::{AFTER_ERROR, Reply, Responder, Way};
use crate::dns::message;

/// Receives for as long as it runs. An error of one datagram is not the next one's.
pub(super) async fn serve(socket: Arc<UdpSocket>, responder: Arc<impl Responder>) {
    let mut buffer = vec![0; message::MAX];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, client)) => {
                let reply = Reply {
                    client,
                    way: Way::Udp(socket.clone()),
                };
                responder.respond(&buffer[..length], reply);
            }
            Err(error) => {
                tracing::debug!(%error, "a datagram could not be received");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

/// Sends at once where the kernel takes it, as it nearly always does.
pub(super) fn send(socket: Arc<UdpSocket>, message: &[u8], client: SocketAddr) {
    match socket.try_send_to(message, client) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let message = message.to_vec();
            tokio::spawn(async move {
                drop(socket.send_to(&message, client).await);
            });
        }
        Err(error) => tracing::debug!(%error, %client, "an answer could not be sent"),
        Ok(_) => {}
    }
}
