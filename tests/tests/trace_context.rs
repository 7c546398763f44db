//! W3C Trace Context: the cases of the specification's test suite, with Level 2's rules for the keys
//! of `tracestate`.

use otlp_collector::span::{TraceFlags, TraceState};
use otlp_collector::{SpanContext, SpanId, TraceId};
use proptest::prelude::*;

const VALID: &str = "00-12345678901234567890123456789012-1234567890123456-01";

fn extract<'a>(headers: &[(&'a str, &'a str)]) -> Option<SpanContext<'a>> {
    SpanContext::extract(headers.iter().copied())
}

fn parent(value: &str) -> Option<TraceId> {
    extract(&[("traceparent", value)]).map(|context| context.trace_id)
}

/// Returns the trace state extracted with a valid `traceparent`.
fn state(headers: &[&str]) -> String {
    let mut all = vec![("traceparent", VALID)];
    all.extend(headers.iter().map(|header| ("tracestate", *header)));
    let context = extract(&all).expect("a bad tracestate never makes the traceparent invalid");
    assert!(context.is_remote);
    context.trace_state.as_str().to_string()
}

#[test]
fn traceparent_is_read_and_written() {
    let context = extract(&[("traceparent", VALID)]).unwrap();
    assert_eq!(
        context.trace_id.to_string(),
        "12345678901234567890123456789012"
    );
    assert_eq!(context.span_id.to_string(), "1234567890123456");
    assert_eq!(context.trace_flags, TraceFlags::SAMPLED);
    assert_eq!(context.traceparent().as_str(), VALID);
}

#[test]
fn the_name_of_traceparent_is_matched_in_any_case() {
    for name in ["TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
        assert!(extract(&[(name, VALID)]).is_some(), "{name}");
    }
    for name in ["trace-parent", "trace.parent", "traceparent "] {
        assert!(extract(&[(name, VALID)]).is_none(), "{name}");
    }
}

#[test]
fn a_repeated_traceparent_is_invalid() {
    let other = VALID.replace("9012-", "9011-");
    assert!(extract(&[("traceparent", VALID), ("traceparent", &other)]).is_none());
    assert!(extract(&[("traceparent", VALID), ("TraceParent", VALID)]).is_none());
}

#[test]
fn traceparent_version_00_has_no_further_fields() {
    assert!(parent(&format!("{VALID}.")).is_none());
    assert!(parent(&format!("{VALID}-what-the-future-will-be-like")).is_none());
}

#[test]
fn traceparent_version_cc_may_have_further_fields() {
    let future = VALID.replacen("00", "cc", 1);
    assert!(parent(&future).is_some());
    assert!(parent(&format!("{future}-what-the-future-will-be-like")).is_some());
    assert!(parent(&format!("{future}.what-the-future-will-be-like")).is_none());
    // The propagated header has the supported version.
    let context = extract(&[("traceparent", &future)]).unwrap();
    assert_eq!(context.traceparent().as_str(), VALID);
}

#[test]
fn a_malformed_traceparent_is_invalid() {
    for value in [
        "",
        "00",
        "ff-12345678901234567890123456789012-1234567890123456-01",
        ".0-12345678901234567890123456789012-1234567890123456-01",
        "0.-12345678901234567890123456789012-1234567890123456-01",
        "000-12345678901234567890123456789012-1234567890123456-01",
        "0000-12345678901234567890123456789012-1234567890123456-01",
        "0-12345678901234567890123456789012-1234567890123456-01",
        "00-00000000000000000000000000000000-1234567890123456-01",
        "00-.2345678901234567890123456789012-1234567890123456-01",
        "00-1234567890123456789012345678901.-1234567890123456-01",
        "00-123456789012345678901234567890123-1234567890123456-01",
        "00-1234567890123456789012345678901-1234567890123456-01",
        "00-12345678901234567890123456789012-0000000000000000-01",
        "00-12345678901234567890123456789012-.234567890123456-01",
        "00-12345678901234567890123456789012-123456789012345.-01",
        "00-12345678901234567890123456789012-12345678901234567-01",
        "00-12345678901234567890123456789012-123456789012345-01",
        "00-12345678901234567890123456789012-1234567890123456-.0",
        "00-12345678901234567890123456789012-1234567890123456-0.",
        "00-12345678901234567890123456789012-1234567890123456-001",
        "00-12345678901234567890123456789012-1234567890123456-1",
        "00-12345678901234567890123456789abC-1234567890123456-01",
        "0A-12345678901234567890123456789012-1234567890123456-01",
        "00-12345678901234567890123456789012-1234567890123456-0F",
        "00_12345678901234567890123456789012_1234567890123456_01",
        "00-1234567890123456789012345678901é-1234567890123456-01",
    ] {
        assert!(parent(value).is_none(), "{value}");
        assert!(SpanContext::from_traceparent(value).is_err(), "{value}");
    }
}

#[test]
fn white_space_around_traceparent_is_ignored() {
    for (before, after) in [(" ", ""), ("\t", ""), ("", " "), ("", "\t"), ("\t ", " \t")] {
        assert!(parent(&format!("{before}{VALID}{after}")).is_some());
    }
}

#[test]
fn only_known_traceparent_flags_are_propagated() {
    for (received, sent) in [
        ("00", "00"),
        ("01", "01"),
        ("02", "02"),
        ("03", "03"),
        ("ff", "03"),
    ] {
        let value = VALID.replace("-01", &format!("-{received}"));
        let context = extract(&[("traceparent", &value)]).unwrap();
        assert!(
            context.traceparent().ends_with(&format!("-{sent}")),
            "{received}"
        );
    }
}

#[test]
fn tracestate_without_traceparent_is_ignored() {
    assert!(extract(&[("tracestate", "foo=1")]).is_none());
    assert!(extract(&[("tracestate", "foo=1,bar=2"), ("traceparent", "00")]).is_none());
}

#[test]
fn the_name_of_tracestate_is_matched_in_any_case() {
    for (name, expected) in [
        ("TraceState", "foo=1"),
        ("TrAcEsTaTe", "foo=1"),
        ("TRACESTATE", "foo=1"),
        ("trace-state", ""),
        ("trace.state", ""),
    ] {
        let headers = [("traceparent", VALID), (name, "foo=1")];
        assert_eq!(
            extract(&headers).unwrap().trace_state.as_str(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn empty_tracestate_headers_and_members_are_ignored() {
    assert_eq!(state(&[""]), "");
    assert_eq!(state(&["foo=1", ""]), "foo=1");
    assert_eq!(state(&["", "foo=1"]), "foo=1");
    assert_eq!(state(&["foo=1,,bar=2, ,\t,baz=3,"]), "foo=1,bar=2,baz=3");
}

#[test]
fn several_tracestate_headers_are_joined() {
    assert_eq!(
        state(&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"]),
        "foo=1,bar=2,rojo=1,congo=2,baz=3"
    );
}

#[test]
fn a_tracestate_with_a_repeated_key_is_dropped() {
    assert_eq!(state(&["foo=1,foo=1"]), "");
    assert_eq!(state(&["foo=1,foo=2"]), "");
    assert_eq!(state(&["foo=1", "foo=1"]), "");
    assert_eq!(state(&["foo=1", "foo=2"]), "");
}

#[test]
fn a_tracestate_may_contain_all_allowed_characters() {
    let key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
    let value: String = (' '..='~').filter(|c| *c != ',' && *c != '=').collect();
    for key in [
        key.to_string(),
        format!("{key}@a-z0-9_-*/"),
        "0".to_string(),
    ] {
        let header = format!("{key}={value}");
        let read = state(&[&header]);
        assert_eq!(TraceState::parse(&read).unwrap().get(&key), Some(&*value));
    }
}

#[test]
fn white_space_around_tracestate_members_is_removed() {
    assert_eq!(
        state(&["foo=1 \t , \t bar=2, \t baz=3"]),
        "foo=1,bar=2,baz=3"
    );
    assert_eq!(
        state(&["foo=1\t \t,\t \tbar=2,\t \tbaz=3"]),
        "foo=1,bar=2,baz=3"
    );
    for header in [" foo=1", "\tfoo=1", "foo=1 ", "foo=1\t", "\t foo=1 \t"] {
        assert_eq!(state(&[header]), "foo=1");
    }
    // White space within a value is part of it.
    assert_eq!(state(&["foo= 1 2"]), "foo= 1 2");
}

#[test]
fn a_tracestate_with_a_malformed_key_is_dropped() {
    for header in [
        "foo =1",
        "FOO=1",
        "foo.bar=1",
        "@foo=1,bar=2",
        "_foo=1",
        "=1",
        "foo",
        "é=1",
    ] {
        assert_eq!(state(&[header]), "", "{header}");
    }
    // Level 2 has no tenants and vendors.
    for header in ["foo@=1", "foo@@bar=1", "foo@bar@baz=1", "1foo=1"] {
        assert_eq!(state(&[header]), header);
    }
}

#[test]
fn a_tracestate_with_a_malformed_value_is_dropped() {
    for header in [
        "foo=bar=baz",
        "foo=,bar=3",
        "foo=\u{7f}",
        "foo=a\tb",
        "foo=ü",
    ] {
        assert_eq!(state(&[header]), "", "{header}");
    }
}

#[test]
fn keys_and_values_of_a_tracestate_have_at_most_256_bytes() {
    let of = |key: usize, value: usize| format!("{}={}", "z".repeat(key), "v".repeat(value));
    assert_eq!(
        state(&["foo=1", &of(256, 256)]),
        format!("foo=1,{}", of(256, 256))
    );
    assert_eq!(state(&["foo=1", &of(257, 1)]), "");
    assert_eq!(state(&["foo=1", &of(1, 257)]), "");
}

#[test]
fn a_tracestate_has_at_most_32_members() {
    let members = |count| {
        (1..=count)
            .map(|n| format!("bar{n:02}={n:02}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(state(&[&members(32).join(",")]), members(32).join(","));
    assert_eq!(state(&[&members(33).join(",")]), "");
    let headers = members(32);
    let headers: Vec<_> = headers.iter().map(String::as_str).collect();
    assert_eq!(state(&headers), headers.join(","));
    let with_one_more: Vec<_> = headers.iter().copied().chain(["bar33=33"]).collect();
    assert_eq!(state(&with_one_more), "");
}

#[test]
fn changed_tracestate_members_come_first() {
    let state = TraceState::parse("a=1,b=2,c=3").unwrap();
    assert_eq!(state.with("b", "9").unwrap().as_str(), "b=9,a=1,c=3");
    assert_eq!(state.with("d", "4").unwrap().as_str(), "d=4,a=1,b=2,c=3");
    assert_eq!(state.without("a").as_str(), "b=2,c=3");
    assert!(state.with("D", "4").is_err() && state.with("d", "4,5").is_err());
    let full: Vec<_> = (0..32).map(|n| format!("k{n}=v")).collect();
    let full = full.join(",");
    let state = TraceState::parse(&full).unwrap().with("new", "1").unwrap();
    assert_eq!(state.iter().count(), 32);
    assert_eq!((state.get("new"), state.get("k31")), (Some("1"), None));
}

#[test]
fn headers_are_read_from_and_written_to_any_map() {
    let mut map = http::HeaderMap::new();
    map.insert("traceparent", VALID.parse().unwrap());
    map.append("tracestate", "a=1".parse().unwrap());
    map.append("tracestate", "b=2".parse().unwrap());
    let context = SpanContext::extract(&map).unwrap();
    assert_eq!(context.trace_state.as_str(), "a=1,b=2");

    let mut sent = http::HeaderMap::new();
    context.inject(|name, value| {
        sent.insert(name, value.parse().unwrap());
    });
    assert_eq!(sent["traceparent"], VALID);
    assert_eq!(sent["tracestate"], "a=1,b=2");

    let owned: std::collections::HashMap<String, String> = (sent.iter())
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
        .collect();
    assert_eq!(SpanContext::extract(&owned), Some(context.clone()));

    let mut parsed = [httparse::EMPTY_HEADER; 4];
    let bytes = b"GET / HTTP/1.1\r\nTraceparent: 00-12345678901234567890123456789012-1234567890123456-01\r\nTracestate: a=1,b=2\r\n\r\n";
    httparse::Request::new(&mut parsed).parse(bytes).unwrap();
    let pairs = parsed.iter().map(|header| (header.name, header.value));
    assert_eq!(SpanContext::extract(pairs), Some(context));
}

proptest! {
    #[test]
    fn injected_contexts_are_extracted(
        trace_id in any::<u128>().prop_filter_map("zero is not an id", TraceId::from_u128),
        span_id in any::<u64>().prop_filter_map("zero is not an id", SpanId::from_u64),
        flags in any::<u8>(),
    ) {
        let context = SpanContext {
            trace_flags: TraceFlags::new(flags),
            is_remote: true,
            ..SpanContext::new(trace_id, span_id)
        };
        let written = context.traceparent();
        prop_assert_eq!(SpanContext::from_traceparent(&*written), Ok(context));
    }

    #[test]
    fn arbitrary_headers_cause_no_panic(parent in ".*", state in any::<Vec<u8>>()) {
        let _ = SpanContext::from_traceparent(&parent);
        let headers = [("traceparent", VALID.as_bytes()), ("tracestate", &state)];
        let context = SpanContext::extract(headers).unwrap();
        // An accepted trace state is accepted again, unchanged.
        let read = context.trace_state.as_str();
        let again = TraceState::parse(read).unwrap();
        prop_assert_eq!(again.as_str(), read);
    }

    #[test]
    fn members_are_kept_in_order(
        members in prop::collection::vec(("[a-z0-9][a-z0-9_*/@-]{0,8}", "[!-+--<>-~]{1,8}"), 0..40),
    ) {
        let text: Vec<_> = members.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let text = text.join(",");
        let mut keys: Vec<_> = members.iter().map(|(key, _)| key).collect();
        keys.sort();
        keys.dedup();
        let valid = members.len() <= 32 && keys.len() == members.len();
        prop_assert_eq!(state(&[&text]), if valid { text } else { String::new() });
    }
}
