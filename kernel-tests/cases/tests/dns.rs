//! Clusters whose endpoints have names: a name server of our own tells where they are.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::thread;

use ringsail_harness::config::{bootstrap, http_listener, inline_routes};
use ringsail_harness::dns::{NameServer, Records};
use ringsail_harness::peer::Peer;
use ringsail_harness::{binaries, client, wait};
use serde_json::{Value, json};

/// Servers on one port of two addresses, which answer with their number. The port.
fn two_servers() -> u16 {
    let listeners = loop {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = one.local_addr().unwrap().port();
        if let Ok(two) = TcpListener::bind(("127.0.0.2", port)) {
            break [one, two];
        }
    };
    let port = listeners[0].local_addr().unwrap().port();
    for (number, listener) in (1..).zip(listeners) {
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut block = [0; 4096];
                    while stream.read(&mut block).is_ok_and(|length| length > 0) {
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
    }
    port
}

fn named(kind: &str, server: SocketAddr, port: u16, more: &Value) -> Value {
    let mut cluster = json!({
        "name": "app", "type": kind, "connect_timeout": "2s", "respect_dns_ttl": true, "dns_refresh_rate": "3600s",
        "dns_lookup_family": "V4_ONLY", "dns_failure_refresh_rate": {"base_interval": "0.1s", "max_interval": "0.1s"},
        "typed_dns_resolver_config": {"name": "envoy.network.dns_resolver.cares", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": [{"socket_address": {"address": server.ip().to_string(), "port_value": server.port()}}]}},
        "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [{"endpoint": {"address":
            {"socket_address": {"address": "app.test", "port_value": port}}}}]}]}});
    cluster.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]);
    bootstrap(json!([http_listener("http", inline_routes(routes))]), json!([cluster]))
}

fn at(addresses: &[[u8; 4]]) -> Records {
    let addresses = addresses.iter().map(|address| IpAddr::from(*address)).collect();
    Records { addresses, ttl: 1, ..Records::default() }
}

const ONE: [u8; 4] = [127, 0, 0, 1];
const TWO: [u8; 4] = [127, 0, 0, 2];

fn counter(peer: &Peer, name: &str) -> u64 {
    let page = peer.admin(&format!("/stats?filter=^cluster.app.{name}$")).unwrap();
    let line = page.lines().next().unwrap_or_default().to_string();
    line.rsplit(": ").next().and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[test]
fn traffic_follows_the_addresses_of_a_name_as_soon_as_its_records_end() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    for kind in ["STRICT_DNS", "LOGICAL_DNS"] {
        let server = NameServer::start().unwrap();
        server.set("app.test", at(&[ONE]));
        let template = named(kind, server.address, two_servers(), &json!({}));
        let peer = Peer::start("ringsail", &binary, &template).unwrap();
        let answered = || client::get(peer.address(0), "/").unwrap();
        assert_eq!((answered().status, answered().body), (200, "1".to_string()), "{kind}");

        server.set("app.test", at(&[TWO]));
        // The refresh rate is an hour: only the records' lifetime can bring it.
        wait::until("the new address gets the traffic", || answered().body == "2");
        assert!(counter(&peer, "update_success") >= 2 && counter(&peer, "update_failure") == 0, "{kind}");
        assert_eq!(counter(&peer, "membership_total"), 1, "{kind}");

        // Nobody knows where it is: the last address stays.
        server.set("app.test", Records { code: 2, ..Records::default() });
        wait::until("look-ups fail", || counter(&peer, "update_failure") >= 3);
        assert_eq!(answered().body, "2", "{kind}");

        server.set("app.test", at(&[TWO]));
        let before = counter(&peer, "update_no_rebuild");
        wait::until("look-ups succeed again", || counter(&peer, "update_no_rebuild") > before);

        // It is known to be nowhere.
        server.set("app.test", Records { code: 3, ..Records::default() });
        wait::until("there is no endpoint", || answered().status == 503);
    }
}

#[test]
fn every_address_of_a_name_is_an_endpoint_of_a_strict_cluster_and_one_of_a_logical_one() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    for (kind, count) in [("STRICT_DNS", 2), ("LOGICAL_DNS", 1)] {
        let server = NameServer::start().unwrap();
        let long = Records { over_tcp: true, alias_of: Some("else.test"), ..at(&[TWO, ONE]) };
        server.set("app.test", long);
        let template = named(kind, server.address, two_servers(), &json!({}));
        let peer = Peer::start("ringsail", &binary, &template).unwrap();
        let bodies: std::collections::BTreeSet<String> =
            (0..10).map(|_| client::get(peer.address(0), "/").unwrap().body).collect();
        assert_eq!(bodies.len(), count, "{kind}: {bodies:?}");
        assert_eq!(counter(&peer, "membership_total"), count as u64, "{kind}");
        if kind == "LOGICAL_DNS" {
            assert!(bodies.contains("2"), "the first address in the answer");
        }
    }
}

#[test]
fn a_cluster_may_ask_the_systems_resolver() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    let server = NameServer::start().unwrap();
    let system = json!({"typed_dns_resolver_config": {"name": "g", "typed_config": {"@type":
        "type.googleapis.com/envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig"}}});
    let mut template = named("STRICT_DNS", server.address, two_servers(), &system);
    let address = &mut template["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"]
        [0]["endpoint"]["address"]["socket_address"]["address"];
    *address = json!("localhost");
    let peer = Peer::start("ringsail", &binary, &template).unwrap();
    assert_eq!(client::get(peer.address(0), "/").unwrap().body, "1");
}
