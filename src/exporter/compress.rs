//! Compresses bodies on a thread of its own: it takes milliseconds, in which the network thread serves
//! other connections.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::Waker;

use crate::config::Compression;
use crate::exporter::request::Request;
use crate::platform::affinity;

/// The queue of the thread, which ends when this is dropped.
pub(crate) struct Compressor(Sender<Job>);

/// A body to be compressed.
struct Job {
    request: Arc<Request>,
    compression: Compression,
}

impl Compressor {
    /// Starts the thread, pinned to the core of the network thread if that is pinned.
    pub(crate) fn start(core: Option<usize>, waker: Arc<Waker>) -> io::Result<Self> {
        let (sender, jobs) = unbounded();
        thread::Builder::new()
            .name("otlp-compress".to_string())
            .spawn(move || {
                // Cannot fail: the network thread was pinned to the same core.
                let _ = core.map(affinity::pin);
                work(&jobs, &waker);
            })?;
        Ok(Self(sender))
    }

    /// Queues the body of a request. Returns false if it was queued before. The network thread is woken
    /// when the body is compressed.
    pub(crate) fn compress(&self, request: &Arc<Request>, compression: Compression) -> bool {
        if !request.compressed(compression).begin() {
            return false;
        }
        let job = Job {
            request: Arc::clone(request),
            compression,
        };
        if let Err(error) = self.0.send(job) {
            // The thread has ended: the body is sent without compression.
            error.0.request.compressed(compression).finish(None);
        }
        true
    }
}

fn work(jobs: &Receiver<Job>, waker: &Waker) {
    for Job {
        request,
        compression,
    } in jobs
    {
        if Arc::strong_count(&request) == 1 {
            // All destinations have given the request up.
            continue;
        }
        let body = catch_unwind(AssertUnwindSafe(|| compress(&request, compression)));
        let body = body.ok().and_then(Result::ok).map(Bytes::from);
        request.compressed(compression).finish(body);
        // Fails only if the network thread has ended.
        let _ = waker.wake();
    }
}

fn compress(request: &Request, compression: Compression) -> io::Result<Vec<u8>> {
    match compression {
        #[cfg(feature = "gzip")]
        Compression::Gzip => {
            let room = Vec::with_capacity(request.body_bytes / 4);
            let mut encoder = flate2::write::GzEncoder::new(room, flate2::Compression::fast());
            write_parts(request, &mut encoder)?;
            encoder.finish()
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            let room = Vec::with_capacity(request.body_bytes / 4);
            let mut encoder = zstd::Encoder::new(room, ZSTD_LEVEL)?;
            encoder.set_pledged_src_size(Some(request.body_bytes as u64))?;
            write_parts(request, &mut encoder)?;
            encoder.finish()
        }
        _ => {
            let mut body = Vec::with_capacity(request.body_bytes);
            write_parts(request, &mut body)?;
            Ok(body)
        }
    }
}

#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 1;

fn write_parts(request: &Request, out: &mut impl io::Write) -> io::Result<()> {
    let parts = (0..).map_while(|index| request.part(index));
    parts.into_iter().try_for_each(|part| out.write_all(part))
}

/// The queue of a compressor without a thread.
#[cfg(all(test, not(loom)))]
pub(crate) struct CompressionQueue(Receiver<Job>);

#[cfg(all(test, not(loom)))]
impl Compressor {
    /// Creates a compressor without a thread.
    pub(crate) fn without_thread() -> (Self, CompressionQueue) {
        let (sender, jobs) = unbounded();
        (Self(sender), CompressionQueue(jobs))
    }
}

#[cfg(all(test, not(loom)))]
impl CompressionQueue {
    /// Finishes all bodies, each with a copy as its compressed form. Returns their number.
    pub(crate) fn finish(&self) -> usize {
        let finish = |job: Job| {
            let mut body = Vec::new();
            write_parts(&job.request, &mut body).unwrap();
            let compressed = job.request.compressed(job.compression);
            compressed.finish(Some(Bytes::from(body)));
        };
        self.0.try_iter().map(finish).count()
    }
}
