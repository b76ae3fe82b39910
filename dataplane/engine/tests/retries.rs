//! Attempts: which failures and answers lead to another one, and what the last one looks like.

mod harness;

use std::time::Instant;

use harness::{Proxy, Seen, Upstream, closed_port, cluster, engines, listener, manager, stable};
use serde_json::{Value, json};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BAD: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nbad";

/// Routes to `up` with this retry policy.
fn retrying(policy: Value) -> Value {
    manager(json!([{"match": {"prefix": "/"},
        "route": {"cluster": "up", "timeout": "0s", "retry_policy": policy}}]))
}

/// What istiod sets when nobody asks for anything.
fn istio_default() -> Value {
    json!({
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
        "num_retries": 2, "host_selection_retry_max_attempts": "5",
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}],
    })
}

#[test]
fn connect_failures_are_retried_and_the_answer_says_so() {
    for engine in engines() {
        let cluster = cluster("up", &[closed_port()]);
        let proxy = Proxy::start(engine, &[listener(retrying(istio_default()))], &[cluster]);
        let began = Instant::now();
        let answer = proxy.ask(GET);
        assert!(began.elapsed().as_millis() < 500, "{:?}", began.elapsed());
        assert!(
            answer.ends_with(
                "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: \
                 remote connection failure"
            ),
            "{answer}"
        );
        assert_eq!(
            proxy.log(),
            "503 URX,UF upstream_reset_before_response_started{remote_connection_failure|\
             delayed_connect_error:_Connection_refused}\n"
        );
    }
}

#[test]
fn another_host_is_tried_before_the_same_again() {
    for engine in engines() {
        let good = Upstream::answering(OK);
        let clusters = [cluster("up", &[closed_port(), good])];
        let proxy = Proxy::start(engine, &[listener(retrying(istio_default()))], &clusters);
        for _ in 0..10 {
            assert!(proxy.ask(GET).starts_with("HTTP/1.1 200 OK\r\n"));
        }
    }
}

#[test]
fn a_wanted_status_is_retried_with_the_body_and_a_new_attempt_count() {
    for engine in engines() {
        let seen = Seen::default();
        let note = seen.clone();
        let upstream = Upstream::serving(move |request| {
            note.note(request);
            if note.all().len() < 3 { BAD.to_owned() } else { OK.to_owned() }
        });
        let policy = json!({"retry_on": "5xx", "num_retries": 2});
        let proxy = Proxy::start(engine, &[listener(retrying(policy))], &[cluster("up", &[upstream])]);
        let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";
        assert!(proxy.ask(request).ends_with("ok"));
        let seen = seen.all();
        assert_eq!(seen.len(), 3);
        for (attempt, request) in (1..).zip(&seen) {
            assert!(request.contains(&format!("\r\nx-envoy-attempt-count: {attempt}\r\n")), "{request}");
            assert!(request.ends_with("\r\n\r\nbody"), "{request}");
        }
        assert_eq!(proxy.log(), "200 - via_upstream\n");
    }
}

#[test]
fn when_retries_are_used_up_the_upstreams_answer_passes() {
    for engine in engines() {
        let policy = json!({"retry_on": "gateway-error", "num_retries": 1});
        let clusters = [cluster("up", &[Upstream::answering(BAD)])];
        let proxy = Proxy::start(engine, &[listener(retrying(policy))], &clusters);
        assert!(proxy.ask(GET).ends_with("bad"));
        assert_eq!(proxy.log(), "503 URX via_upstream\n");
    }
}

#[test]
fn a_full_retry_breaker_passes_the_answer_with_its_flag() {
    for engine in engines() {
        let mut cluster = cluster("up", &[Upstream::answering(BAD)]);
        cluster["circuit_breakers"] = json!({"thresholds": [{"max_retries": 0}]});
        let policy = json!({"retry_on": "5xx", "num_retries": 1});
        let proxy = Proxy::start(engine, &[listener(retrying(policy))], &[cluster]);
        assert!(proxy.ask(GET).ends_with("bad"));
        assert_eq!(proxy.log(), "503 UO via_upstream\n");
    }
}

/// An upstream that closes without an answer: retried by `reset` and `5xx`, not by Istio's default, and not by
/// `reset-before-request` once the request was written.
#[test]
fn a_reset_is_retried_only_where_the_policy_says_reset() {
    for engine in engines() {
        for (policy, attempts) in [
            (json!({"retry_on": "reset", "num_retries": 2}), 3),
            (json!({"retry_on": "5xx", "num_retries": 1}), 2),
            (json!({"retry_on": "reset-before-request", "num_retries": 2}), 1),
            (istio_default(), 1),
        ] {
            let seen = Seen::default();
            let note = seen.clone();
            let upstream = Upstream::serving(move |request| {
                note.note(request);
                String::new()
            });
            let clusters = [cluster("up", &[upstream])];
            let proxy = Proxy::start(engine, &[listener(retrying(policy.clone()))], &clusters);
            assert!(proxy.ask(GET).contains("connection termination"), "{policy}");
            assert_eq!(seen.all().len(), attempts, "{policy}");
        }
    }
}

#[test]
fn a_slow_try_ends_at_its_own_timeout() {
    for engine in engines() {
        for (retry_on, log) in [
            ("5xx", "504 URX,UT upstream_per_try_timeout\n"),
            ("connect-failure", "504 UT upstream_per_try_timeout\n"),
        ] {
            let upstream = Upstream::manual();
            let policy = json!({"retry_on": retry_on, "num_retries": 1, "per_try_timeout": "0.1s"});
            let proxy =
                Proxy::start(engine, &[listener(retrying(policy))], &[cluster("up", &[upstream.address])]);
            assert!(proxy.ask(GET).ends_with("upstream request timeout"));
            assert_eq!(proxy.log(), log);
        }
    }
}

#[test]
fn a_request_on_a_connection_that_turns_out_closed_is_sent_again_unnoticed() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |_, _| {});
        let mut client = proxy.connect();
        client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut first = upstream.accept();
        first.read_head();
        first.send(OK);
        client.read_message();
        // It is open when the proxy looks at it, and closes when the request arrives.
        client.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
        first.read_head();
        drop(first);
        let mut second = upstream.accept();
        let request = second.read_head();
        assert!(request.contains("x-envoy-attempt-count: 1\r\n"), "{request}");
        second.send(OK);
        assert_eq!(stable(&client.read_message()), "HTTP/1.1 200 OK\ncontent-length: 2\nserver: envoy\n\nok");
        // A POST may have been carried out: it is not sent twice.
        client.send("POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        second.read_message();
        drop(second);
        assert!(client.read_message().contains("connection termination"));
    }
}
