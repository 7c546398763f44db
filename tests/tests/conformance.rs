//! What the OpenTelemetry specifications ask of an exporter of traces over OTLP/HTTP, and the test
//! of each. Where they say MUST or SHOULD, so does the list.
//!
//! P: OTLP 1.11 (`opentelemetry-proto`, `docs/specification.md`); X: `protocol/exporter.md`;
//! E: `sdk-environment-variables.md`; K: `configuration/common.md`; R: `resource/sdk.md`, all of
//! specification 1.60; M: semantic conventions, `otel/sdk-metrics.md`.

use std::fs;

/// A clause, and where its tests are: a file and the functions in it.
type Clause = (
    &'static str,
    &'static [(&'static str, &'static [&'static str])],
);

const OTLP_HTTP: &[Clause] = &[
    (
        "P: requests are POSTs of protobuf, which MUST be said by Content-Type: application/x-protobuf",
        &[(
            "tests/tests/connecting.rs",
            &["requests_are_as_the_specification_says"],
        )],
    ),
    (
        "P: the default path is /v1/traces, the default port of the base URL 4318",
        &[
            ("src/config/target.rs", &["urls_are_taken_apart"]),
            (
                "tests/tests/readme.rs",
                &["the_tables_have_every_field_with_its_default"],
            ),
        ],
    ),
    (
        "X: scheme, host, port and path of an endpoint MUST be honoured, and nothing else changed",
        &[
            (
                "src/config/target.rs",
                &[
                    "urls_are_taken_apart",
                    "without_a_path_to_append_the_url_is_used_as_it_is",
                ],
            ),
            (
                "tests/tests/connecting.rs",
                &["base_path_and_query_are_kept"],
            ),
        ],
    ),
    (
        "P: a compressed body MUST have Content-Encoding",
        &[(
            "tests/tests/compression.rs",
            &[
                "all_encodings_carry_the_same",
                "what_is_sent_again_is_compressed_too",
            ],
        )],
    ),
    (
        "P: requests over 64 MiB SHOULD NOT be sent, compressed or not",
        &[
            (
                "tests/tests/bad_input.rs",
                &["sizes_that_cannot_be_are_errors"],
            ),
            ("tests/tests/ledger.rs", &["no_request_passes_its_limit"]),
        ],
    ),
    (
        "P: there MUST be a limit of the response, 4 MiB; beyond it the request MUST NOT be retried",
        &[
            (
                "src/exporter/http/response.rs",
                &[
                    "a_body_has_at_most_the_configured_length",
                    "a_final_head_counts_whatever_becomes_of_the_body",
                ],
            ),
            (
                "tests/tests/outside_text.rs",
                &["a_response_beyond_response_bytes_max_counts_by_its_status"],
            ),
            (
                "tests/tests/faults.rs",
                &["a_success_with_a_body_that_cannot_be_used_is_a_success_and_is_told"],
            ),
        ],
    ),
    (
        "P: any AnyValue in attributes of spans, events, links, scopes and resources (since OTLP 1.9)",
        &[(
            "tests/tests/any_value.rs",
            &["every_value_is_accepted_wherever_there_are_attributes"],
        )],
    ),
    (
        "P: 429, 502, 503 and 504 are retried, all other 4xx and 5xx MUST NOT be",
        &[
            (
                "src/exporter/http/retry.rs",
                &["only_four_statuses_are_retried"],
            ),
            (
                "tests/tests/faults.rs",
                &[
                    "every_status_in_every_form",
                    "every_status_on_a_kept_connection",
                ],
            ),
        ],
    ),
    (
        "P: a partial success MUST NOT be retried, and is counted and told; an empty one is a success",
        &[(
            "tests/tests/faults.rs",
            &["partial_success_is_counted_told_and_never_retried"],
        )],
    ),
    (
        "P: the body of an error is a Status, whose message is told and whose code is not looked at",
        &[(
            "src/exporter/http/reason.rs",
            &["errors_tell_what_their_body_says"],
        )],
    ),
    (
        "P: after a disconnect without response the request SHOULD be sent again, with backoff",
        &[(
            "tests/tests/faults.rs",
            &[
                "a_connection_that_ends_at_any_byte_of_the_request",
                "a_connection_that_ends_at_any_byte_of_the_response",
                "what_is_no_response_is_a_broken_connection",
            ],
        )],
    ),
    (
        "P, X: retries MUST have exponential backoff with jitter",
        &[(
            "src/exporter/http/retry.rs",
            &["backoff_doubles_up_to_its_maximum_with_full_jitter"],
        )],
    ),
    (
        "P: Retry-After SHOULD be honoured, as seconds and as a date",
        &[
            (
                "src/exporter/http/retry.rs",
                &[
                    "retry_after_in_seconds_is_bounded",
                    "retry_after_as_a_date_is_the_time_until_then",
                ],
            ),
            (
                "tests/tests/faults.rs",
                &[
                    "throttling_never_turns_into_a_storm",
                    "the_endpoints_own_wait_is_kept_even_by_flush",
                    "a_success_on_another_connection_does_not_end_the_wait_that_was_asked_for",
                ],
            ),
            (
                "tests/tests/health.rs",
                &["an_endpoint_that_asks_to_be_left_alone"],
            ),
        ],
    ),
    (
        "P: connections SHOULD be kept alive",
        &[
            ("tests/tests/ledger.rs", &["connections_are_kept_alive"]),
            (
                "tests/tests/faults.rs",
                &["an_unused_connection_is_closed_in_time"],
            ),
        ],
    ),
    (
        "P: the number of connections at a time SHOULD be configurable",
        &[(
            "tests/tests/destinations.rs",
            &["one_with_many_connections_that_hang_changes_nothing_for_the_others"],
        )],
    ),
    (
        "X: there is a limit to the time of an export, 10 seconds by default",
        &[
            (
                "tests/tests/readme.rs",
                &["the_tables_have_every_field_with_its_default"],
            ),
            (
                "tests/tests/ledger.rs",
                &["a_receiver_that_does_not_answer_in_time_gets_the_request_again"],
            ),
            (
                "tests/tests/faults.rs",
                &[
                    "a_server_that_stalls_at_any_point_costs_one_timeout",
                    "a_request_is_given_up_when_it_has_failed_for_long_enough",
                ],
            ),
        ],
    ),
    (
        "X: the User-Agent SHOULD be OTel-OTLP-Exporter-<language>/<version>, the distribution before it",
        &[(
            "tests/tests/connecting.rs",
            &["requests_are_as_the_specification_says"],
        )],
    ),
    (
        "P: redirects by the rules of HTTP",
        &[
            (
                "tests/tests/faults.rs",
                &[
                    "redirects_that_keep_the_method_are_followed",
                    "a_redirect_on_the_same_server_keeps_the_headers",
                    "redirects_that_lead_nowhere_are_final",
                    "redirects_of_different_requests_do_not_add_up",
                ],
            ),
            (
                "tests/tests/redirects.rs",
                &[
                    "redirects_are_followed_as_far_as_the_option_allows",
                    "a_permanent_redirect_is_remembered_only_while_its_target_accepts",
                    "another_origin_does_not_see_the_client_certificate",
                ],
            ),
        ],
    ),
    (
        "P: empty envelopes SHOULD NOT be made",
        &[("tests/tests/connecting.rs", &["nothing_is_not_sent"])],
    ),
];

const ENVIRONMENT: &[Clause] = &[
    (
        "E, K: an empty variable is as if it were not set",
        &[(
            "src/config/env.rs",
            &["nothing_and_empty_values_are_the_default"],
        )],
    ),
    (
        "E: of a boolean only true is true, in any case of letters; other values than false SHOULD be warned of",
        &[("src/config/env.rs", &["what_is_switched_off_or_unknown"])],
    ),
    (
        "E: numbers that cannot be read or are out of range SHOULD be warned of and ignored",
        &[("src/config/env.rs", &["numbers_out_of_range_are_ignored"])],
    ),
    (
        "E: unknown values of an enumeration MUST be warned of and ignored",
        &[
            (
                "src/config/env.rs",
                &[
                    "what_is_switched_off_or_unknown",
                    "samplers_by_name_and_ratio",
                ],
            ),
            (
                "tests/tests/environment.rs",
                &[
                    "every_warning_is_a_notice",
                    "warnings_are_logged_where_there_is_a_backend_for_it",
                    "warnings_that_would_reach_no_one_are_on_standard_error",
                ],
            ),
        ],
    ),
    (
        "K: a timeout of 0 is none",
        &[("src/config/env.rs", &["numbers_out_of_range_are_ignored"])],
    ),
    (
        "E: with OTEL_CONFIG_FILE all others MUST be ignored",
        &[
            ("src/config/env.rs", &["what_is_switched_off_or_unknown"]),
            (
                "tests/tests/environment.rs",
                &["a_configuration_file_is_an_error_unless_the_code_takes_over"],
            ),
        ],
    ),
    (
        "X: a base gets v1/traces appended, the endpoint for traces is used as it is",
        &[(
            "src/config/env.rs",
            &["a_base_is_extended_and_a_traces_endpoint_is_used_as_it_is"],
        )],
    ),
    (
        "X: headers are percent-encoded pairs; one that cannot be used is left out",
        &[(
            "src/config/env.rs",
            &["headers_are_decoded_and_bad_ones_left_out"],
        )],
    ),
    (
        "E: limits of spans beat those of all signals",
        &[("src/config/env.rs", &["special_limits_beat_general_ones"])],
    ),
    (
        "E: a sampler's argument that cannot be used MUST be told of and ignored",
        &[("src/config/env.rs", &["samplers_by_name_and_ratio"])],
    ),
    (
        "R: with any error the whole of OTEL_RESOURCE_ATTRIBUTES SHOULD be discarded; code beats it",
        &[(
            "src/config/env.rs",
            &["the_resource_is_read_whole_or_not_at_all"],
        )],
    ),
    (
        "X: certificates and keys by file; half a pair or a missing file is an error at the start",
        &[(
            "tests/tests/tls.rs",
            &["files_that_cannot_be_used_are_errors_at_the_start"],
        )],
    ),
];

const OWN_METRICS: &[Clause] = &[
    (
        "M: otel.sdk.span.live and .started, by parent and sampling result",
        &[(
            "tests/tests/metrics.rs",
            &[
                "live_spans_are_those_that_have_not_ended_wherever_they_do",
                "metrics_are_sent_and_true",
            ],
        )],
    ),
    (
        "M: a full queue MUST be queue_full; spans dropped since it has been shut down MUST be \
         already_shutdown",
        &[(
            "tests/tests/metrics.rs",
            &["spans_that_are_not_exported_have_their_reasons"],
        )],
    ),
    (
        "M: processed counts when the export is invoked; the outcome of the export MUST NOT affect it",
        &[(
            "tests/tests/metrics.rs",
            &[
                "a_request_is_one_export_whatever_its_attempts",
                "what_was_processed_does_not_depend_on_what_came_of_it",
            ],
        )],
    ),
    (
        "M: rejected spans MUST count as failed; error.type reflects the cause of the final attempt; \
         inflight over all retries",
        &[(
            "tests/tests/metrics.rs",
            &[
                "a_request_is_one_export_whatever_its_attempts",
                "failed_exports_have_the_cause_of_the_last_attempt",
                "metrics_are_sent_and_true",
            ],
        )],
    ),
    (
        "M: exactly one observation of the duration MUST be recorded per export operation, in \
         seconds, by status and error.type",
        &[
            (
                "tests/tests/metrics.rs",
                &[
                    "a_request_is_one_export_whatever_its_attempts",
                    "a_request_that_was_split_is_one_export",
                    "metrics_are_sent_and_true",
                ],
            ),
            (
                "src/exporter/operation.rs",
                &["an_operation_that_was_split_is_observed_once_and_has_failed_if_a_part_has"],
            ),
        ],
    ),
    (
        "M: its SHOULD of a single bucket is not followed: explicit bounds, so that quantiles can \
         be computed",
        &[
            (
                "tests/tests/metrics.rs",
                &["prometheus_and_people_can_read_them"],
            ),
            (
                "src/stats/buckets.rs",
                &["a_bound_belongs_to_the_bucket_below_it"],
            ),
        ],
    ),
    (
        "M: an exception event has exception.message and exception.type",
        &[(
            "tests/tests/open_spans.rs",
            &[
                "an_error_of_which_only_the_trait_is_known_has_that_as_its_type",
                "errors_are_events_and_panics_are_errors",
            ],
        )],
    ),
];

/// What servers, networks and processes do that no specification speaks of.
const FAULTS: &[Clause] = &[
    (
        "a FIN on a kept connection that is idle costs nothing, or one immediate retry",
        &[
            (
                "tests/tests/connecting.rs",
                &["a_connection_the_server_closed_while_idle_costs_nothing"],
            ),
            (
                "tests/tests/faults.rs",
                &["a_kept_connection_that_is_closed_costs_one_immediate_retry_and_no_loss"],
            ),
        ],
    ),
    (
        "after an error the next request goes over another connection",
        &[(
            "tests/tests/faults.rs",
            &["after_an_error_another_connection_is_made"],
        )],
    ),
    (
        "a reset in the middle of the body; an answer before all of it was read",
        &[(
            "tests/tests/faults.rs",
            &[
                "a_connection_that_ends_at_any_byte_of_the_request",
                "an_answer_before_the_request_was_read_counts",
            ],
        )],
    ),
    (
        "chunked responses, split and too large; interim ones; malformed status lines",
        &[(
            "src/exporter/http/response.rs",
            &[
                "chunked_bodies",
                "interim_responses_are_passed_over",
                "malformed_heads_are_errors",
                "what_is_no_http_is_recognized_at_its_first_bytes",
                "interim_responses_and_trailers_have_an_end",
            ],
        )],
    ),
    (
        "line breaks in a header that is configured",
        &[(
            "src/config/headers.rs",
            &["what_could_end_a_line_is_refused_and_values_are_not_shown"],
        )],
    ),
    (
        "secrets stay out of messages",
        &[
            (
                "tests/tests/faults.rs",
                &["what_a_server_was_told_in_confidence_is_not_shown"],
            ),
            (
                "tests/tests/proxy.rs",
                &["what_the_proxy_was_told_in_confidence_is_not_shown"],
            ),
            ("src/config/display.rs", &["all_is_shown_but_secrets"]),
        ],
    ),
    (
        "several addresses of which some are dead; a name that moves, or is not there",
        &[
            (
                "tests/tests/connecting.rs",
                &[
                    "a_name_is_resolved_and_its_addresses_tried_in_turn",
                    "an_ipv6_address_is_an_endpoint_too",
                    "a_name_without_address_is_retried_and_does_not_hold_up_shutdown",
                ],
            ),
            (
                "tests/tests/network.rs",
                &["a_name_with_an_address_that_is_dead_and_a_name_that_moves"],
            ),
        ],
    ),
    (
        "an outage, and the refill after it",
        &[
            (
                "tests/tests/ledger.rs",
                &[
                    "what_an_endpoint_that_is_down_missed_arrives_when_it_comes_back",
                    "an_endpoint_that_goes_and_comes_loses_nothing",
                ],
            ),
            ("tests/tests/network.rs", &["what_a_network_does"]),
        ],
    ),
    (
        "a thread that ends leaves nothing behind unsent",
        &[(
            "tests/tests/sketch.rs",
            &["threads_come_and_go_by_the_thousand"],
        )],
    ),
    (
        "a panic in the network thread",
        &[
            (
                "tests/tests/destinations.rs",
                &["a_panic_of_the_network_thread_loses_nothing"],
            ),
            (
                "tests/tests/health.rs",
                &["a_thread_that_only_panics_is_given_up_and_reported"],
            ),
        ],
    ),
    (
        "a process that forks",
        &[(
            "tests/tests/fork.rs",
            &["a_fork_is_told_at_once_and_takes_nothing_from_its_parent"],
        )],
    ),
    (
        "a span larger than every limit",
        &[
            (
                "tests/tests/bad_input.rs",
                &["spans_that_cannot_be_sent_are_refused_and_counted_alone"],
            ),
            (
                "tests/tests/faults.rs",
                &[
                    "one_span_that_is_too_large_is_rejected",
                    "only_what_cannot_be_made_smaller_is_rejected_as_too_large",
                ],
            ),
        ],
    ),
    (
        "a ratio that is no number",
        &[(
            "tests/tests/sampling.rs",
            &["settings_that_cannot_be_are_errors"],
        )],
    ),
    (
        "TLS: expired, another name, another authority, half an identity, no TLS, silence",
        &[(
            "tests/tests/tls.rs",
            &[
                "a_certificate_out_of_its_time_is_named_as_the_reason",
                "a_certificate_for_another_name_is_named_as_the_reason_unless_that_is_expected",
                "an_authority_that_is_not_trusted_is_named_as_the_reason",
                "a_server_that_asks_who_we_are_is_told",
                "a_server_without_tls_is_recognized",
                "a_server_that_says_nothing_in_the_handshake_costs_the_connect_timeout",
            ],
        )],
    ),
    (
        "deadlines of flush and shutdown, whatever the endpoint does",
        &[(
            "tests/tests/deadlines.rs",
            &[
                "whatever_the_endpoint_does",
                "from_many_threads_at_once_and_again",
            ],
        )],
    ),
    (
        "all of it at random",
        &[
            (
                "tests/tests/random_faults.rs",
                &["any_server_leaves_no_span_without_an_outcome"],
            ),
            (
                "src/exporter/http/response_fuzz.rs",
                &["pieces_make_no_difference_and_nothing_panics"],
            ),
        ],
    ),
];

#[test]
fn every_clause_has_its_tests() {
    let root = common::root();
    let clauses = [OTLP_HTTP, ENVIRONMENT, OWN_METRICS, FAULTS].concat();
    for (clause, tests) in clauses {
        assert!(!tests.is_empty(), "{clause}");
        for (file, names) in tests {
            let text = fs::read_to_string(root.join(file)).expect(file);
            for name in *names {
                let is_there = text.contains(&format!("fn {name}("));
                assert!(is_there, "{clause}: {file} has no test {name}");
            }
        }
    }
}
