//! TLS that is ended and begun here: with curl and openssl, and with a stock Envoy on the other side in both directions.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use ringsail_harness::config::{TYPE, bootstrap, http_listener, inline_routes, static_cluster};
use ringsail_harness::peer::Peer;
use ringsail_harness::{binaries, engines};
use ringsail_tls::Utc;
use ringsail_tls::issue::{Issued, Request};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Certificates in files, as openssl and a proxy read them.
struct Pki {
    folder: TempDir,
    ca: Issued,
}

impl Pki {
    fn new() -> Pki {
        let ca = Request { is_authority: true, common_name: "root".into(), ..request() };
        let pki = Pki { folder: tempfile::tempdir().unwrap(), ca: Issued::self_signed(&ca).unwrap() };
        fs::write(pki.file("ca.pem"), pki.ca.certificate_pem().unwrap()).unwrap();
        pki
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `NAME.pem` and `NAME.key` of a workload that is `a.example` as well.
    fn issue(&self, name: &str) {
        let request = Request {
            uri_names: vec![format!("spiffe://cluster.local/ns/shop/sa/{name}")],
            dns_names: vec!["a.example".into()],
            common_name: name.into(),
            ..request()
        };
        let issued = self.ca.issue(&request).unwrap();
        // As a rotation does it: each file is replaced whole.
        for (end, bytes) in [("key", issued.key_pem().unwrap()), ("pem", issued.certificate_pem().unwrap())] {
            let fresh = self.file("fresh");
            fs::write(&fresh, bytes).unwrap();
            fs::rename(fresh, self.file(&format!("{name}.{end}"))).unwrap();
        }
    }

    fn certificate(&self, name: &str) -> Value {
        json!({"certificate_chain": {"filename": self.file(&format!("{name}.pem"))},
            "private_key": {"filename": self.file(&format!("{name}.key"))}})
    }

    fn server(&self, name: &str) -> Value {
        json!({"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": format!("{TYPE}envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [self.certificate(name)],
                "validation_context": {"trusted_ca": {"filename": self.file("ca.pem")}}}}})
    }

    fn client(&self, name: &str, server: &str, alpn: &[&str]) -> Value {
        let names = json!([{"san_type": "URI",
            "matcher": {"exact": format!("spiffe://cluster.local/ns/shop/sa/{server}")}}]);
        json!({"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": format!("{TYPE}envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": "outbound_.80_._.web.shop.svc.cluster.local",
            "common_tls_context": {
                // As Istio sets it; Envoy's own default for clients ends at TLS 1.2.
                "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                "alpn_protocols": alpn, "tls_certificates": [self.certificate(name)],
                "validation_context": {"trusted_ca": {"filename": self.file("ca.pem")},
                    "match_typed_subject_alt_names": names}}}})
    }
}

fn request() -> Request {
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    Request::new(Utc(now - 3600), Utc(now + 3600))
}

/// A server that answers with what it knows of its client.
fn server(pki: &Pki) -> Value {
    let told = [
        ("x-peer", "%DOWNSTREAM_PEER_URI_SAN%"),
        ("x-tls", "%DOWNSTREAM_TLS_VERSION%"),
        ("x-sni", "%REQUESTED_SERVER_NAME%"),
        ("x-protocol", "%PROTOCOL%"),
        ("x-xfcc", "%REQ(x-forwarded-client-cert)%"),
    ];
    let told: Vec<Value> =
        told.iter().map(|(key, value)| json!({"header": {"key": key, "value": value}})).collect();
    let mut listener = http_listener(
        "tls",
        inline_routes(json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200},
            "response_headers_to_add": told}])),
    );
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    manager["forward_client_cert_details"] = json!("SANITIZE_SET");
    manager["set_current_client_cert_details"] = json!({"subject": true, "uri": true, "dns": true});
    listener["filter_chains"][0]["transport_socket"] = pki.server("web");
    // Without it Envoy does not know the server name.
    listener["listener_filters"] = json!([{"name": "envoy.filters.listener.tls_inspector", "typed_config":
        {"@type": format!("{TYPE}envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")}}]);
    bootstrap(json!([listener]), json!([]))
}

/// A sidecar of `cart` that reaches the server.
fn client(pki: &Pki, at: SocketAddr, http2: bool, alpn: &[&str]) -> Value {
    let mut cluster = static_cluster("web", &[at]);
    cluster["transport_socket"] = pki.client("cart", "web", alpn);
    if http2 {
        cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": {"http2_protocol_options": {}}}});
    }
    let routes = inline_routes(json!([{"match": {"prefix": "/"}, "route": {"cluster": "web"}}]));
    bootstrap(json!([http_listener("plain", routes)]), json!([cluster]))
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--include"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    text(&output)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The `x-…` fields that [`server`] adds, sorted.
fn told(answer: &str) -> Vec<String> {
    let mut told: Vec<String> = answer
        .lines()
        .map(|line| line.trim_end().to_owned())
        .filter(|line| line.starts_with("x-") && !line.starts_with("x-envoy"))
        .collect();
    told.sort();
    told
}

fn has_tools() -> bool {
    let all = ["openssl", "curl"].iter().all(|program| Path::new("/usr/bin").join(program).is_file());
    if !all {
        binaries::skip_notice("no openssl or curl: install openssl curl");
    }
    all
}

#[test]
fn a_stock_envoy_and_ringsail_speak_mutual_tls_with_each_other_in_both_directions() {
    let Some((envoy, ringsail)) = binaries::both() else { return };
    if !has_tools() {
        return;
    }
    let pki = Pki::new();
    pki.issue("web");
    pki.issue("cart");
    let mut answers = Vec::new();
    for (server_name, server_binary) in [("envoy", &envoy), ("ringsail", &ringsail)] {
        let web = Peer::start(server_name, server_binary, &server(&pki)).unwrap();
        for (client_name, client_binary) in [("envoy", &envoy), ("ringsail", &ringsail)] {
            for (http2, alpn) in [
                (false, &["http/1.1"][..]),
                (true, &["h2"]),
                (false, &["istio-http/1.1", "istio", "http/1.1"]),
                (true, &["istio-h2", "istio", "h2"]),
                (false, &[]),
                (true, &[]),
            ] {
                let sidecar =
                    Peer::start(client_name, client_binary, &client(&pki, web.address(0), http2, alpn))
                        .unwrap();
                let answer = curl(&[&format!("http://{}/", sidecar.address(0))]);
                let way = format!("{client_name} to {server_name}, http2 {http2}, {alpn:?}");
                assert!(answer.starts_with("HTTP/1.1 200 "), "{way}: {answer}");
                answers.push((way, http2, told(&answer)));
            }
        }
    }
    for http2 in [false, true] {
        let same: Vec<_> = answers.iter().filter(|(_, other, _)| *other == http2).collect();
        for (way, _, told) in &same {
            assert_eq!(told, &same[0].2, "{way} differs from {}", same[0].0);
        }
        assert!(
            same[0].2.contains(&"x-peer: spiffe://cluster.local/ns/shop/sa/cart".to_owned()),
            "{:?}",
            same[0].2
        );
    }
}

#[test]
fn curl_and_openssl_are_served_with_a_certificate_and_refused_without() {
    let Some(ringsail) = binaries::ringsail_or_notice() else { return };
    if !has_tools() {
        return;
    }
    let pki = Pki::new();
    pki.issue("web");
    pki.issue("cart");
    let (ca, cert, key) = (pki.file("ca.pem"), pki.file("cart.pem"), pki.file("cart.key"));
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
    for engine in engines::available() {
        let web = Peer::start_with("ringsail", &ringsail, &server(&pki), &["--engine", engine]).unwrap();
        let (port, url) = (web.address(0).port(), format!("https://a.example:{}/", web.address(0).port()));
        let resolve = format!("a.example:{port}:127.0.0.1");
        let base = ["--resolve", &resolve, "--cacert", &path(&ca)].map(str::to_owned);
        let ask = |more: &[&str]| {
            let all: Vec<&str> =
                base.iter().map(String::as_str).chain(more.iter().copied()).chain([&*url]).collect();
            curl(&all)
        };
        let identity = ["--cert", &path(&cert), "--key", &path(&key)].map(str::to_owned);
        let with = |more: &[&str]| {
            let all: Vec<&str> = identity.iter().map(String::as_str).chain(more.iter().copied()).collect();
            ask(&all)
        };
        for (arguments, version, protocol) in [
            (&["--http1.1"][..], "TLSv1.3", "HTTP/1.1"),
            (&["--http2"], "TLSv1.3", "HTTP/2"),
            (&["--http2", "--tls-max", "1.2"], "TLSv1.2", "HTTP/2"),
        ] {
            let answer = with(arguments);
            assert!(answer.contains(&format!("x-tls: {version}")), "{engine} {arguments:?}: {answer}");
            assert!(answer.contains(&format!("x-protocol: {protocol}")), "{engine} {arguments:?}: {answer}");
            assert!(answer.contains("x-sni: a.example"), "{engine}: {answer}");
        }
        for refused in [ask(&[]), ask(&["--tls-max", "1.2"]), with(&["--tls-max", "1.1"])] {
            assert!(!refused.contains("HTTP/"), "{engine}: {refused}");
        }
        // Early data, renegotiation and resumption, as a client sees them.
        let session = path(&pki.file("session"));
        let resume = |flag: &str| {
            let at = format!("127.0.0.1:{port}");
            let mut client = Command::new("sh");
            let script = format!(
                "(printf 'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n'; sleep 1) | \
                 openssl s_client -connect {at} -CAfile {} -cert {} -key {} -ign_eof {flag} {session}",
                path(&ca),
                path(&cert),
                path(&key)
            );
            text(&client.args(["-c", &script]).output().unwrap())
        };
        let first = resume("-sess_out");
        assert!(first.contains("Verify return code: 0 (ok)"), "{engine}: {first}");
        let second = resume("-sess_in");
        assert!(second.contains("Reused, TLSv1.3"), "{engine}: {second}");
        assert!(second.contains("x-peer: spiffe://cluster.local/ns/shop/sa/cart"), "{engine}: {second}");
    }
}

#[test]
fn certificates_in_files_are_followed_when_they_are_replaced() {
    let Some(ringsail) = binaries::ringsail_or_notice() else { return };
    if !has_tools() {
        return;
    }
    let pki = Pki::new();
    pki.issue("web");
    pki.issue("cart");
    let web = Peer::start("ringsail", &ringsail, &server(&pki)).unwrap();
    let at = web.address(0).to_string();
    let serial = || {
        let script = format!(
            "openssl s_client -connect {at} -CAfile {} -cert {} -key {} </dev/null 2>/dev/null | openssl x509 -noout -serial",
            pki.file("ca.pem").display(),
            pki.file("cart.pem").display(),
            pki.file("cart.key").display()
        );
        text(&Command::new("sh").args(["-c", &script]).output().unwrap())
    };
    let before = serial();
    assert!(before.starts_with("serial="), "{before}");
    pki.issue("web");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let now = serial();
        if now != before && now.starts_with("serial=") {
            break;
        }
        assert!(Instant::now() < deadline, "the new certificate is not shown: {now}");
    }
}
