//! Health, notices and gauges of endpoints in each phase of an incident.

use std::time::Duration;

use crate::exporter::simulation::server::{Greeting, Reaction, Server};
use crate::exporter::simulation::{Plan, Simulation};
use crate::stats::health::{EndpointHealth, EndpointState};
use crate::stats::notice::NoticeKind;

fn health(simulation: &Simulation) -> EndpointHealth {
    simulation.destination(0).endpoints[0].health.clone()
}

#[test]
fn the_state_follows_the_last_outcome() {
    let mut statuses = [200, 503, 429, 413, 400, 400, 200].into_iter();
    let server = Server::new(move |_| Reaction::status(statuses.next().unwrap_or(200)));
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    assert_eq!(health(&simulation).state, EndpointState::Unused);
    use EndpointState::{BackingOff, Connected, Failing, Throttled};
    for (requests, state, reason) in [
        (1, Connected, ""),
        (2, BackingOff, "503"),
        (3, Throttled, "429"),
        (4, Connected, ""),
        (5, Failing, "400"),
        (6, Failing, "400"),
        (7, Connected, ""),
    ] {
        // A request in which there is something to split.
        simulation.record(30, 500);
        let within = Duration::from_secs(3);
        assert!(simulation.run(within, |s| s.times(0).len() >= requests));
        let is_known = |s: &Simulation| s.stats.requests >= requests as u64;
        assert!(simulation.run(within, is_known));
        let health = health(&simulation);
        assert_eq!(health.state, state, "request {requests}");
        let text = health.reason.unwrap_or_default();
        assert!(
            text.contains(reason) && text.is_empty() == reason.is_empty(),
            "{text}"
        );
    }
}

#[test]
fn the_failure_of_a_stand_by_endpoint_does_not_outlast_its_wait() {
    let fails_once = || {
        let mut first = Some(Reaction::with(503, "Retry-After: 2\r\n", b""));
        Server::new(move |_| first.take().unwrap_or(Reaction::status(200)))
    };
    let mut simulation = Simulation::new(1, [Plan::new([fails_once(), fails_once()])]);
    let start = health(&simulation).since;
    simulation.record(1, 100);
    let states = |simulation: &Simulation| {
        let endpoints = simulation.destination(0).endpoints.into_iter();
        endpoints.map(|e| e.health.state).collect::<Vec<_>>()
    };
    use EndpointState::{Connected, Throttled, Unused};
    simulation.run_ms(1000);
    assert_eq!(states(&simulation), [Throttled, Throttled]);
    simulation.run_ms(5000);
    assert_eq!(states(&simulation), [Connected, Unused]);
    let stand_by = simulation.destination(0).endpoints[1].health.clone();
    assert!(stand_by.reason.unwrap().contains("503"));
    let since = stand_by.since.duration_since(start).unwrap();
    assert!((2000..2500).contains(&since.as_millis()), "{since:?}");
}

#[test]
fn an_incident_is_reported_once_at_its_start_and_once_at_its_end() {
    let mut left = 5;
    let server = Server::new(move |_| {
        left -= 1;
        Reaction::status(if left < 0 { 200 } else { 503 })
    });
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    simulation.record(1, 100);
    assert!(simulation.settle(Duration::from_secs(20)));
    let kinds: Vec<_> = simulation.notices.try_iter().map(|n| n.kind).collect();
    assert_eq!(kinds, [NoticeKind::BackingOff, NoticeKind::Recovered]);
}

#[test]
fn only_a_success_with_a_message_or_rejected_spans_is_a_partial_one() {
    // None; the message "ok"; two rejected spans with the message "no".
    let bodies: [&[u8]; 3] = [b"", b"\n\x04\x12\x02ok", b"\n\x06\x08\x02\x12\x02no"];
    let mut left = bodies.into_iter();
    let server = Server::new(move |_| Reaction::with(200, "", left.next().unwrap()));
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    use NoticeKind::{Rejected, Warned};
    for (partial_successes, expected) in [
        (0, None),
        (1, Some((Warned, "accepted with a warning: ok"))),
        (2, Some((Rejected, "partial success (no)"))),
    ] {
        simulation.record(5, 100);
        assert!(simulation.settle(Duration::from_secs(1)));
        let stats = &simulation.destination(0).endpoints[0];
        assert_eq!(stats.partial_successes, partial_successes);
        let notice = simulation.notices.try_iter().next();
        assert_eq!(
            notice.as_ref().map(|n| n.kind),
            expected.map(|(kind, _)| kind)
        );
        let text = notice.map(|n| n.message).unwrap_or_default();
        assert!(
            text.contains(expected.map_or("", |(_, text)| text)),
            "{text}"
        );
    }
}

#[test]
fn a_wait_is_shown_until_it_has_ended() {
    let mut first = Some(Reaction::with(503, "Retry-After: 5\r\n", b""));
    let server = Server::new(move |_| first.take().unwrap_or(Reaction::status(200)));
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    simulation.record(1, 100);
    simulation.run_ms(1000);
    assert_eq!(health(&simulation).state, EndpointState::Throttled);
    assert!(health(&simulation).next_request_at.is_some());
    assert_eq!(health(&simulation).oldest_request_age, None);
    simulation.run_ms(5000);
    let health = health(&simulation);
    assert_eq!(
        (health.state, health.next_request_at),
        (EndpointState::Connected, None)
    );
}

#[test]
fn states_and_notices_have_the_time_of_their_event() {
    let mut first = Some(Reaction::with(503, "Retry-After: 5\r\n", b""));
    let server = Server::new(move |_| first.take().unwrap_or(Reaction::status(200)));
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    let start = simulation.moment().system_time();
    let at = |ms| start + Duration::from_millis(ms);
    assert_eq!(health(&simulation).since, start);
    simulation.run_ms(1000);
    simulation.record(1, 100);
    simulation.run_ms(2500);
    let throttled = health(&simulation);
    assert_eq!(
        (throttled.since, throttled.observed_at),
        (at(1002), at(3500))
    );
    assert_eq!(throttled.next_request_at, Some(at(6002)));
    let text = throttled.to_string();
    assert!(text.contains("throttled for 2.5 s"), "{text}");
    assert!(text.contains("next request in 2.5 s"), "{text}");
    simulation.run_ms(5000);
    assert_eq!(health(&simulation).since, at(6004));
    let times: Vec<_> = simulation.notices.try_iter().map(|n| n.at).collect();
    assert_eq!(times, [at(1002), at(6004)]);
}

#[test]
fn an_endpoint_without_a_response_is_stalled_after_a_second_and_reported_after_half_of_the_timeout()
{
    let slow = || Reaction::status(200).later(Duration::from_secs(8));
    let mut simulation = Simulation::new(1, [Plan::new([Server::new(move |_| slow())])]);
    simulation.record(1, 100);
    simulation.run_ms(990);
    assert_eq!(health(&simulation).state, EndpointState::Unused);
    simulation.run_ms(20);
    let stalled = health(&simulation);
    assert_eq!(stalled.state, EndpointState::Stalled);
    assert!(stalled.oldest_request_age.unwrap() > Duration::from_secs(1));
    let sent = simulation.moment().system_time() - Duration::from_millis(1009);
    assert_eq!(stalled.since, sent);
    simulation.run_ms(3900);
    assert!(simulation.notices.is_empty());
    simulation.run_ms(200);
    let kinds: Vec<_> = simulation.notices.try_iter().map(|n| n.kind).collect();
    assert_eq!(kinds, [NoticeKind::Stalled]);
    simulation.run_ms(3000);
    assert_eq!(health(&simulation).state, EndpointState::Connected);
    let kinds: Vec<_> = simulation.notices.try_iter().map(|n| n.kind).collect();
    assert_eq!(kinds, [NoticeKind::Recovered]);
}

#[test]
fn nothing_is_in_flight_during_a_wait() {
    let server = Server::new(|_| Reaction::with(503, "Retry-After: 60\r\n", b""));
    let mut simulation = Simulation::new(1, [Plan::new([server])]);
    simulation.record(10, 100);
    simulation.run_ms(1);
    assert_eq!(simulation.counters.destinations[0].in_flight.get(), 10);
    simulation.run_ms(100);
    assert_eq!(simulation.counters.destinations[0].in_flight.get(), 0);
    assert_eq!(simulation.deliveries.waiting_spans(0), 10);
}

#[test]
fn a_shutdown_drops_everything_and_keeps_the_state() {
    let mut server = Server::new(|_| Reaction::Hang);
    server.greeting = Greeting::Accept(Duration::ZERO);
    let plan = Plan::new([server]).options(|options| options.request_bytes_max = 6000);
    let mut simulation = Simulation::new(1, [plan]);
    simulation.record(100, 500);
    simulation.run_ms(2000);
    simulation.give_up();
    assert_eq!(simulation.outcomes(0), (0, 0, 100));
    assert_eq!(simulation.counters.destinations[0].in_flight.get(), 0);
    assert_eq!(health(&simulation).state, EndpointState::Stalled);
    simulation.check_end();
}
