//! Calls to other services, over kept connections, with the request's context passed on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::limits::{CALL_ANSWER_BYTES_MAX, CALL_TIMEOUT, HEADER_COUNT_MAX, IDLE_CALL_CONNECTIONS_MAX};
use crate::message::{Fields, Framing, Input, bad};

/// Header fields that belong to the whole transaction: what Bookinfo's services pass on, so that a trace stays
/// in one piece and a user is known to every service.
pub const CONTEXT_FIELDS: [&str; 17] = [
    "authorization",
    "b3",
    "cookie",
    "end-user",
    "grpc-trace-bin",
    "sw8",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-b3-flags",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-cloud-trace-context",
    "x-ot-span-context",
    "x-request-id",
];

/// A service to call, from an `http://` URL.
#[derive(Debug, Clone)]
pub struct Target {
    /// The URL as written, for the answer.
    url: String,
    /// `host[:port]`, as sent in the Host field.
    authority: String,
    host: String,
    port: u16,
    path: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let wrong = || format!("`{url}` is no URL like http://details:9080/details/0");
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (authority, 80),
        };
        if host.is_empty() || url.bytes().any(|byte| byte <= b' ') {
            return Err(wrong());
        }
        Ok(Self {
            url: url.to_owned(),
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

/// The part of an incoming request that its calls carry on.
#[derive(Debug, Default, Clone)]
pub struct Context {
    /// Header lines, each with its line end.
    lines: String,
    /// Query without `?`.
    query: String,
}

impl Context {
    /// Picks [`CONTEXT_FIELDS`] out of a request.
    pub fn of(fields: &Fields<'_>, forwarded_query: &str) -> Self {
        let mut lines = String::new();
        for name in CONTEXT_FIELDS {
            if let Some(value) = fields.get(name) {
                lines.extend([name, ": ", value, "\r\n"]);
            }
        }
        Self { lines, query: forwarded_query.to_owned() }
    }
}

/// Idle connections by address; one of these belongs to the process's only thread.
#[derive(Clone)]
pub struct Caller {
    outbound_address: Option<IpAddr>,
    idle: Rc<RefCell<HashMap<String, Vec<TcpStream>>>>,
}

struct Reply {
    status: u16,
    body: Vec<u8>,
}

impl Caller {
    /// `outbound_address` replaces the host of every URL when connecting.
    pub fn new(outbound_address: Option<IpAddr>) -> Self {
        Self { outbound_address, idle: Rc::default() }
    }

    /// Calls a service and describes what happened, as one element of an answer's `calls`.
    pub async fn call(&self, target: &Target, context: &Context) -> Value {
        let start = Instant::now();
        let outcome = match tokio::time::timeout(CALL_TIMEOUT, self.exchange(target, context)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let elapsed_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        match outcome {
            Ok(reply) => {
                let answer = serde_json::from_slice(&reply.body)
                    .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&reply.body)));
                json!({"url": target.url, "status": reply.status, "elapsed_us": elapsed_us, "answer": answer})
            }
            Err(error) => json!({"url": target.url, "error": error.to_string(), "elapsed_us": elapsed_us}),
        }
    }

    async fn exchange(&self, target: &Target, context: &Context) -> io::Result<Reply> {
        let address = match self.outbound_address {
            Some(ip) => std::net::SocketAddr::new(ip, target.port).to_string(),
            None => format!("{}:{}", target.host, target.port),
        };
        let separator = match (context.query.is_empty(), target.path.contains('?')) {
            (true, _) => "",
            (false, true) => "&",
            (false, false) => "?",
        };
        let request = format!(
            "GET {}{separator}{} HTTP/1.1\r\nhost: {}\r\n{}\r\n",
            target.path, context.query, target.authority, context.lines
        );
        // A kept connection may have been closed since: only then is a second, fresh one tried.
        if let Some(mut stream) = self.reuse(&address)
            && let Ok((reply, keep)) = read_reply(&mut stream, request.as_bytes()).await
        {
            self.keep(address, stream, keep);
            return Ok(reply);
        }
        let mut stream = TcpStream::connect(&address).await?;
        stream.set_nodelay(true)?;
        let (reply, keep) = read_reply(&mut stream, request.as_bytes()).await?;
        self.keep(address, stream, keep);
        Ok(reply)
    }

    fn reuse(&self, address: &str) -> Option<TcpStream> {
        self.idle.borrow_mut().get_mut(address)?.pop()
    }

    fn keep(&self, address: String, stream: TcpStream, keep: bool) {
        let mut idle = self.idle.borrow_mut();
        let streams = idle.entry(address).or_default();
        if keep && streams.len() < IDLE_CALL_CONNECTIONS_MAX {
            streams.push(stream);
        }
    }
}

/// Sends a request and reads the reply; also tells whether the connection may be used again.
async fn read_reply(stream: &mut TcpStream, request: &[u8]) -> io::Result<(Reply, bool)> {
    stream.write_all(request).await?;
    let mut input = Input::default();
    loop {
        if !input.fill(stream).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut storage = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
        let mut response = httparse::Response::new(&mut storage);
        let parsed = response.parse(input.unused()).map_err(|_| bad("reply is not HTTP"))?;
        let httparse::Status::Complete(head_len) = parsed else { continue };
        let status = response.code.unwrap_or_default();
        let fields = Fields(response.headers);
        let framing = match status {
            204 | 304 => Framing::Length(0),
            _ => Framing::of(&fields, Framing::UntilClose)?,
        };
        let keep = framing != Framing::UntilClose && !fields.has_token("connection", "close");
        input.consume(head_len);
        let mut body = Vec::new();
        let length = input.read_body(stream, framing, &mut body, CALL_ANSWER_BYTES_MAX).await?;
        if length > CALL_ANSWER_BYTES_MAX as u64 {
            return Err(bad("reply is too long"));
        }
        return Ok((Reply { status, body }, keep && input.unused().is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_need_scheme_and_host() {
        let target: Target = "http://reviews.default.svc:9080/reviews/0".parse().expect("valid");
        assert_eq!((target.authority.as_str(), target.port), ("reviews.default.svc:9080", 9080));
        assert_eq!("http://ratings".parse::<Target>().expect("valid").path, "/");
        for url in ["reviews:9080", "https://reviews", "http://", "http://a:b/", "http://a/ b"] {
            assert!(url.parse::<Target>().is_err(), "{url}");
        }
    }

    #[test]
    fn only_context_travels_on() {
        let head = b"GET / HTTP/1.1\r\nEnd-User: jason\r\nCookie: user=jason\r\nAccept: */*\r\n\r\n";
        let mut storage = [httparse::EMPTY_HEADER; 8];
        let mut request = httparse::Request::new(&mut storage);
        request.parse(head).expect("valid");
        let context = Context::of(&Fields(request.headers), "color=red");
        assert_eq!(context.lines, "cookie: user=jason\r\nend-user: jason\r\n");
    }
}
