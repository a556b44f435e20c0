//! Identity: keys made for one migration, raw public keys (RFC 7250) pinned on every connection.
//!
//! There is no certificate, no authority, no name and no date: a peer is who holds the private
//! key of a pinned public key. Nothing can expire during a migration, and nothing outlives it.
//! TLS 1.3 only, no resumption, no early data (it could be replayed).

use std::sync::Arc;

use ring::{rand::SystemRandom, signature::Ed25519KeyPair};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    PeerIncompatible, ServerConfig, SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{
        CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
    },
    server::{
        AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};

/// The name that a client asks for. Raw public keys carry no names, so it means nothing; TLS
/// merely wants one.
pub const SERVER_NAME: &str = "livmig";

/// The private key of one end.
#[derive(Clone)]
pub struct PrivateKey(Vec<u8>);

/// The public key of one end: a DER `SubjectPublicKeyInfo`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicKey(pub Vec<u8>);

/// Why an identity could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system's randomness failed.
    #[error("could not generate a key")]
    Generate,
    /// The bytes are no usable private key, or TLS refused the configuration.
    #[error("could not use the key")]
    Tls(#[from] Error),
    /// The key type cannot tell its public half.
    #[error("the private key has no public key")]
    NoPublicKey,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        f.write_str("PrivateKey")
    }
}

impl PrivateKey {
    /// A new Ed25519 key.
    pub fn generate() -> Result<Self, IdentityError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| IdentityError::Generate)?;
        Ok(Self(document.as_ref().to_vec()))
    }

    /// A key from its PKCS#8 bytes.
    pub fn from_pkcs8(der: Vec<u8>) -> Self {
        Self(der)
    }

    /// The PKCS#8 bytes, to be kept where only their owner can read them.
    pub fn pkcs8(&self) -> &[u8] {
        &self.0
    }

    /// The public half.
    pub fn public(&self) -> Result<PublicKey, IdentityError> {
        Ok(PublicKey(
            self.certified()?
                .cert
                .first()
                .ok_or(IdentityError::NoPublicKey)?
                .to_vec(),
        ))
    }

    fn certified(&self) -> Result<CertifiedKey, IdentityError> {
        let key = provider()
            .key_provider
            .load_private_key(PrivatePkcs8KeyDer::from(self.0.clone()).into())?;
        let public = key.public_key().ok_or(IdentityError::NoPublicKey)?;
        Ok(CertifiedKey::new(
            vec![CertificateDer::from(public.to_vec())],
            key,
        ))
    }
}

/// TLS for the end that connects: proves `own`, accepts only `peer`.
pub fn client_config(
    own: &PrivateKey,
    peer: &PublicKey,
    alpn: &[u8],
) -> Result<ClientConfig, IdentityError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned::new(peer)))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::new(
            own.certified()?,
        ))));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// TLS for the end that listens: proves `own`, accepts only `peer`.
pub fn server_config(
    own: &PrivateKey,
    peer: &PublicKey,
    alpn: &[u8],
) -> Result<ServerConfig, IdentityError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(Pinned::new(peer)))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(
            own.certified()?,
        ))));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// AES with 128 bits first: it takes fewer rounds for every byte than with 256, and nobody breaks
/// either.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

/// Accepts one public key and nothing else.
#[derive(Debug)]
struct Pinned {
    key: SubjectPublicKeyInfoDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn new(peer: &PublicKey) -> Self {
        Self {
            key: SubjectPublicKeyInfoDer::from(peer.0.clone()),
            algorithms: provider().signature_verification_algorithms,
        }
    }

    fn check(&self, presented: &CertificateDer<'_>) -> Result<(), Error> {
        if presented.as_ref() == self.key.as_ref() {
            Ok(())
        } else {
            Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            ))
        }
    }

    fn verify(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check(presented)?;
        verify_tls13_signature_with_raw_key(message, &self.key, signature, &self.algorithms)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(
            PeerIncompatible::Tls13RequiredForQuic,
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(
            PeerIncompatible::Tls13RequiredForQuic,
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConnection, ServerConnection};

    use super::*;

    /// Runs a handshake in memory; whether both ends finished it.
    fn handshake(client: ClientConfig, server: ServerConfig) -> Result<(), Error> {
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        for _ in 0..8 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(())
    }

    #[test]
    fn only_the_pinned_keys_meet() {
        let [a, b, stranger] = [(); 3].map(|()| PrivateKey::generate().unwrap());
        let public = |key: &PrivateKey| key.public().unwrap();
        let client =
            |own, peer: &PrivateKey, alpn| client_config(own, &public(peer), alpn).unwrap();
        let server =
            |own, peer: &PrivateKey, alpn| server_config(own, &public(peer), alpn).unwrap();

        handshake(client(&a, &b, b"x/1"), server(&b, &a, b"x/1")).unwrap();
        handshake(client(&stranger, &b, b"x/1"), server(&b, &a, b"x/1")).unwrap_err();
        handshake(client(&a, &b, b"x/1"), server(&stranger, &a, b"x/1")).unwrap_err();
        handshake(client(&a, &b, b"x/1"), server(&b, &a, b"x/2")).unwrap_err();
    }
}
