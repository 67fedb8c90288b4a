//! UDP through the proxy (RFC 1928 §7), on one port for all clients.
//!
//! A node port is a single number, so every association shares one socket, and a datagram is attributed
//! by its source: the first from a new port of a host that has opened an association is that
//! association's, and it keeps that port. A host without an association is not heard.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fast_socks5::util::target_addr::TargetAddr;
use fast_socks5::{new_udp_header, parse_udp_request};
use inroads_harness::dial::MAX_DATAGRAM;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::server::resolve;

/// Datagrams of one association that wait for a name to be resolved; more are dropped, as UDP may.
const QUEUE: usize = 256;

/// The associations of all clients.
pub(super) struct Associations {
    socket: UdpSocket,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last_id: u64,
    /// Opened and not yet heard of, oldest first.
    silent: Vec<(u64, IpAddr)>,
    /// By the address that their datagrams come from.
    heard: HashMap<SocketAddr, (u64, mpsc::Sender<Vec<u8>>)>,
}

/// An open association: it ends when this is dropped.
pub(super) struct Association {
    id: u64,
    all: Arc<Associations>,
}

impl Associations {
    pub(super) fn new(socket: UdpSocket) -> Arc<Self> {
        Arc::new(Self {
            socket,
            table: Mutex::default(),
        })
    }

    /// Opens an association for a client at `host`.
    pub(super) fn open(self: &Arc<Self>, host: IpAddr) -> Association {
        let mut table = self.table();
        table.last_id += 1;
        let id = table.last_id;
        table.silent.push((id, host));
        Association {
            id,
            all: self.clone(),
        }
    }

    /// Takes in clients' datagrams for as long as it is polled.
    pub(super) async fn relay(self: &Arc<Self>) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            // An error tells of an earlier answer that could not be delivered.
            let Ok((length, client)) = self.socket.recv_from(&mut buffer).await else {
                continue;
            };
            if let Some(queue) = self.queue_of(client) {
                drop(queue.try_send(buffer[..length].to_vec()));
            }
        }
    }

    /// Where the datagrams of `client` go; `None` where it has no association.
    fn queue_of(self: &Arc<Self>, client: SocketAddr) -> Option<mpsc::Sender<Vec<u8>>> {
        let mut table = self.table();
        if let Some((_, queue)) = table.heard.get(&client) {
            return Some(queue.clone());
        }
        let place = table
            .silent
            .iter()
            .position(|(_, host)| *host == client.ip())?;
        let (id, _) = table.silent.remove(place);
        let (queue, datagrams) = mpsc::channel(QUEUE);
        table.heard.insert(client, (id, queue.clone()));
        tokio::spawn(self.clone().serve(client, datagrams));
        Some(queue)
    }

    /// Serves one association until it is closed: its requests go out by a socket of its own, and what
    /// comes back there goes to the client.
    async fn serve(self: Arc<Self>, client: SocketAddr, mut datagrams: mpsc::Receiver<Vec<u8>>) {
        let mut outbound = Outbound::default();
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            tokio::select! {
                request = datagrams.recv() => match request {
                    Some(request) => drop(outbound.send(&request).await),
                    None => return,
                },
                answer = outbound.receive(&mut buffer) => {
                    // An error tells that a target refused; SOCKS5 has no way to say so.
                    let Ok((length, from)) = answer else { continue };
                    if let Ok(mut message) = new_udp_header(from) {
                        message.extend_from_slice(&buffer[..length]);
                        drop(self.socket.send_to(&message, client).await);
                    }
                }
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Association {
    fn drop(&mut self) {
        let mut table = self.all.table();
        table.silent.retain(|(id, _)| *id != self.id);
        // Dropping the sender ends the task.
        table.heard.retain(|_, (id, _)| *id != self.id);
    }
}

/// The sockets by which one association talks to its targets, one for each address family.
#[derive(Default)]
struct Outbound {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

impl Outbound {
    /// Sends what a client's datagram asks for.
    async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        let (fragment, target, payload) =
            parse_udp_request(request).await.map_err(io::Error::other)?;
        if fragment != 0 {
            // RFC 1928 §7: who does not reassemble drops them.
            return Ok(());
        }
        let target = match target {
            TargetAddr::Ip(address) => address,
            name @ TargetAddr::Domain(..) => {
                let found = resolve(&name).await?;
                found.into_iter().next().ok_or(io::ErrorKind::NotFound)?
            }
        };
        self.socket_for(target)
            .await?
            .send_to(payload, target)
            .await
            .map(drop)
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        // One buffer serves both: whichever is ready first is read.
        tokio::select! {
            ready = readable(self.v4.as_ref()) => ready?.try_recv_from(buffer),
            ready = readable(self.v6.as_ref()) => ready?.try_recv_from(buffer),
        }
    }

    async fn socket_for(&mut self, target: SocketAddr) -> io::Result<&UdpSocket> {
        let (place, any): (_, IpAddr) = match target {
            SocketAddr::V4(_) => (&mut self.v4, Ipv4Addr::UNSPECIFIED.into()),
            SocketAddr::V6(_) => (&mut self.v6, Ipv6Addr::UNSPECIFIED.into()),
        };
        Ok(match place {
            Some(socket) => socket,
            None => place.insert(UdpSocket::bind((any, 0)).await?),
        })
    }
}

/// A socket that has something to read; forever where there is none.
async fn readable(socket: Option<&UdpSocket>) -> io::Result<&UdpSocket> {
    match socket {
        Some(socket) => socket.readable().await.map(|()| socket),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_without_an_association_is_not_heard() {
        let all = Associations::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let stranger: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        assert!(all.queue_of(stranger).is_none());
        let association = all.open(stranger.ip());
        assert!(all.queue_of(stranger).is_some(), "its host has one now");
        let other_port: SocketAddr = "192.0.2.1:5001".parse().unwrap();
        assert!(
            all.queue_of(other_port).is_none(),
            "one association has one port"
        );
        drop(association);
        assert!(all.queue_of(stranger).is_none(), "it has been closed");
    }
}
