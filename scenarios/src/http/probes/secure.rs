//! TLS by the in-cluster name, and packets of every size.

use std::net::IpAddr;
use std::sync::Arc;

use inroads_harness::dial::{Dialer, HttpRoute};
use inroads_harness::measure::OpError;
use inroads_harness::probe::Attempt;
use inroads_harness::scenario::Workload;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::connection::Connection;
use super::super::server::SMALL;
use super::super::stream::pieces;
use super::super::{SECURE, tls};
use super::wire::Echo;
use super::{ANSWER_LIMIT, endpoints};

/// The largest answer that is read over TLS, in bytes.
const LARGEST: u64 = 64 << 10;

/// The sizes of the sweep, in bytes: around what a full segment carries on common links and in tunnels.
const SIZES: std::ops::RangeInclusive<u64> = 1200..=1500;

/// From one size to the next, in bytes.
const STEP: usize = 4;

/// The server's certificate is verified against the name that is typed, which is the in-cluster name where
/// nothing else has to be. A name that it does not have is refused, or verifying would mean nothing.
pub(super) async fn tls_name(dialer: &Dialer, workload: &Workload) -> Attempt {
    let name = workload.fqdn(SECURE);
    let expected = format!("TLS verifies the server as {name}, and not as another");
    match try_tls_name(dialer, workload, &name).await {
        Ok(Ok(seen)) => Attempt::pass(expected, seen),
        Ok(Err(seen)) => Attempt::fail(expected, seen),
        Err(error) => Attempt::fail(expected, error.0),
    }
}

async fn try_tls_name(
    dialer: &Dialer,
    workload: &Workload,
    name: &str,
) -> Result<Result<String, String>, OpError> {
    let secure = Secure::of(dialer, workload).await?;
    let (typed, _) = dialer.typed(name, secure.port)?;
    let size = match secure.talk(dialer, name, &typed).await {
        Ok(size) => size,
        Err(error) if typed != name => {
            // A client that can be told both, such as `curl --connect-to`, has one more way.
            let both = secure.talk(dialer, name, name).await;
            let both = both.map_or_else(|error| error.0, |_| "it verifies".to_owned());
            return Ok(Err(format!(
                "as `{typed}`: {error}; told {name} beside: {both}"
            )));
        }
        Err(error) => return Err(error),
    };
    let wrong = format!("not-{name}");
    match secure.talk(dialer, name, &wrong).await {
        Ok(_) => Ok(Err(format!("it verifies as {wrong} too"))),
        Err(error) => Ok(Ok(format!(
            "verified as {typed}, by a chain of {size} bytes; as {wrong}: {error}"
        ))),
    }
}

/// Requests and answers of every size around that of a full segment come through, and so does a chain of
/// certificates that takes several: a path that silently drops large packets shows in nothing smaller.
pub(super) async fn mtu(dialer: &Dialer, workload: &Workload) -> Attempt {
    let expected = format!(
        "{} to {} bytes are echoed, in steps of {STEP}, by every pod; a large TLS chain arrives",
        SIZES.start(),
        SIZES.end()
    );
    let mut seen = Vec::new();
    let pods = endpoints(workload);
    if pods.is_empty() {
        return Attempt::fail("the workload", "it has no pods");
    }
    for (pod, facts) in pods {
        match sweep(dialer, &facts.ip.to_string()).await {
            Ok(count) => seen.push(format!("{count} sizes by {pod}")),
            Err(error) => {
                seen.push(format!("{pod}: {error}"));
                return Attempt::fail(expected, seen.join(", "));
            }
        }
    }
    match chain(dialer, workload).await {
        Ok(size) => {
            seen.push(format!("a TLS chain of {size} bytes"));
            Attempt::pass(expected, seen.join(", "))
        }
        Err(error) => {
            seen.push(format!("TLS: {error}"));
            Attempt::fail(expected, seen.join(", "))
        }
    }
}

/// Echoes every size, one after the other, and counts them.
async fn sweep(dialer: &Dialer, host: &str) -> Result<usize, String> {
    let mut echo = Echo::open(dialer, host).await?;
    let mut count = 0;
    for size in SIZES.step_by(STEP) {
        let payload: Vec<u8> = pieces(size).flatten().collect();
        let said = echo.say(&payload).await;
        said.map_err(|error| format!("{size} bytes: {error}"))?;
        count += 1;
    }
    Ok(count)
}

/// The size of the server's chain, in bytes, once it has come and is right. By address: names are another probe's.
async fn chain(dialer: &Dialer, workload: &Workload) -> Result<usize, OpError> {
    let secure = Secure::of(dialer, workload).await?;
    let address = secure.address.to_string();
    secure.talk(dialer, &address, &workload.fqdn(SECURE)).await
}

/// The TLS server, as a client knows it.
struct Secure {
    address: IpAddr,
    port: u16,
    config: Arc<ClientConfig>,
}

impl Secure {
    /// Fetches the certificate of its authority, in the clear.
    async fn of(dialer: &Dialer, workload: &Workload) -> Result<Self, OpError> {
        let broken = |error: &dyn std::fmt::Display| OpError(format!("the workload: {error}"));
        let service = workload.service(SECURE).map_err(|error| broken(&error))?;
        let port = |name: &str| {
            let port = service.ports.get(name).copied();
            port.ok_or_else(|| broken(&format!("service/{SECURE} has no port `{name}`")))
        };
        let address = service.cluster_ip;
        let address = address.ok_or_else(|| broken(&format!("service/{SECURE} has no address")))?;
        let host = address.to_string();
        let fetching = fetch(dialer, &host, port("http")?);
        let pem = timeout(ANSWER_LIMIT, fetching).await;
        let failed = |error: &dyn std::fmt::Display| {
            OpError(format!("fetching the authority's certificate: {error}"))
        };
        let pem = pem
            .map_err(|_elapsed| failed(&format!("no answer within {} s", ANSWER_LIMIT.as_secs())))?
            .map_err(|error| failed(&error))?;
        Ok(Self {
            address,
            port: port("https")?,
            config: trusting(&pem).map_err(|error| failed(&error))?,
        })
    }

    /// Connects to `host`, verifies the server as `name`, and has it answer; returns its chain's size in bytes.
    async fn talk(&self, dialer: &Dialer, host: &str, name: &str) -> Result<usize, OpError> {
        let talking = async {
            let name = ServerName::try_from(name.to_owned())
                .map_err(|error| OpError(format!("`{name}`: {error}")))?;
            let stream = dialer.tcp(host, self.port).await?;
            let connector = TlsConnector::from(self.config.clone());
            let mut stream = connector.connect(name, stream).await?;
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            (&mut stream).take(LARGEST).read_to_end(&mut answer).await?;
            let answer = String::from_utf8_lossy(&answer);
            if !answer.ends_with(SMALL) {
                let line = answer.lines().next().unwrap_or_default();
                return Err(OpError(format!("over TLS it says {line:?}")));
            }
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            Ok(chain.iter().map(|part| part.len()).sum())
        };
        let outcome = timeout(ANSWER_LIMIT, talking).await;
        outcome.map_err(|_elapsed| {
            OpError(format!(
                "TLS was not done within {} s",
                ANSWER_LIMIT.as_secs()
            ))
        })?
    }
}

async fn fetch(dialer: &Dialer, host: &str, port: u16) -> Result<Vec<u8>, OpError> {
    let mut connection = Connection::open(dialer, host, port).await?;
    let HttpRoute { host, prefix } = connection.route();
    let path = tls::AUTHORITY;
    let request =
        format!("GET {prefix}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.send(request.as_bytes()).await?;
    let (mut answer, body) = connection.receive_whole().await?;
    Ok(answer.split_off(body))
}

/// A client that trusts the authority `pem` and no other.
fn trusting(pem: &[u8]) -> Result<Arc<ClientConfig>, OpError> {
    let failed = |error: &dyn std::fmt::Display| OpError(error.to_string());
    let authority = CertificateDer::from_pem_slice(pem).map_err(|error| failed(&error))?;
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(|error| failed(&error))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}

#[cfg(test)]
mod tests {
    use inroads_harness::access::{Access, AddressMap};
    use inroads_harness::scenario::ServiceFacts;
    use tokio::net::TcpListener;

    use super::*;

    /// A workload whose TLS server is at 192.0.2.1, and a listener that stands in for each of its ports.
    async fn bed() -> (Workload, AddressMap, TcpListener, TcpListener) {
        let mut workload = Workload {
            namespace: "lab".to_owned(),
            domain: "cluster.local".to_owned(),
            ..Workload::default()
        };
        let facts = ServiceFacts {
            cluster_ip: Some([192, 0, 2, 1].into()),
            ports: [("https".to_owned(), 443), ("http".to_owned(), 80)].into(),
            endpoints: Vec::new(),
            external_name: None,
        };
        workload.services.insert(SECURE.to_owned(), facts);
        let secure = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut map = AddressMap::default();
        for host in ["192.0.2.1", &workload.fqdn(SECURE)] {
            map.insert(host, 443, secure.local_addr().unwrap());
            map.insert(host, 80, plain.local_addr().unwrap());
        }
        (workload, map, secure, plain)
    }

    #[tokio::test]
    async fn a_chain_arrives_and_a_typed_address_is_no_name_of_the_server() {
        let (workload, map, secure, plain) = bed().await;
        let names = tls::names(SECURE, "lab.svc.cluster.local");
        let credentials = tls::Credentials::new(names).unwrap();
        tokio::spawn(tls::serve(secure, credentials.acceptor().unwrap()));
        tokio::spawn(tls::show(plain, credentials.authority));
        let dialer = Dialer::new(Access::Rewritten(map));
        assert!(chain(&dialer, &workload).await.unwrap() > 12_000);
        let attempt = tls_name(&dialer, &workload).await;
        let miss = attempt.seen.unwrap_err();
        assert!(miss.text().contains("as `127.0.0.1`"), "{miss:?}");
        assert!(miss.text().ends_with("it verifies"), "{miss:?}");
    }

    #[tokio::test]
    async fn another_authority_is_not_trusted_and_nonsense_is_an_error() {
        let (workload, map, secure, plain) = bed().await;
        let names = || tls::names(SECURE, "lab.svc.cluster.local");
        let credentials = tls::Credentials::new(names()).unwrap();
        let other = tls::Credentials::new(names()).unwrap();
        tokio::spawn(tls::serve(secure, credentials.acceptor().unwrap()));
        tokio::spawn(tls::show(plain, other.authority));
        let dialer = Dialer::new(Access::Rewritten(map));
        let error = chain(&dialer, &workload).await.unwrap_err();
        assert!(error.0.contains("certificate"), "{error}");
        for pem in [
            &b""[..],
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(trusting(pem).is_err());
        }
    }

    #[tokio::test]
    async fn a_server_that_does_not_speak_tls_or_hangs_is_an_error() {
        let (workload, map, secure, plain) = bed().await;
        let credentials = tls::Credentials::new(tls::names(SECURE, "a")).unwrap();
        tokio::spawn(tls::show(plain, credentials.authority));
        tokio::spawn(async move {
            let (mut stream, _) = secure.accept().await.unwrap();
            stream
                .write_all(b"\x16\x03\x03\xff\xff nonsense")
                .await
                .unwrap();
            drop(stream);
            let held = secure.accept().await.unwrap();
            std::future::pending::<()>().await;
            drop(held);
        });
        let dialer = Dialer::new(Access::Rewritten(map));
        assert!(chain(&dialer, &workload).await.is_err());
        let error = chain(&dialer, &workload).await.unwrap_err();
        assert!(error.0.contains("not done within"), "{error}");
    }
}
