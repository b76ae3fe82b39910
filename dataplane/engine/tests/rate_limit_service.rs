//! Limits that a service keeps: asked over gRPC, as Envoy 1.40 asks.

mod harness;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::{Peer, Proxy, Seen, Upstream, closed_port, cluster, engines, listener, manager, stable};
use http::{HeaderMap, Response};
use prost::Message;
use ringsail_runtime::engine::EngineChoice;
use ringsail_xds::envoy::config::core::v3::HeaderValue;
use ringsail_xds::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus, RateLimit};
use ringsail_xds::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use serde_json::{Value, json};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What the service was asked: the request's head as text, and its message.
type Questions = Arc<Mutex<Vec<(String, RateLimitRequest)>>>;

/// A rate limit service that gives `answer`, or none at all.
fn service(
    answer: impl Fn(&RateLimitRequest) -> Option<RateLimitResponse> + Send + 'static,
) -> (SocketAddr, Questions) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let questions = Questions::default();
    let asked = questions.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let answer = std::rc::Rc::new(answer);
            let tasks = tokio::task::LocalSet::new();
            tasks
                .run_until(async move {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        let (answer, asked) = (answer.clone(), asked.clone());
                        tokio::task::spawn_local(async move {
                            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                            while let Some(Ok((request, mut respond))) = connection.accept().await {
                                let (answer, asked) = (answer.clone(), asked.clone());
                                tokio::task::spawn_local(async move {
                                    let (head, mut body) = request.into_parts();
                                    let mut bytes = Vec::new();
                                    while let Some(Ok(piece)) = body.data().await {
                                        bytes.extend_from_slice(&piece);
                                    }
                                    assert_eq!(bytes[0], 0, "not compressed");
                                    assert_eq!(bytes[1..5], ((bytes.len() - 5) as u32).to_be_bytes());
                                    let message = RateLimitRequest::decode(&bytes[5..]).unwrap();
                                    let text = format!("{} {} {:?}", head.method, head.uri, head.headers);
                                    let reply = answer(&message);
                                    asked.lock().unwrap().push((text, message));
                                    let Some(reply) = reply else {
                                        std::future::pending::<()>().await;
                                        return;
                                    };
                                    let mut framed = vec![0];
                                    framed.extend_from_slice(&(reply.encoded_len() as u32).to_be_bytes());
                                    reply.encode(&mut framed).unwrap();
                                    let head = Response::builder().header("content-type", "application/grpc");
                                    let mut send =
                                        respond.send_response(head.body(()).unwrap(), false).unwrap();
                                    send.send_data(Bytes::from(framed), false).unwrap();
                                    let mut trailers = HeaderMap::new();
                                    trailers.insert("grpc-status", "0".parse().unwrap());
                                    send.send_trailers(trailers).unwrap();
                                });
                            }
                        });
                    }
                })
                .await;
        });
    });
    (address, questions)
}

fn verdict(code: Code) -> RateLimitResponse {
    RateLimitResponse { overall_code: code as i32, ..RateLimitResponse::default() }
}

/// A proxy whose filter asks `service`, with these further settings of the filter and of the route.
fn proxy(engine: EngineChoice, up: SocketAddr, service: SocketAddr, filter: Value, action: Value) -> Proxy {
    let mut limit = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
        "domain": "shop", "timeout": "20s",
        "rate_limit_service": {"transport_api_version": "V3", "grpc_service": {
            "envoy_grpc": {"cluster_name": "limits", "authority": "limits.example"},
            "initial_metadata": [{"key": "x-key", "value": "secret"}]}},
    });
    limit.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
    let mut route = json!({"cluster": "up", "rate_limits": [{"actions": [
        {"destination_cluster": {}}, {"source_cluster": {}}, {"remote_address": {}},
        {"request_headers": {"header_name": "x-user", "descriptor_key": "user"}}]}]});
    route.as_object_mut().unwrap().extend(action.as_object().unwrap().clone());
    let mut manager = manager(json!([{"match": {"prefix": "/"}, "route": route}]));
    manager["http_filters"].as_array_mut().unwrap().insert(0, json!({"name": "r", "typed_config": limit}));
    let mut limits = cluster("limits", &[service]);
    limits["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}}}});
    Proxy::start(engine, &[listener(manager)], &[cluster("up", &[up]), limits])
}

fn ask(client: &mut Peer, fields: &str) -> String {
    client.send(format!("GET /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    stable(&client.read_message())
}

const USER: &str = "x-user: bob\r\n";

#[test]
fn the_service_is_asked_about_the_requests_descriptors() {
    for engine in engines() {
        let (service, questions) = service(|_| Some(verdict(Code::Ok)));
        let action = json!({"rate_limits": [
            {"actions": [{"destination_cluster": {}}, {"source_cluster": {}}, {"remote_address": {}},
                {"request_headers": {"header_name": "x-user", "descriptor_key": "user"}}],
                "limit": {"rate_limit": {"requests_per_unit": 7, "unit": "MINUTE"}}},
            {"actions": [{"generic_key": {"descriptor_value": "all"}}]},
            {"actions": [{"request_headers": {"header_name": "x-absent", "descriptor_key": "absent"}}]},
        ]});
        let proxy = proxy(engine, Upstream::answering(OK), service, json!({}), action);
        let mut client = proxy.connect();
        assert!(ask(&mut client, USER).ends_with("ok"));
        let (head, message) = questions.lock().unwrap()[0].clone();
        assert!(
            head.starts_with(
                "POST http://limits.example/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit "
            ),
            "{head}"
        );
        for field in [
            "\"te\": \"trailers\"",
            "\"content-type\": \"application/grpc\"",
            "\"x-key\": \"secret\"",
            "\"grpc-timeout\": \"20000m\"",
        ] {
            assert!(head.contains(field), "{head}");
        }
        assert_eq!(message.domain, "shop");
        let entries: Vec<Vec<(&str, &str)>> = message
            .descriptors
            .iter()
            .map(|one| one.entries.iter().map(|entry| (&*entry.key, &*entry.value)).collect())
            .collect();
        assert_eq!(
            entries,
            [
                vec![
                    ("destination_cluster", "up"),
                    ("source_cluster", "test-cluster"),
                    ("remote_address", "127.0.0.1"),
                    ("user", "bob")
                ],
                vec![("generic_key", "all")],
            ]
        );
        assert_eq!(
            message.descriptors[0].limit.map(|limit| (limit.requests_per_unit, limit.unit)),
            Some((7, 2))
        );
        assert_eq!(proxy.stat("cluster.up.ratelimit.ok"), 1);
        assert_eq!(proxy.stat("cluster.limits.upstream_rq_total"), 1);
    }
}

#[test]
fn a_request_past_the_limit_is_refused() {
    for engine in engines() {
        let over = || RateLimitResponse {
            statuses: vec![DescriptorStatus {
                code: Code::OverLimit as i32,
                current_limit: Some(RateLimit { requests_per_unit: 10, unit: 2, name: String::new() }),
                limit_remaining: 0,
                duration_until_reset: Some(prost_types::Duration { seconds: 9, nanos: 0 }),
                ..DescriptorStatus::default()
            }],
            response_headers_to_add: vec![HeaderValue {
                key: "x-why".into(),
                value: "too many".into(),
                ..HeaderValue::default()
            }],
            ..verdict(Code::OverLimit)
        };
        let (service, _) = service(move |_| Some(over()));
        let settings = json!({"enable_x_ratelimit_headers": "DRAFT_VERSION_03", "rate_limited_as_resource_exhausted": true});
        let proxy = proxy(engine, Upstream::answering(OK), service, settings, json!({}));
        let mut client = proxy.connect();
        let refused = ask(&mut client, USER);
        assert!(
            refused
                .starts_with("HTTP/1.1 429 Too Many Requests\nx-why: too many\nx-envoy-ratelimited: true\n"),
            "{refused}"
        );
        for field in [
            "\nx-ratelimit-limit: 10, 10;w=60\n",
            "\nx-ratelimit-remaining: 0\n",
            "\nx-ratelimit-reset: 9\n",
            "\nx-why: too many\n",
            "\ncontent-length: 0\n\n",
        ] {
            assert!(refused.contains(field), "{refused}");
        }
        assert!(
            ask(&mut client, "x-user: bob\r\nContent-Type: application/grpc\r\n")
                .contains("\ngrpc-status: 8\n")
        );
        assert_eq!(proxy.stat("cluster.up.ratelimit.over_limit"), 2);
        // Without the header there is no descriptor, and nobody is asked.
        assert!(ask(&mut client, "").ends_with("ok"));
        drop(client);
        assert_eq!(
            proxy.log(),
            "429 RL request_rate_limited\n200 RL request_rate_limited\n200 - via_upstream\n"
        );
    }
}

#[test]
fn headers_for_the_request_reach_the_upstream() {
    for engine in engines() {
        let (service, _) = service(|_| {
            Some(RateLimitResponse {
                request_headers_to_add: vec![HeaderValue {
                    key: "X-Left".into(),
                    value: "5".into(),
                    ..HeaderValue::default()
                }],
                ..verdict(Code::Ok)
            })
        });
        let seen = Seen::default();
        let note = seen.clone();
        let up = Upstream::serving(move |request| {
            note.note(request);
            OK.to_owned()
        });
        let proxy = proxy(engine, up, service, json!({}), json!({}));
        ask(&mut proxy.connect(), USER);
        assert!(seen.all()[0].contains("\r\nx-left: 5\r\n"), "{:?}", seen.all());
    }
}

#[test]
fn without_an_answer_the_request_passes_or_not_as_configured() {
    for engine in engines() {
        let (silent, _) = service(|_| None);
        for (service, timeout) in [(silent, "0.05s"), (closed_port(), "20s")] {
            let open =
                proxy(engine, Upstream::answering(OK), service, json!({"timeout": timeout}), json!({}));
            let began = Instant::now();
            assert!(ask(&mut open.connect(), USER).ends_with("ok"));
            assert!(began.elapsed() < Duration::from_secs(15));
            assert_eq!(open.stat("cluster.up.ratelimit.error"), 1);
            assert_eq!(open.stat("cluster.up.ratelimit.failure_mode_allowed"), 1);
            assert_eq!(open.log(), "200 - via_upstream\n");

            let deny = json!({"timeout": timeout, "failure_mode_deny": true});
            let closed = proxy(engine, Upstream::answering(OK), service, deny, json!({}));
            assert_eq!(
                ask(&mut closed.connect(), USER),
                "HTTP/1.1 500 Internal Server Error\nserver: envoy\ncontent-length: 0\n\n"
            );
            assert_eq!(closed.log(), "500 RLSE rate_limiter_error\n");
        }
    }
}
