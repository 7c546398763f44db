//! Which options in use are from the environment.

use crate::config::options::Config;
use crate::config::target::Target;
use crate::error::Error;

impl Config {
    /// Returns the variable that the endpoint in use is from.
    pub(super) fn source_of_endpoint(&self) -> Option<&'static str> {
        let (name, endpoint) = self.variables.endpoint.as_ref()?;
        (self.destinations.is_empty() && self.endpoint == *endpoint).then_some(name)
    }

    /// Checks the endpoint if it is from a variable: the error names that.
    pub(super) fn check_source_of_endpoint(&self) -> Result<(), Error> {
        let Some(name) = self.source_of_endpoint() else {
            return Ok(());
        };
        match Target::parse(&self.endpoint, &self.endpoint_options.path) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::config(format!("{error} (endpoint is from {name})"))),
        }
    }

    /// Returns the variables that set TLS for an endpoint that cannot use it.
    pub(super) fn needless_tls(&self) -> Option<&[&'static str]> {
        let (names, tls) = self.variables.tls.as_ref()?;
        let options = &self.endpoint_options;
        let target = Target::parse(&self.endpoint, &options.path).ok()?;
        let is_needless = self.destinations.is_empty()
            && options.tls == *tls
            && !options.redirects.can_secure(&target);
        is_needless.then_some(names)
    }

    /// Returns descriptions of the options in use that variables set for another endpoint.
    pub(super) fn options_of_another_endpoint(&self) -> Vec<String> {
        let Some((endpoint, url)) = &self.variables.endpoint else {
            return Vec::new();
        };
        if !self.destinations.is_empty() || self.endpoint == *url {
            return Vec::new();
        }
        let options = &self.endpoint_options;
        let is_in_use = |of: &&(_, Vec<_>)| !of.1.is_empty() && of.1 == options.headers;
        let headers = self.variables.headers.as_ref().filter(is_in_use);
        let headers = headers.map(|(name, _)| format!("the headers of {name}"));
        // Only a URL for traces clears the path.
        let is_cleared = options.path.is_empty() && !url.contains("/v1/traces");
        let path = is_cleared.then(|| format!("the path of {endpoint}"));
        headers.into_iter().chain(path).collect()
    }
}
