//! Backends that answer by a script in the request and remember what they were asked.
//!
//! `x-script` holds one step per attempt, separated by `;`: the first attempt of a run gets the first step, the second
//! attempt the second, and every later one the last. A step is a status (`503`), optionally with header fields
//! (`503 x-a=1 retry-after=2`), or one of `close`, `hang`, `slow` (answers after 600 ms), `head-only` (head, then
//! silence), `grpc=N` (a trailers-only answer with that status), `reset=N` (RST_STREAM with that code). Without a script the answer is 200. The body of an
//! answer is the request as received, so that a comparison of answers also compares what was forwarded.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

/// How long a `slow` step waits; timeouts under test are shorter, patience is longer.
pub const SLOW: Duration = Duration::from_millis(600);
/// How long a `hang` step keeps its connection: longer than any scenario looks.
const HANG: Duration = Duration::from_secs(20);

/// One request that reached a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Name of the backend.
    pub backend: &'static str,
    /// `METHOD target`.
    pub start: String,
    /// Value of `host` or `:authority`.
    pub host: String,
    /// The script's step that was played.
    pub step: String,
}

/// What all backends of this process have seen, by the run that each request names in `x-run`.
#[derive(Default)]
pub struct Journal {
    runs: Mutex<BTreeMap<String, Vec<Seen>>>,
}

impl Journal {
    /// Notes an attempt of `run` and gives its number, from 0.
    pub fn note(&self, run: &str, seen: Seen) -> usize {
        let mut runs = self.runs.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let attempts = runs.entry(run.to_string()).or_default();
        attempts.push(seen);
        attempts.len() - 1
    }

    /// Everything `run` has asked so far, in order of arrival.
    pub fn of(&self, run: &str) -> Vec<Seen> {
        let runs = self.runs.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        runs.get(run).cloned().unwrap_or_default()
    }

    /// How many attempts `run` has made.
    fn count(&self, run: &str) -> usize {
        let runs = self.runs.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        runs.get(run).map_or(0, Vec::len)
    }
}

/// The backends every suite shares.
pub struct Backends {
    /// What they have seen.
    pub journal: Arc<Journal>,
    addresses: BTreeMap<&'static str, SocketAddr>,
}

/// Backends that speak HTTP/1.1.
pub const HTTP1: [&str; 5] = ["a", "b", "c", "d", "e"];

/// The backends of this process, started at the first call.
pub fn shared() -> &'static Backends {
    static SHARED: OnceLock<Backends> = OnceLock::new();
    SHARED.get_or_init(|| {
        let journal = Arc::new(Journal::default());
        let mut addresses = BTreeMap::new();
        for name in HTTP1 {
            addresses.insert(name, start(name, journal.clone()));
        }
        for name in crate::http2::BACKENDS {
            addresses.insert(name, crate::http2::start_backend(name, journal.clone()));
        }
        addresses.insert(crate::rate_limits::SERVICE, crate::rate_limits::start(journal.clone()));
        addresses.insert("echo", ringsail_harness::upstream::echo().expect("a loopback listener"));
        addresses.insert("refused", ringsail_harness::upstream::refused().expect("a free port"));
        Backends { journal, addresses }
    })
}

impl Backends {
    /// Address of the backend called `name`; `refused` is a port where nobody listens.
    pub fn address(&self, name: &str) -> SocketAddr {
        *self.addresses.get(name).unwrap_or_else(|| panic!("no backend is called {name}"))
    }
}

fn start(name: &'static str, journal: Arc<Journal>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback listener");
    let address = listener.local_addr().expect("a bound listener has an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let journal = journal.clone();
            thread::spawn(move || serve(name, stream, &journal));
        }
    });
    address
}

/// What a step says, read from its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An answer with the request as its body.
    Answer {
        /// The status.
        status: u16,
        /// Header fields beside those every answer has.
        fields: Vec<(String, String)>,
        /// What is waited for first.
        delay: Duration,
    },
    /// Close without a byte.
    Close,
    /// Say nothing.
    Hang,
    /// The head of an answer with a body that never comes.
    HeadOnly,
    /// A trailers-only gRPC answer.
    Grpc(u16),
    /// RST_STREAM with this code; over HTTP/1 the same as [`Step::Close`].
    Reset(u32),
}

impl Step {
    /// Reads the step that attempt number `attempt` plays.
    pub fn of(script: &str, attempt: usize) -> (String, Step) {
        let steps: Vec<&str> = script.split(';').map(str::trim).collect();
        let text = steps.get(attempt).or(steps.last()).copied().unwrap_or_default();
        let mut words = text.split_ascii_whitespace();
        let first = words.next().unwrap_or("200");
        let fields = words
            .filter_map(|word| word.split_once('='))
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let step = match first {
            "close" => Step::Close,
            "hang" => Step::Hang,
            "head-only" => Step::HeadOnly,
            "slow" => Step::Answer { status: 200, fields, delay: SLOW },
            _ => match first.split_once('=') {
                Some(("grpc", status)) => Step::Grpc(status.parse().unwrap_or(2)),
                Some(("reset", code)) => Step::Reset(code.parse().unwrap_or(2)),
                _ => Step::Answer { status: first.parse().unwrap_or(200), fields, delay: Duration::ZERO },
            },
        };
        (text.to_string(), step)
    }
}

fn serve(name: &'static str, mut stream: TcpStream, journal: &Journal) {
    let _ = stream.set_nodelay(true);
    let mut buffered = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffered) {
        let text = without_chunks(&String::from_utf8_lossy(&request));
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        let field = |wanted: &str| {
            head.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map_or("", |(_, value)| value.trim())
        };
        let start = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_string();
        let (step, action) = Step::of(field("x-script"), journal.count(field("x-run")));
        let host = field("host").to_string();
        journal.note(field("x-run"), Seen { backend: name, start: start.clone(), host, step });
        if start.contains("/upgrade") && !field("upgrade").is_empty() {
            let protocol = field("upgrade");
            let switch = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\nx-backend: {name}\r\n\r\n"
            );
            if stream.write_all(switch.as_bytes()).and_then(|()| stream.write_all(&buffered)).is_ok() {
                echo(stream);
            }
            return;
        }
        let sent = match action {
            Step::Close | Step::Reset(_) => return,
            Step::Hang => {
                thread::sleep(HANG);
                return;
            }
            Step::HeadOnly => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe");
                thread::sleep(HANG);
                return;
            }
            Step::Grpc(status) => {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: {status}\r\ncontent-length: 0\r\n\r\n"
                );
                stream.write_all(answer.as_bytes())
            }
            Step::Answer { status, fields, delay } => {
                thread::sleep(delay);
                let fields: String =
                    fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let empty = start.starts_with("HEAD ") || status == 204 || status == 304;
                let length =
                    if status == 204 { String::new() } else { format!("content-length: {}\r\n", text.len()) };
                let phrase = ringsail_http::reason_phrase(status);
                let head = format!("HTTP/1.1 {status} {phrase}\r\nx-backend: {name}\r\n{fields}{length}\r\n");
                stream
                    .write_all(head.as_bytes())
                    .and_then(|()| if empty { Ok(()) } else { stream.write_all(text.as_bytes()) })
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn echo(mut stream: TcpStream) {
    let mut block = [0; 16 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut block) {
        if stream.write_all(&block[..length]).is_err() {
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
        let mut block = [0; 16 * 1024];
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

/// A request whose chunked body, if it has one, is shown as plain data: how it was cut is nobody's promise.
fn without_chunks(request: &str) -> String {
    let Some((head, mut rest)) = request.split_once("\r\n\r\n") else { return request.to_string() };
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return request.to_string();
    }
    let mut text = format!("{head}\r\n\r\n");
    while let Some((size, after)) = rest.split_once("\r\n") {
        match usize::from_str_radix(size, 16) {
            Ok(size @ 1..) if after.len() >= size + 2 => {
                text.push_str(&after[..size]);
                rest = &after[size + 2..];
            }
            // What follows the last chunk: trailers, and the empty line.
            _ => {
                text.push_str(after);
                break;
            }
        }
    }
    text
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
