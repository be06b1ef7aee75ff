//! Clients for HTTP, by whom they trust.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, redirect};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::Clients;
use super::error::RemoteError;
use super::settings::TlsMaterial;

const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// For how long nothing at all may arrive.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// Makes clients.
#[derive(Debug, Clone)]
pub(super) struct Trust {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
}

impl Trust {
    /// With the certificate authorities of this machine, read now. May block.
    pub(super) fn of_this_machine() -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        Self {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            roots: Arc::new(roots),
        }
    }

    /// Clients that check certificates, with this material beside the machine's, or
    /// that take any.
    pub(super) fn clients(
        &self,
        material: &TlsMaterial,
        any_certificate: bool,
    ) -> Result<Clients, RemoteError> {
        let tls = self.config(material, any_certificate)?;
        Ok(Clients {
            asking: client(tls.clone(), true)?,
            uploading: client(tls, false)?,
        })
    }

    fn config(
        &self,
        material: &TlsMaterial,
        any_certificate: bool,
    ) -> Result<rustls::ClientConfig, RemoteError> {
        let wrong = |error: &dyn std::fmt::Display| RemoteError::Certificates(error.to_string());
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(&e))?;
        let builder = if any_certificate {
            let any = Arc::new(AnyCertificate(Arc::clone(&self.provider)));
            builder.dangerous().with_custom_certificate_verifier(any)
        } else {
            let mut roots = (*self.roots).clone();
            for pem in &material.authorities {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|e| wrong(&e))?;
                    roots.add(certificate).map_err(|e| wrong(&e))?;
                }
            }
            builder.with_root_certificates(roots)
        };
        match &material.client {
            None => Ok(builder.with_no_client_auth()),
            Some((chain, key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| wrong(&e))?;
                builder
                    .with_client_auth_cert(chain.map_err(|e| wrong(&e))?, key)
                    .map_err(|e| wrong(&e))
            }
        }
    }
}

fn client(tls: rustls::ClientConfig, is_limited: bool) -> Result<Client, RemoteError> {
    let builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_LIMIT);
    // It counts from the request on, also while a body is being sent.
    let builder = if is_limited {
        builder.read_timeout(SILENCE_LIMIT)
    } else {
        builder
    };
    builder
        .user_agent(concat!("sockerless/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::custom(|attempt| {
            let downgrade = attempt.url().scheme() != "https"
                && attempt.previous().iter().any(|url| url.scheme() == "https");
            if downgrade {
                attempt.error("redirected from an encrypted to an unencrypted address")
            } else if attempt.previous().len() > 10 {
                attempt.error("redirected more than ten times")
            } else {
                attempt.follow()
            }
        }))
        .build()
        .map_err(|e| RemoteError::Certificates(e.to_string()))
}

/// Takes any certificate, but checks that the other side has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
