//! What becomes of HTTP on its way: headers, redirects, answers in pieces, and WebSockets.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, LOCATION};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use inroads_harness::clock;
use inroads_harness::dial::Dialer;
use inroads_harness::measure::OpError;
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::Workload;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use super::super::server::pages::{BACK, MOVED, PAUSE, PIECES, SEEN, SOCKET, Seen, TICKS};
use super::{ANSWER_LIMIT, service_address};

/// A credential that is none: whether it arrives is what counts.
const CREDENTIAL: &str = "Bearer inroads-probe";

/// The largest body that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// The size of the large message of the WebSocket, in bytes: more than a frame's short length can say.
const LARGE_MESSAGE: usize = 100_000;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The server sees the request as the client made it, and the client can follow where it is sent; bodies in pieces
/// come in pieces; a connection can become a WebSocket.
pub(super) async fn http(dialer: &Dialer, workload: &Workload) -> Attempt {
    let expected = "Host and Authorization arrive, an absolute redirect leads back, \
                    chunked bodies come as they are sent, a WebSocket echoes";
    let (host, port) = match service_address(workload, "http") {
        Ok(address) => address,
        Err(error) => return Attempt::fail("the workload", error),
    };
    let site = match Site::of(dialer, &host, port) {
        Ok(site) => site,
        Err(error) => return Attempt::fail(expected, error.0),
    };
    let mut seen = Vec::new();
    let mut wrong = Vec::new();
    for (what, outcome) in [
        ("headers", limited(site.headers()).await),
        ("redirect", limited(site.redirect()).await),
        ("chunked", limited(site.chunked()).await),
        ("pieces", limited(site.pieces()).await),
        ("WebSocket", limited(site.web_socket()).await),
    ] {
        match outcome {
            Ok(text) => seen.push(format!("{what}: {text}")),
            Err(error) => wrong.push(format!("{what}: {error}")),
        }
    }
    if wrong.is_empty() {
        Attempt::pass(expected, seen.join(", "))
    } else {
        Attempt::fail(expected, wrong.join(", "))
    }
}

async fn limited(outcome: impl Future<Output = Result<String, Failed>>) -> Result<String, String> {
    match timeout(ANSWER_LIMIT, outcome).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_elapsed) => Err(format!("not done within {} s", ANSWER_LIMIT.as_secs())),
    }
}

/// The web server, as a user of the access addresses it.
struct Site<'a> {
    dialer: &'a Dialer,
    host: &'a str,
    port: u16,
    /// What is typed: the value of `Host`.
    authority: String,
    /// What stands before every path.
    prefix: String,
}

impl<'a> Site<'a> {
    fn of(dialer: &'a Dialer, host: &'a str, port: u16) -> Result<Self, OpError> {
        let (name, number) = dialer.typed(host, port)?;
        let authority = match number {
            80 => name,
            _ => format!("{name}:{number}"),
        };
        let prefix = dialer.http_route(host, port)?.prefix;
        Ok(Self {
            dialer,
            host,
            port,
            authority,
            prefix,
        })
    }

    async fn headers(&self) -> Result<String, Failed> {
        let path = format!("{}{SEEN}", self.prefix);
        let seen = self.seen(&path).await?;
        self.judge(&seen)?;
        Ok(format!("Host {}, Authorization whole", seen.host))
    }

    /// Follows a redirect as a browser does.
    async fn redirect(&self) -> Result<String, Failed> {
        let path = format!("{}{MOVED}", self.prefix);
        let mut answer = self.send(self.host, self.port, self.get(&path)?).await?;
        if answer.response.status() != StatusCode::FOUND {
            return Err(format!("status {}", answer.response.status()).into());
        }
        let location = answer.response.headers_mut().remove(LOCATION);
        let location = location.ok_or("there is no Location")?;
        let location = location.to_str()?.to_owned();
        let to: Uri = location.parse()?;
        let path = to.path_and_query().map_or("/", |path| path.as_str());
        let elsewhere = to
            .authority()
            .filter(|there| there.as_str() != self.authority);
        let answer = match elsewhere {
            None => self.send(self.host, self.port, self.get(path)?).await,
            Some(there) => {
                let (host, port) = parts(there);
                self.send(host, port, self.get(path)?).await
            }
        };
        let answer = answer.map_err(|error| format!("{location} does not lead back: {error}"))?;
        let seen: Seen = serde_json::from_slice(&answer.whole().await?)
            .map_err(|error| format!("{location} leads elsewhere: {error}"))?;
        if seen.path == SEEN {
            Ok(location)
        } else {
            Err(format!("{location} leads to {}", seen.path).into())
        }
    }

    /// A body in chunks (RFC 9112 §7.1) there and back.
    async fn chunked(&self) -> Result<String, Failed> {
        let pieces = PIECES.map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
        let body = BodyExt::boxed(StreamBody::new(stream::iter(pieces)));
        let path = format!("{}{BACK}", self.prefix);
        let request = self.request(Method::POST, &path).body(body)?;
        let answer = self.send(self.host, self.port, request).await?;
        let back = answer.whole().await?;
        if back == PIECES.concat().as_bytes() {
            Ok(format!("{} bytes there and back", back.len()))
        } else {
            Err(format!("{} other bytes came back", back.len()).into())
        }
    }

    /// An answer whose pieces have pauses between them: the first must not wait for the last.
    async fn pieces(&self) -> Result<String, Failed> {
        let path = format!("{}{TICKS}", self.prefix);
        let answer = self.send(self.host, self.port, self.get(&path)?).await?;
        let Answer { response, _driving } = answer;
        let mut body = response.into_body();
        let (mut whole, mut first) = (Vec::new(), None);
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                first.get_or_insert_with(clock::now);
                take(&mut whole, data)?;
            }
        }
        let ahead = first.ok_or("there is no answer")?.elapsed();
        if whole != PIECES.concat().as_bytes() {
            return Err(format!("{} other bytes", whole.len()).into());
        }
        if ahead < PAUSE {
            return Err("the first piece waited for the others".into());
        }
        Ok(format!(
            "the first {} ms before the last",
            ahead.as_millis()
        ))
    }

    async fn web_socket(&self) -> Result<String, Failed> {
        let stream = self.dialer.http(self.host, self.port).await?;
        let url = format!("ws://{}{}{SOCKET}", self.authority, self.prefix);
        let (mut socket, _response) = client_async(url, stream).await?;
        for message in [
            Message::text("hello"),
            Message::binary(vec![0x5a; LARGE_MESSAGE]),
        ] {
            socket.send(message.clone()).await?;
            let back = socket.next().await.ok_or("it ended")??;
            if back != message {
                return Err("another message came back".into());
            }
        }
        drop(socket.close(None).await);
        Ok(format!("text and {LARGE_MESSAGE} bytes back"))
    }

    async fn seen(&self, path: &str) -> Result<Seen, Failed> {
        let answer = self.send(self.host, self.port, self.get(path)?).await?;
        if answer.response.status() != StatusCode::OK {
            return Err(format!("status {}", answer.response.status()).into());
        }
        Ok(serde_json::from_slice(&answer.whole().await?)?)
    }

    /// Whether the server saw what the client sent.
    fn judge(&self, seen: &Seen) -> Result<(), String> {
        if seen.host != self.authority {
            return Err(format!(
                "Host {} arrived as `{}`",
                self.authority, seen.host
            ));
        }
        match seen.authorization.as_str() {
            CREDENTIAL => Ok(()),
            "" => Err("Authorization did not arrive".to_owned()),
            other => Err(format!("Authorization arrived as {other:?}")),
        }
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(AUTHORIZATION, CREDENTIAL)
    }

    fn get(&self, path: &str) -> Result<Request<Body>, hyper::http::Error> {
        let body = Empty::new().map_err(|never| match never {}).boxed();
        self.request(Method::GET, path).body(body)
    }

    /// Sends a request on a connection of its own.
    async fn send(&self, host: &str, port: u16, request: Request<Body>) -> Result<Answer, Failed> {
        let stream = self.dialer.http(host, port).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut driving = JoinSet::new();
        driving.spawn(async move { drop(connection.await) });
        Ok(Answer {
            response: sender.send_request(request).await?,
            _driving: driving,
        })
    }
}

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// An answer whose body may be on its way still.
struct Answer {
    response: Response<Incoming>,
    /// What drives the connection, until this is dropped.
    _driving: JoinSet<()>,
}

impl Answer {
    async fn whole(self) -> Result<Vec<u8>, Failed> {
        let mut body = self.response.into_body();
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                take(&mut whole, data)?;
            }
        }
        Ok(whole)
    }
}

fn take(whole: &mut Vec<u8>, data: &[u8]) -> Result<(), Failed> {
    if whole.len() + data.len() > LARGEST {
        return Err("the answer is too long".into());
    }
    whole.extend_from_slice(data);
    Ok(())
}

/// The host and port of an authority, the port of HTTP where it names none (RFC 9110 §4.2.1).
fn parts(authority: &Authority) -> (&str, u16) {
    (authority.host(), authority.port_u16().unwrap_or(80))
}

#[cfg(test)]
mod tests {
    use inroads_harness::access::{Access, AddressMap};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::super::server;
    use super::*;

    fn dialer(listener: &TcpListener) -> Dialer {
        let mut map = AddressMap::default();
        map.insert("192.0.2.1", 80, listener.local_addr().unwrap());
        Dialer::new(Access::Rewritten(map))
    }

    #[tokio::test]
    async fn our_server_passes_all_of_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialer = dialer(&listener);
        tokio::spawn(server::serve(listener));
        let site = Site::of(&dialer, "192.0.2.1", 80).unwrap();
        assert!(site.headers().await.unwrap().starts_with("Host 127.0.0.1:"));
        assert!(site.redirect().await.unwrap().ends_with(SEEN));
        site.chunked().await.unwrap();
        site.pieces().await.unwrap();
        site.web_socket().await.unwrap();
    }

    /// What comes of a server that answers each request with `bytes` and ends the connection.
    async fn told(bytes: &'static [u8]) -> Vec<Result<String, Failed>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialer = dialer(&listener);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = [0; 4096];
                drop(stream.read(&mut asked).await);
                drop(stream.write_all(bytes).await);
            }
        });
        let site = Site::of(&dialer, "192.0.2.1", 80).unwrap();
        vec![
            site.headers().await,
            site.redirect().await,
            site.chunked().await,
            site.pieces().await,
            site.web_socket().await,
        ]
    }

    #[tokio::test]
    async fn a_server_that_lies_or_talks_nonsense_fails_all_of_it() {
        for bytes in [
            &b""[..],
            b"SSH-2.0-x\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: http://[::\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        ] {
            for (index, outcome) in told(bytes).await.into_iter().enumerate() {
                assert!(outcome.is_err(), "{index}: {bytes:?}: {outcome:?}");
            }
        }
    }
}
