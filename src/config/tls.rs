//! TLS settings of an endpoint: trusted CAs and the client certificate.

use std::path::PathBuf;

/// TLS settings of an endpoint. `https` endpoints need the feature `tls`.
///
/// TLS 1.2 and 1.3 by [rustls](https://docs.rs/rustls), with the process's default `CryptoProvider` if one
/// is installed, otherwise with *ring*. [`Collector::new`](crate::Collector::new) reads the files, which
/// are PEM, once. After a redirect to another origin `ca_file` applies; `server_name` and the client
/// certificate do not.
///
/// Write them with struct update syntax, `..TlsOptions::default()`: a minor release may add fields.
///
/// ```
/// use otlp_collector::config::TlsOptions;
/// use otlp_collector::{Config, EndpointOptions};
///
/// let config = Config {
///     endpoint: "https://otlp.example.com".to_string(),
///     endpoint_options: EndpointOptions {
///         tls: TlsOptions {
///             ca_file: Some("/etc/shop/ca.pem".into()),
///             ..TlsOptions::default()
///         },
///         ..EndpointOptions::default()
///     },
///     ..Config::default()
/// };
/// # drop(config);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// File with the trusted CAs' certificates. Default none: the system's CAs, or those that the
    /// environment variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    pub ca_file: Option<PathBuf>,
    /// File with the client certificate and its intermediate certificates. Default none. Needs
    /// `client_key_file`.
    pub client_certificate_file: Option<PathBuf>,
    /// File with the client certificate's key: PKCS#8, PKCS#1 or SEC1. Default none.
    pub client_key_file: Option<PathBuf>,
    /// Name that the server's certificate must be valid for. Default none: the URL's host.
    pub server_name: Option<String>,
}

#[cfg(feature = "tls")]
pub(crate) use self::secure::TlsSettings;

#[cfg(feature = "tls")]
mod secure {
    use std::fmt;
    use std::path::Path;
    use std::sync::Arc;

    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};

    use super::TlsOptions;
    use crate::error::Error;

    /// Checked [`TlsOptions`].
    pub(crate) struct TlsSettings {
        /// For the endpoint's own origin.
        pub(crate) own: Arc<ClientConfig>,
        /// For other origins after a redirect: no client certificate, separate session tickets.
        pub(crate) elsewhere: Arc<ClientConfig>,
        /// Name of the endpoint's certificate, if it differs from the URL's host.
        pub(crate) server_name: Option<ServerName<'static>>,
    }

    impl TlsSettings {
        /// Reads all files.
        pub(crate) fn new(options: &TlsOptions) -> Result<Self, Error> {
            let provider = CryptoProvider::get_default()
                .cloned()
                .unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
            let builder = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| failed("the versions of TLS", error))?
                .with_root_certificates(roots(options)?);
            let mut elsewhere = builder.clone().with_no_client_auth();
            let mut own = match identity(options)? {
                None => builder.with_no_client_auth(),
                Some((chain, key)) => {
                    builder.with_client_auth_cert(chain, key).map_err(|error| {
                        failed("client_certificate_file and client_key_file", error)
                    })?
                }
            };
            for config in [&mut own, &mut elsewhere] {
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
            }
            let server_name = (options.server_name.clone())
                .map(|name| {
                    let what = format!("server_name {name:?}");
                    ServerName::try_from(name).map_err(|error| failed(&what, error))
                })
                .transpose()?;
            Ok(Self {
                own: Arc::new(own),
                elsewhere: Arc::new(elsewhere),
                server_name,
            })
        }
    }

    /// Returns the trusted CAs.
    fn roots(options: &TlsOptions) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &options.ca_file {
            for certificate in certificates("ca_file", file)? {
                roots
                    .add(certificate)
                    .map_err(|error| unusable("ca_file", file, error))?;
            }
            return Ok(roots);
        }
        let found = rustls_native_certs::load_native_certs();
        // Stores of some systems contain invalid certificates.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
            return Err(Error::config(format!(
                "no trusted authorities were found on this system ({}); install CA certificates, set \
                 SSL_CERT_FILE, or set ca_file",
                errors.join(", ")
            )));
        }
        Ok(roots)
    }

    type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

    /// Returns the client certificate and its key.
    fn identity(options: &TlsOptions) -> Result<Option<Identity>, Error> {
        let (certificate, key) = match (&options.client_certificate_file, &options.client_key_file)
        {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => {
                return Err(Error::config(
                    "client_certificate_file is set without client_key_file; set both or none",
                ));
            }
            (None, Some(_)) => {
                return Err(Error::config(
                    "client_key_file is set without client_certificate_file; set both or none",
                ));
            }
        };
        let chain = certificates("client_certificate_file", certificate)?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| unusable("client_key_file", key, error))?;
        Ok(Some((chain, key)))
    }

    /// Reads the certificates of a file; none is an error.
    fn certificates(field: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
        let certificates = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable(field, file, error))?;
        if certificates.is_empty() {
            return Err(unusable(field, file, "it contains no PEM certificate"));
        }
        Ok(certificates)
    }

    fn unusable(field: &str, file: &Path, why: impl fmt::Display) -> Error {
        failed(&format!("{field} {file:?}"), why)
    }

    fn failed(what: &str, why: impl fmt::Display) -> Error {
        Error::config(format!("{what} cannot be used for TLS: {why}"))
    }
}
