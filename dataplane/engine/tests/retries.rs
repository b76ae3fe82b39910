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

/// A proxy that takes clients of 10.0.0.0/8 for internal, and an upstream that answers by script and notes what it saw.
fn internal(
    engine: ringsail_runtime::engine::EngineChoice,
    answers: &'static [&'static str],
) -> (Proxy, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let upstream = Upstream::serving(move |request| {
        noted.note(request);
        answers[(noted.all().len() - 1).min(answers.len() - 1)].to_owned()
    });
    let proxy = Proxy::http(engine, upstream, |manager, _| {
        manager["internal_address_config"] =
            json!({"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]});
    });
    (proxy, seen)
}

fn asking(client: &str, fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nx-forwarded-for: {client}\r\n{fields}\r\n")
}

#[test]
fn an_internal_client_may_ask_for_retries_and_an_external_one_may_not() {
    for engine in engines() {
        let asks = "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 3\r\n";
        let (proxy, seen) = internal(engine, &[BAD, BAD, OK]);
        assert!(proxy.ask(&asking("192.0.2.1", asks)).starts_with("HTTP/1.1 503"));
        assert_eq!(seen.all().len(), 1, "external");
        let (proxy, seen) = internal(engine, &[BAD, BAD, OK]);
        assert!(proxy.ask(&asking("10.1.2.3", asks)).starts_with("HTTP/1.1 200"));
        let seen = seen.all();
        assert_eq!(seen.len(), 3, "internal");
        assert!(
            !seen[0].contains("x-envoy-retry-on") && !seen[0].contains("x-envoy-max-retries"),
            "{}",
            seen[0]
        );
        for (count, request) in (1..).zip(&seen) {
            assert!(request.contains(&format!("x-envoy-attempt-count: {count}\r\n")), "{request}");
        }
    }
}

#[test]
fn an_internal_client_says_how_long_it_waits_and_with_what_it_is_answered() {
    for engine in engines() {
        let upstream = Upstream::manual();
        let proxy = Proxy::http(engine, upstream.address, |manager, _| {
            manager["internal_address_config"] =
                json!({"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]});
        });
        let mut client = proxy.connect();
        client.send(asking(
            "10.1.2.3",
            "x-envoy-upstream-rq-timeout-ms: 300\r\nx-envoy-upstream-rq-timeout-alt-response: 1\r\n",
        ));
        let mut server = upstream.accept();
        let request = server.read_head();
        assert!(!request.contains("rq-timeout-ms: 300\r\nx-envoy-upstream"), "{request}");
        let expected = request.lines().find_map(|line| line.strip_prefix("x-envoy-expected-rq-timeout-ms: "));
        assert!(expected.and_then(|text| text.parse::<u32>().ok()).is_some_and(|ms| (1..=300).contains(&ms)));
        let answer = client.read_to_end();
        assert!(
            answer.starts_with("HTTP/1.1 204 No Content\r\n") && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
        drop(client);
        assert_eq!(proxy.log(), "204 UT response_timeout\n");
    }
}

#[test]
fn a_body_longer_than_the_routes_buffer_is_not_sent_twice() {
    for engine in engines() {
        for (limit, status) in [
            (json!({"per_request_buffer_limit_bytes": 10}), 200),
            (json!({"per_request_buffer_limit_bytes": 10, "request_body_buffer_limit": "9"}), 503),
        ] {
            let seen = Seen::default();
            let noted = seen.clone();
            let upstream = Upstream::serving(move |request| {
                noted.note(request);
                if noted.all().len() == 1 { BAD.to_owned() } else { OK.to_owned() }
            });
            let mut route = json!({"match": {"prefix": "/"},
                "route": {"cluster": "up", "retry_policy": {"retry_on": "5xx"}}});
            route.as_object_mut().unwrap().extend(limit.as_object().unwrap().clone());
            let proxy =
                Proxy::start(engine, &[listener(manager(json!([route])))], &[cluster("up", &[upstream])]);
            let answer = proxy.ask(
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 10\r\n\r\n0123456789",
            );
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{limit}: {answer}");
            let expected = if status == 200 { 2 } else { 1 };
            assert_eq!(seen.all().len(), expected, "{limit}");
            assert!(seen.all().iter().all(|request| request.ends_with("0123456789")));
        }
    }
}

#[test]
fn an_answer_may_say_how_long_to_wait() {
    for engine in engines() {
        let answers = ["HTTP/1.1 503 No\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n", OK];
        let count = Seen::default();
        let noted = count.clone();
        let upstream = Upstream::serving(move |request| {
            noted.note(request);
            answers[(noted.all().len() - 1).min(1)].to_owned()
        });
        let policy = json!({"retry_on": "5xx", "rate_limited_retry_back_off": {
            "reset_headers": [{"name": "Retry-After", "format": "SECONDS"}]}});
        let proxy = Proxy::start(engine, &[listener(retrying(policy))], &[cluster("up", &[upstream])]);
        let began = Instant::now();
        assert!(proxy.ask(GET).starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(began.elapsed().as_millis() >= 1000, "{:?}", began.elapsed());
    }
}

#[test]
fn priorities_that_failed_and_canaries_are_left_out_of_further_attempts() {
    for engine in engines() {
        let (bad, good) = (Upstream::answering(BAD), Upstream::answering(OK));
        let endpoint = |at: std::net::SocketAddr, metadata: Value| {
            json!({"endpoint": {"address": {"socket_address": {
                "address": at.ip().to_string(), "port_value": at.port()}}}, "metadata": metadata})
        };
        let mut by_priority = cluster("up", &[bad]);
        by_priority["load_assignment"]["endpoints"] = json!([
            {"priority": 0, "lb_endpoints": [endpoint(bad, json!({}))]},
            {"priority": 1, "lb_endpoints": [endpoint(good, json!({}))]}]);
        let priorities = json!({"retry_on": "5xx", "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": 1}}});
        let mut with_canaries = cluster("up", &[bad]);
        let canary = json!({"filter_metadata": {"envoy.lb": {"canary": true}}});
        with_canaries["load_assignment"]["endpoints"] = json!([{"lb_endpoints": [
            endpoint(bad, canary.clone()), endpoint(bad, canary), endpoint(good, json!({}))]}]);
        let no_canaries = json!({"retry_on": "5xx", "host_selection_retry_max_attempts": 100,
            "retry_host_predicate": [{"name": "envoy.retry_host_predicates.omit_canary_hosts", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate"}}]});
        for (cluster, policy) in [(by_priority, priorities), (with_canaries, no_canaries)] {
            let proxy = Proxy::start(engine, &[listener(retrying(policy))], &[cluster]);
            for _ in 0..10 {
                assert!(proxy.ask(GET).starts_with("HTTP/1.1 200 OK\r\n"));
            }
        }
    }
}
