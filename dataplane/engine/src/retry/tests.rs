use ringsail_http::RequestHead;
use ringsail_tables::Str;
use ringsail_tables::policy::ResetHeader;

use super::*;
use crate::failure::ConnectError;

fn request(fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::default();
    for (name, value) in fields {
        head.fields_mut().append(name, value.as_bytes()).unwrap();
    }
    head
}

fn answer(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::default();
    head.reset(status);
    for (name, value) in fields {
        head.fields_mut().append(name, value.as_bytes()).unwrap();
    }
    head
}

fn asked(fields: &[(&str, &str)]) -> Conditions {
    Conditions::of(None, &mut request(fields))
}

fn on(word: &str) -> Conditions {
    Conditions { on: RetryOn::from_word(word).unwrap(), retries_max: 1, ..Conditions::default() }
}

#[test]
fn each_word_wants_the_answers_it_names_and_no_others() {
    let policy = RetryPolicy::default();
    let none: &[(&str, &str)] = &[];
    for (word, status, fields, wanted) in [
        ("5xx", 500, none, true),
        ("5xx", 599, none, true),
        ("5xx", 499, none, false),
        ("gateway-error", 502, none, true),
        ("gateway-error", 504, none, true),
        ("gateway-error", 500, none, false),
        ("retriable-4xx", 409, none, true),
        ("retriable-4xx", 408, none, false),
        ("envoy-ratelimited", 429, &[("x-envoy-ratelimited", "true")], true),
        ("envoy-ratelimited", 429, none, false),
        ("5xx", 503, &[("x-envoy-ratelimited", "true")], false),
        ("cancelled", 200, &[("grpc-status", "1")], true),
        ("deadline-exceeded", 200, &[("grpc-status", "4")], true),
        ("resource-exhausted", 200, &[("grpc-status", "8")], true),
        ("internal", 200, &[("grpc-status", "13")], true),
        ("unavailable", 200, &[("grpc-status", "14")], true),
        ("unavailable", 200, &[("grpc-status", "13")], false),
        ("unavailable", 503, none, false),
        ("reset", 503, none, false),
        ("connect-failure", 503, none, false),
        ("refused-stream", 503, none, false),
        ("retriable-status-codes", 503, none, false),
        ("retriable-headers", 503, none, false),
        ("http3-post-connect-failure", 503, none, false),
    ] {
        let wants = on(word).want_after_response(&policy, &answer(status, fields));
        assert_eq!(wants, wanted, "{word} {status} {fields:?}");
    }
}

#[test]
fn each_word_wants_the_failures_it_names_and_no_others() {
    let refused = Failure::ConnectFailure(ConnectError::Local);
    for (word, failure, written, wanted) in [
        ("connect-failure", refused, false, true),
        ("connect-failure", Failure::ConnectTimeout, false, true),
        ("connect-failure", Failure::ConnectionTermination, false, false),
        ("reset", Failure::ConnectionTermination, true, true),
        ("reset", Failure::PerTryTimeout, true, true),
        ("reset-before-request", Failure::ConnectionTermination, false, true),
        ("reset-before-request", Failure::ConnectionTermination, true, false),
        ("5xx", refused, false, true),
        ("gateway-error", Failure::PerTryIdleTimeout, true, true),
        ("5xx", Failure::RouteTimeout, true, false),
        ("5xx", Failure::Overflow, false, false),
        ("5xx", Failure::NoHealthyUpstream, false, false),
        ("retriable-status-codes", refused, false, false),
    ] {
        assert_eq!(on(word).want_after_failure(failure, written), wanted, "{word} {failure:?} {written}");
    }
}

#[test]
fn a_request_may_ask_for_retries_and_its_words_are_taken_out_of_it() {
    let mut head = request(&[
        ("x-envoy-retry-on", "gateway-error, retriable-status-codes,nonsense"),
        ("x-envoy-retry-grpc-on", "unavailable"),
        ("x-envoy-max-retries", "7"),
        ("x-envoy-retriable-status-codes", "418, 425,x"),
        ("x-envoy-retriable-header-names", "x-again"),
        ("x-envoy-hedge-on-per-try-timeout", "true"),
        ("x-envoy-attempt-count", "1"),
        ("accept", "*/*"),
    ]);
    let conditions = Conditions::of(None, &mut head);
    assert_eq!(conditions.retries_max, 7);
    let policy = RetryPolicy::default();
    for (status, wanted) in [(502, true), (418, true), (425, true), (500, false)] {
        assert_eq!(conditions.want_after_response(&policy, &answer(status, &[])), wanted, "{status}");
    }
    assert!(
        !conditions.want_after_response(&policy, &answer(200, &[("x-again", "")])),
        "not without its word"
    );
    let left: Vec<String> =
        head.fields().iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    assert_eq!(left, ["x-envoy-attempt-count", "accept"]);
}

#[test]
fn names_of_headers_are_asked_for_by_presence() {
    let conditions =
        asked(&[("x-envoy-retry-on", "retriable-headers"), ("x-envoy-retriable-header-names", "a, X-Again")]);
    let policy = RetryPolicy::default();
    assert!(conditions.want_after_response(&policy, &answer(200, &[("x-again", "")])));
    assert!(!conditions.want_after_response(&policy, &answer(200, &[("x-against", "")])));
}

#[test]
fn a_request_that_fits_no_condition_of_the_policy_is_not_tried_again() {
    let policy = RetryPolicy { on: RetryOn::SERVER_ERROR, retries_max: 3, ..RetryPolicy::default() };
    let conditions = Conditions::of(Some(&policy), &mut request(&[]));
    assert!(conditions.any() && conditions.retries_max == 3);
    assert!(!Conditions::of(None, &mut request(&[])).any());
}

#[test]
fn the_first_believable_header_says_how_long_to_wait() {
    let header = |name: &str, format| ResetHeader { name: Str::new(name), format };
    let policy = RateLimitedBackOff {
        headers: Box::new([
            header("retry-after", ResetFormat::Seconds),
            header("x-reset", ResetFormat::UnixTimestamp),
        ]),
        interval_max: Duration::from_secs(300),
    };
    const NOW: u64 = 1_000_000;
    for (fields, seconds) in [
        (&[("retry-after", "7")][..], Some(7)),
        (&[("retry-after", "300")], Some(300)),
        (&[("retry-after", "301")], None),
        (&[("retry-after", "soon"), ("x-reset", "1000009")], Some(9)),
        (&[("x-reset", "1000000")], None),
        (&[("x-reset", "999999")], None),
        (&[], None),
    ] {
        let interval = reset_interval(&policy, &answer(429, fields), NOW);
        assert_eq!(interval, seconds.map(Duration::from_secs), "{fields:?}");
    }
}

#[test]
fn waits_stay_within_their_bounds() {
    let policy = RetryPolicy {
        back_off_base: Duration::from_millis(10),
        back_off_max: Duration::from_millis(50),
        ..RetryPolicy::default()
    };
    for (retry, bound) in [(0, 10), (1, 20), (2, 40), (3, 50), (40, 50)] {
        for random in [0, 1, 9, 10, 49, 50, u64::MAX] {
            assert!(back_off(&policy, retry, random) < Duration::from_millis(bound), "{retry} {random}");
        }
        assert_eq!(back_off(&policy, retry, bound - 1), Duration::from_millis(bound - 1));
    }
    let second = Duration::from_secs(1);
    for random in [0, 499, 500, u64::MAX] {
        let wait = lower_bound_back_off(second, random);
        assert!(wait >= second && wait < second + second / 2, "{wait:?}");
    }
}
