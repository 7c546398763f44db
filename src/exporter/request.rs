//! One POST: batches after an OTLP envelope, merged without a copy.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::buffer::Batch;
use crate::config::Compression;
use crate::otlp::{Envelope, Fields, Run};

/// The number of a batch among all that were ever taken.
pub(crate) type BatchNumber = u64;

/// Bytes of spans below which a request is not split, even if it is refused for its size.
pub(crate) const SPANS_BYTES_MIN: usize = 4096;

/// The body of a request, for as long as it has no outcome.
pub(crate) struct Request {
    /// The number of its first batch.
    pub(crate) number: BatchNumber,
    pub(crate) batches: Vec<Batch>,
    /// Its only batch is a part of the batch with that number.
    pub(crate) is_part: bool,
    /// The pieces of its body, in order.
    parts: Vec<Part>,
    pub(crate) body_bytes: usize,
    pub(crate) spans: u64,
    /// The compressed bodies, by [`Compression`].
    compressed: [Compressed; Compression::ALL.len()],
}

/// The compressed body, made once for all destinations with the same compression.
#[derive(Default)]
pub(crate) struct Compressed {
    begun: AtomicBool,
    /// Contains `None` if the body could not be compressed.
    body: OnceLock<Option<Bytes>>,
}

impl Compressed {
    /// Returns false if the compression was begun before.
    pub(crate) fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn finish(&self, body: Option<Bytes>) {
        // Only one caller of `begun` gets true, so this is set once.
        let _ = self.body.set(body);
    }
}

/// A piece of a request.
enum Part {
    /// The bytes before the spans of a scope, or a body without spans.
    Head(Bytes),
    /// The spans of the batch at this index.
    Batch(usize),
}

impl Request {
    /// Merges the first of `batches`, as many as stay within the limit, at least one.
    pub(crate) fn merge<'a>(
        number: BatchNumber,
        batches: impl Iterator<Item = &'a Batch>,
        bytes_max: usize,
        envelope: &Envelope,
    ) -> Self {
        let room = bytes_max.saturating_sub(envelope.resource_bytes_max());
        let batches = fitting(batches, room, envelope);
        let mut parts = Vec::with_capacity(batches.len() + 1);
        let runs = runs(&batches);
        let heads = envelope.heads(&runs.iter().map(|(run, _)| *run).collect::<Vec<_>>());
        let body_bytes = heads.iter().map(Vec::len).sum::<usize>()
            + runs.iter().map(|(run, _)| run.bytes).sum::<usize>();
        for (head, (_, batches)) in heads.into_iter().zip(runs) {
            parts.push(Part::Head(Bytes::from(head)));
            parts.extend(batches.map(Part::Batch));
        }
        Self {
            number,
            spans: batches.iter().map(Batch::spans).sum(),
            batches,
            is_part: false,
            parts,
            body_bytes,
            compressed: Default::default(),
        }
    }

    /// Creates a request without spans.
    pub(crate) fn of_body(body: Bytes) -> Self {
        Self {
            number: 0,
            batches: Vec::new(),
            is_part: false,
            body_bytes: body.len(),
            parts: vec![Part::Head(body)],
            spans: 0,
            compressed: Default::default(),
        }
    }

    /// Splits the request into requests within a lower limit, or of one span each. Parts of a batch
    /// that alone exceeds the limit all have its number.
    pub(crate) fn split(&self, bytes_max: usize, envelope: &Envelope) -> Vec<Self> {
        let mut requests = Vec::new();
        let mut done = 0;
        while done < self.batches.len() {
            let number = self.number + done as u64;
            let request = Self::merge(number, self.batches[done..].iter(), bytes_max, envelope);
            done += request.batches.len();
            if request.body_bytes > bytes_max {
                requests.extend(request.cut(bytes_max, envelope));
            } else {
                requests.push(request);
            }
        }
        requests
    }

    /// Splits a request with a single batch.
    fn cut(&self, bytes_max: usize, envelope: &Envelope) -> impl Iterator<Item = Self> {
        let room = bytes_max.saturating_sub(self.overhead(envelope));
        let parts = cut(&self.batches[0], room.max(SPANS_BYTES_MIN)).into_iter();
        parts.map(move |part| Self {
            is_part: true,
            ..Self::merge(self.number, [part].iter(), bytes_max, envelope)
        })
    }

    /// Returns the maximum bytes of its body besides spans.
    pub(crate) fn overhead(&self, envelope: &Envelope) -> usize {
        let runs = runs(&self.batches);
        let scopes = runs
            .iter()
            .map(|(run, _)| envelope.scope_bytes_max(run.scope));
        envelope.resource_bytes_max() + scopes.sum::<usize>()
    }

    /// Returns the number of the batch after its last.
    pub(crate) fn next_number(&self) -> BatchNumber {
        self.number + self.batches.len() as u64
    }

    /// Returns a piece of its body.
    pub(crate) fn part(&self, index: usize) -> Option<&[u8]> {
        self.parts.get(index).map(|part| match part {
            Part::Head(bytes) => &**bytes,
            Part::Batch(index) => &*self.batches[*index],
        })
    }

    pub(crate) fn compressed(&self, compression: Compression) -> &Compressed {
        &self.compressed[compression as usize]
    }

    /// Returns the bytes of its compressed bodies.
    pub(crate) fn compressed_bytes(&self) -> usize {
        let bodies = self
            .compressed
            .iter()
            .filter_map(|c| c.body.get()?.as_ref());
        bodies.map(Bytes::len).sum()
    }

    /// Returns whether its body can be sent with this compression now.
    pub(crate) fn is_ready(&self, compression: Compression) -> bool {
        compression == Compression::None || self.compressed(compression).body.get().is_some()
    }

    /// Returns the compressed body; `None` without compression, or if it could not be compressed.
    pub(crate) fn body(&self, compression: Compression) -> Option<&Bytes> {
        self.compressed(compression).body.get()?.as_ref()
    }
}

#[cfg(all(test, not(loom)))]
impl Request {
    /// Creates a request in which each text is a batch of one span, without an envelope.
    pub(crate) fn of_texts(texts: &[&str]) -> Self {
        let pool = crate::buffer::Pool::new(1, 0, 4096, 100).expect("memory");
        let (mut writer, mut reader) = crate::buffer::Pool::open(&pool).expect("a slab");
        let batches: Vec<_> = (texts.iter())
            .map(|text| {
                writer.write(text.as_bytes());
                reader.take().expect("a batch")
            })
            .collect();
        Self {
            number: 0,
            parts: (0..batches.len()).map(Part::Batch).collect(),
            body_bytes: batches.iter().map(|batch| batch.len()).sum(),
            spans: batches.len() as u64,
            batches,
            is_part: false,
            compressed: Default::default(),
        }
    }
}

/// Returns the first batches that fit, at least one if there are any.
fn fitting<'a>(
    batches: impl Iterator<Item = &'a Batch>,
    room: usize,
    envelope: &Envelope,
) -> Vec<Batch> {
    let mut bytes = 0;
    let mut scope = None;
    let mut fitting: Vec<Batch> = Vec::new();
    for batch in batches {
        if scope.replace(batch.scope()) != Some(batch.scope()) {
            bytes += envelope.scope_bytes_max(batch.scope());
        }
        bytes += batch.len();
        if bytes > room && !fitting.is_empty() {
            break;
        }
        fitting.push(batch.clone());
    }
    fitting
}

/// Splits a batch into parts that fit, of one span at least.
fn cut(batch: &Batch, room: usize) -> Vec<Batch> {
    let mut parts = Vec::new();
    let mut rest = batch.clone();
    let (mut spans, mut bytes) = (0, 0);
    let mut walk = Fields::new(batch);
    loop {
        let before = walk.left();
        let Some(Ok(_)) = walk.next() else { break };
        let span_bytes = before - walk.left();
        if spans > 0 && bytes + span_bytes > room {
            let (part, others) = rest.split_at(spans, bytes);
            parts.push(part);
            rest = others;
            (spans, bytes) = (0, 0);
        }
        spans += 1;
        bytes += span_bytes;
    }
    parts.push(rest);
    parts
}

/// Groups the batches into runs of the same scope.
fn runs(batches: &[Batch]) -> Vec<(Run, Range<usize>)> {
    let mut runs: Vec<(Run, Range<usize>)> = Vec::new();
    for (index, batch) in batches.iter().enumerate() {
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

#[cfg(all(test, not(loom)))]
mod tests {
    use prost::Message;

    use super::*;
    use crate::buffer::Pool;
    use crate::otlp::proto;
    use crate::span::InstrumentationScope;

    /// Returns spans of about a kilobyte each, as one batch.
    fn batch(spans: usize) -> Batch {
        let span = proto::Span {
            name: "x".repeat(1000),
            ..proto::Span::default()
        };
        let scope_spans = proto::ScopeSpans {
            spans: vec![span],
            ..proto::ScopeSpans::default()
        };
        let pool = Pool::new(1, 0, 64 << 10, 100).unwrap();
        let (mut writer, mut reader) = Pool::open(&pool).unwrap();
        for _ in 0..spans {
            writer.write(&scope_spans.encode_to_vec());
        }
        reader.take().unwrap()
    }

    #[test]
    fn a_batch_above_the_limit_is_split_into_parts_with_its_number() {
        let envelope = Envelope::new(Vec::new(), "", &InstrumentationScope::default());
        let (large, small) = (batch(30), batch(1));
        let batches = [large.clone(), small];
        let request = Request::merge(7, batches.iter(), usize::MAX, &envelope);
        let limit = 10_000;
        let mut requests = request.split(limit, &envelope);
        assert!(requests.iter().all(|request| request.body_bytes <= limit));

        let last = requests.pop().unwrap();
        assert_eq!((last.number, last.spans, last.is_part), (8, 1, false));
        let spans: Vec<_> = requests.iter().map(|part| part.spans).collect();
        assert_eq!(spans, [9, 9, 9, 3]);
        assert!(requests.iter().all(|part| part.is_part && part.number == 7));
        let bytes: Vec<_> = requests.iter().map(|part| &*part.batches[0]).collect();
        assert_eq!(bytes.concat(), *large);
    }
}
