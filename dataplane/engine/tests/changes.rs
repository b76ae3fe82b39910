//! Configuration changes under connections that are open.

mod harness;

use std::time::Duration;

use harness::{End, Peer, Proxy, Upstream, cluster, engines, listener, manager, tcp_proxy};
use ringsail_engine::control::Command;
use ringsail_engine::serving::DrainPolicy;
use ringsail_engine::shard::Settings;
use serde_json::{Value, json};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LISTENER: &str = "127.0.0.1";

/// A connection manager that answers everything with `body` itself.
fn answering(body: &str) -> Value {
    manager(json!([{"match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": body}}}]))
}

/// One chain that wants connections to `address`.
fn chain(name: &str, prefix: &str, filter: Value) -> Value {
    let (address, length) = prefix.split_once('/').unwrap();
    json!({"name": name,
        "filter_chain_match": {"prefix_ranges": [
            {"address_prefix": address, "prefix_len": length.parse::<u32>().unwrap()}]},
        "filters": [{"name": "terminal", "typed_config": filter}]})
}

fn with_chains(chains: Value) -> Value {
    let mut listener = listener(Value::Null);
    listener["filter_chains"] = chains;
    listener
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

fn immediate(time: Duration) -> Settings {
    Settings { drain: DrainPolicy { time, gradual: false }, ..Settings::default() }
}

/// Asks on this connection until the answer's body is `wanted`: a change takes a moment to arrive.
fn ask_until(client: &mut Peer, wanted: &str) -> String {
    for _ in 0..2000 {
        client.send(REQUEST);
        let answer = client.read_message();
        if body(&answer) == wanted {
            return answer;
        }
        assert!(!answer.contains("connection: close"), "closed before {wanted:?}: {answer}");
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never answered {wanted:?}");
}

#[test]
fn new_routes_and_settings_serve_the_next_request_of_the_same_connection() {
    for engine in engines() {
        let mut proxy = Proxy::start(engine, &[listener(answering("one"))], &[]);
        let mut client = proxy.connect();
        client.send(REQUEST);
        assert_eq!(body(&client.read_message()), "one");

        let mut second = answering("two");
        second["server_name"] = json!("renamed");
        second["access_log"] = json!([harness::file_log("after %RESPONSE_CODE%")]);
        let mut changed = listener(second);
        changed["per_connection_buffer_limit_bytes"] = json!(4096);
        proxy.update(&[changed], &[]);
        let answer = ask_until(&mut client, "two");
        assert!(answer.contains("server: renamed\r\n"), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
        client.send(REQUEST);
        assert_eq!(body(&client.read_message()), "two", "and the connection goes on");
        drop(client);
        assert!(proxy.log().ends_with("after 200\nafter 200\n"));
    }
}

#[test]
fn only_connections_of_a_chain_that_is_gone_drain() {
    for engine in engines() {
        let here = format!("{LISTENER}/32");
        let settings = immediate(Duration::from_secs(600));
        let stays = || chain("stays", "10.0.0.0/8", answering("elsewhere"));
        let first = with_chains(json!([stays(), chain("http", &here, answering("one"))]));
        let mut proxy = Proxy::start_with(engine, settings, &[first], &[]);
        let mut client = proxy.connect();
        client.send(REQUEST);
        assert_eq!(body(&client.read_message()), "one");
        // It waits while its chain goes; nothing may end it then.
        let mut waiting = proxy.connect();
        waiting.send(REQUEST);
        waiting.read_message();

        // Another chain comes first, so that positions move; the name and match of ours stay.
        let moved = with_chains(json!([
            chain("new", "10.1.0.0/16", answering("new")),
            stays(),
            chain("http", &here, answering("two"))
        ]));
        proxy.update(&[moved], &[]);
        ask_until(&mut client, "two");

        // Nobody serves this destination any more.
        proxy.update(&[with_chains(json!([stays()]))], &[]);
        let last = loop {
            client.send(REQUEST);
            let answer = client.read_message();
            assert_eq!(body(&answer), "two", "a chain that is gone keeps its own routes");
            if answer.contains("connection: close") {
                break answer;
            }
        };
        assert_eq!(client.end(), End::Fin, "{last}");
        assert!(waiting.is_quiet(), "an idle connection is not closed before its next request");
        waiting.send(REQUEST);
        let answer = waiting.read_message();
        assert!(body(&answer) == "two" && answer.contains("connection: close"), "{answer}");
        // New connections find no chain.
        let mut refused = proxy.connect();
        refused.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(refused.end(), End::Reset);
    }
}

#[test]
fn a_chain_whose_match_changed_keeps_the_connections_it_still_matches() {
    for engine in engines() {
        let settings = immediate(Duration::from_secs(600));
        let first = with_chains(json!([chain("http", "127.0.0.0/8", answering("one"))]));
        let mut proxy = Proxy::start_with(engine, settings, &[first], &[]);
        let mut client = proxy.connect();
        client.send(REQUEST);
        client.read_message();
        proxy.update(&[with_chains(json!([chain("http", "127.0.0.0/16", answering("two"))]))], &[]);
        let answer = ask_until(&mut client, "two");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
}

#[test]
fn sessions_of_bytes_outlive_changes_and_end_with_the_drain_time_once_their_chain_is_gone() {
    for engine in engines() {
        let settings = immediate(Duration::from_millis(300));
        let upstream = Upstream::manual();
        let here = format!("{LISTENER}/32");
        let up = [cluster("up", &[upstream.address])];
        let mut websocket = manager(json!([{"match": {"prefix": "/"},
            "route": {"cluster": "up", "timeout": "0s"}}]));
        websocket["stat_prefix"] = json!("websocket");
        let http = json!({"name": "http", "filter_chain_match": {
                "destination_port": 1, "prefix_ranges": [{"address_prefix": LISTENER, "prefix_len": 32}]},
            "filters": [{"name": "terminal", "typed_config": websocket}]});
        let first = with_chains(json!([http, chain("tcp", &here, tcp_proxy("up"))]));
        let mut proxy = Proxy::start_with(engine, settings, std::slice::from_ref(&first), &up);
        let mut client = proxy.connect();
        let mut server = upstream.accept();

        let mut other = tcp_proxy("up");
        other["idle_timeout"] = json!("7s");
        other["access_log"] = json!([harness::file_log("changed %BYTES_SENT%")]);
        let changed = with_chains(json!([chain("tcp", &here, other)]));
        proxy.update(&[changed], &up);
        client.send("ping");
        assert_eq!(server.read_exact(4), "ping");
        server.send("pong");
        assert_eq!(client.read_exact(4), "pong");
        // Longer than the drain time: a chain that stays does not drain.
        std::thread::sleep(Duration::from_millis(500));
        client.send("ping");
        assert_eq!(server.read_exact(4), "ping");

        proxy.update(&[with_chains(json!([chain("tcp", "10.0.0.0/8", tcp_proxy("up"))]))], &up);
        assert_eq!(client.end(), End::Fin, "the drain time ends what no chain serves");
        drop(server);
        assert_eq!(proxy.log(), "changed 4\n");
    }
}

#[test]
fn a_removed_listener_lets_its_connections_finish() {
    for engine in engines() {
        let settings = immediate(Duration::from_secs(600));
        let mut proxy = Proxy::start_with(engine, settings, &[listener(answering("one"))], &[]);
        let mut client = proxy.connect();
        client.send(REQUEST);
        client.read_message();
        proxy.remove_listener("test");
        loop {
            client.send(REQUEST);
            let answer = client.read_message();
            assert_eq!(body(&answer), "one");
            if answer.contains("connection: close") {
                break;
            }
        }
        assert_eq!(client.end(), End::Fin);
    }
}

#[test]
fn an_ordered_drain_ends_connections_with_their_next_answer_and_holds_for_listeners_to_come() {
    for engine in engines() {
        let settings = immediate(Duration::from_secs(600));
        let mut inbound = listener(answering("one"));
        inbound["traffic_direction"] = json!("INBOUND");
        let mut proxy = Proxy::start_with(engine, settings, &[inbound.clone()], &[]);
        let mut client = proxy.connect();
        client.send(REQUEST);
        assert!(!client.read_message().contains("connection: close"));
        proxy.command(Command::Drain { inbound_only: true, graceful: true, keep_listening: true });
        // The order and the request race; one of the next answers is the last.
        loop {
            client.send(REQUEST);
            if client.read_message().contains("connection: close") {
                break;
            }
        }
        // A change does not undo it.
        inbound["filter_chains"][0]["filters"][0]["typed_config"] = answering("two");
        proxy.update(&[inbound], &[]);
        let mut client = proxy.connect();
        client.send(REQUEST);
        assert!(client.read_message().contains("connection: close"));
    }
}

#[test]
fn a_gradual_drain_ends_few_connections_at_first() {
    for engine in engines() {
        let gradual = DrainPolicy { time: Duration::from_secs(3600), gradual: true };
        let settings = Settings { drain: gradual, ..Settings::default() };
        let proxy = Proxy::start_with(engine, settings, &[listener(answering("one"))], &[]);
        let mut client = proxy.connect();
        proxy.command(Command::Drain { inbound_only: false, graceful: true, keep_listening: true });
        // With an hour of drain time one answer in thousands says so in the first second.
        let closed = (0..20).filter(|_| {
            client.send(REQUEST);
            let closes = client.read_message().contains("connection: close");
            if closes {
                client = proxy.connect();
            }
            closes
        });
        assert!(closed.count() <= 2);
    }
}
