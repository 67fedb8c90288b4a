//! The TLS server in a pod, and how a client trusts it: a chain of certificates for the in-cluster names of its
//! Service, large as those of long chains are, made anew at each start.
//!
//! Its authority's certificate is to be had in the clear from the same pod. So what is shown is that names are
//! verified and chains arrive, not that trust is handed out safely.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use inroads_harness::dns::ResolvConf;
use inroads_harness::role::{Role, RoleError, RoleFuture};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::server;

/// The role of this module.
pub(crate) const ROLE: Role = Role {
    name: "tls-server",
    about: "the TLS server of the http scenario",
    run: |arguments| -> RoleFuture { Box::pin(run(arguments)) },
};

/// The page, in the clear, of the authority's certificate in PEM.
pub(super) const AUTHORITY: &str = "/authority.pem";

/// Certificates between the server's own and the authority's.
const BETWEEN: usize = 3;

/// What each of them carries, in bytes, to be as large as some are: with it, the server's first flight is a dozen
/// full segments.
const BALLAST: usize = 4000;

/// An object identifier for examples (RFC 5612 §2), under which the ballast stands.
const BALLAST_OID: [u64; 8] = [1, 3, 6, 1, 4, 1, 32_473, 1];

/// Longest time for a handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Parser)]
#[command(name = "tls-server", no_binary_name = true)]
struct Arguments {
    /// Where to listen for TLS.
    #[arg(long, default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Where to show the authority's certificate, in the clear.
    #[arg(long, default_value = "0.0.0.0:8080")]
    authority: SocketAddr,
    /// The Service whose names the certificate is for.
    #[arg(long)]
    service: String,
    /// The domain of the Service's names, `NAMESPACE.svc.DOMAIN`. The pod's first search domain by default.
    #[arg(long)]
    below: Option<String>,
}

async fn run(arguments: Vec<String>) -> Result<(), RoleError> {
    let arguments = Arguments::try_parse_from(arguments)?;
    let below = match arguments.below {
        Some(below) => below,
        None => {
            let conf = ResolvConf::parse(&tokio::fs::read_to_string("/etc/resolv.conf").await?);
            let first = conf.search.into_iter().next();
            first.ok_or("/etc/resolv.conf has no search domain: give `--below`")?
        }
    };
    let credentials = Credentials::new(names(&arguments.service, &below))?;
    let acceptor = credentials.acceptor()?;
    let listener = TcpListener::bind(arguments.listen).await?;
    let plain = TcpListener::bind(arguments.authority).await?;
    tokio::join!(
        serve(listener, acceptor),
        show(plain, credentials.authority)
    );
    Ok(())
}

/// All names of a Service, the shortest first.
pub(super) fn names(service: &str, below: &str) -> Vec<String> {
    let labels: Vec<&str> = below.trim_end_matches('.').split('.').collect();
    // `web`, `web.NAMESPACE`, `web.NAMESPACE.svc`, and the full name.
    let counts = [0, 1, 2, labels.len()];
    let names = counts.iter().filter_map(|count| {
        let labels = labels.get(..*count)?;
        Some([&[service][..], labels].concat().join("."))
    });
    names.collect()
}

/// A server's chain of certificates with its key, and the certificate of their authority.
pub(super) struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    /// PEM.
    pub(super) authority: String,
}

impl Credentials {
    /// Fresh ones for these names.
    pub(super) fn new(names: Vec<String>) -> Result<Self, rcgen::Error> {
        let (root, key) = (authority("Inroads probes"), KeyPair::generate()?);
        let pem = root.self_signed(&key)?.pem();
        let mut issuer = Issuer::new(root, key);
        let mut chain = Vec::new();
        for number in 1..=BETWEEN {
            let mut params = authority(&format!("Inroads probes, between {number}"));
            params.custom_extensions = vec![ballast()];
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &issuer)?;
            chain.insert(0, certificate.der().clone());
            issuer = Issuer::new(params, key);
        }
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "the TLS server of the http scenario");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        chain.insert(0, params.signed_by(&key, &issuer)?.der().clone());
        Ok(Self {
            chain,
            key: key.serialize_der(),
            authority: pem,
        })
    }

    /// What takes connections with them.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, rustls::Error> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// A certificate that signs others.
fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}

/// An extension that means nothing to anyone: an octet string (X.690 §8.7) with nothing in it.
fn ballast() -> CustomExtension {
    let length = u16::try_from(BALLAST).unwrap_or(u16::MAX);
    let mut content = vec![0x04, 0x82];
    content.extend(length.to_be_bytes());
    content.resize(content.len() + usize::from(length), 0x5a);
    CustomExtension::from_oid_content(&BALLAST_OID, content)
}

/// Serves TLS for as long as it is polled. A connection that breaks ends alone.
pub(super) async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        drop(stream.set_nodelay(true));
        let accepting = acceptor.accept(stream);
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_LIMIT, accepting).await {
                Ok(Ok(stream)) => server::converse(stream, peer.ip()).await,
                Ok(Err(error)) => tracing::debug!(%error, "a client did not agree"),
                Err(_elapsed) => tracing::debug!("a client did not say hello in time"),
            }
        });
    }
}

/// Shows the authority's certificate for as long as it is polled, and that the server is there.
pub(super) async fn show(listener: TcpListener, authority: String) {
    let authority = Bytes::from(authority);
    loop {
        let Ok((stream, _peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let authority = authority.clone();
        let pages = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let (status, body) = match request.uri().path() {
                AUTHORITY => (StatusCode::OK, authority.clone()),
                "/healthz" => (StatusCode::OK, Bytes::from_static(b"ok\n")),
                _ => (StatusCode::NOT_FOUND, Bytes::from_static(b"not here\n")),
            };
            let mut response = Response::new(Full::new(body));
            *response.status_mut() = status;
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        });
        tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), pages)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_its_short_names_and_its_full_one() {
        assert_eq!(
            names("secure", "lab.svc.cluster.local"),
            [
                "secure",
                "secure.lab",
                "secure.lab.svc",
                "secure.lab.svc.cluster.local"
            ]
        );
    }

    #[test]
    fn the_chain_is_larger_than_a_few_segments() {
        let credentials = Credentials::new(names("secure", "a.svc.cluster.local")).unwrap();
        let size: usize = credentials.chain.iter().map(|part| part.len()).sum();
        assert_eq!(credentials.chain.len(), BETWEEN + 1);
        assert!(size > BETWEEN * BALLAST, "{size}");
    }
}
