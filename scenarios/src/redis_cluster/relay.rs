//! Listeners on the laptop's loopback that pass connections on through an access: what a user runs by hand for a
//! client that cannot use a proxy itself, one for each node.
//!
//! They are at work on a thread of their own, as they would be in a process of their own, so that the client's
//! thread is the client's alone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use inroads_harness::dial::Dialer;
use tokio::sync::oneshot;

/// Room for what is under way in one direction of a connection, in bytes.
const BUFFER: usize = 64 << 10;

/// Relays at work. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Relays {
    /// Where each listens, in the order in which they were asked for.
    pub(super) addresses: Vec<SocketAddr>,
    _alive: oneshot::Sender<()>,
}

impl Relays {
    /// Starts one for each `(host, port)`.
    ///
    /// # Errors
    /// Where a port of loopback or a thread cannot be had.
    pub(super) fn start(dialer: &Dialer, targets: &[(String, u16)]) -> io::Result<Self> {
        let mut addresses = Vec::new();
        let mut listeners = Vec::new();
        for target in targets {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            addresses.push(listener.local_addr()?);
            listeners.push((listener, target.clone()));
        }
        let (alive, ended) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let dialer = dialer.clone();
        std::thread::Builder::new()
            .name("relays".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    for (listener, target) in listeners {
                        if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                            tokio::spawn(serve(listener, dialer.clone(), target));
                        }
                    }
                    // What is still open ends with the runtime.
                    drop(ended.await);
                });
            })?;
        Ok(Self {
            addresses,
            _alive: alive,
        })
    }
}

async fn serve(listener: tokio::net::TcpListener, dialer: Dialer, (host, port): (String, u16)) {
    loop {
        let Ok((mut near, _peer)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let (dialer, host) = (dialer.clone(), host.clone());
        tokio::spawn(async move {
            // A connection that cannot be passed on is closed, which is all that a relay can say.
            let mut far = dialer.tcp(&host, port).await.ok()?;
            near.set_nodelay(true).ok()?;
            tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER)
                .await
                .ok()
        });
    }
}

#[cfg(test)]
mod tests {
    use inroads_harness::Access;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn each_relay_leads_to_its_own_target_until_they_are_dropped() {
        let mut targets = Vec::new();
        for name in ["one", "two"] {
            let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            targets.push(("127.0.0.1".to_owned(), server.local_addr().unwrap().port()));
            tokio::spawn(async move {
                let (mut stream, _peer) = server.accept().await.unwrap();
                let mut asked = [0; 3];
                stream.read_exact(&mut asked).await.unwrap();
                stream.write_all(name.as_bytes()).await.unwrap();
            });
        }
        let relays = Relays::start(&Dialer::new(Access::Unmodified), &targets).unwrap();
        for (address, expected) in relays.addresses.iter().zip(["one", "two"]) {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"who").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, expected);
        }
        let address = relays.addresses[0];
        drop(relays);
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
