//! TLS that is routed and not opened: by server name and offered protocols, with real clients and servers.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use ringsail_harness::config::{TYPE, bootstrap, static_cluster};
use ringsail_harness::peer::Peer;
use ringsail_harness::ports::{free_address, wait_until_listening};
use ringsail_harness::sniffing::tcp_proxy;
use ringsail_harness::wait::PATIENCE;
use ringsail_harness::{binaries, engines};
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn connections_go_where_their_server_name_and_protocols_say() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    if !["openssl", "curl"].iter().all(|program| Path::new("/usr/bin").join(program).is_file()) {
        return binaries::skip_notice("no openssl or curl: install openssl curl");
    }
    let folder = tempfile::tempdir().unwrap();
    let servers: Vec<TlsServer> =
        ["exact", "wildcard", "h2", "rest"].map(|name| TlsServer::start(&folder, name)).into();
    let chain = |matched: Value, cluster: &str| json!({"filter_chain_match": matched, "filters": [tcp_proxy(cluster)]});
    let by_name = vec![
        chain(json!({"server_names": ["a.example"]}), "exact"),
        chain(json!({"server_names": ["*.b.example"], "transport_protocol": "tls"}), "wildcard"),
        chain(
            json!({"server_names": ["*.b.example"], "application_protocols": ["h2"], "transport_protocol": "tls"}),
            "h2",
        ),
        chain(json!({"transport_protocol": "tls"}), "rest"),
    ];
    let mut sni_cluster = chain(json!({}), "rest");
    sni_cluster["filters"].as_array_mut().unwrap().insert(
        0,
        json!({"name": "sni", "typed_config":
            {"@type": format!("{TYPE}envoy.extensions.filters.network.sni_cluster.v3.SniCluster")}}),
    );
    let clusters: Vec<Value> =
        servers.iter().map(|server| static_cluster(&server.name, &[server.address])).collect();
    let template = bootstrap(
        json!([listener("names", by_name), listener("clusters", vec![sni_cluster])]),
        json!(clusters),
    );
    for engine in engines::available() {
        let proxy = Peer::start_with("ringsail", &binary, &template, &["--engine", engine]).unwrap();
        let ask = |listener: usize, name: &str, protocol: &str, server: &str| {
            let port = proxy.address(listener).port();
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--max-time", "20", protocol, "--cacert"]);
            curl.arg(folder.path().join(format!("{server}.pem")));
            curl.args(["--resolve", &format!("{name}:{port}:127.0.0.1"), &format!("https://{name}:{port}/")]);
            let output = curl.stdin(Stdio::null()).output().unwrap();
            assert!(
                output.status.success(),
                "{engine}: {name} {protocol} did not reach {server}: {}",
                text(&output.stderr)
            );
        };
        // Each server has a certificate of its own, so a client's trust tells where it arrived.
        ask(0, "a.example", "--http1.1", "exact");
        ask(0, "A.Example", "--http1.1", "exact");
        ask(0, "x.b.example", "--http1.1", "wildcard");
        ask(0, "x.b.example", "--http2", "h2");
        ask(0, "x.y.b.example", "--http1.1", "wildcard");
        ask(0, "b.example", "--http1.1", "rest");
        ask(0, "other.example", "--http1.1", "rest");
        // The server name is the name of a cluster, as Istio's AUTO_PASSTHROUGH has it.
        ask(1, "wildcard", "--http1.1", "wildcard");
        ask(1, "exact", "--http1.1", "exact");
        let unknown = TcpStream::connect(proxy.address(1)).unwrap();
        assert!(says_hello(unknown, "nobody").is_err(), "{engine}: no cluster of that name");
    }
}

#[test]
fn a_client_hello_in_single_bytes_is_understood_and_passed_on_whole() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    if !Path::new("/usr/bin/openssl").is_file() {
        return binaries::skip_notice("no openssl: install openssl");
    }
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = echo.local_addr().unwrap();
    thread::spawn(move || {
        for stream in echo.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    let chains = vec![
        json!({"filter_chain_match": {"server_names": ["slow.example"]}, "filters": [tcp_proxy("echo")]}),
    ];
    let template = bootstrap(json!([listener("tls", chains)]), json!([static_cluster("echo", &[address])]));
    let hello = hello_of_openssl("slow.example");
    for engine in engines::available() {
        let proxy = Peer::start_with("ringsail", &binary, &template, &["--engine", engine]).unwrap();
        let mut client = TcpStream::connect(proxy.address(0)).unwrap();
        client.set_nodelay(true).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        for byte in &hello {
            client.write_all(&[*byte]).unwrap();
        }
        let mut echoed = vec![0; hello.len()];
        client.read_exact(&mut echoed).unwrap_or_else(|error| panic!("{engine}: {error}"));
        assert_eq!(echoed, hello, "{engine}");
    }
}

fn listener(name: &str, chains: Vec<Value>) -> Value {
    json!({"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "listener_filters": [{"name": "tls", "typed_config":
            {"@type": format!("{TYPE}envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")}}],
        "filter_chains": chains})
}

/// The first bytes that a real client sends.
fn hello_of_openssl(name: &str) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Command::new("openssl")
        .args(["s_client", "-servername", name, "-connect", &listener.local_addr().unwrap().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut header = [0; 5];
    stream.read_exact(&mut header).unwrap();
    let mut hello = header.to_vec();
    hello.resize(5 + usize::from(u16::from_be_bytes([header[3], header[4]])), 0);
    stream.read_exact(&mut hello[5..]).unwrap();
    drop(stream);
    client.wait().unwrap();
    hello
}

/// Whether anything answers a client that asks for `name`.
fn says_hello(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&hello_of_openssl(name))?;
    stream.read_exact(&mut [0])
}

/// `openssl s_server` with a certificate of its own for every name of the tests.
struct TlsServer {
    name: String,
    address: SocketAddr,
    process: Child,
}

impl TlsServer {
    fn start(folder: &TempDir, name: &str) -> TlsServer {
        let file = |suffix: &str| -> PathBuf { folder.path().join(format!("{name}.{suffix}")) };
        let names = "subjectAltName=DNS:a.example,DNS:*.b.example,DNS:x.y.b.example,DNS:b.example,DNS:other.example,\
                     DNS:wildcard,DNS:exact";
        let mut made = Command::new("openssl");
        made.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]);
        made.args(["-subj", &format!("/CN={name}"), "-addext", names, "-keyout"]).arg(file("key"));
        let made = made.arg("-out").arg(file("pem")).output().unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        let address = free_address().unwrap();
        let log = fs::File::create(file("log")).unwrap();
        let process = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", "-accept", &address.to_string(), "-key"])
            .arg(file("key"))
            .arg("-cert")
            .arg(file("pem"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        wait_until_listening(&[address], PATIENCE).unwrap();
        TlsServer { name: name.to_owned(), address, process }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
