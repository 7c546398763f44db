//! The header `Retry-After`: its wait as a pure function of the time.

use std::time::{Duration, SystemTime};

/// The longest wait that a `Retry-After` header can request.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// Parses a `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3); `None` for anything else. The
/// wait is zero for a date in the past, and at most ten minutes.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if is_number {
        // Too many digits are an endless wait.
        value.parse().map_or(Duration::MAX, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_seconds_is_bounded() {
        let seconds = |value| retry_after(value, SystemTime::UNIX_EPOCH);
        assert_eq!(seconds(" 3 "), Some(Duration::from_secs(3)));
        assert_eq!(seconds("0"), Some(Duration::ZERO));
        assert_eq!(seconds("99999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(seconds("99999999999999999999999"), Some(RETRY_AFTER_MAX));
        for nothing in ["", "-1", "+1", "soon", "1.5", "nan", "inf", "1e3", "0x10"] {
            assert_eq!(seconds(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn retry_after_as_a_date_is_the_time_until_that_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let date = |value| retry_after(value, now);
        assert_eq!(
            date("Sun, 06 Nov 1994 08:49:49 GMT"),
            Some(Duration::from_secs(12))
        );
        // The two obsolete forms that a recipient must understand.
        assert_eq!(
            date("Sunday, 06-Nov-94 08:50:37 GMT"),
            Some(Duration::from_secs(60))
        );
        assert_eq!(
            date("Sun Nov  6 08:49:38 1994"),
            Some(Duration::from_secs(1))
        );
        let past = "Sun, 06 Nov 1994 08:49:36 GMT";
        assert_eq!(date(past), Some(Duration::ZERO));
        assert_eq!(date("Fri, 31 Dec 9999 23:59:59 GMT"), Some(RETRY_AFTER_MAX));
        for nothing in [
            "Sun, 06 Nov 1994",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "tomorrow",
        ] {
            assert_eq!(date(nothing), None, "{nothing}");
        }
    }
}
