//! One HTTP/1.1 connection, with as little between the socket and the clock as can be.
//!
//! The generator shares the machine with what it measures, so a request costs it one write and one read:
//! requests are ready bytes, and an answer that equals the one checked before needs no parsing. Everything
//! else is parsed by `httparse`.

use std::net::IpAddr;

use inroads_harness::clock::{self, Instant};
use inroads_harness::dial::{Dialer, HttpRoute};
use inroads_harness::measure::OpError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How much is read at once, in bytes.
const BUFFER: usize = 256 << 10;

/// The largest head of an answer that is accepted, in bytes.
const LARGEST_HEAD: usize = 16 << 10;

/// A connection and what has been read from it but not used.
pub(super) struct Connection {
    stream: TcpStream,
    route: HttpRoute,
    buffer: Vec<u8>,
    filled: usize,
}

/// What an answer was, beside right.
pub(super) struct Answer {
    /// Bytes of its body.
    pub(super) length: u64,
    /// When its first byte was there.
    pub(super) first_byte: Instant,
}

impl Connection {
    /// Opens a connection.
    pub(super) async fn open(dialer: &Dialer, host: &str, port: u16) -> Result<Self, OpError> {
        let route = dialer.http_route(host, port)?;
        let stream = dialer.http(host, port).await?;
        Ok(Self {
            stream,
            route,
            buffer: vec![0; BUFFER],
            filled: 0,
        })
    }

    /// The client's own address of it.
    pub(super) fn local_address(&self) -> Result<IpAddr, OpError> {
        Ok(self.stream.local_addr()?.ip())
    }

    /// How requests on it are addressed.
    pub(super) fn route(&self) -> &HttpRoute {
        &self.route
    }

    /// Sends a request as it stands.
    pub(super) async fn send(&mut self, request: &[u8]) -> Result<(), OpError> {
        Ok(self.stream.write_all(request).await?)
    }

    /// Reads an answer whose bytes must be exactly `expected`, head and all.
    pub(super) async fn receive_exactly(&mut self, expected: &[u8]) -> Result<(), OpError> {
        while self.filled < expected.len() {
            self.fill().await?;
        }
        if self.filled != expected.len() || self.buffer[..self.filled] != *expected {
            let seen = String::from_utf8_lossy(&self.buffer[..self.filled.min(200)]).into_owned();
            return Err(OpError(format!("the answer changed: {seen:?}")));
        }
        self.filled = 0;
        Ok(())
    }

    /// Reads a small answer with status 200 and returns all its bytes, and where its body begins.
    pub(super) async fn receive_whole(&mut self) -> Result<(Vec<u8>, usize), OpError> {
        loop {
            self.fill().await?;
            let Some((head, length)) = parse_head(&self.buffer[..self.filled])? else {
                continue;
            };
            if u64::try_from(self.filled - head).is_ok_and(|there| there >= length) {
                let whole = self.buffer[..self.filled].to_vec();
                self.filled = 0;
                return Ok((whole, head));
            }
        }
    }

    /// Reads an answer with status 200 and drops its body.
    pub(super) async fn receive(&mut self) -> Result<Answer, OpError> {
        self.receive_with(|_piece| {}).await
    }

    /// Reads an answer with status 200 and shows its body, piece by piece.
    pub(super) async fn receive_with(
        &mut self,
        mut body: impl FnMut(&[u8]),
    ) -> Result<Answer, OpError> {
        let mut first_byte = None;
        let (head, length) = loop {
            self.fill().await?;
            first_byte.get_or_insert_with(clock::now);
            if let Some(parsed) = parse_head(&self.buffer[..self.filled])? {
                break parsed;
            }
        };
        let mut left = length;
        let mut start = head;
        loop {
            let piece = u64::try_from(self.filled - start)
                .unwrap_or(u64::MAX)
                .min(left);
            let end = start + usize::try_from(piece).unwrap_or(usize::MAX);
            body(&self.buffer[start..end]);
            left -= piece;
            if left == 0 {
                if end != self.filled {
                    return Err(OpError("more came than was announced".to_owned()));
                }
                self.filled = 0;
                return Ok(Answer {
                    length,
                    first_byte: first_byte.unwrap_or_else(clock::now),
                });
            }
            (self.filled, start) = (0, 0);
            self.fill().await?;
        }
    }

    /// Reads an answer's head and at least `count` bytes after it, and leaves the rest.
    pub(super) async fn receive_at_least(&mut self, count: u64) -> Result<(), OpError> {
        let head = loop {
            self.fill().await?;
            if let Some((head, _length)) = parse_head(&self.buffer[..self.filled])? {
                break head;
            }
        };
        let mut read = u64::try_from(self.filled - head).unwrap_or(u64::MAX);
        while read < count {
            self.filled = 0;
            self.fill().await?;
            read += u64::try_from(self.filled).unwrap_or(u64::MAX);
        }
        Ok(())
    }

    /// Reads until the other end closes; anything but its end is an error.
    pub(super) async fn expect_end(&mut self) -> Result<(), OpError> {
        match self.stream.read(&mut self.buffer).await? {
            0 => Ok(()),
            count => Err(OpError(format!("{count} bytes came after the last answer"))),
        }
    }

    async fn fill(&mut self) -> Result<(), OpError> {
        if self.filled == self.buffer.len() {
            return Err(OpError("the answer's head is too long".to_owned()));
        }
        match self.stream.read(&mut self.buffer[self.filled..]).await? {
            0 => Err(OpError(
                "the connection ended in the middle of an answer".to_owned(),
            )),
            count => {
                self.filled += count;
                Ok(())
            }
        }
    }
}

/// The length of the head and of the body that it announces; `None` while the head is not whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, u64)>, OpError> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response
        .parse(bytes)
        .map_err(|error| OpError(format!("not an HTTP answer: {error}")))?;
    let head = match parsed {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial if bytes.len() > LARGEST_HEAD => {
            return Err(OpError("the answer's head is too long".to_owned()));
        }
        httparse::Status::Partial => return Ok(None),
    };
    if response.code != Some(200) {
        return Err(OpError(format!(
            "status {}",
            response.code.unwrap_or_default()
        )));
    }
    let announced = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = announced
        .and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok())
        .ok_or_else(|| OpError("the answer does not say how long it is".to_owned()))?;
    Ok(Some((head, length)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let head = answer.len() - 5;
        assert_eq!(parse_head(answer).unwrap(), Some((head, 5)));
        for end in 0..head {
            assert_eq!(parse_head(&answer[..end]).unwrap(), None, "{end}");
        }
    }

    #[test]
    fn anything_but_a_plain_200_is_an_error() {
        for answer in [
            "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
        ] {
            assert!(parse_head(answer.as_bytes()).is_err(), "{answer:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            drop(parse_head(&bytes));
        }
    }
}
