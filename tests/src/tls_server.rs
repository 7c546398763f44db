//! An `https` server.

use std::io;
use std::sync::Arc;

use otlp_collector::testing::Receiver;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use crate::certificates::{Identity, Issuer};
use crate::relay::{listen, relay};

/// Terminates TLS in front of a receiver, like a proxy.
pub struct Server {
    pub port: u16,
    pub receiver: Receiver,
}

impl Server {
    pub fn start(identity: &Identity) -> Self {
        Self::start_with(identity, None, rustls::ALL_VERSIONS)
    }

    /// Starts a server that requests client certificates of this authority, if there is one.
    pub fn start_with(
        identity: &Identity,
        clients: Option<&Issuer>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let config = Arc::new(server_config(identity, clients, versions));
        let receiver = Receiver::start().unwrap();
        let to = receiver.address();
        let address = listen(move |stream| {
            let session = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            let mut client = rustls::StreamOwned::new(session, stream);
            relay(&mut client, |head| Ok((to, head.to_string())))
        });
        let port = address.port();
        Self { port, receiver }
    }

    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }
}

/// Returns a configuration that requests client certificates of this authority, if there is one.
pub fn server_config(
    identity: &Identity,
    clients: Option<&Issuer>,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(issuer) => {
            let mut roots = RootCertStore::empty();
            roots.add(issuer.der().clone()).unwrap();
            let roots = Arc::new(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = builder.with_single_cert(vec![certificate.unwrap()], key);
    config.unwrap()
}
