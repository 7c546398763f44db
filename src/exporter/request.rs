//! One POST: batches merged behind an HTTP head and an OTLP envelope, without copying them.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use crate::buffer::Batch;
use crate::config::Target;
use crate::otlp::{Envelope, Run};

/// A batch and its place among all that an endpoint was ever given.
pub(crate) struct Queued {
    pub(crate) number: u64,
    pub(crate) batch: Batch,
}

pub(crate) struct Request {
    pub(crate) batches: Vec<Queued>,
    /// What is sent, in order.
    pub(crate) parts: Vec<Part>,
    pub(crate) body_bytes: usize,
}

/// A piece of a request.
pub(crate) enum Part {
    /// HTTP head, or what stands before the spans of a scope.
    Head(Bytes),
    /// The spans of the batch at this index.
    Batch(usize),
}

impl Request {
    /// The oldest batches of `backlog`, as many as stay within the limit.
    pub(crate) fn merge(
        backlog: &mut VecDeque<Queued>,
        bytes_max: usize,
        target: &Target,
        envelope: &Envelope,
    ) -> Self {
        let room = bytes_max.saturating_sub(envelope.resource_bytes_max());
        let count = fitting(backlog, room, envelope);
        let batches: Vec<_> = backlog.drain(..count).collect();
        let mut parts = Vec::with_capacity(batches.len() + 1);
        let runs = runs(&batches);
        let heads = envelope.heads(&runs.iter().map(|(run, _)| *run).collect::<Vec<_>>());
        let body_bytes = heads.iter().map(Vec::len).sum::<usize>()
            + runs.iter().map(|(run, _)| run.bytes).sum::<usize>();
        let mut before = head(target, body_bytes).into_bytes();
        for (envelope, (_, batches)) in heads.into_iter().zip(runs) {
            before.extend(envelope);
            parts.push(Part::Head(Bytes::from(std::mem::take(&mut before))));
            parts.extend(batches.map(Part::Batch));
        }
        Self {
            batches,
            parts,
            body_bytes,
        }
    }

    pub(crate) fn spans(&self) -> u64 {
        self.batches.iter().map(|queued| queued.batch.spans()).sum()
    }

    /// What is sent, piece by piece.
    pub(crate) fn part(&self, index: usize) -> Option<&[u8]> {
        self.parts.get(index).map(|part| match part {
            Part::Head(bytes) => &**bytes,
            Part::Batch(index) => &*self.batches[*index].batch,
        })
    }
}

/// How many of the oldest batches have room, at least one.
fn fitting(backlog: &VecDeque<Queued>, room: usize, envelope: &Envelope) -> usize {
    let mut bytes = 0;
    let mut scope = None;
    for (count, Queued { batch, .. }) in backlog.iter().enumerate() {
        if scope.replace(batch.scope()) != Some(batch.scope()) {
            bytes += envelope.scope_bytes_max(batch.scope());
        }
        bytes += batch.len();
        if count > 0 && bytes > room {
            return count;
        }
    }
    backlog.len()
}

/// The batches by runs of the same scope.
fn runs(batches: &[Queued]) -> Vec<(Run, Range<usize>)> {
    let mut runs: Vec<(Run, Range<usize>)> = Vec::new();
    for (index, Queued { batch, .. }) in batches.iter().enumerate() {
        match runs.last_mut() {
            Some((run, batches)) if run.scope == batch.scope() => {
                run.bytes += batch.len();
                batches.end = index + 1;
            }
            _ => runs.push((
                Run {
                    scope: batch.scope(),
                    bytes: batch.len(),
                },
                index..index + 1,
            )),
        }
    }
    runs
}

fn head(target: &Target, body_bytes: usize) -> String {
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
