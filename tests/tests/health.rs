//! Health and notices are correct, and handlers of notices do not affect delivery.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use common::{PATIENCE, retry_at_once};
use otlp_collector::span::InstrumentationScope;
use otlp_collector::stats::{
    EndpointHealth, EndpointState, Notice, NoticeKind, OnNotice, ThreadState,
};
use otlp_collector::testing::{Answer, Receiver};
use otlp_collector::{Collector, Config, EndpointOptions, Span, internals};

/// Starts a collector, and returns it with its notices.
fn collector(receiver: &Receiver) -> (Collector, mpsc::Receiver<Notice>) {
    let (sender, notices) = mpsc::channel();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        endpoint_options: retry_at_once(),
        buffer_capacity: 1000,
        batch_size: 100,
        shutdown_timeout_ms: 10,
        // The test may have dropped the receiver.
        on_notice: Some(OnNotice::new(move |notice| {
            drop(sender.send(notice.clone()))
        })),
        ..Config::default()
    });
    (collector.unwrap(), notices)
}

fn collect(collector: &Collector) {
    collector.collect(Span::new("span")).unwrap();
}

fn endpoint(collector: &Collector) -> EndpointHealth {
    let health = collector.health();
    assert_eq!(health.network_thread, ThreadState::Running);
    let endpoint = health.destinations[0].endpoints[0].clone();
    let works = matches!(
        endpoint.state,
        EndpointState::Unused | EndpointState::Connected
    );
    let destination = &health.destinations[0];
    let nothing_lost = health.refused_recently.total() == 0
        && destination.dropped_recently.total() == 0
        && destination.rejected_recently == 0;
    assert_eq!(health.is_healthy(), works && nothing_lost, "{health}");
    endpoint
}

/// Waits until the endpoint is in this state.
fn wait_for(collector: &Collector, state: EndpointState) -> EndpointHealth {
    loop {
        let endpoint = endpoint(collector);
        if endpoint.state == state {
            return endpoint;
        }
        thread::yield_now();
    }
}

fn next(notices: &mpsc::Receiver<Notice>) -> (NoticeKind, String) {
    let notice = notices.recv_timeout(PATIENCE).unwrap();
    (notice.kind, notice.to_string())
}

#[test]
fn an_outage_and_its_end_are_reported() {
    let receiver = Receiver::start().unwrap();
    let (collector, notices) = collector(&receiver);
    assert_eq!(endpoint(&collector).state, EndpointState::Unused);
    collect(&collector);
    collector.flush(PATIENCE).unwrap();
    let connected = endpoint(&collector);
    assert_eq!(connected.state, EndpointState::Connected);
    assert!(connected.since <= SystemTime::now() && connected.reason.is_none());

    receiver.close();
    collect(&collector);
    let down = wait_for(&collector, EndpointState::BackingOff);
    assert!(down.since >= connected.since);
    assert!(down.reason.is_some());
    let (kind, message) = next(&notices);
    assert_eq!(kind, NoticeKind::BackingOff);
    assert!(message.starts_with(&receiver.endpoint()), "{message}");

    receiver.reopen().unwrap();
    collector.flush(PATIENCE).unwrap();
    assert_eq!(endpoint(&collector).state, EndpointState::Connected);
    // Before that, there is one notice per cause: a broken connection, a refused one.
    let message = loop {
        match next(&notices) {
            (NoticeKind::Recovered, message) => break message,
            (kind, message) => assert_eq!(kind, NoticeKind::BackingOff, "{message}"),
        }
    };
    assert!(message.contains("works again after "), "{message}");
    assert!(message.contains("failed connections: "), "{message}");
}

#[test]
fn a_throttling_endpoint_is_reported() {
    let receiver = Receiver::start().unwrap();
    let (collector, notices) = collector(&receiver);
    receiver.answer(Answer::status(503).header("Retry-After", "3600"));
    collect(&collector);
    assert!(collector.flush(Duration::from_millis(1)).is_err());
    let throttled = wait_for(&collector, EndpointState::Throttled);
    let reason = throttled.reason.unwrap();
    assert!(reason.contains("503"), "{reason}");
    let wait = throttled
        .next_request_at
        .unwrap()
        .duration_since(SystemTime::now());
    // At most ten minutes.
    let minutes = wait.unwrap().as_secs() / 60;
    assert!((8..=10).contains(&minutes), "{minutes}");
    let text = collector.health().to_string();
    assert!(text.contains(", next request in "), "{text}");
    assert_eq!(next(&notices).0, NoticeKind::Throttled);
}

#[test]
fn a_rejecting_endpoint_is_reported() {
    let receiver = Receiver::start().unwrap();
    let (collector, notices) = collector(&receiver);
    receiver.answer(Answer::status(401).body("no such key"));
    collect(&collector);
    collector.flush(PATIENCE).unwrap();
    let failing = endpoint(&collector);
    assert_eq!(failing.state, EndpointState::Failing);
    let reason = failing.reason.unwrap();
    assert!(
        reason.contains("401 (no such key); check the endpoint's headers"),
        "{reason}"
    );
    let (kind, message) = next(&notices);
    assert_eq!(kind, NoticeKind::Rejected);
    assert!(message.contains("no such key"), "{message}");

    let stats = collector.stats().network.destinations.remove(0);
    let endpoint = &stats.endpoints[0];
    assert_eq!(endpoint.responses[&401].count, 1);
    assert_eq!(endpoint.response_time.count(), 1);
}

/// Starts a collector whose requests may hang forever.
fn patient_collector(receiver: &Receiver) -> (Collector, mpsc::Receiver<Notice>) {
    let (sender, notices) = mpsc::channel();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        endpoint_options: EndpointOptions {
            request_timeout_ms: 3_600_000,
            connections_max: 1,
            ..EndpointOptions::default()
        },
        buffer_capacity: 1000,
        batch_size: 1,
        batch_timeout_ms: 1,
        shutdown_timeout_ms: 10,
        on_notice: Some(OnNotice::new(move |notice| {
            drop(sender.send(notice.clone()))
        })),
        ..Config::default()
    });
    (collector.unwrap(), notices)
}

#[test]
fn an_endpoint_that_accepts_and_never_responds_is_stalled() {
    let receiver = Receiver::start().unwrap();
    let (collector, _notices) = patient_collector(&receiver);
    collect(&collector);
    collector.flush(PATIENCE).unwrap();
    let idle = endpoint(&collector);
    assert_eq!(
        (idle.oldest_request_age, idle.next_request_at),
        (None, None)
    );
    assert_eq!(collector.health().destinations[0].oldest_span_age, None);

    receiver.pause();
    collect(&collector);
    let stalled = wait_for(&collector, EndpointState::Stalled);
    let second = Duration::from_secs(1);
    assert!(stalled.oldest_request_age.unwrap() >= second);
    let reason = stalled.reason.unwrap();
    assert!(reason.starts_with("no response for "), "{reason}");
    assert!(stalled.since <= SystemTime::now() - second);
    let health = collector.health();
    assert!(health.destinations[0].oldest_span_age.unwrap() >= second);
    let text = health.to_string();
    for part in [
        "UNHEALTHY: network thread running\n",
        ": stalled for ",
        "oldest span without outcome ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let page = collector.stats().to_prometheus();
    let state = |state: &str| {
        let label = format!("otlp_collector_endpoint_state=\"{state}\"}} 1");
        page.lines().any(|line| line.ends_with(&label))
    };
    assert!(state("stalled") && !state("connected"), "{page}");

    receiver.resume();
    collector.flush(PATIENCE).unwrap();
    assert_eq!(endpoint(&collector).state, EndpointState::Connected);
    assert!(collector.health().is_healthy());
}

#[test]
fn an_endpoint_that_never_responded_is_stalled_after_the_shutdown_too() {
    let receiver = Receiver::start().unwrap();
    let (collector, _notices) = patient_collector(&receiver);
    receiver.pause();
    collect(&collector);
    wait_for(&collector, EndpointState::Stalled);
    assert_eq!(collector.shutdown().unwrap().dropped(), 1);
    let health = collector.health();
    assert_eq!(health.network_thread, ThreadState::ShutDown);
    let endpoint = &health.destinations[0].endpoints[0];
    assert_eq!(endpoint.state, EndpointState::Stalled, "{health}");
}

#[test]
fn health_reports_refused_spans_and_a_full_buffer() {
    let receiver = Receiver::start().unwrap();
    receiver.pause();
    let (collector, _notices) = patient_collector(&receiver);
    let recorder = collector.recorder().unwrap();
    let record = || recorder.start("span").try_end();
    while record().is_ok() {}
    let health = collector.health();
    assert_eq!(health.refused_recently.buffer_full, 1);
    assert!(!health.is_healthy());
    let text = health.to_string();
    let part = "refused 1 span in the last 10 s (buffer full 1)";
    assert!(text.contains(part), "{text}");
    let stats = collector.stats();
    assert_eq!(stats.buffer_utilization(), 1.0);
    let page = stats.to_prometheus();
    let line = "otlp_collector_buffer_utilization_ratio 1";
    assert!(page.lines().any(|other| other == line), "{page}");
}

/// Nothing else wakes the network thread, since the request may take an hour.
#[test]
fn refusals_are_reported_while_the_network_thread_is_idle() {
    let receiver = Receiver::start().unwrap();
    receiver.pause();
    let (collector, notices) = patient_collector(&receiver);
    let recorder = collector.recorder().unwrap();
    let next_refused = || loop {
        let notice = notices.recv_timeout(PATIENCE).unwrap();
        if notice.kind == NoticeKind::Refused {
            break notice.to_string();
        }
    };
    while recorder.start("span").try_end().is_ok() {}
    let text = next_refused();
    assert_eq!(text, "recording refused 1 span (buffer full 1)");
    wait_for(&collector, EndpointState::Stalled);
    let other = Collector::new(Config {
        disabled: true,
        ..Config::default()
    })
    .unwrap();
    let foreign = InstrumentationScope::new("foreign");
    let span = Span {
        scope: Some(other.register_scope(foreign).unwrap()),
        ..Span::new("span")
    };
    collector.collect(span).unwrap_err();
    let text = next_refused();
    assert_eq!(text, "recording refused 1 span (unknown scope 1)");
}

#[test]
fn rejected_spans_are_unhealthy_although_the_endpoint_works() {
    let receiver = Receiver::start().unwrap();
    let (collector, notices) = collector(&receiver);
    receiver.answer_next([Answer::partial_success(1, "no name")]);
    collect(&collector);
    collector.flush(PATIENCE).unwrap();
    let health = collector.health();
    let destination = &health.destinations[0];
    assert_eq!(destination.endpoints[0].state, EndpointState::Connected);
    assert_eq!(destination.rejected_recently, 1);
    assert!(!health.is_healthy(), "{health}");
    let (kind, message) = next(&notices);
    assert_eq!(kind, NoticeKind::Rejected);
    let part = "partial success (no name): 1 span rejected";
    assert!(message.ends_with(part), "{message}");
}

#[test]
fn statuses_are_reported_in_their_order_and_the_recovery_counts_them() {
    let receiver = Receiver::start().unwrap();
    let (collector, notices) = collector(&receiver);
    let [unavailable, throttled] = [503, 429].map(Answer::status);
    receiver.answer_next([
        unavailable.clone(),
        unavailable.clone(),
        throttled,
        unavailable,
    ]);
    collect(&collector);
    collector.flush(PATIENCE).unwrap();
    let reported: Vec<_> = (0..4).map(|_| next(&notices)).collect();
    let kinds: Vec<_> = reported.iter().map(|(kind, _)| *kind).collect();
    use NoticeKind::{BackingOff, Recovered, Throttled};
    assert_eq!(kinds, [BackingOff, Throttled, BackingOff, Recovered]);
    let recovered = &reported[3].1;
    let part = "responses 503: 3, responses 429: 1, requests sent again: 4 (4 spans)";
    assert!(recovered.ends_with(part), "{recovered}");
}

#[test]
fn spans_without_memory_are_in_a_notice_a_metric_and_the_report() {
    let receiver = Receiver::start().unwrap();
    let (sender, notices) = mpsc::channel();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        open_span_bytes_total: 1024,
        batch_timeout_ms: 1,
        on_notice: Some(OnNotice::new(move |notice| {
            drop(sender.send(notice.clone()))
        })),
        ..Config::default()
    })
    .unwrap();
    let recorder = collector.recorder().unwrap();
    let spans: Vec<_> = (0..5).map(|_| recorder.start("span")).collect();
    drop(spans);
    let mut spans = 0;
    while spans < 3 {
        let notice = notices.recv_timeout(PATIENCE).unwrap();
        assert_eq!(notice.kind, NoticeKind::WithoutMemory);
        assert!(notice.message.contains("all of 1024 bytes"), "{notice}");
        spans += notice.spans;
    }
    let stats = collector.stats();
    let page = stats.to_prometheus();
    let line = "otlp_collector_spans_without_memory_total 3";
    assert!(page.lines().any(|other| other == line), "{page}");
    let report = stats.to_string();
    let line = "bare          3 without attributes, events and links: open_span_bytes_total";
    assert!(report.contains(line), "{report}");
}

#[test]
fn refused_spans_are_reported() {
    let receiver = Receiver::start().unwrap();
    receiver.close();
    let (collector, notices) = collector(&receiver);
    while collector.collect(Span::new("span")).is_ok() {}
    loop {
        let (kind, message) = next(&notices);
        if kind == NoticeKind::Refused {
            assert!(
                message.contains("refused 1 span (buffer full 1)"),
                "{message}"
            );
            return;
        }
    }
}

#[test]
fn a_panic_is_reported_and_counted() {
    let receiver = Receiver::start().unwrap();
    let (collector, notices) = collector(&receiver);
    internals::panic_network_thread(&collector);
    assert_eq!(next(&notices).0, NoticeKind::Panicked);
    assert_eq!(collector.health().panics, 1);
    collect(&collector);
    assert_eq!(collector.flush(PATIENCE).unwrap().delivered(), 1);
    assert!(collector.health().is_healthy());
}

#[test]
fn a_network_thread_that_panics_repeatedly_is_stopped_and_reported() {
    let receiver = Receiver::start().unwrap();
    receiver.answer(Answer::status(503));
    let (collector, notices) = collector(&receiver);
    collect(&collector);
    receiver.wait_until(PATIENCE, |counts| counts.requests > 0);
    let health = loop {
        (0..200).for_each(|_| internals::panic_network_thread(&collector));
        let health = collector.health();
        // The response may be late while the thread panics.
        if !matches!(
            health.network_thread,
            ThreadState::Running | ThreadState::NotResponding
        ) {
            break health;
        }
    };
    assert_eq!(health.network_thread, ThreadState::Failed);
    assert!(!health.is_healthy() && health.panics > 100, "{health}");
    assert!(collector.collect(Span::new("span")).is_err());

    let error = collector.shutdown().unwrap_err();
    let ledger = error.ledger().unwrap();
    assert_eq!((ledger.pending(), ledger.dropped()), (0, ledger.accepted));
    let page = collector.stats().to_prometheus();
    let in_flight = page
        .lines()
        .find(|l| l.starts_with("otel_sdk_exporter_span_inflight{"));
    assert!(in_flight.unwrap().ends_with(" 0"), "{page}");
    drop(collector);
    let messages: Vec<_> = notices.iter().map(|notice| notice.to_string()).collect();
    for part in [
        "panicked repeatedly and was stopped",
        "1 span dropped (shut down 1)",
    ] {
        assert!(
            messages.iter().any(|message| message.contains(part)),
            "{messages:?}"
        );
    }
}

#[test]
fn after_the_shutdown_there_is_no_health() {
    let receiver = Receiver::start().unwrap();
    let (collector, _notices) = collector(&receiver);
    collect(&collector);
    collector.flush(PATIENCE).unwrap();
    collector.shutdown().unwrap();
    let health = collector.health();
    assert_eq!(health.network_thread, ThreadState::ShutDown);
    assert!(!health.is_healthy());
    assert_eq!(health.destinations.len(), 1);
}

#[test]
fn a_notice_handler_may_block_panic_and_call_the_collector() {
    let receiver = Receiver::start().unwrap();
    receiver.answer_next([Answer::status(400)]);
    let (give, take) = mpsc::channel::<Collector>();
    let take = std::sync::Mutex::new(take);
    let (sender, ledgers) = mpsc::channel();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        on_notice: Some(OnNotice::new(move |_| {
            let collector = take.lock().unwrap().recv().unwrap();
            sender.send(collector.flush(PATIENCE).unwrap()).unwrap();
            panic!("expected");
        })),
        ..Config::default()
    })
    .unwrap();
    collect(&collector);
    collector.flush(PATIENCE).unwrap();
    // The handler waits for the collector; delivery continues.
    collect(&collector);
    assert_eq!(collector.flush(PATIENCE).unwrap().delivered(), 1);
    give.send(collector.clone()).unwrap();
    let ledger = ledgers.recv_timeout(PATIENCE).unwrap();
    assert_eq!((ledger.delivered(), ledger.rejected()), (1, 1));
    assert_eq!(collector.stats().network.panics, 0);
    collect(&collector);
    assert_eq!(collector.shutdown().unwrap().delivered(), 2);
}
