//! Ports whose protocol nobody named: whoever speaks first decides, and nobody waits for a timer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringsail_harness::peer::Peer;
use ringsail_harness::sniffing::listener;
use ringsail_harness::wait::until;
use ringsail_harness::{binaries, config, engines};
use serde_json::{Value, json};

/// Far longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing must happen where nothing is allowed to happen.
const QUIET: Duration = Duration::from_millis(300);

#[test]
fn a_greeting_reaches_a_silent_client_in_both_directions() {
    each_engine(|engine, binary| {
        for inbound in [false, true] {
            let server = Server::greeting(b"220 mail.example\r\n");
            let proxy = proxy(binary, engine, listener(inbound, "app", "app"), server.address);
            let begun = Instant::now();
            let mut client = connect(proxy.address(0));
            assert_eq!(read_some(&mut client), b"220 mail.example\r\n");
            eprintln!("{engine}, inbound {inbound}: first byte after {:?}", begun.elapsed());
            client.write_all(b"QUIT\r\n").unwrap();
            assert_eq!(read_some(&mut client), b"QUIT\r\n", "the rest is relayed");
            assert_eq!(server.count(), 1, "one connection serves both purposes");
        }
    });
}

#[test]
fn a_client_that_hesitates_still_gets_its_http() {
    each_engine(|engine, binary| {
        let server = Server::http(b"");
        let proxy = proxy(binary, engine, listener(true, "app", "app"), server.address);
        let mut client = connect(proxy.address(0));
        server.wait_for_connections(1);
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert!(text(&read_some(&mut client)).starts_with("HTTP/1.1 200"), "{engine}");
        until("it is counted as HTTP", || {
            proxy.admin("/stats").is_ok_and(|stats| stats.contains("http.sniffing.downstream_rq_2xx: 1"))
        });
    });
}

#[test]
fn what_http_servers_say_unasked_decides_nothing() {
    let settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    for unasked in [&b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"[..], settings] {
        each_engine(|engine, binary| {
            let server = Server::http(unasked);
            let proxy = proxy(binary, engine, listener(false, "app", "app"), server.address);
            let mut client = connect(proxy.address(0));
            server.wait_for_connections(1);
            client.set_read_timeout(Some(QUIET)).unwrap();
            assert!(client.read(&mut [0; 1]).is_err(), "{engine}: nothing is for the client");
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(b"\x00\x01 not http\r\n").unwrap();
            assert!(!read_some(&mut client).is_empty());
            assert_eq!(server.count(), 2, "the connection that said it was given up");
        });
    }
}

#[test]
fn bytes_of_the_client_use_the_connection_that_was_made_meanwhile() {
    each_engine(|engine, binary| {
        let server = Server::greeting(b"");
        let proxy = proxy(binary, engine, listener(false, "app", "app"), server.address);
        let mut client = connect(proxy.address(0));
        server.wait_for_connections(1);
        // The server sees a connection before the proxy does.
        thread::sleep(QUIET);
        client.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
        assert_eq!(read_some(&mut client), b"*1\r\n$4\r\nPING\r\n");
        assert_eq!(server.count(), 1, "{engine}");
    });
}

#[test]
fn nothing_is_connected_for_a_silent_client_where_configuration_does_not_let_it_through() {
    let closes_silent = |listener: &mut Value| {
        listener["continue_on_listener_filters_timeout"] = json!(false);
        listener["listener_filters_timeout"] = json!("30s");
    };
    let switched_off = |listener: &mut Value| {
        listener["metadata"] = json!({"filter_metadata": {"ringsail": {"server_first": false}}})
    };
    let two_clusters = |listener: &mut Value| {
        let proxy = &mut listener["default_filter_chain"]["filters"][0]["typed_config"];
        proxy.as_object_mut().unwrap().remove("cluster");
        proxy["weighted_clusters"] =
            json!({"clusters": [{"name": "app", "weight": 1}, {"name": "other", "weight": 1}]});
    };
    let no_plain_chain = |listener: &mut Value| {
        listener["default_filter_chain"]["filter_chain_match"] = json!({"transport_protocol": "tls"});
        let chain = listener.as_object_mut().unwrap().remove("default_filter_chain").unwrap();
        listener["filter_chains"].as_array_mut().unwrap().push(chain);
    };
    type Change<'a> = &'a dyn Fn(&mut Value);
    let changes: [(&str, Change<'_>); 4] = [
        ("silent clients are closed", &closes_silent),
        ("switched off", &switched_off),
        ("two clusters", &two_clusters),
        ("plain bytes find no chain", &no_plain_chain),
    ];
    for (name, change) in changes {
        each_engine(|engine, binary| {
            let server = Server::greeting(b"hello");
            let mut listener = listener(false, "app", "app");
            change(&mut listener);
            let proxy = proxy(binary, engine, listener, server.address);
            let mut client = connect(proxy.address(0));
            client.set_read_timeout(Some(QUIET)).unwrap();
            assert!(client.read(&mut [0; 1]).is_err(), "{engine}, {name}: the client is told nothing");
            assert_eq!(server.count(), 0, "{engine}, {name}");
        });
    }
}

#[test]
fn the_timer_is_still_the_way_out_when_both_are_silent() {
    each_engine(|engine, binary| {
        let server = Server::greeting(b"");
        let mut listener = listener(false, "app", "app");
        listener["listener_filters_timeout"] = json!("0.2s");
        let proxy = proxy(binary, engine, listener, server.address);
        let mut client = connect(proxy.address(0));
        client.write_all(b"GE").unwrap();
        assert_eq!(read_some(&mut client), b"GE", "{engine}: what was sent so far is delivered");
    });
}

fn each_engine(test: impl Fn(&str, &std::path::Path)) {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    engines::available().into_iter().for_each(|engine| test(engine, &binary));
}

fn proxy(binary: &std::path::Path, engine: &str, listener: Value, server: SocketAddr) -> Peer {
    let clusters =
        json!([config::static_cluster("app", &[server]), config::static_cluster("other", &[server])]);
    let bootstrap = config::bootstrap(json!([listener]), clusters);
    Peer::start_with("ringsail", binary, &bootstrap, &["--engine", engine]).unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn read_some(stream: &mut TcpStream) -> Vec<u8> {
    let mut block = [0; 4096];
    let count = stream.read(&mut block).expect("bytes");
    block[..count].to_vec()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Says `greeting`, then answers.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Sends back what it gets.
    fn greeting(greeting: &'static [u8]) -> Server {
        Server::start(greeting, |bytes| bytes.to_vec())
    }

    /// Answers 200 to whatever it gets.
    fn http(unasked: &'static [u8]) -> Server {
        Server::start(unasked, |_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".to_vec())
    }

    fn start(greeting: &'static [u8], answer: fn(&[u8]) -> Vec<u8>) -> Server {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for mut stream in socket.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    stream.set_nodelay(true)?;
                    stream.write_all(greeting)?;
                    let mut block = [0; 4096];
                    loop {
                        match stream.read(&mut block)? {
                            0 => return std::io::Result::Ok(()),
                            count => stream.write_all(&answer(&block[..count]))?,
                        }
                    }
                });
            }
        });
        Server { address, connections }
    }

    fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn wait_for_connections(&self, count: usize) {
        until("a connection", || self.count() >= count);
    }
}
