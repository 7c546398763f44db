//! The variables that options of an endpoint are from.

use std::fmt;

use crate::config::tls::TlsOptions;

/// Variables that [`Config::from_env`](crate::Config::from_env) used for an endpoint, with their values, for the texts of errors and
/// warnings. `Debug` shows the names alone.
#[derive(Clone, Default, PartialEq)]
pub struct Variables {
    /// The variable and the resulting `endpoint`.
    pub(super) endpoint: Option<(&'static str, String)>,
    /// The variable and the resulting headers.
    pub(super) headers: Option<(&'static str, Vec<(String, String)>)>,
    /// The variables and the resulting TLS settings.
    pub(super) tls: Option<(Vec<&'static str>, TlsOptions)>,
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.endpoint.iter().map(|(name, _)| name);
        let headers = self.headers.iter().map(|(name, _)| name);
        let tls = self.tls.iter().flat_map(|(names, _)| names);
        f.debug_list()
            .entries(endpoint.chain(headers).chain(tls))
            .finish()
    }
}
