//! Asking DNS questions over whatever path an access gives: datagrams where it carries them, else TCP.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use inroads_harness::access::Access;
use inroads_harness::dial::{Dialer, UdpPath};
use inroads_harness::dns::{PORT, ResolvConf};
use inroads_harness::measure::OpError;
use inroads_harness::scenario::Workload;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for an answer, without asking again: a lost datagram is an error here.
pub(super) const LIMIT: Duration = Duration::from_secs(2);

/// A path to a DNS server.
pub(super) struct Asker {
    path: Path,
    next_id: u16,
    buffer: Vec<u8>,
}

enum Path {
    Datagrams(UdpPath),
    Stream(TcpStream),
}

/// Which server a client behind `dialer` would ask: the one its system is set up with, where nothing has
/// to be changed; else the cluster's, through the access.
pub(super) fn server(dialer: &Dialer, workload: &Workload) -> Result<IpAddr, OpError> {
    match dialer.access() {
        Access::Unmodified => {
            let conf = ResolvConf::parse(&std::fs::read_to_string("/etc/resolv.conf")?);
            let first = conf.nameservers.first().copied();
            first.ok_or_else(|| OpError("/etc/resolv.conf names no server".to_owned()))
        }
        _ => workload
            .dns
            .ok_or_else(|| OpError("the cluster has no DNS".to_owned())),
    }
}

impl Asker {
    /// Opens a path to `server`: over TCP where listeners stand in for addresses, since those are TCP.
    pub(super) async fn open(dialer: &Dialer, server: IpAddr) -> Result<Self, OpError> {
        let host = server.to_string();
        let path = match dialer.access() {
            Access::Rewritten(_) => Path::Stream(dialer.tcp(&host, PORT).await?),
            _ => Path::Datagrams(dialer.udp(&host, PORT).await?),
        };
        Ok(Self {
            path,
            next_id: 1,
            buffer: vec![0; usize::from(u16::MAX)],
        })
    }

    /// How the questions travel, for evidence.
    pub(super) fn transport(&self) -> &'static str {
        match self.path {
            Path::Datagrams(_) => "UDP",
            Path::Stream(_) => "TCP",
        }
    }

    /// Asks a ready question and returns the answer's bytes. Its id is replaced by a fresh one.
    pub(super) async fn ask(&mut self, question: &mut [u8]) -> Result<&[u8], OpError> {
        self.next_id = self.next_id.wrapping_add(1);
        let id = self.next_id.to_be_bytes();
        question[..2].copy_from_slice(&id);
        let exchanged = timeout(
            LIMIT,
            exchange(&mut self.path, question, id, &mut self.buffer),
        )
        .await;
        let length = exchanged
            .map_err(|_elapsed| OpError(format!("no answer within {} s", LIMIT.as_secs())))??;
        Ok(&self.buffer[..length])
    }
}

async fn exchange(
    path: &mut Path,
    question: &[u8],
    id: [u8; 2],
    buffer: &mut [u8],
) -> io::Result<usize> {
    match path {
        Path::Datagrams(path) => {
            path.send(question).await?;
            loop {
                let length = path.receive(buffer).await?;
                // Anything else answers an earlier question that was given up.
                if length > 2 && buffer[..2] == id {
                    return Ok(length);
                }
            }
        }
        Path::Stream(stream) => {
            // RFC 1035 §4.2.2: two bytes of length go before each message.
            let length = u16::try_from(question.len()).map_err(io::Error::other)?;
            stream
                .write_all(&[&length.to_be_bytes(), question].concat())
                .await?;
            loop {
                let length = usize::from(stream.read_u16().await?);
                stream.read_exact(&mut buffer[..length]).await?;
                if length > 2 && buffer[..2] == id {
                    return Ok(length);
                }
            }
        }
    }
}

/// The bytes of a question, recursion desired, ready to be asked.
pub(super) fn question(name: &str, kind: RecordType) -> Result<Vec<u8>, OpError> {
    let failed = |error: &dyn std::error::Error| OpError(format!("asking for `{name}`: {error}"));
    let name = Name::from_ascii(name).map_err(|error| failed(&error))?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    message.to_vec().map_err(|error| failed(&error))
}
