//! Asking DNS questions over whatever path an access gives: datagrams where it carries them, else TCP.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query};
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
        match dialer.access() {
            Access::Rewritten(_) => Self::over_tcp(dialer, server).await,
            _ => Self::over_udp(dialer, server).await,
        }
    }

    /// Opens a path for datagrams to `server`.
    pub(super) async fn over_udp(dialer: &Dialer, server: IpAddr) -> Result<Self, OpError> {
        let path = dialer.udp(&server.to_string(), PORT).await?;
        Ok(Self::on(Path::Datagrams(path)))
    }

    /// Opens a connection to `server`.
    pub(super) async fn over_tcp(dialer: &Dialer, server: IpAddr) -> Result<Self, OpError> {
        let stream = dialer.tcp(&server.to_string(), PORT).await?;
        Ok(Self::on(Path::Stream(stream)))
    }

    fn on(path: Path) -> Self {
        Self {
            path,
            next_id: 1,
            buffer: vec![0; usize::from(u16::MAX)],
        }
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
    question_taking(name, kind, None)
}

/// The same by a client that says, by EDNS, how large a datagram it takes, in bytes (RFC 6891 §6.2.3).
pub(super) fn question_taking(
    name: &str,
    kind: RecordType,
    payload: Option<u16>,
) -> Result<Vec<u8>, OpError> {
    let failed = |error: &dyn std::error::Error| OpError(format!("asking for `{name}`: {error}"));
    let name = Name::from_ascii(name).map_err(|error| failed(&error))?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use inroads_harness::access::AddressMap;
    use inroads_harness::dns::message;
    use proptest::prelude::*;
    use tokio::net::{TcpListener, UdpSocket};

    use super::*;

    const SERVER: &str = "192.0.2.53";

    fn dialer(stand_in: SocketAddr) -> Dialer {
        let mut map = AddressMap::default();
        map.insert(SERVER, PORT, stand_in);
        Dialer::new(Access::Rewritten(map))
    }

    /// Asks a server that sends `bytes` over a connection and then ends it.
    async fn told_over_tcp(bytes: &'static [u8]) -> Result<Vec<u8>, OpError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialer = dialer(listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 512];
            assert!(stream.read(&mut asked).await.unwrap() > 0);
            stream.write_all(bytes).await.unwrap();
        });
        let mut asker = Asker::open(&dialer, SERVER.parse().unwrap()).await?;
        let mut question = question("a.test.", RecordType::A)?;
        asker.ask(&mut question).await.map(<[u8]>::to_vec)
    }

    #[tokio::test]
    async fn a_server_that_ends_or_promises_too_much_is_an_error() {
        for bytes in [&b""[..], b"\0", b"\xff\xffabc", b"\0\x02\0\x02"] {
            assert!(told_over_tcp(bytes).await.is_err(), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_answers_something_else_is_given_up() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let dialer = dialer(socket.local_addr().unwrap());
        tokio::spawn(async move {
            let mut asked = [0; 512];
            let (_, client) = socket.recv_from(&mut asked).await.unwrap();
            for bytes in [&b""[..], b"x", b"\xff\xff\xff\xff"] {
                socket.send_to(bytes, client).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        let mut asker = Asker::over_udp(&dialer, SERVER.parse().unwrap())
            .await
            .unwrap();
        let mut question = question("a.test.", RecordType::A).unwrap();
        let error = asker.ask(&mut question).await.unwrap_err();
        assert!(error.0.contains("no answer within"), "{error}");
    }

    #[test]
    fn a_question_says_how_much_is_taken_where_it_is_told_to() {
        let read = |payload| {
            let bytes = question_taking("a.test.", RecordType::A, payload).unwrap();
            let message = Message::from_vec(&bytes).unwrap();
            message.edns.map(|edns| edns.max_payload())
        };
        assert_eq!(read(None), None);
        assert_eq!(read(Some(1232)), Some(1232));
    }

    proptest! {
        #[test]
        fn any_name_can_be_asked_for_or_is_an_error(name in "\\PC*", kind: u16, payload: Option<u16>) {
            if let Ok(bytes) = question_taking(&name, kind.into(), payload) {
                prop_assert_eq!(message::question(&bytes).unwrap().kind(), kind);
            }
        }
    }
}
