//! UDP through the proxy (RFC 1928 §7), on one port for all clients.
//!
//! A node port is a single number, so every association shares one socket, and a datagram is attributed
//! by its source: a host may send from as many ports as it has associations open, and one without is not
//! heard. Which port belongs to which association cannot be told, and the one that closes may not be the
//! one that is silent: so ports stay until the host's last association closes, or until a new one needs
//! the place of the one that has been silent longest.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fast_socks5::new_udp_header;
use fast_socks5::util::target_addr::TargetAddr;
use inroads_harness::dial::{MAX_DATAGRAM, datagram};
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
    /// How many associations a host has open.
    open: HashMap<IpAddr, usize>,
    /// The ports that are served, by the address that their datagrams come from.
    heard: HashMap<SocketAddr, Heard>,
    /// Counts datagrams, to tell who was heard last.
    clock: u64,
}

struct Heard {
    last: u64,
    queue: mpsc::Sender<Vec<u8>>,
}

impl Table {
    fn heard_of(&self, host: IpAddr) -> impl Iterator<Item = (&SocketAddr, &Heard)> {
        self.heard
            .iter()
            .filter(move |(client, _)| client.ip() == host)
    }
}

/// An open association: it ends when this is dropped.
pub(super) struct Association {
    host: IpAddr,
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
        *self.table().open.entry(host).or_default() += 1;
        Association {
            host,
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
        table.clock += 1;
        let last = table.clock;
        if let Some(heard) = table.heard.get_mut(&client) {
            heard.last = last;
            return Some(heard.queue.clone());
        }
        let open = *table.open.get(&client.ip())?;
        while table.heard_of(client.ip()).count() >= open {
            let silent_longest = table
                .heard_of(client.ip())
                .min_by_key(|(_, heard)| heard.last);
            let place = silent_longest.map(|(client, _)| *client)?;
            // Dropping the sender ends the task.
            table.heard.remove(&place);
        }
        let (queue, datagrams) = mpsc::channel(QUEUE);
        let heard = Heard {
            last,
            queue: queue.clone(),
        };
        table.heard.insert(client, heard);
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
        match table.open.get_mut(&self.host) {
            Some(open) if *open > 1 => *open -= 1,
            _ => {
                table.open.remove(&self.host);
                table.heard.retain(|client, _| client.ip() != self.host);
            }
        }
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
        let (target, payload) = datagram::parse(request).await?;
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
        drop(association);
        assert!(all.queue_of(stranger).is_none(), "it has been closed");
    }

    #[tokio::test]
    async fn a_host_has_no_more_ports_than_associations_and_the_most_silent_makes_room() {
        let all = Associations::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let port = |port: u16| SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port));
        let served = |wanted: &[u16]| {
            let mut ports: Vec<u16> = all.table().heard.keys().map(SocketAddr::port).collect();
            ports.sort_unstable();
            assert_eq!(ports, wanted);
        };
        let (first, second) = (all.open(port(0).ip()), all.open(port(0).ip()));
        for heard in [2, 1, 2, 3] {
            assert!(all.queue_of(port(heard)).is_some());
        }
        served(&[2, 3]);
        drop(first);
        served(&[2, 3]);
        drop(second);
        served(&[]);
        assert!(all.table().open.is_empty());
    }
}
