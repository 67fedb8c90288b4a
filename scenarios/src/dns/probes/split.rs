//! Whether the office and the cluster each see their own names, and none of the other's.

use std::net::SocketAddr;
use std::time::Duration;

use inroads_harness::access::Access;
use inroads_harness::clock;
use inroads_harness::cluster::{Office, QueryLog};
use inroads_harness::dial::Dialer;
use inroads_harness::measure::OpError;
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::Workload;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::question::{Asker, server};
use super::super::{ADDRESSED, libc};
use super::{list, lookup};

/// Longest wait for the office's page.
const PAGE_LIMIT: Duration = Duration::from_secs(3);

/// The largest page that is read, in bytes.
const LARGEST_PAGE: u64 = 4 << 20;

/// A name of the office's is resolved by the laptop as it was before, and a name of the cluster's, as a client
/// behind this access resolves it, is not seen at the office. It is one that nobody else asks for.
pub(super) async fn split(dialer: &Dialer, workload: &Workload) -> Result<Attempt, OpError> {
    let expected = "the office's names resolve, and its DNS is not asked for the cluster's";
    let Some(office) = &workload.office else {
        return Ok(Attempt::not_tried(
            expected,
            "no name is known here that the office's DNS has",
        ));
    };
    let home = match office_found(office).await {
        Ok(home) => home,
        Err(other) => return Ok(Attempt::fail(expected, other)),
    };
    let Some(log) = &office.log else {
        return Ok(Attempt::not_tried(
            expected,
            format!("{home}, but what the office's DNS is asked for cannot be seen"),
        ));
    };

    let label = format!("leak-{}", clock::wall_precise().as_nanosecond());
    let name = workload.fqdn(&label);
    let asked = resolve(dialer, workload, &name).await?;
    let page = page(log).await?;
    if !page.contains("\"name\"") {
        let text = format!("{home}; the log at {} is empty", log.server);
        return Ok(Attempt::fail(expected, text));
    }
    let leaks: Vec<&str> = page.lines().filter(|line| line.contains(&label)).collect();
    Ok(match leaks.first() {
        None => Attempt::pass(
            expected,
            format!("{home}; {asked}, of which the office saw nothing"),
        ),
        Some(leak) => Attempt::fail(
            expected,
            format!("{home}; {asked}, which the office saw: {leak}"),
        ),
    })
}

/// That the laptop's own resolver finds the office's name, or what it finds instead.
pub(crate) async fn office_found(office: &Office) -> Result<String, String> {
    match libc::addresses(&office.name).await {
        // It may have another of the other family.
        Ok(found) if found.contains(&office.address) => {
            Ok(format!("{} is {}", office.name, office.address))
        }
        Ok(found) => Err(format!("{}: {}", office.name, list(&found))),
        Err(error) => Err(format!("{}: {}", office.name, error.0)),
    }
}

/// Asks for a name of the cluster's in every way that a client behind this access has, and says how.
async fn resolve(dialer: &Dialer, workload: &Workload, name: &str) -> Result<String, OpError> {
    let absolute = format!("{name}.");
    match dialer.access() {
        Access::Unmodified => {
            let by_libc = libc::addresses(&absolute).await;
            let by_libc = by_libc.map_or_else(|error| error.0, |found| list(&found));
            let mut asker = Asker::open(dialer, server(dialer, workload)?).await?;
            let wire = list(&lookup(&mut asker, &absolute).await?);
            Ok(format!("{name} was asked for ({by_libc}; {wire})"))
        }
        Access::Socks5 { .. } => {
            let service = workload.service(ADDRESSED).map_err(super::missing)?;
            let port = service.ports.values().next().copied().unwrap_or_default();
            let outcome = dialer.tcp(name, port).await;
            let said = outcome.map_or_else(|error| error.to_string(), |_| "connected".to_owned());
            Ok(format!("{name} was connected to ({said})"))
        }
        Access::Rewritten(_) | Access::UrlPrefix { .. } => {
            let mut asker = Asker::open(dialer, server(dialer, workload)?).await?;
            let wire = list(&lookup(&mut asker, &absolute).await?);
            Ok(format!(
                "{name} was asked for at the cluster's DNS ({wire})"
            ))
        }
    }
}

/// The office's page of the names that it was asked for. The office is no part of the cluster: the way to it
/// is the laptop's own, whatever the access.
async fn page(log: &QueryLog) -> Result<String, OpError> {
    let QueryLog { server, path } = log;
    let read = timeout(PAGE_LIMIT, fetch(*server, path)).await;
    let doing =
        |error: &dyn std::fmt::Display| OpError(format!("reading the log at {server}: {error}"));
    let page = read
        .map_err(|_elapsed| doing(&format!("no answer within {} s", PAGE_LIMIT.as_secs())))?
        .map_err(|error| doing(&error))?;
    match page.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => {
            let line = page.lines().next().unwrap_or_default();
            Err(doing(&format!("it says {line:?}")))
        }
    }
}

async fn fetch(server: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = Vec::new();
    stream.take(LARGEST_PAGE).read_to_end(&mut page).await?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What comes of a log whose server sends `bytes` and then ends the connection.
    async fn told(bytes: &'static [u8]) -> Result<String, OpError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 512];
            assert!(stream.read(&mut asked).await.unwrap() > 0);
            stream.write_all(bytes).await.unwrap();
        });
        let path = "/dns-log".to_owned();
        page(&QueryLog { server, path }).await
    }

    #[tokio::test]
    async fn a_log_is_read_and_nonsense_is_an_error() {
        let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"name\":\"a.\"}\n";
        assert_eq!(told(answer).await.unwrap(), "{\"name\":\"a.\"}\n");
        for bytes in [
            &b""[..],
            b"\xff\xfe\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 404 Not Found\r\n\r\n",
        ] {
            assert!(told(bytes).await.is_err(), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_hangs_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let path = "/dns-log".to_owned();
        let error = page(&QueryLog { server, path }).await.unwrap_err();
        assert!(error.0.contains("no answer within"), "{error}");
    }
}
