//! A request in flight, and the response to it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::config::Compression;
use crate::exporter::http::exchange::Body;
use crate::exporter::http::response::Response;
use crate::exporter::request::Request;

/// A request with the body that is sent.
pub(super) struct Outgoing {
    request: Arc<Request>,
    compression: Compression,
    /// The compressed body, which is sent in place of the request's own parts.
    compressed: Option<Bytes>,
    started: Instant,
}

/// A request and the response to it.
pub(crate) struct Reply {
    pub(crate) request: Arc<Request>,
    /// The time at which the connection began to send the request.
    pub(crate) started: Instant,
    /// The compression of the request's body.
    pub(crate) compression: Compression,
    pub(crate) response: Response,
}

impl Outgoing {
    /// A body that could not be compressed is sent as it is.
    pub(super) fn new(request: Arc<Request>, compression: Compression, now: Instant) -> Self {
        let compressed = request.body(compression).cloned();
        let compression = match compressed {
            Some(_) => compression,
            None => Compression::None,
        };
        Self {
            request,
            compression,
            compressed,
            started: now,
        }
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn into_request(self) -> Arc<Request> {
        self.request
    }

    pub(super) fn into_reply(self, response: Response) -> Reply {
        Reply {
            request: self.request,
            started: self.started,
            compression: self.compression,
            response,
        }
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
