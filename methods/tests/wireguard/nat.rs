//! A router between laptop and gateway that changes its mind.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::bed::{Bed, GATEWAY, PORT, Result};

/// A router whose translation of the laptop's address can change.
pub(crate) struct Nat {
    inner: UdpSocket,
    outer: Arc<Mutex<UdpSocket>>,
    gateway: SocketAddr,
    laptop: Arc<Mutex<Option<SocketAddr>>>,
    /// Whose datagrams lead nowhere.
    astray: Arc<Mutex<Option<SocketAddr>>>,
}

impl Nat {
    pub(crate) fn new(bed: &Bed) -> Result<Self> {
        let gateway = SocketAddr::new(GATEWAY.into(), PORT);
        let inner = bed.gateway.run(|| Ok(UdpSocket::bind((GATEWAY, 0))?))?;
        let outer = bed.gateway.run(|| Ok(UdpSocket::bind((GATEWAY, 0))?))?;
        let nat = Self {
            inner,
            outer: Arc::new(Mutex::new(outer)),
            gateway,
            laptop: Arc::default(),
            astray: Arc::default(),
        };
        let (inner, outer, laptop, astray) = (
            nat.inner.try_clone()?,
            nat.outer.clone(),
            nat.laptop.clone(),
            nat.astray.clone(),
        );
        thread::spawn(move || {
            let mut buffer = vec![0; 2000];
            while let Ok((len, from)) = inner.recv_from(&mut buffer) {
                if *lock(&astray) == Some(from) {
                    continue;
                }
                *lock(&laptop) = Some(from);
                let _ = lock(&outer).send_to(&buffer[..len], gateway);
            }
        });
        nat.serve()?;
        Ok(nat)
    }

    /// The way back, for the present translation.
    fn serve(&self) -> Result {
        let (inner, laptop) = (self.inner.try_clone()?, self.laptop.clone());
        let outer = lock(&self.outer).try_clone()?;
        thread::spawn(move || {
            let mut buffer = vec![0; 2000];
            while let Ok((len, _)) = outer.recv_from(&mut buffer) {
                let to = lock(&laptop).expect("nobody answers before he is asked");
                let _ = inner.send_to(&buffer[..len], to);
            }
        });
        Ok(())
    }

    /// Where the laptop finds the gateway.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        Ok(self.inner.local_addr()?)
    }

    /// From now on what comes from the laptop's present port leads nowhere.
    pub(crate) fn lead_astray(&self) -> Option<SocketAddr> {
        let from = *lock(&self.laptop);
        *lock(&self.astray) = from;
        from
    }

    /// Where the laptop was heard last.
    pub(crate) fn laptop(&self) -> Option<SocketAddr> {
        *lock(&self.laptop)
    }

    /// From now on the laptop seems to be at another port.
    pub(crate) fn change(&self, bed: &Bed) -> Result<SocketAddr> {
        let outer = bed.gateway.run(|| Ok(UdpSocket::bind((GATEWAY, 0))?))?;
        let address = outer.local_addr()?;
        *lock(&self.outer) = outer;
        self.serve()?;
        assert_ne!(address, self.gateway);
        Ok(address)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
