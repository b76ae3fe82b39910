//! Large bodies pass in both directions without the proxy keeping them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use ringsail_harness::memory::resident_bytes;
use ringsail_harness::peer::Peer;
use ringsail_harness::{binaries, config, engines};

/// 1 GiB: no buffer that kept it would go unnoticed.
const BODY_BYTES: u64 = 1 << 30;
/// What a transfer may add to the resident set: a few buffer blocks and the allocator's slack.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

#[test]
fn a_gibibyte_down_and_a_gibibyte_up_pass_with_flat_memory() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    let upstream = source_and_sink();
    for engine in engines::available() {
        let peer = Peer::start_with("ringsail", &binary, &config::one_route(upstream), &["--engine", engine])
            .unwrap();
        // The first exchange fills pools and tables; what follows must not add to them.
        assert_eq!(download(peer.address(0), 1 << 20), 1 << 20);
        let before = resident_bytes(peer.pid()).unwrap();

        assert_eq!(download(peer.address(0), BODY_BYTES), BODY_BYTES, "{engine}");
        let after_download = resident_bytes(peer.pid()).unwrap();
        assert_eq!(upload(peer.address(0), BODY_BYTES), BODY_BYTES, "{engine}");
        let after_upload = resident_bytes(peer.pid()).unwrap();

        println!(
            "{engine}: {before} B before, {after_download} B after download, {after_upload} B after upload"
        );
        assert!(
            after_download.saturating_sub(before) < GROWTH_BYTES_MAX,
            "{engine}: download grew the process"
        );
        assert!(after_upload.saturating_sub(before) < GROWTH_BYTES_MAX, "{engine}: upload grew the process");
    }
}

#[test]
fn a_reader_that_stops_stops_the_upstream_too() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    let upstream = source_and_sink();
    for engine in engines::available() {
        let peer = Peer::start_with("ringsail", &binary, &config::one_route(upstream), &["--engine", engine])
            .unwrap();
        let before = resident_bytes(peer.pid()).unwrap();
        let mut slow = request(peer.address(0), &format!("GET /{BODY_BYTES} HTTP/1.1\r\nhost: a\r\n\r\n"));
        let mut block = [0; 4096];
        assert!(slow.read(&mut block).unwrap() > 0);
        thread::sleep(Duration::from_millis(500));
        let growth = resident_bytes(peer.pid()).unwrap().saturating_sub(before);
        assert!(growth < GROWTH_BYTES_MAX, "{engine}: {growth} B buffered for a client that does not read");
    }
}

/// Reads an answer of `bytes` bytes and gives the number of body bytes that came.
fn download(proxy: SocketAddr, bytes: u64) -> u64 {
    let mut stream =
        request(proxy, &format!("GET /{bytes} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
    let mut block = vec![0; 256 * 1024];
    let mut head = Vec::new();
    let mut body = 0;
    loop {
        let length = stream.read(&mut block).unwrap();
        if length == 0 {
            return body;
        }
        if body > 0 {
            body += length as u64;
            continue;
        }
        head.extend_from_slice(&block[..length]);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            body = (head.len() - end - 4) as u64;
        }
    }
}

/// Sends a body of `bytes` bytes; the answer tells how many arrived.
fn upload(proxy: SocketAddr, bytes: u64) -> u64 {
    let mut stream = request(
        proxy,
        &format!("POST /count HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n"),
    );
    let block = vec![b'x'; 256 * 1024];
    for _ in 0..bytes / block.len() as u64 {
        stream.write_all(&block).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit_once("\r\n").and_then(|(_, count)| count.parse().ok()).unwrap_or(0)
}

fn request(proxy: SocketAddr, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Answers `GET /N` with N bytes, and `POST` with the number of bytes it was sent.
fn source_and_sink() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away mid-body is part of the test, not an error.
            thread::spawn(move || serve(stream).unwrap_or_default());
        }
    });
    address
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut block = vec![0; 256 * 1024];
    let mut received = Vec::new();
    let end = loop {
        let length = stream.read(&mut block)?;
        if length == 0 {
            return Ok(());
        }
        received.extend_from_slice(&block[..length]);
        if let Some(at) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
    if let Some(bytes) =
        head.split_once("get /").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok())
    {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n")?;
        let mut left = bytes;
        while left > 0 {
            let length = left.min(block.len() as u64) as usize;
            stream.write_all(&block[..length])?;
            left -= length as u64;
        }
    } else {
        let total: u64 = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|value| value.parse().ok())
            .unwrap_or(0);
        let mut count = (received.len() - end) as u64;
        while count < total {
            match stream.read(&mut block)? {
                0 => break,
                length => count += length as u64,
            }
        }
        let text = count.to_string();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())?;
    }
    Ok(())
}
