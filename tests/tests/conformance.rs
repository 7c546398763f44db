//! The requirements of the OpenTelemetry specifications for an exporter of traces over OTLP/HTTP,
//! with the tests of each. MUST and SHOULD are those of the specifications.
//!
//! P: OTLP 1.11 (`opentelemetry-proto`, `docs/specification.md`); X: `protocol/exporter.md`;
//! E: `sdk-environment-variables.md`; K: `configuration/common.md`; R: `resource/sdk.md`, all of
//! specification 1.60; M: semantic conventions, `otel/sdk-metrics.md`.

use std::fs;

/// A clause, and its tests: files with the functions in them.
type Clause = (
    &'static str,
    &'static [(&'static str, &'static [&'static str])],
);

const OTLP_HTTP: &[Clause] = &[
    (
        "P: requests are POSTs of protobuf, with Content-Type: application/x-protobuf (MUST)",
        &[(
            "tests/tests/connecting.rs",
            &["requests_have_the_head_that_the_specification_requires"],
        )],
    ),
    (
        "P: the default path is /v1/traces, the default port of the base URL 4318",
        &[
            ("src/config/target.rs", &["urls_are_parsed"]),
            (
                "tests/tests/documents.rs",
                &["the_tables_of_options_have_every_field_with_its_default"],
            ),
        ],
    ),
    (
        "X: scheme, host, port and path of an endpoint MUST be honoured, and nothing else changed",
        &[
            (
                "src/config/target.rs",
                &[
                    "urls_are_parsed",
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
                "all_encodings_carry_the_same_spans",
                "a_retried_request_is_compressed_too",
            ],
        )],
    ),
    (
        "P: requests over 64 MiB SHOULD NOT be sent, compressed or not",
        &[
            ("tests/tests/bad_input.rs", &["invalid_sizes_are_errors"]),
            (
                "tests/tests/ledger.rs",
                &["no_request_exceeds_its_size_limit"],
            ),
        ],
    ),
    (
        "P: responses MUST be limited, to 4 MiB; beyond that the request MUST NOT be retried",
        &[
            (
                "src/exporter/http/response_parser.rs",
                &[
                    "a_body_has_at_most_the_configured_length",
                    "a_final_head_counts_even_if_the_body_is_incomplete",
                ],
            ),
            (
                "tests/tests/outside_text.rs",
                &["a_response_beyond_response_bytes_max_counts_by_its_status"],
            ),
            (
                "tests/tests/faults.rs",
                &["a_success_with_an_unreadable_body_is_a_success_and_is_reported"],
            ),
        ],
    ),
    (
        "P: any AnyValue in attributes of spans, events, links, scopes and resources (since OTLP 1.9)",
        &[(
            "tests/tests/any_value.rs",
            &["every_value_is_accepted_for_every_kind_of_attribute"],
        )],
    ),
    (
        "P: 429, 502, 503 and 504 are retried, all other 4xx and 5xx MUST NOT be",
        &[
            (
                "src/exporter/outcome/tests.rs",
                &["only_four_statuses_are_retried"],
            ),
            (
                "tests/tests/faults.rs",
                &[
                    "every_status_is_handled_in_every_form",
                    "every_status_is_handled_on_a_kept_connection",
                ],
            ),
        ],
    ),
    (
        "P: a partial success MUST NOT be retried; it is counted and reported; an empty one is a success",
        &[(
            "tests/tests/faults.rs",
            &["partial_success_is_counted_and_reported_and_never_retried"],
        )],
    ),
    (
        "P: the body of an error is a Status, whose message is reported and whose code is ignored",
        &[(
            "src/exporter/http/response.rs",
            &["errors_contain_the_message_of_their_body"],
        )],
    ),
    (
        "P: after a disconnect without response the request SHOULD be sent again, with backoff",
        &[(
            "tests/tests/faults.rs",
            &[
                "a_request_is_retried_after_a_connection_that_ended_at_any_of_its_bytes",
                "a_request_is_retried_after_a_response_that_ended_at_any_of_its_bytes",
                "a_malformed_response_breaks_the_connection",
            ],
        )],
    ),
    (
        "P, X: retries MUST have exponential backoff with jitter",
        &[(
            "src/exporter/endpoint/send_schedule.rs",
            &["backoff_doubles_up_to_its_maximum_with_full_jitter"],
        )],
    ),
    (
        "P: Retry-After SHOULD be honoured, as seconds and as a date",
        &[
            (
                "src/exporter/http/retry_after.rs",
                &[
                    "retry_after_in_seconds_is_bounded",
                    "retry_after_as_a_date_is_the_time_until_that_date",
                ],
            ),
            (
                "tests/tests/faults.rs",
                &[
                    "throttling_never_causes_a_request_storm",
                    "a_flush_respects_retry_after",
                    "a_success_on_another_connection_does_not_end_a_retry_after",
                ],
            ),
            (
                "tests/tests/health.rs",
                &["a_throttling_endpoint_is_reported"],
            ),
        ],
    ),
    (
        "P: connections SHOULD be kept alive",
        &[
            ("tests/tests/ledger.rs", &["connections_are_reused"]),
            (
                "tests/tests/faults.rs",
                &["an_unused_connection_is_closed_in_time"],
            ),
        ],
    ),
    (
        "P: the number of concurrent connections SHOULD be configurable",
        &[(
            "tests/tests/destinations.rs",
            &["a_destination_with_many_hanging_connections_does_not_affect_others"],
        )],
    ),
    (
        "X: the time of an export is limited, to 10 seconds by default",
        &[
            (
                "tests/tests/documents.rs",
                &["the_tables_of_options_have_every_field_with_its_default"],
            ),
            (
                "tests/tests/ledger.rs",
                &["a_request_without_response_in_time_is_retried"],
            ),
            (
                "tests/tests/faults.rs",
                &[
                    "a_server_that_stalls_at_any_point_costs_one_timeout",
                    "a_request_is_dropped_when_it_has_failed_for_too_long",
                ],
            ),
        ],
    ),
    (
        "X: the User-Agent SHOULD be OTel-OTLP-Exporter-<language>/<version>, the distribution before it",
        &[(
            "tests/tests/connecting.rs",
            &["requests_have_the_head_that_the_specification_requires"],
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
                    "redirects_that_cannot_be_followed_are_final",
                    "redirects_of_different_requests_do_not_add_up",
                ],
            ),
            (
                "tests/tests/redirects.rs",
                &[
                    "redirects_are_followed_as_far_as_the_option_allows",
                    "a_permanent_redirect_is_remembered_only_while_its_target_accepts",
                    "the_client_certificate_is_not_sent_to_another_origin",
                ],
            ),
        ],
    ),
    (
        "P: empty envelopes SHOULD NOT be sent",
        &[(
            "tests/tests/connecting.rs",
            &["no_request_is_sent_without_spans"],
        )],
    ),
];

const ENVIRONMENT: &[Clause] = &[
    (
        "E, K: an empty variable counts as not set",
        &[(
            "src/config/env.rs",
            &["without_variables_or_with_empty_ones_the_default_applies"],
        )],
    ),
    (
        "E: only \"true\", in any case, is true; for values other than \"false\" a warning SHOULD be logged",
        &[(
            "src/config/env.rs",
            &["values_disable_tracing_or_are_unknown"],
        )],
    ),
    (
        "E: for invalid numbers and those out of range a warning SHOULD be logged; they are ignored",
        &[("src/config/env.rs", &["numbers_out_of_range_are_ignored"])],
    ),
    (
        "E: for unknown values of an enumeration a warning MUST be logged; they are ignored",
        &[
            (
                "src/config/env.rs",
                &[
                    "values_disable_tracing_or_are_unknown",
                    "samplers_are_read_by_name_and_ratio",
                ],
            ),
            (
                "tests/tests/environment.rs",
                &[
                    "each_warning_is_a_notice",
                    "warnings_are_logged_if_there_is_a_log_backend",
                    "warnings_without_a_handler_go_to_standard_error",
                ],
            ),
        ],
    ),
    (
        "K: a timeout of 0 means no timeout",
        &[("src/config/env.rs", &["numbers_out_of_range_are_ignored"])],
    ),
    (
        "E: with OTEL_CONFIG_FILE all others MUST be ignored",
        &[
            (
                "src/config/env.rs",
                &["values_disable_tracing_or_are_unknown"],
            ),
            (
                "tests/tests/environment.rs",
                &["a_configuration_file_is_an_error_unless_code_overrides_it"],
            ),
        ],
    ),
    (
        "X: v1/traces is appended to the base URL; the endpoint for traces is used unchanged",
        &[(
            "src/config/env.rs",
            &["a_base_is_extended_and_a_traces_endpoint_is_used_as_it_is"],
        )],
    ),
    (
        "X: headers are percent-encoded pairs; invalid ones are omitted",
        &[(
            "src/config/env.rs",
            &["headers_are_decoded_and_malformed_ones_are_ignored"],
        )],
    ),
    (
        "E: limits of spans take precedence over those of all signals",
        &[(
            "src/config/env.rs",
            &["limits_of_spans_take_precedence_over_general_ones"],
        )],
    ),
    (
        "E: an invalid argument of a sampler MUST be logged and ignored",
        &[(
            "src/config/env.rs",
            &["samplers_are_read_by_name_and_ratio"],
        )],
    ),
    (
        "R: with any error all of OTEL_RESOURCE_ATTRIBUTES SHOULD be discarded; code takes precedence",
        &[(
            "src/config/env.rs",
            &["malformed_resource_attributes_are_ignored_as_a_whole"],
        )],
    ),
    (
        "X: certificates and keys by file; half a pair or a missing file is an error at the start",
        &[(
            "tests/tests/tls.rs",
            &["unusable_files_are_errors_at_start"],
        )],
    ),
];

const OWN_METRICS: &[Clause] = &[
    (
        "M: otel.sdk.span.live and .started, by parent and sampling result",
        &[(
            "tests/tests/metrics.rs",
            &[
                "live_spans_are_those_that_have_not_ended_on_any_thread",
                "metrics_are_sent_and_correct",
            ],
        )],
    ),
    (
        "M: a full queue MUST be queue_full; spans dropped since it has been shut down MUST be \
         already_shutdown",
        &[(
            "tests/tests/metrics.rs",
            &["spans_that_are_not_exported_are_counted_by_reason"],
        )],
    ),
    (
        "M: processed counts when the export is invoked; the outcome of the export MUST NOT affect it",
        &[(
            "tests/tests/metrics.rs",
            &[
                "a_retried_request_is_one_export",
                "the_count_of_processed_spans_does_not_depend_on_their_outcome",
            ],
        )],
    ),
    (
        "M: rejected spans MUST count as failed; error.type reflects the cause of the final attempt; \
         inflight over all retries",
        &[(
            "tests/tests/metrics.rs",
            &[
                "a_retried_request_is_one_export",
                "failed_exports_have_the_error_of_the_last_attempt",
                "metrics_are_sent_and_correct",
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
                    "a_retried_request_is_one_export",
                    "a_request_that_was_split_is_one_export",
                    "metrics_are_sent_and_correct",
                ],
            ),
            (
                "src/exporter/operation.rs",
                &["a_split_operation_is_counted_once_and_fails_with_any_of_its_parts"],
            ),
        ],
    ),
    (
        "M: its SHOULD of a single bucket is not followed: explicit bounds, so that quantiles can \
         be computed",
        &[
            (
                "tests/tests/metrics.rs",
                &["metrics_are_exposed_as_prometheus_text_and_as_a_report"],
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
                "an_error_behind_a_trait_object_has_the_trait_as_its_type",
                "errors_are_events_and_panics_are_errors",
            ],
        )],
    ),
];

/// Behaviour of servers, networks and processes that no specification covers.
const FAULTS: &[Clause] = &[
    (
        "a FIN on an idle connection loses nothing and costs at most one immediate retry",
        &[
            (
                "tests/tests/connecting.rs",
                &["a_connection_closed_by_the_server_while_idle_loses_no_span"],
            ),
            (
                "tests/tests/faults.rs",
                &["a_closed_idle_connection_costs_one_immediate_retry_and_no_span"],
            ),
        ],
    ),
    (
        "after an error the next request goes over another connection",
        &[(
            "tests/tests/faults.rs",
            &["after_an_error_a_new_connection_is_opened"],
        )],
    ),
    (
        "a reset in the middle of the body; a response before all of it was read",
        &[(
            "tests/tests/faults.rs",
            &[
                "a_request_is_retried_after_a_connection_that_ended_at_any_of_its_bytes",
                "a_response_before_the_request_was_read_counts",
            ],
        )],
    ),
    (
        "chunked responses, split and too large; interim ones; malformed status lines",
        &[(
            "src/exporter/http/response_parser.rs",
            &[
                "chunked_bodies_are_read_without_their_framing",
                "interim_responses_are_skipped",
                "malformed_heads_are_errors",
                "other_protocols_are_recognised_by_their_first_bytes",
                "interim_responses_and_trailers_are_limited",
            ],
        )],
    ),
    (
        "line breaks in a configured header",
        &[(
            "src/config/headers.rs",
            &["headers_that_could_end_a_line_are_errors_without_their_value"],
        )],
    ),
    (
        "secrets stay out of messages",
        &[
            (
                "tests/tests/faults.rs",
                &["secrets_echoed_by_a_server_are_not_shown"],
            ),
            (
                "tests/tests/proxy.rs",
                &["credentials_echoed_by_the_proxy_are_not_shown"],
            ),
            (
                "src/config/display.rs",
                &["everything_is_shown_except_secrets"],
            ),
        ],
    ),
    (
        "several addresses, some of them dead; a name that moves or does not exist",
        &[
            (
                "tests/tests/connecting.rs",
                &[
                    "all_addresses_of_a_name_are_tried",
                    "an_ipv6_address_can_be_an_endpoint",
                    "a_name_without_address_is_retried_and_does_not_delay_shutdown",
                ],
            ),
            (
                "tests/tests/network.rs",
                &["a_dead_address_is_skipped_and_a_moved_name_is_followed"],
            ),
        ],
    ),
    (
        "an outage, and the backlog after it",
        &[
            (
                "tests/tests/ledger.rs",
                &[
                    "spans_recorded_in_an_outage_arrive_after_it",
                    "repeated_outages_lose_no_span",
                ],
            ),
            (
                "tests/tests/network.rs",
                &["spans_are_delivered_after_each_network_fault"],
            ),
        ],
    ),
    (
        "a thread that ends leaves no span unsent",
        &[(
            "tests/tests/sketch.rs",
            &["two_thousand_short_lived_threads_lose_no_span"],
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
                &["a_network_thread_that_panics_repeatedly_is_stopped_and_reported"],
            ),
        ],
    ),
    (
        "a process that forks",
        &[(
            "tests/tests/fork.rs",
            &["calls_fail_at_once_in_a_fork_and_its_parent_is_not_affected"],
        )],
    ),
    (
        "a span larger than every limit",
        &[
            (
                "tests/tests/bad_input.rs",
                &["spans_that_cannot_be_sent_are_refused_and_counted"],
            ),
            (
                "tests/tests/faults.rs",
                &[
                    "one_span_that_is_too_large_is_rejected",
                    "only_requests_of_a_single_span_are_rejected_as_too_large",
                ],
            ),
        ],
    ),
    (
        "a ratio that is not a number",
        &[(
            "tests/tests/sampling.rs",
            &["invalid_sampling_settings_are_errors"],
        )],
    ),
    (
        "TLS: expired, another name, another authority, half an identity, no TLS, silence",
        &[(
            "tests/tests/tls.rs",
            &[
                "an_expired_or_future_certificate_is_the_reported_reason",
                "a_certificate_for_another_name_is_the_reported_reason_unless_configured",
                "an_untrusted_authority_is_the_reported_reason",
                "a_client_certificate_is_sent_on_request",
                "a_server_without_tls_is_the_reported_reason",
                "a_server_that_stalls_in_the_handshake_costs_the_connect_timeout",
            ],
        )],
    ),
    (
        "deadlines of flush and shutdown with any behaviour of the endpoint",
        &[(
            "tests/tests/deadlines.rs",
            &[
                "deadlines_are_kept_with_any_endpoint",
                "flush_and_shutdown_can_be_called_repeatedly_from_many_threads",
            ],
        )],
    ),
    (
        "all of these at random",
        &[
            (
                "tests/tests/random_faults.rs",
                &["every_span_has_an_outcome_with_any_server"],
            ),
            (
                "src/exporter/http/response_fuzz.rs",
                &["pieces_make_no_difference_and_nothing_panics"],
            ),
        ],
    ),
];

#[test]
fn each_clause_lists_existing_tests() {
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
