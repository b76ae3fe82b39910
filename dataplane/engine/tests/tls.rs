//! TLS through the proxy: two proxies that speak mutual TLS with each other, and clients that do not.

mod harness;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, UNIX_EPOCH};

use harness::{End, Peer, Proxy, Seen, Upstream, cluster, engines, file_log, listener, manager, tcp_proxy};
use ringsail_runtime::engine::EngineChoice;
use ringsail_tls::Utc;
use ringsail_tls::issue::{Issued, Request};
use serde_json::{Value, json};

const GET: &str = "GET /hello HTTP/1.1\r\nHost: a.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/// An authority and certificates of workloads.
struct Mesh {
    ca: Issued,
}

impl Mesh {
    fn new() -> Mesh {
        let request = Request { is_authority: true, common_name: "root".into(), ..Mesh::request() };
        Mesh { ca: Issued::self_signed(&request).unwrap() }
    }

    fn request() -> Request {
        let now = UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        Request::new(Utc(now - 3600), Utc(now + 3600))
    }

    fn root(&self) -> Value {
        json!({"trusted_ca": {"inline_string": text(self.ca.certificate_pem().unwrap())}})
    }

    fn certificate(&self, account: &str) -> Value {
        let uri_names = vec![spiffe(account)];
        let issued = self.ca.issue(&Request { uri_names, ..Mesh::request() }).unwrap();
        json!({"certificate_chain": {"inline_string": text(issued.certificate_pem().unwrap())},
            "private_key": {"inline_string": text(issued.key_pem().unwrap())}})
    }

    /// A transport socket that shows `account` and wants a certificate of this mesh.
    fn server(&self, account: &str, alpn: &[&str]) -> Value {
        json!({"name": "tls", "typed_config": {"@type": format!("{TLS}.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": {"alpn_protocols": alpn, "tls_certificates": [self.certificate(account)],
                "validation_context": self.root()}}})
    }

    /// A transport socket that shows `account` and wants to reach `server`.
    fn client(&self, account: &str, server: &str, alpn: &[&str]) -> Value {
        let mut validation = self.root();
        validation["match_typed_subject_alt_names"] =
            json!([{"san_type": "URI", "matcher": {"exact": spiffe(server)}}]);
        json!({"name": "tls", "typed_config": {"@type": format!("{TLS}.UpstreamTlsContext"),
            "sni": "outbound_.80_._.web",
            "common_tls_context": {"alpn_protocols": alpn, "tls_certificates": [self.certificate(account)],
                "validation_context": validation}}})
    }
}

fn spiffe(account: &str) -> String {
    format!("spiffe://cluster.local/ns/shop/sa/{account}")
}

fn text(pem: Vec<u8>) -> String {
    String::from_utf8(pem).unwrap()
}

/// A proxy that ends TLS in front of `app`.
fn back(engine: EngineChoice, socket: Value, app: SocketAddr) -> Proxy {
    let mut manager =
        manager(json!([{"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}]));
    manager["forward_client_cert_details"] = json!("APPEND_FORWARD");
    manager["set_current_client_cert_details"] = json!({"subject": true, "uri": true});
    manager["access_log"] = json!([file_log(
        "%RESPONSE_CODE% %DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_LOCAL_URI_SAN% %DOWNSTREAM_TLS_VERSION% \
         %REQUESTED_SERVER_NAME%"
    )]);
    let mut listener = listener(manager);
    listener["filter_chains"][0]["transport_socket"] = socket;
    Proxy::start(engine, &[listener], &[cluster("app", &[app])])
}

/// A proxy that takes plain HTTP/1 and speaks TLS with `back`.
fn front(engine: EngineChoice, back: &Proxy, change: impl FnOnce(&mut Value)) -> Proxy {
    Proxy::http(engine, back.address(), |manager, cluster| {
        manager["access_log"] = json!([file_log(
            "%RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_PEER_URI_SAN% %UPSTREAM_TLS_VERSION% \
             %UPSTREAM_TRANSPORT_FAILURE_REASON%"
        )]);
        change(cluster);
    })
}

fn http2() -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}}}})
}

#[test]
fn a_request_goes_over_mutual_tls_and_both_ends_know_each_other() {
    for engine in engines() {
        let mesh = Mesh::new();
        let seen = Seen::default();
        let note = seen.clone();
        let app = Upstream::serving(move |request| {
            note.note(request);
            OK.to_owned()
        });
        let back = back(engine, mesh.server("web", &["h2", "http/1.1"]), app);
        let front = front(engine, &back, |cluster| {
            cluster["transport_socket"] = mesh.client("cart", "web", &[]);
        });
        let mut client = front.connect();
        for _ in 0..5 {
            client.send(GET);
            assert!(client.read_message().ends_with("\r\n\r\nhello"));
        }
        let head = &seen.all()[0];
        let line =
            head.lines().find(|line| line.to_lowercase().starts_with("x-forwarded-client-cert: ")).unwrap();
        assert!(line.contains(&format!("By={};Hash=", spiffe("web"))), "{line}");
        assert!(line.ends_with(&format!(";Subject=\"\";URI={}", spiffe("cart"))), "{line}");
        drop(client);
        let suffix = "listener.127.0.0.1_0.ssl.handshake";
        assert_eq!(back.stat(suffix), 1, "one connection carries all, also after tickets have come on it");
        assert_eq!(front.log().lines().next().unwrap(), format!("200 - {} TLSv1.3 -", spiffe("web")),);
        assert_eq!(
            back.log().lines().next().unwrap(),
            format!("200 {} {} TLSv1.3 outbound_.80_._.web", spiffe("cart"), spiffe("web"))
        );
    }
}

#[test]
fn http2_is_agreed_on_by_alpn_and_large_bodies_arrive_whole() {
    for engine in engines() {
        let mesh = Mesh::new();
        let body = "x".repeat(300_000);
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let app = Upstream::serving(move |_| answer.clone());
        let back = back(engine, mesh.server("web", &["h2", "http/1.1"]), app);
        let front = front(engine, &back, |cluster| {
            cluster["transport_socket"] = mesh.client("cart", "web", &[]);
            cluster["typed_extension_protocol_options"] = http2();
        });
        let mut client = front.connect();
        for _ in 0..3 {
            client.send(GET);
            assert!(client.read_message().ends_with(&body));
        }
        assert_eq!(back.stat("http.test.downstream_cx_http2_total"), 1);
        assert_eq!(back.stat("listener.127.0.0.1_0.ssl.handshake"), 1);
    }
}

#[test]
fn bytes_of_tcp_go_over_tls_both_ways_and_their_end_is_passed_on() {
    for engine in engines() {
        let mesh = Mesh::new();
        let app = Upstream::manual();
        let mut inner = listener(tcp_proxy("app"));
        inner["filter_chains"][0]["transport_socket"] = mesh.server("db", &[]);
        let back = Proxy::start(engine, &[inner], &[cluster("app", &[app.address])]);
        let mut secured = cluster("back", &[back.address()]);
        secured["transport_socket"] = mesh.client("cart", "db", &[]);
        let front = Proxy::start(engine, &[listener(tcp_proxy("back"))], &[secured]);
        let mut client = front.connect();
        let sent = "up".repeat(200_000);
        let sending = sent.clone();
        let mut writer = client.stream.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            writer.write_all(sending.as_bytes()).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut server = app.accept();
        assert_eq!(server.read_exact(sent.len()), sent);
        assert_eq!(server.end(), End::Fin);
        writing.join().unwrap();
        let answer = "down".repeat(100_000);
        server.send(&answer);
        drop(server);
        assert_eq!(client.read_exact(answer.len()), answer);
        assert_eq!(client.end(), End::Fin);
    }
}

#[test]
fn a_server_that_is_someone_else_is_a_connect_failure_with_its_reason() {
    for engine in engines() {
        let mesh = Mesh::new();
        let app = Upstream::serving(|_| OK.to_owned());
        let back = back(engine, mesh.server("web", &[]), app);
        let front = front(engine, &back, |cluster| {
            cluster["transport_socket"] = mesh.client("cart", "db", &[]);
        });
        let mut client = front.connect();
        client.send(GET);
        let answer = client.read_message();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("reset reason: remote connection failure"), "{answer}");
        drop(client);
        assert_eq!(
            front.log(),
            format!(
                "503 UF - - TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:\
                 verify_cert_failed:_SAN_matcher,_certificate_SANs_are_[{}]:TLS_error_end\n",
                spiffe("web")
            )
        );
    }
}

#[test]
fn clients_without_tls_or_without_a_certificate_are_not_served() {
    for engine in engines() {
        let mesh = Mesh::new();
        let app = Upstream::serving(|_| panic!("nobody gets here"));
        let back = back(engine, mesh.server("web", &[]), app);
        let mut plain = back.connect();
        plain.send(GET);
        let answer = plain.read_to_end();
        assert!(!answer.contains("HTTP/1.1"), "{answer}");
        back.wait_for_stat("listener.127.0.0.1_0.ssl.connection_error", 1);
        let other = Mesh::new();
        for socket in [other.client("cart", "web", &[]), anonymous(&mesh)] {
            let front = front(engine, &back, |cluster| cluster["transport_socket"] = socket);
            let mut client = front.connect();
            client.send(GET);
            assert!(client.read_message().starts_with("HTTP/1.1 503 "));
        }
        back.wait_for_stat("listener.127.0.0.1_0.ssl.connection_error", 3);
    }
}

/// A client that shows nothing.
fn anonymous(mesh: &Mesh) -> Value {
    json!({"name": "tls", "typed_config": {"@type": format!("{TLS}.UpstreamTlsContext"),
        "common_tls_context": {"validation_context": mesh.root()}}})
}

#[test]
fn a_rotated_secret_serves_new_handshakes_and_touches_no_connection() {
    for engine in engines() {
        let mesh = Mesh::new();
        let app = Upstream::serving(|_| OK.to_owned());
        let secret = |account: &str| json!({"name": "default", "tls_certificate": mesh.certificate(account)});
        let named = json!({"name": "tls", "typed_config": {"@type": format!("{TLS}.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": {
                "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": {"ads": {}}}],
                "validation_context": mesh.root()}}});
        let mut listener =
            listener(manager(json!([{"match": {"prefix": "/"}, "route": {"cluster": "app"}}])));
        listener["filter_chains"][0]["transport_socket"] = named;
        let mut back = Proxy::start(engine, &[listener], &[cluster("app", &[app]), secret("web")]);
        let reaching = |server: &str| {
            front(engine, &back, |cluster| {
                cluster["transport_socket"] = mesh.client("cart", server, &[]);
            })
        };
        let (old, new) = (reaching("web"), reaching("web-next"));
        let ask = |proxy: &Proxy| {
            let mut client = proxy.connect();
            client.send(GET);
            client.read_message().split(' ').nth(1).unwrap().to_owned()
        };
        assert_eq!(ask(&old), "200");
        assert_eq!(ask(&new), "503");
        back.update(&[], &[secret("web-next")]);
        // The shard takes the version with its next connection.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while ask(&new) != "200" {
            assert!(std::time::Instant::now() < deadline, "the new certificate is not shown");
        }
        assert_eq!(ask(&old), "200", "the pooled connection is not touched");
        assert_eq!(old.stat("cluster.up.upstream_cx_total"), 1);
    }
}

#[test]
fn a_client_that_begins_a_handshake_and_stays_silent_is_let_go() {
    for engine in engines() {
        let mesh = Mesh::new();
        let app = Upstream::serving(|_| OK.to_owned());
        let mut listener =
            listener(manager(json!([{"match": {"prefix": "/"}, "route": {"cluster": "app"}}])));
        listener["filter_chains"][0]["transport_socket"] = mesh.server("web", &[]);
        listener["filter_chains"][0]["transport_socket_connect_timeout"] = json!("0.1s");
        let back = Proxy::start(engine, &[listener], &[cluster("app", &[app])]);
        let mut silent = Peer::new(TcpStream::connect(back.address()).unwrap());
        silent.send([0x16, 0x03, 0x01]);
        silent.end();
        back.wait_for_stat("listener.127.0.0.1_0.ssl.connection_error", 1);
    }
}
