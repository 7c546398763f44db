//! The resource: attributes of the process that sends spans.

use std::env::consts;

use crate::span::attribute::{AnyValue, KeyValue, last_of_each_key};

/// Returns the resource's attributes; configured ones replace detected ones and the service name.
pub(super) fn attributes(service_name: &str, own: &[KeyValue]) -> Vec<KeyValue> {
    let service_name = match service_name {
        "" => default_service_name(),
        name => name.to_string(),
    };
    let mut attributes = vec![
        KeyValue::new("service.name", service_name),
        KeyValue::new("telemetry.sdk.language", "rust"),
        KeyValue::new("telemetry.sdk.name", env!("CARGO_PKG_NAME")),
        KeyValue::new("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("process.pid", std::process::id()),
        KeyValue::new("os.type", os_type()),
    ];
    let found = [
        ("process.executable.name", executable_name()),
        ("host.name", host_name()),
        ("host.arch", host_arch().map(str::to_string)),
    ];
    for (key, value) in found {
        attributes.extend(value.map(|value| KeyValue::new(key, AnyValue::from(value))));
    }
    attributes.extend(own.iter().cloned());
    last_of_each_key(attributes)
}

/// Returns the service name for a process without a configured one (resource semantic conventions,
/// `service.name`).
pub(super) fn default_service_name() -> String {
    executable_name().map_or_else(
        || "unknown_service".to_string(),
        |name| format!("unknown_service:{name}"),
    )
}

fn executable_name() -> Option<String> {
    let path = std::env::current_exe().ok()?;
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// Returns the kernel's host name; other systems than Linux would need a library.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_string())
}

/// Returns the operating system as a value of `os.type` (resource semantic conventions).
fn os_type() -> &'static str {
    match consts::OS {
        "macos" | "ios" => "darwin",
        "dragonfly" => "dragonflybsd",
        other => other,
    }
}

/// Returns the architecture as a value of `host.arch` (resource semantic conventions); `None` if they
/// do not define one.
fn host_arch() -> Option<&'static str> {
    Some(match consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "x86",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc" => "ppc32",
        "powerpc64" => "ppc64",
        "s390x" => "s390x",
        _ => return None,
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_takes_precedence_over_the_service_name() {
        let name_with = |own: &[KeyValue]| {
            let attributes = attributes("checkout", own);
            let names: Vec<_> = (attributes.iter())
                .filter(|attribute| attribute.key == "service.name")
                .map(|attribute| attribute.value.clone())
                .collect();
            names
        };
        assert_eq!(name_with(&[]), [AnyValue::from("checkout")]);
        let own = [KeyValue::new("service.name", "shop")];
        assert_eq!(name_with(&own), [AnyValue::from("shop")]);
    }
}
