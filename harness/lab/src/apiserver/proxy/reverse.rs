//! `…/proxy/PATH`: HTTP to a pod, a Service or a node, as the real API server passes it on.
//!
//! The prefix of the path is cut off and redirects are given it back; the caller's credentials stay
//! here, the name that it called (`Host`) does not. Links inside of HTML pages are left as they are.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header, uri::Authority};
use http_body_util::BodyExt;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio_rustls::TlsConnector;

use super::{
    connect,
    kubelet::{self, Kubelets},
    remove_hop_by_hop, restore_upgrade, send, target, upgrade, wanted_upgrade,
};
use crate::apiserver::{
    respond::{self, Body},
    rest::Rest,
    route::{ProxyTarget, ResourcePath, Scheme},
    status::Status,
};

/// Passes a request on, by what its path names.
pub(crate) async fn forward(
    kubelets: &Kubelets,
    rest: &Rest,
    path: &ResourcePath,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let Some(below) = &path.rest else {
        return redirect_to_slash(request.uri());
    };
    let called = request.uri().path().to_owned();
    let prefix = called
        .strip_suffix(below.as_str())
        .unwrap_or(&called)
        .trim_end_matches('/');
    let prefix = prefix.to_owned();
    let query = request
        .uri()
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let refused = |error: http::Error| Status::bad_request(error.to_string());
    let inner: Uri = format!("/{below}{query}")
        .parse()
        .map_err(|error| refused(http::Error::from(error)))?;
    note_forwarding(&mut request);
    request.headers_mut().remove(header::AUTHORIZATION);
    *request.uri_mut() = inner;
    *request.version_mut() = http::Version::HTTP_11;

    let name = path.name.as_deref().unwrap_or_default();
    let wanted = ProxyTarget::parse(name)?;
    let namespace = path.namespace.as_deref().unwrap_or_default();
    let mut response = match path.resource.as_str() {
        "nodes" => kubelet::forward(kubelets, rest, wanted.name, request).await?,
        resource => {
            let address = match resource {
                "services" => target::of_service(rest, namespace, &wanted)?,
                _ => target::of_pod(rest, namespace, &wanted)?,
            };
            pass(kubelets, address, wanted.scheme, request).await?
        }
    };
    remove_unless_upgraded(&mut response);
    rewrite_location(response.headers_mut(), &prefix);
    Ok(response)
}

async fn pass(
    kubelets: &Kubelets,
    address: SocketAddr,
    scheme: Scheme,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let protocol = wanted_upgrade(request.headers());
    let client = upgrade::on_client(&mut request);
    remove_hop_by_hop(request.headers_mut());
    if let Some(protocol) = &protocol {
        restore_upgrade(request.headers_mut(), protocol);
    }
    let stream = connect(address).await?;
    let answer = match scheme {
        Scheme::Http => send(stream, request).await?,
        Scheme::Https => {
            let name = ServerName::IpAddress(address.ip().into());
            let shaken = TlsConnector::from(unverifying()?)
                .connect(name, stream)
                .await;
            let stream = shaken.map_err(|error| {
                Status::service_unavailable(format!("error trying to reach service: {error}"))
            })?;
            send(stream, request).await?
        }
    };
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(upgrade::tunnel(client, answer, &kubelets.tunnels));
    }
    Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
}

/// `…/proxy` is `…/proxy/`: relative links would else lead astray.
fn redirect_to_slash(uri: &Uri) -> Result<Response<Body>, Status> {
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let place = HeaderValue::from_str(&format!("{}/{query}", uri.path()));
    let place = place.map_err(|error| Status::bad_request(error.to_string()))?;
    let mut response = respond::text(StatusCode::MOVED_PERMANENTLY, "");
    response.headers_mut().insert(header::LOCATION, place);
    Ok(response)
}

/// Notes what the client asked for, and of whom, before the path is cut.
fn note_forwarding(request: &mut Request<Body>) {
    let host = request.headers().get(header::HOST).cloned();
    let host = host.or_else(|| {
        let authority = request.uri().authority().map(Authority::as_str)?;
        HeaderValue::from_str(authority).ok()
    });
    let uri = HeaderValue::from_str(request.uri().path()).ok();
    let headers = request.headers_mut();
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    if let Some(uri) = uri {
        headers.insert("x-forwarded-uri", uri);
    }
    if let Some(host) = host {
        headers.insert("x-forwarded-host", host.clone());
        headers.insert(header::HOST, host);
    }
}

fn remove_unless_upgraded(response: &mut Response<Body>) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        remove_hop_by_hop(response.headers_mut());
    }
}

/// A redirect to a path of the backend must lead there through the proxy again.
fn rewrite_location(headers: &mut HeaderMap, prefix: &str) {
    let location = headers
        .get(header::LOCATION)
        .and_then(|location| location.to_str().ok());
    let rewritten = location
        .filter(|location| location.starts_with('/') && !location.starts_with("//"))
        .filter(|location| !location.starts_with(prefix))
        .and_then(|location| HeaderValue::from_str(&format!("{prefix}{location}")).ok());
    if let Some(rewritten) = rewritten {
        headers.insert(header::LOCATION, rewritten);
    }
}

/// TLS to a pod proves nothing about it: its certificate is for its own name, which the request does
/// not tell. The real API server does not verify it either.
fn unverifying() -> Result<Arc<ClientConfig>, Status> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Status::internal(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(location: &'static str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, HeaderValue::from_static(location));
        rewrite_location(&mut headers, "/api/v1/namespaces/a/services/web/proxy");
        headers[header::LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn redirects_of_the_backend_lead_through_the_proxy() {
        assert_eq!(
            rewritten("/login?x=1"),
            "/api/v1/namespaces/a/services/web/proxy/login?x=1"
        );
        assert_eq!(rewritten("login"), "login");
        assert_eq!(rewritten("https://example.com/"), "https://example.com/");
        assert_eq!(rewritten("//example.com/"), "//example.com/");
    }
}
