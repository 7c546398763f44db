//! A request as it is sent over one connection: its HTTP head and its body.

use std::sync::Arc;

use bytes::Bytes;

use crate::config::{Compression, EndpointSettings, Target};
use crate::exporter::http::exchange::Body;
use crate::exporter::request::Request;

/// A request with the body that is sent.
pub(crate) struct Outgoing {
    request: Arc<Request>,
    compression: Compression,
    /// The compressed body, which is sent in place of the request's own parts.
    compressed: Option<Bytes>,
}

impl Outgoing {
    /// Chooses the body: one that could not be compressed is sent as it is.
    pub(crate) fn new(request: Arc<Request>, compression: Compression) -> Self {
        let compressed = request.body(compression).cloned();
        let compression = match compressed {
            Some(_) => compression,
            None => Compression::None,
        };
        Self {
            request,
            compression,
            compressed,
        }
    }

    pub(super) fn into_request(self) -> Arc<Request> {
        self.request
    }

    /// Returns the compression of its body.
    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// Returns the HTTP head for `target`: the endpoint's own, or the target of a redirect.
    pub(crate) fn head(&self, target: &Target, settings: &EndpointSettings) -> Bytes {
        let (body_bytes, encoding) = match &self.compressed {
            None => (self.request.body_bytes, String::new()),
            Some(body) => (
                body.len(),
                format!("Content-Encoding: {}\r\n", self.compression.name()),
            ),
        };
        let version = env!("CARGO_PKG_VERSION");
        // Configured headers may be credentials, which stay with their origin.
        let own_headers = if target.has_origin_of(&settings.target) {
            &*settings.header_lines
        } else {
            ""
        };
        // A request to a proxy contains the whole URL (RFC 9112, 3.2.2), one through a tunnel does not.
        let (origin, proxy_line) = match &settings.proxy {
            Some(proxy) if !target.is_https => (
                format!("http://{}", target.authority),
                proxy.authorization_line(),
            ),
            _ => Default::default(),
        };
        let head = format!(
            "POST {origin}{path} HTTP/1.1\r\n\
             Host: {authority}\r\n\
             User-Agent: {user_agent}{name}/{version} OTel-OTLP-Exporter-Rust/{version}\r\n\
             Content-Type: application/x-protobuf\r\n\
             Content-Length: {body_bytes}\r\n\
             {encoding}{own_headers}{proxy_line}\
             \r\n",
            path = target.path,
            authority = target.authority,
            user_agent = settings.user_agent,
            name = env!("CARGO_PKG_NAME"),
        );
        Bytes::from(head)
    }
}

impl Body for Outgoing {
    fn part(&self, index: usize) -> Option<&[u8]> {
        match &self.compressed {
            Some(body) => (index == 0).then_some(body),
            None => self.request.part(index),
        }
    }
}
