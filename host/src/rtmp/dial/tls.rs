//! TLS towards a server: whom to trust, and what to say when it fails.
//!
//! The roots are the machine's own (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others),
//! so that an operator's private authority works without a setting of ours. They are
//! read once. Invariant: nothing but [`Trust::Pin`] and [`Trust::Skip`] replaces
//! the verification.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure::{Class, Failure};

/// A server gets so long for the handshake: two round trips and a signature.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How the certificate of a server is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Against the machine's roots, for the host's name.
    #[default]
    Verify,
    /// It has this sha256.
    Pin([u8; 32]),
    /// Not at all.
    Skip,
}

impl Trust {
    /// A pin from its hex digits; colons between them do not matter.
    pub fn pin(text: &str) -> Result<Self, Failure> {
        let nibbles: Option<Vec<u32>> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16))
            .collect();
        // An odd digit at the end would be a byte of its own.
        let even = nibbles.filter(|nibbles| nibbles.len() % 2 == 0);
        let bytes = even.map(|nibbles| {
            nibbles
                .chunks(2)
                .map(|pair| {
                    pair.iter()
                        .fold(0, |byte, nibble| byte << 4 | *nibble as u8)
                })
                .collect::<Vec<u8>>()
        });
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self::Pin)
            .ok_or_else(|| {
                Failure::new(
                    Class::Invalid,
                    "the TLS pin is not a sha256 of 64 hex digits",
                )
            })
    }
}

/// Shakes hands over a connection to `host`.
pub(super) async fn handshake(
    io: TcpStream,
    host: &str,
    trust: Trust,
) -> Result<Box<TlsStream<TcpStream>>, Failure> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        Failure::new(
            Class::Tls,
            format!("{host} is no name that a certificate could be for"),
        )
    })?;
    let connector = TlsConnector::from(config(trust).await?);
    match tokio::time::timeout(HANDSHAKE, connector.connect(name, io)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(failed(host, &error)),
        Err(_) => Err(Failure::new(
            Class::Timeout,
            format!("TLS with {host}: no answer"),
        )),
    }
}

fn failed(host: &str, error: &io::Error) -> Failure {
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            format!("TLS with {host}: the peer closed the connection during the handshake")
        }
        _ => format!("TLS with {host}: {error}"),
    };
    Failure::new(Class::Tls, text)
}

async fn config(trust: Trust) -> Result<Arc<ClientConfig>, Failure> {
    static VERIFYING: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();
    match trust {
        Trust::Verify => VERIFYING.get_or_try_init(verifying).await.cloned(),
        Trust::Pin(pin) => unverified(Some(pin)).map(Arc::new),
        Trust::Skip => unverified(None).map(Arc::new),
    }
}

/// Trusts the machine's roots, read from where they are now.
pub async fn verifying() -> Result<Arc<ClientConfig>, Failure> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let found = found.map_err(|_| Failure::new(Class::Tls, "reading the trusted roots failed"))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let cause = found.errors.first().map(|error| format!(" ({error})"));
        let text = format!(
            "this machine trusts no root certificate{}: install ca-certificates, or set SSL_CERT_FILE",
            cause.unwrap_or_default()
        );
        return Err(Failure::new(Class::Tls, text));
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(broken)?;
    Ok(Arc::new(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}

fn unverified(pin: Option<[u8; 32]>) -> Result<ClientConfig, Failure> {
    let verifier = Unverified {
        pin,
        provider: provider(),
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(broken)?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

fn broken(error: rustls::Error) -> Failure {
    Failure::new(Class::Tls, error)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Takes the pinned certificate, or any. That the peer holds its key is checked in both cases.
#[derive(Debug)]
struct Unverified {
    pin: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

/// The certificate is another one. Its digest is public, and what a person needs to mend the pin.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is not the pinned one, its sha256 is {0}")]
struct NotPinned(String);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let digest: [u8; 32] = Sha256::digest(certificate).into();
        if self.pin.is_none_or(|pin| pin == digest) {
            return Ok(ServerCertVerified::assertion());
        }
        let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let other = OtherError(Arc::new(NotPinned(hex)));
        Err(CertificateError::Other(other).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_64_hex_digits_with_or_without_colons() {
        let pin = Trust::pin(&"0f".repeat(32)).expect("legal");
        assert_eq!(pin, Trust::Pin([15; 32]));
        let colons = vec!["0F"; 32].join(":");
        assert_eq!(Trust::pin(&colons).expect("legal"), pin);
        for bad in [
            "",
            "0f",
            &"0f".repeat(33),
            &"0g".repeat(32),
            &"é".repeat(64),
            &"0".repeat(63),
        ] {
            assert!(Trust::pin(bad).is_err(), "{bad:?}");
        }
    }
}
