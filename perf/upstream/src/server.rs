//! One downstream connection: read a head, decide, answer, again.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::call::{Caller, Context};
use crate::control::Control;
use crate::http2;
use crate::limits::HEADER_COUNT_MAX;
use crate::message::{Fields, Framing, Input, bad};
use crate::options::Options;

/// Body bytes are sent in pieces of this array: a long body needs no memory of its length.
pub static FILLER: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// What every connection needs.
pub struct Service {
    options: Options,
    caller: Caller,
}

/// What of an HTTP/1 request is left once its bytes are used.
struct Request {
    is_head: bool,
    keep_alive: bool,
    expects_continue: bool,
    framing: Framing,
    asked: Asked,
}

/// What decides the answer.
pub struct Asked {
    /// What the request wishes, or why that makes no sense.
    pub control: Result<Control, String>,
    /// What travels on with calls to other services.
    pub context: Context,
}

/// The answer's body.
pub enum Body {
    /// Who answered, and what those it called answered.
    Json(String),
    /// So many bytes.
    Filler(u64),
}

/// An answer before it is written in the client's protocol.
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: Body,
}

impl Service {
    /// A service as the command line describes it.
    pub fn new(options: Options) -> Self {
        let caller = Caller::new(options.outbound_address);
        Self { options, caller }
    }

    /// Serves one connection until either side ends it.
    pub async fn serve(self: Rc<Self>, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        if http2::is_spoken(&stream).await? {
            return http2::serve(self, stream).await;
        }
        let mut input = Input::default();
        let mut output = Vec::new();
        loop {
            let request = loop {
                if let Some(request) = self.parse(&mut input)? {
                    break request;
                }
                if !input.fill(&mut stream).await? {
                    return Ok(());
                }
            };
            if request.framing != Framing::Length(0) {
                if request.expects_continue {
                    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                }
                input.read_body(&mut stream, request.framing, &mut Vec::new(), 0).await?;
            }
            let answer = self.answer(&request.asked).await;
            output.clear();
            self.send(&mut stream, &mut output, &request, &answer).await?;
            if !request.keep_alive {
                return stream.shutdown().await;
            }
        }
    }

    fn parse(&self, input: &mut Input) -> io::Result<Option<Request>> {
        if input.unused().is_empty() {
            return Ok(None);
        }
        let mut storage = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
        let mut head = httparse::Request::new(&mut storage);
        let parsed = head.parse(input.unused()).map_err(|_| bad("request is not HTTP"))?;
        let httparse::Status::Complete(head_len) = parsed else { return Ok(None) };
        let fields = Fields(head.headers);
        let asked = self.asked(head.path.unwrap_or("/"), &fields);
        let keep_alive = match head.version {
            Some(1) => !fields.has_token("connection", "close"),
            _ => fields.has_token("connection", "keep-alive"),
        };
        let request = Request {
            is_head: head.method == Some("HEAD"),
            keep_alive,
            expects_continue: fields.has_token("expect", "100-continue"),
            framing: Framing::of(&fields, Framing::Length(0))?,
            asked,
        };
        input.consume(head_len);
        Ok(Some(request))
    }

    /// What a request asks by its target and fields.
    pub fn asked(&self, target: &str, fields: &Fields<'_>) -> Asked {
        let control = Control::read(target, fields);
        let forwarded_query = control.as_ref().map_or("", |control| control.forwarded_query.as_str());
        let context = if self.options.calls.is_empty() {
            Context::default()
        } else {
            Context::of(fields, forwarded_query)
        };
        Asked { control, context }
    }

    /// Waits, calls others and decides, as the command line and the request say.
    pub async fn answer(&self, asked: &Asked) -> Answer {
        let control = match &asked.control {
            Ok(control) => control,
            Err(reason) => {
                return Answer { status: 400, body: Body::Json(json!({"error": reason}).to_string()) };
            }
        };
        let delay = control.delay.unwrap_or_else(|| self.options.delay.draw());
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        }
        let fails = self.options.error_rate > 0.0 && fastrand::f64() < self.options.error_rate;
        let status = control.status.unwrap_or(if fails { self.options.error_status } else { 200 });
        let body = match control.size.or(self.options.size) {
            Some(size) => Body::Filler(size),
            None => Body::Json(self.describe(&asked.context).await),
        };
        Answer { status, body }
    }

    /// The JSON answer: who we are, and what those we called answered, in the order of the command line.
    async fn describe(&self, context: &Context) -> String {
        let mut running = JoinSet::new();
        for (index, target) in self.options.calls.iter().enumerate() {
            let (caller, target, context) = (self.caller.clone(), target.clone(), context.clone());
            running.spawn_local(async move { (index, caller.call(&target, &context).await) });
        }
        let mut calls = vec![Value::Null; self.options.calls.len()];
        while let Some(finished) = running.join_next().await {
            if let Ok((index, outcome)) = finished {
                calls[index] = outcome;
            }
        }
        json!({"service": self.options.service, "version": self.options.service_version, "calls": calls})
            .to_string()
    }

    async fn send(
        &self,
        stream: &mut TcpStream,
        output: &mut Vec<u8>,
        request: &Request,
        answer: &Answer,
    ) -> io::Result<()> {
        use std::io::Write;
        let (kind, length) = match &answer.body {
            Body::Json(text) => ("application/json", text.len() as u64),
            Body::Filler(size) => ("text/plain", *size),
        };
        let bodiless = matches!(answer.status, 204 | 304);
        write!(output, "HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status))?;
        if !bodiless {
            write!(output, "content-type: {kind}\r\ncontent-length: {length}\r\n")?;
        }
        if !request.keep_alive {
            output.extend_from_slice(b"connection: close\r\n");
        }
        output.extend_from_slice(b"\r\n");
        if bodiless || request.is_head {
            return stream.write_all(output).await;
        }
        match &answer.body {
            Body::Json(text) => {
                output.extend_from_slice(text.as_bytes());
                stream.write_all(output).await
            }
            Body::Filler(size) => {
                // A short body leaves together with its head, in one system call.
                let first = usize::try_from(*size).unwrap_or(usize::MAX).min(FILLER.len());
                output.extend_from_slice(&FILLER[..first]);
                stream.write_all(output).await?;
                let mut left = size - first as u64;
                while left > 0 {
                    let piece = usize::try_from(left).unwrap_or(usize::MAX).min(FILLER.len());
                    stream.write_all(&FILLER[..piece]).await?;
                    left -= piece as u64;
                }
                Ok(())
            }
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}
