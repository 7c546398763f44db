//! One POST: batches merged behind an HTTP head and an OTLP envelope, without copying them.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::buffer::Batch;
use crate::config::Settings;

/// A batch and its place among all that an endpoint was ever given.
pub(crate) struct Queued {
    pub(crate) number: u64,
    pub(crate) batch: Batch,
}

pub(crate) struct Request {
    /// HTTP head and envelope.
    pub(crate) head: Bytes,
    pub(crate) batches: Vec<Queued>,
    /// Length of envelope and batches.
    pub(crate) body_bytes: usize,
}

impl Request {
    /// The oldest batches of `backlog`, as many as stay within the limit.
    pub(crate) fn merge(
        backlog: &mut VecDeque<Queued>,
        bytes_max: usize,
        settings: &Settings,
    ) -> Self {
        let room = bytes_max.saturating_sub(settings.envelope.prefix_max());
        let (count, spans_bytes) = fitting(backlog, room);
        let prefix = settings.envelope.prefix(spans_bytes);
        let body_bytes = prefix.len() + spans_bytes;
        let mut head = head(settings, body_bytes).into_bytes();
        head.extend_from_slice(&prefix);
        Self {
            head: Bytes::from(head),
            batches: backlog.drain(..count).collect(),
            body_bytes,
        }
    }

    pub(crate) fn spans(&self) -> u64 {
        self.batches.iter().map(|queued| queued.batch.spans()).sum()
    }

    /// What is sent, piece by piece: the head, then each batch.
    pub(crate) fn part(&self, index: usize) -> Option<&[u8]> {
        match index.checked_sub(1) {
            None => Some(&self.head),
            Some(index) => self.batches.get(index).map(|queued| &*queued.batch),
        }
    }
}

/// How many of the oldest batches have room, at least one, and their bytes.
fn fitting(backlog: &VecDeque<Queued>, room: usize) -> (usize, usize) {
    let mut count = 0;
    let mut bytes = 0;
    for Queued { batch, .. } in backlog {
        if count > 0 && bytes + batch.len() > room {
            break;
        }
        bytes += batch.len();
        count += 1;
    }
    (count, bytes)
}

fn head(settings: &Settings, body_bytes: usize) -> String {
    let target = &settings.target;
    format!(
        "POST {} HTTP/1.1\r\n\
         Host: {}\r\n\
         User-Agent: {}/{version} OTel-OTLP-Exporter-Rust/{version}\r\n\
         Content-Type: application/x-protobuf\r\n\
         Content-Length: {body_bytes}\r\n\
         \r\n",
        target.path,
        target.authority,
        env!("CARGO_PKG_NAME"),
        version = env!("CARGO_PKG_VERSION"),
    )
}
