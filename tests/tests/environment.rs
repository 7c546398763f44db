//! Problems in the environment reach the user.

use std::io::Write;
use std::process::{Command, Output};
use std::sync::Mutex;

use common::PATIENCE;
use otlp_collector::config::Endpoint;
use otlp_collector::stats::{NoticeKind, OnNotice};
use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config};

/// Variable that is set in child processes, each of which runs one test of this file.
const CHILD: &str = "OTLP_COLLECTOR_TEST_CHILD";
const DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY is \"soon\"";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER is \"console\"";

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs a test of this file in a child process.
fn run_alone(test: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "yes")
        .env("OTEL_BSP_SCHEDULE_DELAY", "soon")
        .env("OTEL_TRACES_EXPORTER", "console")
        .output();
    let Output { status, stderr, .. } = output.unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{stderr}");
    stderr
}

fn with_faults() -> Config {
    Config::from_lookup(|name| match name {
        "OTEL_BSP_SCHEDULE_DELAY" => Some("soon".to_string()),
        "OTEL_TRACES_EXPORTER" => Some("console".to_string()),
        _ => None,
    })
}

#[test]
fn each_warning_is_a_notice() {
    for disabled in [false, true] {
        let (told, notices) = crossbeam_channel::unbounded();
        let config = Config {
            disabled,
            on_notice: Some(OnNotice::new(move |notice| drop(told.send(notice.clone())))),
            ..with_faults()
        };
        assert_eq!(config.warnings.len(), 2);
        let collector = Collector::new(config).unwrap();
        // Waits until all notices were passed on.
        collector.shutdown().unwrap();
        drop(collector);
        let notices: Vec<_> = notices.try_iter().collect();
        assert_eq!(notices.len(), 2, "{notices:?}");
        for (notice, text) in notices.iter().zip([EXPORTER, DELAY]) {
            assert_eq!(
                (notice.kind, notice.suppressed),
                (NoticeKind::Misconfigured, 0)
            );
            assert!(notice.message.starts_with(text), "{notice}");
        }
    }
}

#[test]
fn warnings_without_a_handler_go_to_standard_error() {
    if is_child() {
        let config = Config::from_env();
        let mut quiet = config.clone();
        quiet.warnings.clear();
        Collector::new(quiet).unwrap();
        eprintln!("from here on");
        Collector::new(config).unwrap();
        return;
    }
    let stderr = run_alone("warnings_without_a_handler_go_to_standard_error");
    let (before, after) = stderr.split_once("from here on").unwrap();
    for text in [DELAY, EXPORTER] {
        let line = format!("otlp-collector: {text}");
        assert_eq!(before.matches(&line).count(), 0, "{stderr}");
        assert_eq!(after.matches(&line).count(), 1, "{stderr}");
    }
}

#[test]
fn warnings_of_a_rejected_configuration_are_reported() {
    if is_child() {
        let config = Config {
            endpoint: "no URL".to_string(),
            ..Config::from_env()
        };
        assert!(Collector::new(config).is_err());
        return;
    }
    let stderr = run_alone("warnings_of_a_rejected_configuration_are_reported");
    assert!(stderr.contains(DELAY), "{stderr}");
}

#[test]
fn handled_warnings_do_not_go_to_standard_error() {
    if is_child() {
        let config = Config {
            on_notice: Some(OnNotice::new(|_| ())),
            ..Config::from_env()
        };
        Collector::new(config).unwrap();
        return;
    }
    let stderr = run_alone("handled_warnings_do_not_go_to_standard_error");
    assert!(!stderr.contains("OTEL_"), "{stderr}");
}

/// A backend of the `log` facade.
struct Backend;

static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl log::Log for Backend {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        assert_eq!(record.target(), "otlp_collector");
        let line = format!("{} {}", record.level(), record.args());
        LOGGED.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

#[test]
fn warnings_are_logged_if_there_is_a_log_backend() {
    if is_child() {
        let config = Config::from_env();
        // Installed after the configuration was read, as in many programs.
        log::set_logger(&Backend).unwrap();
        log::set_max_level(log::LevelFilter::Info);
        Collector::new(config).unwrap().shutdown().unwrap();
        let logged = LOGGED.lock().unwrap();
        let warnings = logged.iter().filter(|line| line.starts_with("WARN OTEL_"));
        assert_eq!(warnings.count(), 2, "{logged:?}");
        writeln!(std::io::stderr(), "checked").unwrap();
        return;
    }
    let stderr = run_alone("warnings_are_logged_if_there_is_a_log_backend");
    assert!(
        stderr.contains("checked") && !stderr.contains("OTEL_"),
        "{stderr}"
    );
}

#[test]
fn a_configuration_file_is_an_error_unless_code_overrides_it() {
    let receiver = Receiver::start().unwrap();
    let from_environment = Config::from_lookup(|name| match name {
        "OTEL_CONFIG_FILE" => Some("/etc/otel.yaml".to_string()),
        "OTEL_SDK_DISABLED" => Some("true".to_string()),
        _ => None,
    });
    // All other variables are ignored.
    assert!(!from_environment.disabled);
    let destinations = vec![Endpoint::new(receiver.endpoint()).into()];
    let in_code = Config {
        destinations: destinations.clone(),
        ..from_environment.clone()
    };
    for config in [from_environment.clone(), in_code] {
        let error = Collector::new(config).unwrap_err();
        assert!(error.is_config());
        let error = error.to_string();
        assert!(error.contains("OTEL_CONFIG_FILE") && error.contains("\"/etc/otel.yaml\""));
    }
    let taken_over = Config {
        config_file: None,
        destinations,
        ..from_environment.clone()
    };
    let disabled = Config {
        disabled: true,
        ..from_environment
    };
    for config in [taken_over, disabled] {
        let collector = Collector::new(config).unwrap();
        assert!(collector.flush(PATIENCE).is_ok());
    }
}
