//! Raw HTTP/1.1 messages with the verdict and the event log of a widely used strict parser.
//!
//! Each case is fed to ringsail-http whole and byte by byte. A case the corpus accepts agrees when the same
//! messages come out: method, target or status, fields, body bytes, and how many messages are complete. A case
//! it refuses agrees when we refuse it before more messages are complete than it reports. Where the log counts
//! bytes beyond the input, the input lost its last line ends and gets them back.
//!
//! Files under `robustness/` have no expected result: they are fed to both decoders, which must neither panic
//! nor depend on the split.
//!
//! Cases of a lax mode (`lenient` in their type) are negative tests: they do not count as cases, but accepting
//! one is an unsafe accept.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ringsail_http::{
    BodyDecoder, BodyLength, DecodeError, Method, Progress, RequestDecoder, RequestHead, RequestOptions,
    ResponseDecoder, ResponseHead, ResponseTo, TargetForm,
};
use serde_json::Value;

use crate::report::Report;

/// Runs `DIR/vectors.json`.
pub fn run(dir: &Path) -> Result<Report> {
    let path = dir.join("vectors.json");
    let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let cases: Vec<Value> = serde_json::from_slice(&text).context("vectors.json is no list of cases")?;
    let mut report = Report::new("http1-vectors");
    for case in &cases {
        let case = Case::from_json(case)?;
        judge(&case, &mut report);
    }
    for file in files(&dir.join("robustness"))? {
        let input = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        for kind in [Kind::Request, Kind::Response] {
            let case = Case::without_expectation(file.display().to_string(), kind, input.clone());
            if read(&case, &case.input, case.input.len().max(1)) != read(&case, &case.input, 1) {
                report.disagreed(&case.id, "the verdict depends on the split", "one verdict");
            }
        }
    }
    Ok(report)
}

/// All files below a folder; none when it does not exist.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// One vector.
struct Case {
    id: String,
    kind: Kind,
    lenient: bool,
    input: Vec<u8>,
    /// Whether the corpus accepts it.
    accepted: bool,
    expected: Vec<Message>,
    /// Value of `finish=` in the log: 2 means the end of input is an error.
    finish: Option<u32>,
    /// The caller knows that no message has a body.
    skip_body: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Response,
    Url,
}

/// A message as both sides describe it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    /// `METHOD target` or the status.
    start: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    complete: bool,
}

impl Case {
    fn without_expectation(id: String, kind: Kind, input: Vec<u8>) -> Self {
        let (expected, finish) = (Vec::new(), None);
        Self { id, kind, lenient: false, input, accepted: true, expected, finish, skip_body: false }
    }

    fn from_json(case: &Value) -> Result<Self> {
        let text = |key: &str| case[key].as_str().with_context(|| format!("case without `{key}`: {case}"));
        let id = text("id")?.to_owned();
        let (kind, mode) = text("type")?.split_once('-').unwrap_or((text("type")?, ""));
        let kind = match kind {
            "request" => Kind::Request,
            "response" => Kind::Response,
            "url" => Kind::Url,
            other => anyhow::bail!("{id}: unknown type {other}"),
        };
        let log: Vec<&str> =
            case["expected_log"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let input =
            restore(base64(text("input_base64")?).with_context(|| format!("{id}: bad base64"))?, &log);
        let expected =
            if kind == Kind::Url { vec![expected_url(&log, &input)] } else { expected(&log, &input) };
        Ok(Self {
            kind,
            lenient: mode.contains("lenient"),
            accepted: text("outcome")? == "ok",
            expected,
            finish: log.iter().find_map(|line| line.split_once("finish=")?.1.parse().ok()),
            skip_body: case["meta"]["skipBody"].as_bool().unwrap_or(false),
            input,
            id,
        })
    }
}

/// Gives an input back what its log counts and the corpus file lost: trailing line ends, and the UTF-8 form of
/// bytes that were stored as Latin-1.
fn restore(input: Vec<u8>, log: &[&str]) -> Vec<u8> {
    let end =
        log.iter().filter_map(|line| Some(number(line, "off=")? + number(line, "len=").unwrap_or(0))).max();
    let end = end.unwrap_or(0);
    let pad = |mut bytes: Vec<u8>| {
        while bytes.len() < end && bytes.len() + 4 >= end {
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    };
    let utf8: Vec<u8> = input.iter().map(|b| char::from(*b)).collect::<String>().into_bytes();
    let (plain, encoded) = (pad(input), pad(utf8));
    if plain.len() != end && encoded.len() == end { encoded } else { plain }
}

/// The number after `key` in a log line.
fn number(line: &str, key: &str) -> Option<usize> {
    let digits = line.split_once(key)?.1;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The kind of a span line, and the input bytes it covers.
fn span<'i>(line: &str, input: &'i [u8]) -> Option<(String, &'i [u8])> {
    let kind = line.split_once("span[")?.1.split_once(']')?.0;
    let (start, len) = (number(line, "off=")?, number(line, "len=")?);
    Some((kind.to_owned(), input.get(start..start + len)?))
}

/// The messages of an event log whose head is complete.
fn expected(log: &[&str], input: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut current = Message::default();
    let (mut method, mut target, mut in_head) = (Vec::new(), Vec::new(), true);
    let (mut name, mut value) = (Vec::new(), Vec::new());
    for line in log {
        if line.ends_with("message begin") {
            (current, in_head) = (Message::default(), true);
            method.clear();
            target.clear();
        }
        if let Some((kind, bytes)) = span(line, input) {
            match kind.as_str() {
                "method" => method.extend_from_slice(bytes),
                "url" => target.extend_from_slice(bytes),
                "header_field" if in_head => name.extend_from_slice(bytes),
                "header_value" if in_head => value.extend_from_slice(bytes),
                "body" => {
                    if let Some(message) = messages.last_mut() {
                        let message: &mut Message = message;
                        message.body.extend_from_slice(bytes);
                    }
                }
                _ => {}
            }
        } else if line.ends_with("header_value complete") && in_head {
            current.fields.push((show(&name), show(value.trim_ascii())));
            name.clear();
            value.clear();
        } else if let Some((_, facts)) = line.split_once("headers complete ") {
            current.start = match number(facts, "status=") {
                Some(status) => status.to_string(),
                None => format!("{} {}", show(&method), show(&target)),
            };
            if target.split(|b| *b == b'/').next().is_some_and(|first| first.ends_with(b":")) {
                current.fields.retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
            }
            messages.push(std::mem::take(&mut current));
            in_head = false;
        } else if line.ends_with("message complete")
            && let Some(message) = messages.last_mut()
        {
            message.complete = true;
        }
    }
    messages
}

/// The parts of a URL, in the order we report them.
fn expected_url(log: &[&str], input: &[u8]) -> Message {
    let part = |wanted: &str| {
        let bytes = log.iter().filter_map(|line| span(line, input)).filter(|(kind, _)| kind == wanted);
        show(&bytes.flat_map(|(_, bytes)| bytes).copied().collect::<Vec<u8>>())
    };
    let with = |mark: &str, text: String| if text.is_empty() { text } else { format!("{mark}{text}") };
    let path = part("url.path") + &with("?", part("url.query")) + &with("#", part("url.fragment"));
    Message {
        start: url_parts(&part("url.schema"), &part("url.host"), &path),
        complete: true,
        ..Message::default()
    }
}

fn url_parts(scheme: &str, authority: &str, path: &str) -> String {
    format!("scheme {scheme:?} authority {authority:?} path {path:?}")
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// What our code made of an input.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    messages: Vec<Message>,
    refused: Option<Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Decode(DecodeError),
    /// Bytes after the last message of a connection: the engine closes and never reads them.
    AfterClose,
}

impl Verdict {
    fn describe(&self) -> String {
        let complete = self.messages.iter().filter(|m| m.complete).count();
        match self.refused {
            Some(Refusal::Decode(error)) => format!("refused after {complete} messages: {error}"),
            Some(Refusal::AfterClose) => {
                format!("refused after {complete} messages: data after the last message")
            }
            None => format!("accepted, {complete} complete: {:?}", self.messages),
        }
    }
}

fn judge(case: &Case, report: &mut Report) {
    let wanted = if case.accepted { format!("accepted: {:?}", case.expected) } else { "refused".to_owned() };
    let whole = read(case, &case.input, case.input.len().max(1));
    let split = read(case, &case.input, 1);
    let case_complete = case.expected.iter().filter(|m| m.complete).count();
    if case.lenient {
        if accepts(case, &whole, 0) {
            report.unsafe_accepts += 1;
            report.disagreements.push(crate::report::Disagreement {
                id: case.id.clone(),
                ours: whole.describe(),
                expected: "refused (lax mode)".to_owned(),
            });
        }
    } else if whole != split {
        report.disagreed(&case.id, format!("{} / by bytes {}", whole.describe(), split.describe()), wanted);
    } else if case.accepted {
        let end_is_error = whole.messages.iter().any(|m| !m.complete) || whole.messages.is_empty();
        let finish_agrees = case.finish.is_none_or(|finish| {
            // 2: the input may not end here. An until-close body (1) may.
            (finish == 2) == (end_is_error && finish != 1)
        });
        if whole.refused.is_none() && whole.messages == case.expected && finish_agrees {
            report.agreed();
        } else {
            report.disagreed(&case.id, whole.describe(), wanted);
        }
    } else if accepts(case, &whole, case_complete) {
        report.unsafe_accept(&case.id, whole.describe(), wanted);
    } else {
        report.agreed();
    }
}

/// Whether a case that must be refused gets through: more messages are delivered than allowed, or the input is
/// not refused even when a line end and an empty line complete what it began.
fn accepts(case: &Case, verdict: &Verdict, complete_max: usize) -> bool {
    let complete = |v: &Verdict| v.messages.iter().filter(|m| m.complete).count();
    let lax_case_may_deliver = case.lenient && verdict.refused.is_some();
    if complete(verdict) > complete_max && !lax_case_may_deliver {
        return true;
    }
    if verdict.refused.is_some() || case.kind == Kind::Url {
        return verdict.refused.is_none();
    }
    let mut completed = case.input.clone();
    completed.extend_from_slice(b"\r\n\r\n");
    read(case, &completed, completed.len()).refused.is_none()
}

/// Feeds `input` in pieces of `size` bytes to the decoders.
fn read(case: &Case, input: &[u8], size: usize) -> Verdict {
    match case.kind {
        Kind::Url => read_url(input),
        Kind::Request => Reader::new(case, Decoder::Request(RequestDecoder::new(RequestOptions::default())))
            .read(input, size),
        Kind::Response => {
            let method = if case.skip_body { Method::Head } else { Method::Get };
            let to = ResponseTo { method: Some(method), upgrade: true };
            Reader::new(case, Decoder::Response(to, ResponseDecoder::new(to))).read(input, size)
        }
    }
}

enum Decoder {
    Request(RequestDecoder),
    Response(ResponseTo, ResponseDecoder),
}

/// One connection.
struct Reader {
    decoder: Decoder,
    skip_body: bool,
    messages: Vec<Message>,
    body: Option<BodyDecoder>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Another message may follow.
    Open,
    /// The last message was complete; only line ends are tolerated.
    Closed,
    /// Not HTTP any more.
    Tunnel,
}

/// What follows a head.
struct Next {
    body: BodyLength,
    persistent: bool,
    /// The protocol changes after this message.
    upgrade: bool,
}

impl Reader {
    fn new(case: &Case, decoder: Decoder) -> Self {
        Self { decoder, skip_body: case.skip_body, messages: Vec::new(), body: None, state: State::Open }
    }

    fn read(mut self, input: &[u8], size: usize) -> Verdict {
        let mut next = Next { body: BodyLength::None, persistent: true, upgrade: false };
        let mut request = RequestHead::new();
        let mut response = ResponseHead::new();
        for piece in input.chunks(size) {
            let mut rest = piece;
            while !rest.is_empty() {
                match self.step(rest, &mut request, &mut response, &mut next) {
                    Ok(consumed) => rest = rest.get(consumed..).unwrap_or(&[]),
                    Err(refusal) => return Verdict { messages: self.messages, refused: Some(refusal) },
                }
            }
        }
        Verdict { messages: self.messages, refused: None }
    }

    fn step(
        &mut self,
        input: &[u8],
        request: &mut RequestHead,
        response: &mut ResponseHead,
        next: &mut Next,
    ) -> Result<usize, Refusal> {
        match self.state {
            State::Tunnel => return Ok(input.len()),
            State::Closed if matches!(input.first(), Some(b'\r' | b'\n')) => return Ok(1),
            State::Closed => return Err(Refusal::AfterClose),
            State::Open => {}
        }
        if let Some(body) = &mut self.body {
            let step = body.decode(input).map_err(Refusal::Decode)?;
            if let Some(message) = self.messages.last_mut() {
                message.body.extend_from_slice(input.get(step.data.clone()).unwrap_or(&[]));
            }
            if step.end {
                self.end_message(next);
            }
            return Ok(step.consumed);
        }
        let progress = match &mut self.decoder {
            Decoder::Request(decoder) => decoder.decode(input, request),
            Decoder::Response(_, decoder) => decoder.decode(input, response),
        };
        let Progress::Complete { consumed } = progress.map_err(Refusal::Decode)? else {
            return Ok(input.len());
        };
        *next = self.begin_message(request, response);
        let body = if self.skip_body { BodyLength::None } else { next.body };
        let decoder = BodyDecoder::new(body);
        if decoder.is_end() || body == BodyLength::Tunnel {
            self.end_message(next);
        } else {
            self.body = Some(decoder);
        }
        Ok(consumed)
    }

    fn begin_message(&mut self, request: &RequestHead, response: &ResponseHead) -> Next {
        let (start, fields, next) = match &mut self.decoder {
            Decoder::Request(_) => {
                let upgrade = request.upgrade().is_some() || request.framing().body == BodyLength::Tunnel;
                let start = format!("{} {}", show(request.method_name()), show(request.target()));
                let framing = request.framing();
                (
                    start,
                    request.fields(),
                    Next { body: framing.body, persistent: framing.persistent, upgrade },
                )
            }
            Decoder::Response(to, decoder) => {
                let framing = response.framing();
                if response.status() >= 200 {
                    *decoder = ResponseDecoder::new(*to);
                }
                let upgrade = framing.body == BodyLength::Tunnel;
                let next = Next { body: framing.body, persistent: framing.persistent, upgrade };
                (response.status().to_string(), response.fields(), next)
            }
        };
        // The authority of an absolute target stands in for Host (RFC 9112 §3.2.2): our head says so, a
        // parser's log does not.
        let absolute =
            matches!(self.decoder, Decoder::Request(_)) && request.target_form() == TargetForm::Absolute;
        let fields = fields.iter().filter(|(name, _)| !absolute || !name.eq_ignore_ascii_case(b"host"));
        let fields = fields.map(|(name, value)| (show(name), show(value))).collect();
        self.messages.push(Message { start, fields, ..Message::default() });
        next
    }

    fn end_message(&mut self, next: &Next) {
        self.body = None;
        if let Some(message) = self.messages.last_mut() {
            message.complete = true;
        }
        self.state = match next {
            Next { upgrade: true, .. } => State::Tunnel,
            Next { persistent: false, .. } => State::Closed,
            Next { .. } => State::Open,
        };
    }
}

/// A bare URL is read as the target of a request.
fn read_url(url: &[u8]) -> Verdict {
    let mut text = b"GET ".to_vec();
    text.extend_from_slice(url);
    text.extend_from_slice(b" HTTP/1.1\r\n\r\n");
    let mut head = RequestHead::new();
    match RequestDecoder::new(RequestOptions::default()).decode(&text, &mut head) {
        Ok(Progress::Complete { .. }) => {
            let start = url_parts(
                &show(head.target_scheme()),
                &show(head.authority().unwrap_or(&[])),
                &show(head.path()),
            );
            Verdict { messages: vec![Message { start, complete: true, ..Message::default() }], refused: None }
        }
        Ok(Progress::NeedMore) => {
            Verdict { messages: Vec::new(), refused: Some(Refusal::Decode(DecodeError::Incomplete)) }
        }
        Err(error) => Verdict { messages: Vec::new(), refused: Some(Refusal::Decode(error)) },
    }
}

/// RFC 4648 §4. The corpus is the only base64 here, so no crate is drawn in for it.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}
