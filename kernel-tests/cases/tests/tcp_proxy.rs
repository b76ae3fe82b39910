//! Relaying bytes: which endpoint, how long, and what is done to connections on purpose.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringsail_harness::config::{TYPE, bootstrap, static_cluster};
use ringsail_harness::peer::Peer;
use ringsail_harness::sniffing::tcp_proxy;
use ringsail_harness::wait::{PATIENCE, until};
use ringsail_harness::{binaries, engines};
use serde_json::{Value, json};

#[test]
fn connections_of_one_source_address_go_to_one_endpoint() {
    each_engine(|engine, binary| {
        let servers: Vec<Server> = (b'a'..=b'e').map(|name| Server::saying(vec![name])).collect();
        let mut cluster = cluster(&servers.iter().collect::<Vec<_>>());
        cluster["lb_policy"] = json!("RING_HASH");
        let mut filter = tcp_proxy("app");
        filter["typed_config"]["hash_policy"] = json!([{"source_ip": {}}]);
        let proxy = start(binary, engine, vec![filter], cluster);
        let said = |source: u8| -> BTreeSet<u8> {
            (0..8)
                .map(|_| first_byte(connect_from(Ipv4Addr::new(127, 0, 9, source), proxy.address(0))))
                .collect()
        };
        let chosen: Vec<BTreeSet<u8>> = (1..=24).map(said).collect();
        assert!(chosen.iter().all(|set| set.len() == 1), "{engine}: {chosen:?}");
        let different: BTreeSet<&BTreeSet<u8>> = chosen.iter().collect();
        assert!(different.len() > 2, "{engine}: sources spread: {chosen:?}");
    });
}

#[test]
fn a_dead_endpoint_is_passed_over_within_the_attempts() {
    each_engine(|engine, binary| {
        let (dead, alive) = (closed_port(), Server::saying(b"x".to_vec()));
        let mut filter = tcp_proxy("app");
        filter["typed_config"]["max_connect_attempts"] = json!(4);
        filter["typed_config"]["backoff_options"] =
            json!({"base_interval": "0.001s", "max_interval": "0.01s"});
        let cluster = static_cluster("app", &[dead, alive.address]);
        let proxy = start(binary, engine, vec![filter], cluster);
        for _ in 0..10 {
            assert_eq!(first_byte(connect(proxy.address(0))), b'x', "{engine}");
        }
    });
}

#[test]
fn the_upstream_waits_for_the_clients_first_bytes_when_told_to() {
    each_engine(|engine, binary| {
        let server = Server::saying(b"hello".to_vec());
        let mut filter = tcp_proxy("app");
        filter["typed_config"]["upstream_connect_mode"] = json!("ON_DOWNSTREAM_DATA");
        filter["typed_config"]["max_early_data_bytes"] = json!(1024);
        let proxy = start(binary, engine, vec![filter], cluster(&[&server]));
        let mut client = connect(proxy.address(0));
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(client.read(&mut [0]).is_err(), "{engine}");
        assert_eq!(server.count(), 0, "{engine}");
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"go").unwrap();
        assert_eq!(read_exactly(&mut client, 7), b"hellogo", "{engine}: nothing of what was sent is lost");
    });
}

#[test]
fn idle_and_old_connections_end_with_fin() {
    each_engine(|engine, binary| {
        for (field, counter) in [
            ("idle_timeout", "tcp.tcp.idle_timeout: 1"),
            ("max_downstream_connection_duration", "tcp.tcp.max_downstream_connection_duration: 1"),
        ] {
            let server = Server::saying(b"x".to_vec());
            let mut filter = tcp_proxy("app");
            filter["typed_config"][field] = json!("0.3s");
            let proxy = start(binary, engine, vec![filter], cluster(&[&server]));
            let begun = Instant::now();
            let mut client = connect(proxy.address(0));
            assert_eq!(read_exactly(&mut client, 1), b"x");
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "{engine}, {field}: FIN");
            assert!(begun.elapsed() >= Duration::from_millis(290), "{engine}, {field}: too early");
            until(counter, || proxy.admin("/stats").is_ok_and(|stats| stats.contains(counter)));
        }
    });
}

#[test]
fn log_lines_come_when_asked_for_besides_the_end() {
    each_engine(|engine, binary| {
        let server = Server::saying(b"x".to_vec());
        let mut filter = tcp_proxy("app");
        filter["typed_config"]["access_log"] = json!([{"name": "file", "typed_config": {
            "@type": format!("{TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog"), "path": "ACCESS_LOG",
            "log_format": {"text_format_source": {"inline_string": "%UPSTREAM_CLUSTER% %BYTES_SENT%\n"}}}}]);
        filter["typed_config"]["access_log_options"] =
            json!({"flush_access_log_on_connected": true, "flush_access_log_on_start": true});
        let proxy = start(binary, engine, vec![filter], cluster(&[&server]));
        drop(read_exactly(&mut connect(proxy.address(0)), 1));
        until("three lines", || proxy.access_log().len() == 3);
        assert_eq!(proxy.access_log(), ["app 0", "app 0", "app 1"], "{engine}: start, connected, end");
    });
}

#[test]
fn refused_connections_keep_to_their_share() {
    const CONNECTIONS: usize = 500;
    each_engine(|engine, binary| {
        let server = Server::saying(b"x".to_vec());
        let fault = json!({"refuse": {"percentage": {"numerator": 20}}});
        let proxy = start(binary, engine, vec![faulty(fault), tcp_proxy("app")], cluster(&[&server]));
        let refused =
            (0..CONNECTIONS).filter(|_| is_reset(&connect(proxy.address(0)).read(&mut [0]))).count();
        eprintln!("{engine}: {refused} of {CONNECTIONS} refused");
        // Binomial of 500 and 0.2: mean 100, deviation 8.9; four deviations are left once in 15,000 runs.
        assert!((64..=136).contains(&refused), "{engine}: {refused}");
        assert_eq!(server.count(), CONNECTIONS - refused, "{engine}: refused ones never reach the server");
    });
}

#[test]
fn a_connection_is_reset_after_so_many_bytes_or_so_much_time() {
    each_engine(|engine, binary| {
        let server = Server::saying(vec![b'x'; 100_000]);
        let everybody = json!({"numerator": 100});
        let fault = json!({"reset": {"percentage": everybody, "after_bytes": 5000}});
        let proxy = start(binary, engine, vec![faulty(fault), tcp_proxy("app")], cluster(&[&server]));
        let (bytes, end) = read_to_end(connect(proxy.address(0)));
        assert!(bytes <= 5000, "{engine}: {bytes}");
        assert!(is_reset(&end.map(|()| 0)), "{engine}");

        let fault = json!({"reset": {"percentage": everybody, "after": "0.2s"}});
        let proxy = start(binary, engine, vec![faulty(fault), tcp_proxy("app")], cluster(&[&server]));
        let begun = Instant::now();
        let mut client = connect(proxy.address(0));
        read_exactly(&mut client, 100_000);
        assert!(is_reset(&client.read(&mut [0])), "{engine}");
        assert!(begun.elapsed() >= Duration::from_millis(190), "{engine}");
    });
}

#[test]
fn bandwidth_is_what_was_set() {
    each_engine(|engine, binary| {
        let server = Server::saying(vec![b'x'; 50_000]);
        let fault = json!({"bandwidth": {"percentage": {"numerator": 100}, "bytes_per_second": 100_000}});
        let proxy = start(binary, engine, vec![faulty(fault), tcp_proxy("app")], cluster(&[&server]));
        let begun = Instant::now();
        read_exactly(&mut connect(proxy.address(0)), 50_000);
        let elapsed = begun.elapsed();
        eprintln!("{engine}: 50,000 bytes at 100,000 a second took {elapsed:?}");
        assert!(elapsed >= Duration::from_millis(430), "{engine}: {elapsed:?}");
    });
}

#[test]
fn delayed_swallowed_and_half_closed_connections() {
    each_engine(|engine, binary| {
        let everybody = json!({"numerator": 100});
        let server = Server::saying(b"hello".to_vec());
        let run =
            |fault: Value| start(binary, engine, vec![faulty(fault), tcp_proxy("app")], cluster(&[&server]));

        let proxy = run(json!({"connect_delay": {"percentage": everybody, "delay": "0.3s"}}));
        let begun = Instant::now();
        read_exactly(&mut connect(proxy.address(0)), 5);
        assert!(begun.elapsed() >= Duration::from_millis(290), "{engine}");

        let before = server.count();
        let proxy = run(json!({"blackhole": {"percentage": everybody}}));
        let mut client = connect(proxy.address(0));
        client.write_all(&[b'y'; 10_000]).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(client.read(&mut [0]).is_err(), "{engine}: nothing is answered");
        client.shutdown(Shutdown::Write).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "{engine}");
        assert_eq!(server.count(), before, "{engine}: the server never hears of it");

        let proxy = run(json!({"half_close": {"percentage": everybody, "after_bytes": 3}}));
        let mut client = connect(proxy.address(0));
        assert_eq!(read_exactly(&mut client, 3), b"hel", "{engine}");
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "{engine}: FIN");
        let got = server.got();
        client.write_all(b"still here").unwrap();
        until("the client's bytes at the server", || server.got() == got + 10);
    });
}

#[test]
fn an_expired_fault_does_nothing() {
    each_engine(|engine, binary| {
        let server = Server::saying(b"hello".to_vec());
        let fault =
            json!({"refuse": {"percentage": {"numerator": 100}}, "expires_at": "2020-01-01T00:00:00Z"});
        let proxy = start(binary, engine, vec![faulty(fault), tcp_proxy("app")], cluster(&[&server]));
        assert_eq!(read_exactly(&mut connect(proxy.address(0)), 5), b"hello");
    });
}

fn each_engine(test: impl Fn(&str, &Path)) {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    engines::available().into_iter().for_each(|engine| test(engine, &binary));
}

fn start(binary: &Path, engine: &str, filters: Vec<Value>, cluster: Value) -> Peer {
    let listener = json!({"name": "tcp", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": filters}]});
    Peer::start_with(
        "ringsail",
        binary,
        &bootstrap(json!([listener]), json!([cluster])),
        &["--engine", engine],
    )
    .unwrap()
}

fn faulty(mut fault: Value) -> Value {
    fault["@type"] = json!(format!("{TYPE}ringsail.filters.network.fault.v1.TcpFault"));
    json!({"name": "ringsail.filters.network.fault", "typed_config": fault})
}

fn cluster(servers: &[&Server]) -> Value {
    static_cluster("app", &servers.iter().map(|server| server.address).collect::<Vec<_>>())
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Connects from another loopback address, which `TcpStream` cannot.
fn connect_from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
    use std::os::fd::AsRawFd;
    let descriptor = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(descriptor.as_raw_fd(), &SockaddrIn::from(std::net::SocketAddrV4::new(source, 0))).unwrap();
    let IpAddr::V4(ip) = to.ip() else { panic!("an IPv4 address") };
    connect(descriptor.as_raw_fd(), &SockaddrIn::from(std::net::SocketAddrV4::new(ip, to.port()))).unwrap();
    let stream = TcpStream::from(descriptor);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn first_byte(mut stream: TcpStream) -> u8 {
    read_exactly(&mut stream, 1)[0]
}

fn read_exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn read_to_end(mut stream: TcpStream) -> (usize, std::io::Result<()>) {
    let (mut total, mut block) = (0, [0; 4096]);
    loop {
        match stream.read(&mut block) {
            Ok(0) => return (total, Ok(())),
            Ok(count) => total += count,
            Err(error) => return (total, Err(error)),
        }
    }
}

fn is_reset(result: &std::io::Result<usize>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

/// A port on which nobody listens: the test keeps it bound.
fn closed_port() -> SocketAddr {
    ringsail_harness::ports::free_address().unwrap()
}

/// Says its words, then sends back what it gets.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    received: Arc<AtomicUsize>,
}

impl Server {
    fn saying(words: Vec<u8>) -> Server {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server {
            address: socket.local_addr().unwrap(),
            connections: Arc::default(),
            received: Arc::default(),
        };
        let (connections, received) = (server.connections.clone(), server.received.clone());
        thread::spawn(move || {
            for mut stream in socket.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (words, received) = (words.clone(), received.clone());
                thread::spawn(move || {
                    stream.write_all(&words)?;
                    let mut block = [0; 4096];
                    loop {
                        let count = stream.read(&mut block)?;
                        if count == 0 {
                            return std::io::Result::Ok(());
                        }
                        received.fetch_add(count, Ordering::SeqCst);
                        stream.write_all(&block[..count])?;
                    }
                });
            }
        });
        server
    }

    fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn got(&self) -> usize {
        self.received.load(Ordering::SeqCst)
    }
}
