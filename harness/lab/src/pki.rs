//! The lab's own certificate authority: one per lab, in memory, for the API server and the kubelets.
//!
//! Every TLS configuration names the ring provider itself, so nothing here depends on (or sets) a
//! process-wide default. Bearer tokens tell who a *client* is: there are no client certificates, no
//! revocation and no renewal, because a lab's certificates die with the lab.

use std::{fmt, net::IpAddr, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// What can go wrong while certificates are made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("make a certificate for `{subject}`")]
    Issue {
        subject: String,
        source: rcgen::Error,
    },
    #[error("read a {what} in PEM form")]
    Pem {
        what: &'static str,
        source: rustls::pki_types::pem::Error,
    },
    #[error("configure TLS")]
    Tls { source: rustls::Error },
}

/// A certificate authority that can issue [`Identity`]s.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    trust: Trust,
}

impl Authority {
    /// Makes a new authority with a fresh key.
    pub fn new(name: &str) -> Result<Self, Error> {
        let failed = |source| Error::Issue {
            subject: name.to_owned(),
            source,
        };
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];

        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self {
            trust: Trust {
                pem: certificate.pem(),
                certificate: certificate.der().clone(),
            },
            issuer: Issuer::new(params, key),
        })
    }

    /// The certificate that clients must trust.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The API server's identity: every name that pods, laptops and the lab call it by, and
    /// `addresses` beside.
    pub fn issue_api_server(
        &self,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Identity, Error> {
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "127.0.0.1",
        ];
        let addresses = addresses.into_iter().map(|address| address.to_string());
        self.issue(
            "kube-apiserver",
            names.into_iter().map(str::to_owned).chain(addresses),
        )
    }

    /// A kubelet's identity: its node's name and addresses.
    pub fn issue_kubelet(
        &self,
        node: &str,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Identity, Error> {
        let addresses = addresses.into_iter().map(|address| address.to_string());
        self.issue(
            &format!("system:node:{node}"),
            std::iter::once(node.to_owned()).chain(addresses),
        )
    }

    fn issue(
        &self,
        subject: &str,
        names: impl IntoIterator<Item = String>,
    ) -> Result<Identity, Error> {
        let failed = |source| Error::Issue {
            subject: subject.to_owned(),
            source,
        };
        let mut params =
            CertificateParams::new(names.into_iter().collect::<Vec<_>>()).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, subject);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;

        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Identity::from_pem(certificate.pem(), key.serialize_pem()))
    }
}

/// The certificate of an [`Authority`], as clients hold it.
#[derive(Clone, Debug)]
pub struct Trust {
    pem: String,
    certificate: CertificateDer<'static>,
}

impl Trust {
    pub fn from_pem(pem: impl Into<String>) -> Result<Self, Error> {
        let pem = pem.into();
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|source| Error::Pem {
                what: "certificate",
                source,
            })?;
        Ok(Self { pem, certificate })
    }

    /// For a kubeconfig's `certificate-authority-data` and the ConfigMap `kube-root-ca.crt`.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A client that trusts this authority and no other.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, Error> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.certificate.clone())
            .map_err(|source| Error::Tls { source })?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|source| Error::Tls { source })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// A server's certificate and private key.
#[derive(Clone)]
pub struct Identity {
    certificate_pem: String,
    key_pem: String,
}

impl Identity {
    /// Takes an identity over from another process; it is checked in [`Identity::server_config`].
    pub fn from_pem(certificate_pem: impl Into<String>, key_pem: impl Into<String>) -> Self {
        Self {
            certificate_pem: certificate_pem.into(),
            key_pem: key_pem.into(),
        }
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key: hand it to the process that serves, to nobody else.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// A TLS server with this identity that speaks one of `protocols` (ALPN names, the preferred first).
    pub fn server_config(&self, protocols: &[&str]) -> Result<Arc<ServerConfig>, Error> {
        let certificate =
            CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).map_err(|source| {
                Error::Pem {
                    what: "certificate",
                    source,
                }
            })?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|source| {
            Error::Pem {
                what: "private key",
                source,
            }
        })?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(vec![certificate], key)
            })
            .map_err(|source| Error::Tls { source })?;
        config.alpn_protocols = protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("certificate_pem", &self.certificate_pem)
            .field("key_pem", &"…")
            .finish()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConnection, ServerConnection, pki_types::ServerName};

    #[test]
    fn a_client_accepts_every_name_the_api_server_goes_by() {
        let authority = Authority::new("lab").unwrap();
        let server = authority
            .issue_api_server(["10.96.0.1".parse().unwrap()])
            .unwrap();
        for name in [
            "kubernetes",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "127.0.0.1",
            "10.96.0.1",
        ] {
            handshake(authority.trust(), &server, name).unwrap();
        }
    }

    #[test]
    fn a_client_refuses_a_foreign_authority_and_a_wrong_name() {
        let (ours, theirs) = (
            Authority::new("lab").unwrap(),
            Authority::new("lab").unwrap(),
        );
        let kubelet = theirs
            .issue_kubelet("worker-1", ["192.0.2.1".parse().unwrap()])
            .unwrap();
        handshake(theirs.trust(), &kubelet, "192.0.2.1").unwrap();
        handshake(ours.trust(), &kubelet, "192.0.2.1").unwrap_err();
        handshake(theirs.trust(), &kubelet, "192.0.2.2").unwrap_err();
    }

    #[test]
    fn trust_and_identity_survive_the_way_through_pem() {
        let authority = Authority::new("lab").unwrap();
        let server = authority.issue_api_server([]).unwrap();
        let trust = Trust::from_pem(authority.trust().pem()).unwrap();
        let server = Identity::from_pem(server.certificate_pem(), server.key_pem());
        handshake(&trust, &server, "kubernetes").unwrap();
        assert!(!format!("{server:?}").contains("PRIVATE KEY"));
    }

    /// A whole handshake in memory.
    fn handshake(trust: &Trust, identity: &Identity, name: &str) -> Result<(), rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(trust.client_config().unwrap(), name)?;
        let mut server =
            ServerConnection::new(identity.server_config(&["h2", "http/1.1"]).unwrap())?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }
}
