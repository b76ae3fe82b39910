//! Random requests, and what came of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::draw::Draw;
use super::setting::{NAMES, PARAMETERS, SEGMENTS, VALUES};
use crate::backend;
use crate::case::masked;
use crate::http2::{self, Call};

/// Stands for an answer where the connection ended without one; how it ended is a matter of timing.
const NO_ANSWER: &str = "no answer";
/// How long a client waits for a byte; nothing in a setting waits longer than four seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The method, any case.
    pub method: &'static str,
    /// The request target as it is sent.
    pub target: String,
    /// Value of `host` or `:authority`.
    pub host: String,
    /// Further fields.
    pub fields: Vec<(String, String)>,
    /// The body, and whether it goes in chunks (HTTP/1).
    pub body: Option<(String, bool)>,
}

/// Requests on one connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// HTTP/2, all at once; or HTTP/1.1, one after the other.
    pub http2: bool,
    /// The requests.
    pub asks: Vec<Ask>,
}

/// What one request led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The answer with masked fields, or why there is none.
    pub reply: String,
    /// What the backends were asked.
    pub attempts: String,
}

impl Conversation {
    /// Draws a connection's requests.
    pub fn draw(draw: &mut Draw) -> Conversation {
        let http2 = draw.chance(30);
        let count = draw.between(1, 6);
        Conversation { http2, asks: (0..count).map(|_| Ask::draw(draw, http2)).collect() }
    }

    /// Sends the requests to `proxy`; the backends and the access log know request `index` as `NAME.index`, the
    /// former with `run` before it.
    pub fn run(&self, proxy: SocketAddr, run: &str, name: &str) -> Vec<Seen> {
        let replies =
            if self.http2 { self.over_http2(proxy, run, name) } else { self.over_http1(proxy, run, name) };
        let seen = replies.into_iter().enumerate().map(|(index, reply)| {
            let id = format!("{run}{name}.{index}");
            let attempts: Vec<String> = backend::shared()
                .journal
                .of(&id)
                .iter()
                .map(|seen| format!("{} {} [{}]", seen.start, seen.host, seen.step))
                .collect();
            Seen { reply: self.asks[index].settled(&unnamed(&reply, run)), attempts: attempts.join(", ") }
        });
        seen.collect()
    }

    fn over_http1(&self, proxy: SocketAddr, run: &str, name: &str) -> Vec<String> {
        let mut connection = None;
        let answers = self.asks.iter().enumerate().map(|(index, ask)| {
            let mut exchange = || -> Result<String> {
                let open = match connection.take() {
                    Some(open) => open,
                    None => Http1::open(proxy)?,
                };
                let (reply, open) = open.ask(ask, &ask.bytes(run, &format!("{name}.{index}")))?;
                connection = open;
                Ok(reply)
            };
            exchange().unwrap_or_else(|_| NO_ANSWER.to_string())
        });
        answers.collect()
    }

    fn over_http2(&self, proxy: SocketAddr, run: &str, name: &str) -> Vec<String> {
        let calls = self.asks.iter().enumerate().map(|(index, ask)| {
            let id = format!("{name}.{index}");
            let mut fields =
                vec![("x-case".to_string(), id.clone()), ("x-run".to_string(), format!("{run}{id}"))];
            fields.extend(ask.fields.iter().cloned());
            Call {
                method: ask.method,
                path: ask.target.clone(),
                authority: ask.host.clone(),
                fields,
                body: ask.body.iter().map(|(text, _)| text.clone().into_bytes()).collect(),
                ..Call::default()
            }
        });
        match http2::calls(proxy, calls.collect()) {
            Ok(replies) => replies
                .into_iter()
                .map(|reply| {
                    let body = masked(&String::from_utf8_lossy(&reply.body));
                    format!(
                        "{}\n{}\n\n{body}\n{}\n{}",
                        reply.status, reply.fields, reply.trailers, reply.error
                    )
                })
                .collect(),
            Err(_) => vec![NO_ANSWER.to_string(); self.asks.len()],
        }
    }
}

const CHUNKED: &str = "transfer-encoding: chunked\r\n";

/// `text` without what tells the peers' runs apart, and without what is listed as an intended difference: where
/// `transfer-encoding` stands (`post-chunked`).
fn unnamed(text: &str, run: &str) -> String {
    let text = without_expected_timeout(&text.replace(run, "*"));
    match text.contains(CHUNKED) {
        true => text.replace(CHUNKED, "") + CHUNKED,
        false => text,
    }
}

/// What is left of a timeout depends on how long the request took until then.
fn without_expected_timeout(text: &str) -> String {
    const NAME: &str = "x-envoy-expected-rq-timeout-ms: ";
    let mut pieces = text.split(NAME);
    let mut out = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        out.push_str(NAME);
        out.push_str(piece.trim_start_matches(|digit: char| digit.is_ascii_digit()));
    }
    out
}

impl Ask {
    fn draw(draw: &mut Draw, http2: bool) -> Ask {
        let method = draw
            .one(&["GET", "GET", "GET", "GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]);
        let mut ask = Ask {
            method,
            target: target(draw),
            host: draw.one(HOSTS).to_string(),
            fields: fields(draw),
            body: None,
        };
        if matches!(method, "POST" | "PUT" | "PATCH") || draw.chance(3) {
            let body =
                draw.one(&["", "hello", "a=1&b=2", "{\"a\": [1, 2]}"]).repeat(draw.between(1, 40) as usize);
            ask.body = Some((body, draw.chance(40)));
        }
        if !http2 && draw.chance(8) {
            ask.make_odd(draw);
        }
        // See `differences::LEFT_OUT`.
        if method == "HEAD" {
            ask.fields.retain(|(name, _)| name != "content-type");
        }
        if !matches!(method, "POST" | "PATCH") {
            ask.fields.retain(|(name, value)| {
                name != "x-script" || !ENDING.iter().any(|word| value.contains(word))
            });
        }
        ask
    }

    /// A reply without what [`crate::differences::LEFT_OUT`] names.
    fn settled(&self, reply: &str) -> String {
        let reply = if self.body.is_some() {
            reply.replacen("connection: close\r\n", "", 1)
        } else {
            reply.to_string()
        };
        if self.method == "HEAD" { reply.replace(CHUNKED, "") } else { reply }
    }

    /// What clients send that are old, strange or hostile.
    fn make_odd(&mut self, draw: &mut Draw) {
        let mut add = |name: &str, value: &str| self.fields.push((name.to_string(), value.to_string()));
        match draw.between(0, 12) {
            0 => self.target = format!("http://{}{}", self.host, self.target),
            1 => self.target = "*".to_string(),
            2 => self.method = draw.one(&["PURGE", "get", "PROPFIND", "TRACE"]),
            3 => add("connection", "x-a"),
            4 => add("connection", "close"),
            5 if self.body.is_none() => add("connection", "keep-alive"),
            5 => add("expect", "100-continue"),
            6 => add("keep-alive", "timeout=5"),
            7 => add("upgrade", "websocket"),
            8 => add("proxy-connection", "keep-alive"),
            9 => add("x_under", "1"),
            10 => add("te", "trailers"),
            11 => {
                self.host = draw
                    .one(&["", "a.example.", "A.EXAMPLE", "a..example", "[::1]", "a.example:"])
                    .to_string()
            }
            _ => self.target.push_str("#fragment"),
        }
    }

    fn bytes(&self, run: &str, id: &str) -> Vec<u8> {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nhost: {}\r\nx-case: {id}\r\nx-run: {run}{id}\r\n",
            self.method, self.target, self.host
        );
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        match &self.body {
            None => text.push_str("\r\n"),
            Some((body, false)) => text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len())),
            Some((body, true)) => {
                text.push_str("transfer-encoding: chunked\r\n\r\n");
                if !body.is_empty() {
                    text.push_str(&format!("{:x}\r\n{body}\r\n", body.len()));
                }
                text.push_str("0\r\n\r\n");
            }
        }
        text.into_bytes()
    }
}

const HOSTS: &[&str] = &[
    "a.example",
    "a.example",
    "b.example",
    "x.b.example",
    "x.y.b.example",
    "a.other",
    "a.example:8080",
    "b.example:80",
    "A.Example",
    "zzz",
    "10.0.0.1",
    "[::1]:80",
    "a.upper.example",
];

fn target(draw: &mut Draw) -> String {
    let count = draw.between(0, 3);
    let mut target: String = (0..count)
        .map(|_| match draw.between(0, 24) {
            0 => "/..".to_string(),
            1 => "/.".to_string(),
            3 => {
                format!("/{}", draw.one(&["%2e%2e", "%2F", "%5C", "a%2Fb", "%zz", "a\\b", "%00", "c%C3%A4"]))
            }
            _ => format!("/{}", draw.one(SEGMENTS)),
        })
        .collect();
    if target.is_empty() || draw.chance(15) {
        target.push('/');
    }
    if draw.chance(30) {
        let count = draw.between(1, 3);
        let pairs: Vec<String> = (0..count)
            .map(|_| match draw.between(0, 9) {
                0 => draw.one(PARAMETERS).to_string(),
                1 => format!("{}=a%20b", draw.one(PARAMETERS)),
                2 => format!("{}=/../x", draw.one(PARAMETERS)),
                _ => format!("{}={}", draw.one(PARAMETERS), draw.one(VALUES).replace(' ', "+")),
            })
            .collect();
        target.push('?');
        target.push_str(&pairs.join("&"));
    }
    target
}

fn fields(draw: &mut Draw) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for _ in 0..draw.between(0, 3) {
        fields.push((draw.one(NAMES).to_string(), draw.one(VALUES).to_string()));
    }
    let mut may = |percent: u32, name: &str, values: &[&str]| {
        if draw.chance(percent) {
            fields.push((name.to_string(), draw.one(values).to_string()));
        }
    };
    may(45, "x-script", SCRIPTS);
    may(8, "x-cluster", &["one", "h2", "missing", ""]);
    may(10, "cookie", &["c=1", "c=1; d=2", "d=2"]);
    may(8, "user-agent", &["random/1", ""]);
    may(6, "content-type", &["application/grpc", "application/grpc+proto", "text/plain"]);
    may(8, "origin", &["https://a.example", "https://b.org", "null"]);
    may(6, "access-control-request-method", &["GET", "DELETE"]);
    may(6, "x-forwarded-for", &["10.1.2.3", "1.2.3.4", "1.2.3.4, 10.0.0.1", "nonsense"]);
    may(5, "x-forwarded-proto", &["https", "http", "ftp"]);
    may(4, "x-forwarded-host", &["before.example"]);
    may(4, "x-request-id", &["mine", "00000000-0000-4000-8000-000000000000"]);
    may(4, "x-envoy-fault-abort-request", &["503", "404", "x"]);
    may(3, "x-envoy-max-retries", &["0", "1", "2"]);
    may(3, "x-envoy-retry-on", &["5xx", "retriable-4xx"]);
    may(2, "x-envoy-upstream-rq-timeout-ms", &["2500", "x"]);
    may(2, "x-envoy-original-path", &["/before"]);
    may(2, "x-envoy-decorator-operation", &["mine"]);
    may(2, "grpc-timeout", &["3S", "3000m", "x"]);
    may(2, "via", &["1.1 before"]);
    may(2, "accept-encoding", &["gzip", "identity"]);
    fields
}

/// What backends play; see [`crate::backend`].
const SCRIPTS: &[&str] = &[
    "200 x-a=up x-up=1",
    "200 server=app",
    "404",
    "418;200",
    "503",
    "503;200",
    "500;503;200 x-up=2",
    "close",
    "close;200",
    "204",
    "304 etag=1",
    "301 location=http://b.example/x",
    "200 x-envoy-overloaded=true",
    "200 x-envoy-upstream-service-time=5 x-envoy-decorator-operation=up",
    "409;200",
    "grpc=14;grpc=0",
    "reset=7;200",
    "reset=2",
];

/// Steps of [`SCRIPTS`] that end a connection.
const ENDING: &[&str] = &["close", "reset="];

/// An HTTP/1.1 connection whose answers are read whole.
struct Http1 {
    stream: BufReader<TcpStream>,
}

impl Http1 {
    fn open(proxy: SocketAddr) -> Result<Http1> {
        let stream = TcpStream::connect(proxy)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Http1 { stream: BufReader::new(stream) })
    }

    /// The answer as masked text, and the connection if it may carry another request.
    fn ask(mut self, ask: &Ask, bytes: &[u8]) -> Result<(String, Option<Http1>)> {
        // A proxy may answer and close before it has read everything.
        let _ = self.stream.get_mut().write_all(bytes);
        let mut text = String::new();
        loop {
            let (status, head) = self.head()?;
            text.push_str(&masked(&head));
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let lower = head.to_ascii_lowercase();
            let field = |name: &str| {
                let line = lower.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.map(str::trim)
            };
            let bodiless = ask.method == "HEAD" || status == 204 || status == 304 || status == 101;
            let mut body = Vec::new();
            let mut open = field("connection") != Some("close") && status != 101;
            if !bodiless {
                if field("transfer-encoding") == Some("chunked") {
                    self.chunks(&mut body)?;
                } else if let Some(length) = field("content-length") {
                    body.resize(length.parse().context("a length")?, 0);
                    self.stream.read_exact(&mut body)?;
                } else {
                    self.stream.read_to_end(&mut body)?;
                    open = false;
                }
            }
            text.push_str(&masked(&String::from_utf8_lossy(&body)));
            return Ok((text, open.then_some(self)));
        }
    }

    fn head(&mut self) -> Result<(u16, String)> {
        let mut head = String::new();
        loop {
            let start = head.len();
            if self.stream.read_line(&mut head)? == 0 {
                bail!("the connection ended after {head:?}");
            }
            if matches!(&head[start..], "\r\n" | "\n") {
                break;
            }
        }
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.with_context(|| format!("no status in {head:?}"))?, head))
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> Result<()> {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let size =
                usize::from_str_radix(line.trim(), 16).with_context(|| format!("chunk size {line:?}"))?;
            let start = body.len();
            body.resize(start + size, 0);
            self.stream.read_exact(&mut body[start..])?;
            line.clear();
            self.stream.read_line(&mut line)?;
            if size == 0 {
                return Ok(());
            }
        }
    }
}
