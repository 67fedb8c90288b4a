//! What hosts say to each other: pings, streams that are checked, datagrams.

use std::hash::{DefaultHasher, Hasher as _};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::Instant;

use super::bed::{Host, Result};

/// Longer than anything here takes, shorter than a test may.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// How long to wait for one answer before asking again.
const PATIENCE: Duration = Duration::from_millis(100);

/// An answered ping.
pub(crate) struct Answer {
    /// Since the first request.
    pub(crate) after: Duration,
    /// Which request was answered, from 0.
    pub(crate) request: u16,
}

/// Sends echo requests with `size` bytes from `host` to `address` until one is answered, for at most
/// `limit`.
pub(crate) fn ping(host: &Host, address: IpAddr, size: usize, limit: Duration) -> Result<Answer> {
    let (domain, protocol, request, reply, ip_header) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0, 20),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129, 0),
    };
    host.run(|| {
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.connect(&SocketAddr::new(address, 0).into())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let start = Instant::now();
        let mut buffer = vec![0; 70_000];
        for sequence in 0u16.. {
            if start.elapsed() > limit {
                break;
            }
            let mut message = vec![0x61; 8 + size];
            message[..6].copy_from_slice(&[request, 0, 0, 0, 0x12, 0x34]);
            message[6..8].copy_from_slice(&sequence.to_be_bytes());
            if address.is_ipv4() {
                let checksum = internet_checksum(&message).to_be_bytes();
                message[2..4].copy_from_slice(&checksum);
            }
            (&socket).write_all(&message)?;
            while let Ok(len) = (&socket).read(&mut buffer) {
                let answer = &buffer[ip_header..len];
                let request = u16::from_be_bytes([answer[6], answer[7]]);
                if answer[0] == reply
                    && answer[4..6] == message[4..6]
                    && answer[8..] == message[8..]
                {
                    return Ok(Answer {
                        after: start.elapsed(),
                        request,
                    });
                }
            }
        }
        Err(format!("no answer from `{address}` within {limit:?}").into())
    })
}

/// Whether `host` gets no answer from `address`.
pub(crate) fn is_silent(host: &Host, address: IpAddr) -> bool {
    ping(host, address, 56, 3 * PATIENCE).is_err()
}

/// Sends `bytes` bytes over one connection from `client` to `server` and as many back, and compares what
/// arrives.
pub(crate) fn stream(client: &Host, server: &Host, address: IpAddr, bytes: usize) -> Result {
    let listener = server.run(|| Ok(TcpListener::bind(SocketAddr::new(address, 0))?))?;
    let to = listener.local_addr()?;
    let serving = thread::spawn(move || -> Result {
        let (stream, _) = listener.accept()?;
        check(&stream, bytes, 1)?;
        write(&stream, bytes, 2)
    });
    let stream = client.run(|| Ok(TcpStream::connect_timeout(&to, LIMIT)?))?;
    write(&stream, bytes, 1)?;
    check(&stream, bytes, 2)?;
    serving.join().expect("the server does not panic")
}

fn write(mut stream: &TcpStream, bytes: usize, seed: u64) -> Result {
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(&noise(bytes, seed))?;
    stream.shutdown(Shutdown::Write)?;
    Ok(())
}

fn check(mut stream: &TcpStream, bytes: usize, seed: u64) -> Result {
    stream.set_read_timeout(Some(LIMIT))?;
    let mut received = Vec::with_capacity(bytes);
    stream.read_to_end(&mut received)?;
    if received.len() != bytes {
        return Err(format!("{} bytes of {bytes} arrived", received.len()).into());
    }
    if hash(&received) != hash(&noise(bytes, seed)) {
        return Err("what arrived is not what was sent".into());
    }
    Ok(())
}

/// Opens `count` connections from `client` to `server`, all at once, and has each answer a few times.
pub(crate) fn connections(client: &Host, server: &Host, address: IpAddr, count: usize) -> Result {
    let listener = server.run(|| {
        let socket = Socket::new(
            Domain::for_address(SocketAddr::new(address, 0)),
            Type::STREAM,
            None,
        )?;
        socket.bind(&SocketAddr::new(address, 0).into())?;
        socket.listen(i32::try_from(count)?)?;
        Ok(TcpListener::from(socket))
    })?;
    let to = listener.local_addr()?;
    let serving = thread::spawn(move || -> Result {
        let accept = |_| -> Result<TcpStream> {
            let (stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(LIMIT))?;
            Ok(stream)
        };
        let streams: Vec<_> = (0..count).map(accept).collect::<Result<_>>()?;
        for _ in 0..ROUNDS {
            for mut stream in &streams {
                let mut question = [0; 100];
                stream.read_exact(&mut question)?;
                stream.write_all(&question)?;
            }
        }
        Ok(())
    });
    client.run(|| {
        let connect = |_| -> Result<TcpStream> {
            let stream = TcpStream::connect_timeout(&to, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            Ok(stream)
        };
        let streams: Vec<_> = (0..count).map(connect).collect::<Result<_>>()?;
        for round in 0..ROUNDS {
            for mut stream in &streams {
                stream.write_all(&[round; 100])?;
            }
            for mut stream in &streams {
                let mut answer = [0; 100];
                stream.read_exact(&mut answer)?;
                assert_eq!(answer, [round; 100]);
            }
        }
        Ok(())
    })?;
    serving.join().expect("the server does not panic")
}

const ROUNDS: u8 = 3;

/// A socket that echoes datagrams, and one that talks to it.
pub(crate) struct Datagrams {
    socket: UdpSocket,
}

impl Datagrams {
    pub(crate) fn new(client: &Host, server: &Host, address: IpAddr) -> Result<Self> {
        let echo = server.run(|| Ok(UdpSocket::bind(SocketAddr::new(address, 0))?))?;
        let to = echo.local_addr()?;
        // Ends with the process: nothing else tells a UDP server that it is over.
        thread::spawn(move || {
            let mut buffer = vec![0; 70_000];
            while let Ok((len, from)) = echo.recv_from(&mut buffer) {
                let _ = echo.send_to(&buffer[..len], from);
            }
        });
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = client.run(|| Ok(UdpSocket::bind(any)?))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(LIMIT))?;
        Ok(Self { socket })
    }

    /// Sends a datagram of `size` bytes and compares what comes back.
    pub(crate) fn echo(&self, size: usize) -> Result {
        let sent = noise(size, 3);
        self.socket.send(&sent)?;
        let mut buffer = vec![0; 70_000];
        let len = self.socket.recv(&mut buffer)?;
        if buffer[..len] != sent {
            return Err(format!("{size} bytes came back as {len} others").into());
        }
        Ok(())
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }
}

/// Bytes that look random and are always the same.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(len).collect()
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn internet_checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let sum: u32 = bytes.chunks(2).map(word).sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    !u16::try_from((folded >> 16) + (folded & 0xffff)).expect("folded")
}
