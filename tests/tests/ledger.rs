//! The ledger closes to the span with any behaviour of the endpoint, and its counts are correct.

use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::PATIENCE;
use otlp_collector::testing::{Answer, Receiver};
use otlp_collector::{
    Collector, Config, EndpointOptions, Ledger, Overflow, Recorder, Refused, SpanId, SpanRef,
};

fn config(receiver: &Receiver) -> Config {
    Config {
        endpoint: receiver.endpoint(),
        batch_size: 100,
        batch_timeout_ms: 20,
        buffer_capacity: 10_000,
        endpoint_options: EndpointOptions {
            retry_initial_ms: 1,
            retry_max_ms: 20,
            ..EndpointOptions::default()
        },
        shutdown_timeout_ms: 60_000,
        ..Config::default()
    }
}

/// Records one span with a fresh id.
fn record(recorder: &Recorder, name: &str) -> Result<(), Refused> {
    let (trace_id, span_id) = (recorder.new_trace_id(), recorder.new_span_id());
    recorder.record(&SpanRef::new(trace_id, span_id, name))
}

/// Records `spans` spans on each of four threads. Returns the number of accepted spans.
fn produce(collector: &Collector, spans: u64) -> u64 {
    let have_recorders = &Barrier::new(4);
    thread::scope(|scope| {
        let producers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let recorder = collector.recorder().unwrap();
                    have_recorders.wait();
                    let accepted = (0..spans).filter(|_| record(&recorder, "span").is_ok());
                    accepted.count() as u64
                })
            })
            .collect();
        producers.into_iter().map(|p| p.join().unwrap()).sum()
    })
}

/// Waits until `condition` holds for the ledger.
fn wait_for(collector: &Collector, condition: impl Fn(&Ledger) -> bool) {
    while !condition(&collector.ledger()) {
        thread::yield_now();
    }
}

/// Returns how often each span id was received.
fn received(receiver: &Receiver) -> HashMap<SpanId, u32> {
    let mut times = HashMap::new();
    for span in receiver.spans() {
        *times.entry(span.span_id).or_default() += 1;
    }
    times
}

/// Asserts that all accepted spans were delivered, and received exactly once.
fn assert_delivered_once(ledger: &Ledger, accepted: u64, receiver: &Receiver) {
    assert_eq!(ledger.accepted, accepted);
    assert_eq!(ledger.delivered(), accepted, "{ledger}");
    assert_eq!((ledger.pending(), ledger.dropped()), (0, 0));
    let received = received(receiver);
    assert_eq!(received.len() as u64, accepted);
    assert!(received.values().all(|times| *times == 1));
}

#[test]
fn spans_of_several_producers_are_delivered_once() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    let accepted = produce(&collector, 2_000);
    assert_eq!(accepted, 8_000);
    let ledger = collector.shutdown().unwrap();
    assert_delivered_once(&ledger, accepted, &receiver);
}

#[test]
fn the_ledger_closes_at_any_moment() {
    let receiver = Receiver::start_counting().unwrap();
    receiver.answer_next((0..50).map(|i| Answer::status(if i % 3 == 0 { 503 } else { 200 })));
    let collector = Collector::new(config(&receiver)).unwrap();
    let finished = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut last = Ledger::default();
            while !finished.load(Ordering::Relaxed) {
                let ledger = collector.ledger();
                let endpoint = &ledger.destinations[0];
                let known = endpoint.settled() + endpoint.in_flight + endpoint.buffered;
                assert_eq!(ledger.accepted, known, "{ledger}");
                assert!(ledger.accepted >= last.accepted);
                assert!(ledger.delivered() >= last.delivered());
                last = ledger;
            }
        });
        let accepted = produce(&collector, 50_000);
        let ledger = collector.flush(PATIENCE).unwrap();
        assert_eq!((ledger.accepted, ledger.delivered()), (accepted, accepted));
        assert_eq!(ledger.refused.total(), 200_000 - accepted);
        finished.store(true, Ordering::Relaxed);
        watching.join().unwrap();
    });
    assert_eq!(receiver.counts().spans, collector.ledger().delivered());
}

#[test]
fn spans_recorded_in_an_outage_arrive_after_it() {
    let receiver = Receiver::start().unwrap();
    receiver.close();
    let collector = Collector::new(config(&receiver)).unwrap();
    let accepted = produce(&collector, 2_000);
    assert_eq!(accepted, 8_000);
    assert!(collector.flush(Duration::ZERO).unwrap_err().is_timed_out());
    while collector.stats().network.last_error.is_none() {
        thread::yield_now();
    }
    receiver.reopen().unwrap();
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_delivered_once(&ledger, accepted, &receiver);
}

#[test]
fn repeated_outages_lose_no_span() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    let mut accepted = 0;
    for _ in 0..5 {
        accepted += produce(&collector, 100);
        receiver.close();
        accepted += produce(&collector, 100);
        receiver.reopen().unwrap();
    }
    let ledger = collector.shutdown().unwrap();
    assert_eq!((ledger.accepted, ledger.delivered()), (accepted, accepted));
    // A connection may have broken between the receipt of the spans and the response.
    assert_eq!(received(&receiver).len() as u64, accepted);
}

#[test]
fn a_503_is_retried_until_it_succeeds() {
    let receiver = Receiver::start().unwrap();
    receiver.answer_next((0..5).map(|_| Answer::status(503).header("Retry-After", "0")));
    let collector = Collector::new(config(&receiver)).unwrap();
    let accepted = produce(&collector, 500);
    let ledger = collector.shutdown().unwrap();
    assert_delivered_once(&ledger, accepted, &receiver);
    assert_eq!(collector.stats().network.retries, 5);
}

#[test]
fn a_request_whose_connection_breaks_before_the_response_is_retried() {
    let receiver = Receiver::start().unwrap();
    receiver.answer_next([
        Answer::disconnect(),
        Answer::accept_and_disconnect(),
        Answer::ok(),
        Answer::disconnect(),
    ]);
    let collector = Collector::new(config(&receiver)).unwrap();
    let accepted = produce(&collector, 500);
    let ledger = collector.shutdown().unwrap();
    assert_eq!((ledger.accepted, ledger.delivered()), (accepted, accepted));
    // At most twice: in the request without a response, and in its retry.
    let received = received(&receiver);
    assert_eq!(received.len() as u64, accepted);
    assert!(received.values().all(|times| *times <= 2));
    let silent = &receiver.requests()[1];
    let twice: Vec<_> = received.iter().filter(|(_, times)| **times == 2).collect();
    assert_eq!(twice.len(), silent.spans.len());
}

#[test]
fn a_request_without_response_in_time_is_retried() {
    let receiver = Receiver::start().unwrap();
    receiver.pause();
    let collector = Collector::new(Config {
        endpoint_options: EndpointOptions {
            request_timeout_ms: 100,
            ..EndpointOptions::default()
        },
        ..config(&receiver)
    })
    .unwrap();
    let accepted = produce(&collector, 100);
    while collector.stats().network.retries < 2 {
        thread::yield_now();
    }
    receiver.resume();
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.delivered(), accepted);
    assert_eq!(received(&receiver).len() as u64, accepted);
}

#[test]
fn a_full_buffer_refuses_the_newest() {
    let receiver = Receiver::start().unwrap();
    receiver.pause();
    let collector = Collector::new(config(&receiver)).unwrap();
    let accepted = produce(&collector, 5_000);
    // Whole slabs, a few in reserve, and one for each recorder.
    assert!((10_000..=11_600).contains(&accepted), "{accepted}");
    let ledger = collector.ledger();
    assert_eq!(ledger.refused.buffer_full, 20_000 - accepted);
    receiver.resume();
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_delivered_once(&ledger, accepted, &receiver);
}

#[test]
fn drop_oldest_keeps_the_newest() {
    let receiver = Receiver::start().unwrap();
    receiver.close();
    let collector = Collector::new(Config {
        overflow: Overflow::DropOldest,
        ..config(&receiver)
    })
    .unwrap();
    let recorder = collector.recorder().unwrap();
    let mut accepted = 0;
    for i in 0..50_000 {
        // Some spans may be refused before the network thread has made room.
        while record(&recorder, &format!("{i}")).is_err() {
            thread::yield_now();
        }
        accepted += 1;
    }
    receiver.reopen().unwrap();
    let ledger = collector.shutdown().unwrap();
    let dropped = ledger.destinations[0].dropped;
    assert_eq!(ledger.accepted, accepted);
    assert_eq!(ledger.delivered() + dropped.overflow, accepted, "{ledger}");
    assert!(dropped.overflow >= 40_000 - 1_000 && dropped.shut_down == 0);

    // The remaining spans are the newest, without a gap. Requests may overtake each other.
    let mut names: Vec<u64> = (receiver.spans().iter())
        .map(|span| span.name.parse().unwrap())
        .collect();
    names.sort_unstable();
    let oldest = accepted - ledger.delivered();
    assert!(names.into_iter().eq(oldest..accepted));
}

#[test]
fn block_waits_for_room() {
    let receiver = Receiver::start().unwrap();
    receiver.pause();
    let collector = Collector::new(Config {
        overflow: Overflow::Block { timeout_ms: 60_000 },
        ..config(&receiver)
    })
    .unwrap();
    thread::scope(|scope| {
        let producing = scope.spawn(|| produce(&collector, 10_000));
        wait_for(&collector, |ledger| ledger.accepted >= 9_000);
        receiver.resume();
        assert_eq!(producing.join().unwrap(), 40_000);
    });
    let ledger = collector.shutdown().unwrap();
    assert_delivered_once(&ledger, 40_000, &receiver);
    assert_eq!(ledger.refused.total(), 0);
}

#[test]
fn block_refuses_after_its_limit_and_waits_once() {
    let receiver = Receiver::start().unwrap();
    receiver.close();
    let collector = Collector::new(Config {
        overflow: Overflow::Block { timeout_ms: 1 },
        shutdown_timeout_ms: 0,
        ..config(&receiver)
    })
    .unwrap();
    let accepted = produce(&collector, 5_000);
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.refused.buffer_full, 20_000 - accepted);
    assert_eq!(ledger.destinations[0].dropped.shut_down, accepted);
}

#[test]
fn a_final_status_and_a_partial_success_are_rejections() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        // Only a flush sends requests, so that three spans are one request.
        batch_timeout_ms: 3_600_000,
        ..config(&receiver)
    })
    .unwrap();
    let recorder = collector.recorder().unwrap();
    let answers = [
        (Answer::status(400), 0, 3),
        (Answer::partial_success(2, "too old"), 1, 2),
        (Answer::partial_success(0, "a warning"), 3, 0),
        // More than were sent: the count is limited to those.
        (Answer::partial_success(99, "nonsense"), 0, 3),
        (Answer::status(202), 3, 0),
    ];
    let (mut delivered, mut rejected) = (0, 0);
    for (answer, delivers, rejects) in answers {
        receiver.answer_next([answer]);
        for _ in 0..3 {
            record(&recorder, "span").unwrap();
        }
        let ledger = collector.flush(PATIENCE).unwrap();
        delivered += delivers;
        rejected += rejects;
        assert_eq!(
            (ledger.delivered(), ledger.rejected()),
            (delivered, rejected)
        );
    }
    assert_eq!(receiver.counts().requests, 5);
}

#[test]
fn shutdown_drops_what_cannot_be_delivered_in_time() {
    let receiver = Receiver::start().unwrap();
    receiver.close();
    let collector = Collector::new(Config {
        shutdown_timeout_ms: 1,
        ..config(&receiver)
    })
    .unwrap();
    let accepted = produce(&collector, 500);
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.destinations[0].dropped.shut_down, accepted);
    assert_eq!((ledger.delivered(), ledger.pending()), (0, 0));
}

#[test]
fn a_shutdown_during_recording_accounts_for_every_span() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    let accepted = thread::scope(|scope| {
        let producing = scope.spawn(|| produce(&collector, 20_000));
        wait_for(&collector, |ledger| ledger.accepted > 1_000);
        collector.shutdown().unwrap();
        producing.join().unwrap()
    });
    let ledger = collector.ledger();
    assert_eq!(ledger.accepted, accepted);
    assert_eq!(ledger.delivered() + ledger.dropped(), accepted);
    assert_eq!(ledger.accepted + ledger.refused.total(), 80_000);
    assert_eq!(received(&receiver).len() as u64, ledger.delivered());
}

#[test]
fn no_request_exceeds_its_size_limit() {
    let receiver = Receiver::start_counting().unwrap();
    receiver.pause();
    let collector = Collector::new(Config {
        buffer_capacity: 100_000,
        endpoint_options: EndpointOptions {
            request_bytes_max: 100_000,
            ..EndpointOptions::default()
        },
        ..config(&receiver)
    })
    .unwrap();
    let accepted = produce(&collector, 10_000);
    receiver.resume();
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.delivered(), accepted);
    let largest = receiver.counts().body_bytes_max;
    assert!((50_000..=100_000).contains(&largest), "{largest}");
}

#[test]
fn connections_are_reused() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(config(&receiver)).unwrap();
    let recorder = collector.recorder().unwrap();
    for _ in 0..10 {
        record(&recorder, "span").unwrap();
        collector.flush(PATIENCE).unwrap();
    }
    assert_eq!(receiver.counts().requests, 10);
    assert_eq!(receiver.counts().connections, 1);
}

#[test]
fn a_batch_is_sent_when_it_is_complete() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        // So that no request is due to the timeout.
        batch_timeout_ms: 3_600_000,
        ..config(&receiver)
    })
    .unwrap();
    let recorder = collector.recorder().unwrap();
    let spans = |count| (0..count).for_each(|_| record(&recorder, "span").unwrap());
    spans(60);
    collector.flush(PATIENCE).unwrap();
    // Spans are counted since the last batch was taken.
    for delivered in [160, 260, 360] {
        spans(100);
        assert!(receiver.wait_until(PATIENCE, |counts| counts.spans == delivered));
        wait_for(&collector, |ledger| ledger.delivered() == delivered);
    }
    assert_eq!(receiver.counts().requests, 4);
}

#[test]
fn idle_recorders_take_no_room_from_others() {
    for overflow in [Overflow::Refuse, Overflow::DropOldest] {
        let receiver = Receiver::start_counting().unwrap();
        let collector = Collector::new(Config {
            overflow,
            buffer_capacity: 2_000,
            ..config(&receiver)
        })
        .unwrap();
        // Many more recorders than shared slabs.
        let recorders: Vec<_> = (0..200).map(|_| collector.recorder().unwrap()).collect();
        for round in 1..=5 {
            for recorder in &recorders {
                record(recorder, "span").unwrap();
            }
            let ledger = collector.flush(PATIENCE).unwrap();
            assert_eq!(ledger.delivered(), round * 200, "{ledger}");
        }
    }
}

#[test]
fn a_shutdown_ends_the_wait_for_room() {
    let receiver = Receiver::start().unwrap();
    receiver.pause();
    let collector = Collector::new(Config {
        overflow: Overflow::Block {
            timeout_ms: 86_400_000,
        },
        shutdown_timeout_ms: 1,
        ..config(&receiver)
    })
    .unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let recorder = collector.recorder().unwrap();
            loop {
                if let Err(refused) = record(&recorder, "span") {
                    return refused;
                }
            }
        });
        wait_for(&collector, |ledger| ledger.accepted >= 10_000);
        collector.shutdown().unwrap();
        assert_eq!(waiting.join().unwrap(), Refused::ShutDown);
    });
}

#[test]
fn the_buffer_holds_its_capacity_from_any_number_of_threads() {
    let receiver = Receiver::start().unwrap();
    receiver.close();
    let collector = Collector::new(Config {
        buffer_capacity: 100_000,
        ..config(&receiver)
    })
    .unwrap();
    // Each of the four threads leaves a slab that is not full.
    assert_eq!(produce(&collector, 25_000), 100_000);
    receiver.reopen().unwrap();
    assert_eq!(collector.shutdown().unwrap().delivered(), 100_000);
}
