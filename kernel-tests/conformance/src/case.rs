//! What is sent, what came back, and how two answers are compared.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Result;

/// How long a client waits for more bytes once something has come: the proxies answer on loopback within a few
/// milliseconds, and the slowest scripted upstream takes 600.
const QUIET: Duration = Duration::from_millis(250);
/// How long a client waits for the first byte.
const FIRST_BYTE: Duration = Duration::from_secs(4);

/// One exchange with a proxy.
pub struct Case {
    /// Unique; the report and [`crate::differences`] name it.
    pub id: &'static str,
    /// Sent as one write, unless [`Case::pause_at`] splits it.
    pub request: Vec<u8>,
    /// Send this many bytes, wait until the proxy has had time to act, then the rest.
    pub pause_at: Option<usize>,
    /// Close the sending half after the request.
    pub half_close: bool,
}

/// What a client observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The bytes that came back, with dates, ids and durations masked and header names in lower case.
    pub reply: String,
    /// How the connection stood at the end.
    pub end: End,
}

/// The state of the connection when the client had waited long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Still usable.
    Open,
    /// Ended by the proxy in the orderly way.
    Closed,
    /// Ended by a reset.
    Reset,
}

impl Case {
    /// A case that sends `request` in one piece.
    pub fn new(id: &'static str, request: impl Into<Vec<u8>>) -> Case {
        Case { id, request: request.into(), pause_at: None, half_close: false }
    }

    /// Sends the case to `proxy` and reads until the connection ends or stays quiet.
    pub fn run(&self, proxy: SocketAddr) -> Result<Observed> {
        let mut stream = TcpStream::connect(proxy)?;
        stream.set_nodelay(true)?;
        let (first, rest) = self.request.split_at(self.pause_at.unwrap_or(self.request.len()));
        // A proxy may refuse and close before all of it is sent; what it said is what counts.
        let _ = stream.write_all(first);
        if !rest.is_empty() {
            std::thread::sleep(Duration::from_millis(100));
            let _ = stream.write_all(rest);
        }
        if self.half_close {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let (bytes, end) = read_all(&mut stream);
        Ok(Observed { reply: masked(&String::from_utf8_lossy(&bytes)), end })
    }
}

fn read_all(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    let mut block = [0; 16 * 1024];
    let started = Instant::now();
    loop {
        // An answer that announces the end is followed until it: Envoy closes a second later.
        let announced = String::from_utf8_lossy(&bytes).to_ascii_lowercase().contains("connection: close");
        let patience = if bytes.is_empty() || announced { FIRST_BYTE } else { QUIET };
        let _ = stream.set_read_timeout(Some(patience));
        match stream.read(&mut block) {
            Ok(0) => return (bytes, End::Closed),
            Ok(length) => bytes.extend_from_slice(&block[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return (bytes, End::Reset),
            Err(_) => return (bytes, End::Open),
        }
        if started.elapsed() > FIRST_BYTE * 2 {
            return (bytes, End::Open);
        }
    }
}

/// Header fields whose values two runs never share.
const MASKED: [&str; 3] = ["date", "x-request-id", "x-envoy-upstream-service-time"];

/// The value of a field of lower-case name, as [`masked`] would show it.
pub fn masked_field<'a>(name: &str, value: &'a str) -> &'a str {
    match name {
        "content-length" if value.len() > 2 => "*",
        name if MASKED.contains(&name) => "*",
        _ => value,
    }
}

/// `text` with header names in lower case and the values of masked fields (`MASKED`) replaced.
pub fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let Some((name, value)) = line.split_once(": ") else {
            out.push_str(line);
            continue;
        };
        let name = name.to_ascii_lowercase();
        if name.contains(' ') {
            out.push_str(line);
        } else if MASKED.contains(&name.as_str()) {
            out.push_str(&format!("{name}: *\r\n"));
        } else if name == "content-length" {
            // The echoed request is shorter or longer by its masked fields.
            out.push_str(&format!("{name}: {}\r\n", if value.trim().len() > 2 { "*" } else { value.trim() }));
        } else {
            out.push_str(&format!("{name}: {value}"));
        }
    }
    out
}
