//! An upstream that answers by script and shows what it was sent.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// Starts the upstream on a free port of the loopback address; it lives as long as the test process.
///
/// The request's path chooses the answer (see `answer`); the ordinary answer is 200 with the received request,
/// head and body, as its body, so that a comparison of replies also compares what was forwarded.
pub fn start() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

/// Starts a TCP server that sends back every byte until the sender's end, then ends too.
pub fn echo() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || echo_all(stream));
        }
    });
    Ok(address)
}

/// Starts an HTTP server that answers nothing until the returned sender is dropped, and then every request with 200.
pub fn held() -> Result<(SocketAddr, Sender<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (release, released) = channel::<()>();
    thread::spawn(move || {
        let mut streams = listener.incoming().flatten();
        let first = streams.next();
        // Ends with an error when the sender is gone, which is the signal.
        let _ = released.recv();
        for stream in first.into_iter().chain(streams) {
            thread::spawn(move || serve(stream));
        }
    });
    Ok((address, release))
}

/// A port where nothing listens.
pub fn refused() -> Result<SocketAddr> {
    crate::ports::free_address()
}

fn echo_all(mut stream: TcpStream) {
    let mut block = [0; 16 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut block) {
        if stream.write_all(&block[..length]).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn serve(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffered = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffered) {
        if request.starts_with(b"GET /ws ") {
            // What comes after the switch is no longer HTTP.
            let switch =
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
            if stream.write_all(switch).and_then(|()| stream.write_all(&buffered)).is_ok() {
                echo_all(stream);
            }
            return;
        }
        if !answer(&mut stream, &request) {
            return;
        }
    }
}

/// One request as received: head and body as they were on the wire.
fn read_request(stream: &mut TcpStream, buffered: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(length) = request_length(buffered) {
            return Some(buffered.drain(..length).collect());
        }
        let mut block = [0; 4096];
        match stream.read(&mut block) {
            Ok(0) | Err(_) => return None,
            Ok(length) => buffered.extend_from_slice(&block[..length]),
        }
    }
}

fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if text.contains("transfer-encoding: chunked") {
        return find(&bytes[head..], b"0\r\n\r\n").map(|at| head + at + 5);
    }
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|value| value.trim().parse::<usize>().ok())
        .unwrap_or(0);
    (bytes.len() >= head + length).then_some(head + length)
}

/// Writes the scripted answer; `false` when the connection is to be closed.
fn answer(stream: &mut TcpStream, request: &[u8]) -> bool {
    let line =
        String::from_utf8_lossy(request.split(|byte| *byte == b'\r').next().unwrap_or_default()).to_string();
    let path = line.split(' ').nth(1).unwrap_or("/").to_string();
    let mut send = |bytes: &[u8]| stream.write_all(bytes).is_ok();
    if let Some(bytes) = scripted(&path) {
        let _ = send(bytes.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        return false;
    }
    if let Some(code) = path.strip_prefix("/status/") {
        let phrase = if code == "503" { "Service Unavailable" } else { "Scripted" };
        return send(
            format!("HTTP/1.1 {code} {phrase}\r\ncontent-length: 2\r\nserver: app\r\n\r\nhi").as_bytes(),
        );
    }
    if path.starts_with("/slow") {
        thread::sleep(Duration::from_millis(600));
    }
    if path.starts_with("/no-content") {
        return send(b"HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n");
    }
    if path.starts_with("/chunked") {
        return send(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nx-trailer: t\r\n\r\n",
        );
    }
    if path.starts_with("/early-hints") {
        let _ = send(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
    }
    if line.starts_with("HEAD ") {
        return send(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n");
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nServer: app\r\nX-Mixed-Case: Yes\r\nKeep-Alive: 5\r\ncontent-length: {}\r\n\r\n",
        request.len()
    );
    send(head.as_bytes()) && send(request)
}

/// Answers that end the connection: the broken ones, and those framed by its end.
fn scripted(path: &str) -> Option<&'static str> {
    Some(match path.split('?').next().unwrap_or(path) {
        "/close" => "",
        "/half-head" => "HTTP/1.1 200 OK\r\ncontent-le",
        "/garbage" => "\u{1}\u{2}\u{3} not http\r\n\r\n",
        "/bad-length" => "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        "/short-body" => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        "/until-close" => "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall of it",
        "/http10" => "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        _ => return None,
    })
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
