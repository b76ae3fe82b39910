//! Pooled upstream connections: reuse without the 503 of a connection that had already ended.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ringsail_harness::peer::Peer;
use ringsail_harness::{binaries, client, config, engines};

#[test]
fn an_upstream_that_hangs_up_idle_connections_never_costs_a_request() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    for engine in engines::available() {
        let (upstream, connections) = forgetful_upstream();
        let peer = Peer::start_with("ringsail", &binary, &config::one_route(upstream), &["--engine", engine])
            .unwrap();
        let mut connection = client::Connection::open(peer.address(0)).unwrap();
        for request in 0..300 {
            let answer = connection.get("/").unwrap();
            assert_eq!(answer.status, 200, "{engine}: request {request}");
            if request % 10 == 0 {
                // Long enough for the upstream's FIN to have come: the pool must notice before reuse.
                thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(connections.load(Ordering::Relaxed) > 20, "the upstream did hang up in between");
    }
}

#[test]
fn one_upstream_connection_serves_a_hundred_requests() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    for engine in engines::available() {
        let (upstream, connections) = upstream(usize::MAX);
        let peer = Peer::start_with("ringsail", &binary, &config::one_route(upstream), &["--engine", engine])
            .unwrap();
        for _ in 0..100 {
            assert_eq!(client::get(peer.address(0), "/").unwrap().status, 200);
        }
        assert_eq!(connections.load(Ordering::Relaxed), 1, "{engine}");
    }
}

/// Hangs up after every third answer without saying so beforehand.
fn forgetful_upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    upstream(3)
}

fn upstream(answers_per_connection: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || answer(stream, answers_per_connection).unwrap_or_default());
        }
    });
    (address, connections)
}

fn answer(mut stream: TcpStream, answers: usize) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut block = [0; 4096];
    for _ in 0..answers {
        // Requests without a body come in one piece on loopback.
        if stream.read(&mut block)? == 0 {
            break;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")?;
    }
    Ok(())
}
