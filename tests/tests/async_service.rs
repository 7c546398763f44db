//! A cache server on one pinned runtime a core, with tail sampling: spans four calls deep behind a trait
//! object, held across `.await` and in tasks of their own.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use otlp_collector::span::{KeepIf, StatusRef, TailSampling};
use otlp_collector::{Collector, Instrument, current, instrument, span};
use tokio::task::yield_now;

use common::start;

/// Requests of each core, of which one in ten fails.
const REQUESTS: u64 = 200;

type Found<'a> = Pin<Box<dyn Future<Output = Result<u64, String>> + Send + 'a>>;

/// An async trait, as `#[async_trait]` writes it for trait objects.
trait Cache: Send + Sync {
    fn get(&self, key: u64) -> Found<'_>;
}

struct Shards([Mutex<HashMap<u64, u64>>; 4]);

impl Cache for Shards {
    #[instrument(name = "get", skip(self), err)]
    fn get(&self, key: u64) -> Found<'_> {
        Box::pin(async move {
            let shard = key as usize % self.0.len();
            // Held across an await, without being current.
            let mut waiting = span!("shard", "number" = shard);
            yield_now().await;
            let found = waiting.in_scope(|| self.0[shard].lock().unwrap().get(&key).copied());
            drop(waiting);
            current().set_attribute("cache.is_hit", found.is_some());
            found.ok_or_else(|| format!("no key {key}"))
        })
    }
}

#[instrument(skip(cache))]
async fn execute(cache: Arc<dyn Cache>, key: u64) -> Option<u64> {
    yield_now().await;
    let value = cache.get(key).await.ok();
    if value.is_none() {
        current().set_status(StatusRef::Error("not found"));
    }
    yield_now().await;
    value
}

/// Answers a request; a part of the work is done in a task of its own, which may end later.
async fn serve(cache: Arc<dyn Cache>, key: u64) {
    let audit = tokio::spawn(yield_now().instrument(span!("audit")));
    execute(cache, key).await;
    yield_now().await;
    audit.await.unwrap();
}

fn run_core(cache: &Arc<dyn Cache>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let requests: Vec<_> = (0..REQUESTS)
            .map(|key| {
                let request = span!("request", kind: Server, parent: None, key);
                tokio::spawn(serve(Arc::clone(cache), key).instrument(request))
            })
            .collect();
        for request in requests {
            request.await.unwrap();
        }
    });
}

#[test]
fn a_server_keeps_the_traces_that_failed() {
    let (receiver, collector) = start(|config| {
        config.tail_sampling = Some(TailSampling::new(KeepIf {
            failed: true,
            ..KeepIf::default()
        }));
    });
    let installed = collector.install().unwrap();
    let values = (0..REQUESTS).filter(|key| key % 10 != 0);
    let shards = Shards(Default::default());
    for key in values {
        shards.0[key as usize % 4].lock().unwrap().insert(key, key);
    }
    let cache: Arc<dyn Cache> = Arc::new(shards);
    let cores = Collector::cores();
    let threads: Vec<_> = (0..2)
        .map(|number| {
            let (core, cache) = (cores[number % cores.len()], Arc::clone(&cache));
            let name = format!("core-{number}");
            collector
                .spawn_pinned(core, name, move |_recorder| run_core(&cache))
                .unwrap()
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let ledger = installed.shutdown().unwrap();

    let failed = 2 * REQUESTS / 10;
    let spans = receiver.spans();
    assert_eq!(
        (ledger.delivered(), spans.len()),
        (5 * failed, 5 * failed as usize)
    );
    assert_eq!(ledger.sampled_out.at_end, 5 * (2 * REQUESTS - failed));
    let names: HashMap<_, _> = spans
        .iter()
        .map(|span| (span.span_id, &*span.name))
        .collect();
    for span in &spans {
        let expected = match &*span.name {
            "request" => None,
            "audit" | "execute" => Some("request"),
            "get" => Some("execute"),
            "shard" => Some("get"),
            other => panic!("no span is called {other}"),
        };
        if span.name == "get" {
            assert_eq!(span.attribute("cache.is_hit"), Some(false.into()));
        }
        let parent = span.parent_span_id.map(|parent| names[&parent]);
        assert_eq!(parent, expected, "{}", span.name);
    }
}
