//! What the thread is asked from outside, and its answers.

use std::io::Read as _;

use tokio::sync::oneshot;

use super::Worker;
use crate::wireguard::engine::PeerId;
use crate::wireguard::keys::PublicKey;
use crate::wireguard::stats::{Transfers, TunnelDrops, TunnelStats};
use crate::wireguard::tunnel::{PeerConfig, TunnelError};

/// What a [`Tunnel`](crate::wireguard::Tunnel) asks of its thread.
pub(in crate::wireguard) enum Order {
    AddPeer(Box<PeerConfig>, oneshot::Sender<Result<(), TunnelError>>),
    RemovePeer(PublicKey, oneshot::Sender<Result<(), TunnelError>>),
    ChangePort(oneshot::Sender<()>),
    Stats(oneshot::Sender<TunnelStats>),
    /// Answered when there is a session.
    Connect(PublicKey, oneshot::Sender<Result<(), TunnelError>>),
}

impl Worker {
    /// Carries out what was asked. `false` when it is time to go.
    pub(super) fn obey(&mut self) -> bool {
        match self.bell.read(&mut [0; 64]) {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
        // An asker who is gone needs no answer.
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::AddPeer(config, answer) => {
                    let added = self.engine.add_peer(*config).map(|_| ());
                    self.tick();
                    let _ = answer.send(added);
                }
                Order::RemovePeer(key, answer) => {
                    let removed = self.engine.remove_peer(&key);
                    // Whoever waits for it waits in vain: dropping the sender says so.
                    self.connecting.retain(|(id, _)| Some(*id) != removed);
                    let _ = answer.send(removed.map(|_| ()).ok_or(TunnelError::UnknownPeer(key)));
                }
                Order::ChangePort(answer) => {
                    self.out.socket.renew();
                    let _ = answer.send(());
                }
                Order::Stats(answer) => {
                    let _ = answer.send(self.stats());
                }
                Order::Connect(key, answer) => match self.engine.id(&key) {
                    Some(id) => {
                        self.engine.connect(id, &mut self.out.outbox);
                        self.connecting.push((id, answer));
                    }
                    None => {
                        let _ = answer.send(Err(TunnelError::UnknownPeer(key)));
                    }
                },
            }
        }
        true
    }

    pub(super) fn tell_connected(&mut self) {
        let ready = |(id, answer): &mut (PeerId, oneshot::Sender<_>)| {
            answer.is_closed() || self.engine.is_connected(*id)
        };
        for (_, answer) in self.connecting.extract_if(.., ready) {
            let _ = answer.send(Ok(()));
        }
    }

    fn stats(&self) -> TunnelStats {
        TunnelStats {
            driver: format!("{}, {}", self.device.driver(), self.out.socket.driver()),
            peers: self.engine.peer_stats(),
            drops: TunnelDrops {
                contradictory: self.contradictory,
                undeliverable: self.written.refused,
                unsendable: self.out.refused,
                ..self.engine.drops()
            },
            transfers: Transfers {
                wakeups: self.wakeups,
                frames_read: self.frames_read,
                frames_written: self.written.frames,
                messages_received: self.messages_received,
                messages_sent: self.out.messages,
            },
        }
    }
}
