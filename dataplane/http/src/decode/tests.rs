use super::*;
use crate::{
    BodyDecoder, BodyLength, DecodeError, Fault, Method, RequestHead, ResponseHead, TargetForm, Version,
};

fn options() -> RequestOptions {
    RequestOptions::default()
}

/// Feeds `pieces` one after the other until a head is complete.
fn decode_pieces<'a>(
    options: RequestOptions,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<RequestHead>, DecodeError> {
    let mut decoder = RequestDecoder::new(options);
    let mut head = RequestHead::new();
    for piece in pieces {
        if let Progress::Complete { .. } = decoder.decode(piece, &mut head)? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

fn whole(text: &[u8]) -> Result<Option<RequestHead>, DecodeError> {
    decode_pieces(options(), std::iter::once(text))
}

fn request(text: &str) -> RequestHead {
    whole(text.as_bytes())
        .unwrap_or_else(|e| panic!("{text:?}: {e}"))
        .unwrap_or_else(|| panic!("{text:?}: partial"))
}

/// The verdict on a complete head, the same however it is split.
fn refused(text: &str) -> DecodeError {
    let bytes = text.as_bytes();
    let error = whole(bytes).err().unwrap_or_else(|| panic!("accepted {text:?}"));
    assert_eq!(decode_pieces(options(), bytes.chunks(1)).err(), Some(error), "byte by byte: {text:?}");
    for at in 0..bytes.len() {
        let (a, b) = bytes.split_at(at);
        assert_eq!(
            decode_pieces(options(), [a, b].into_iter()).err(),
            Some(error),
            "split at {at}: {text:?}"
        );
    }
    error
}

fn summary(head: &RequestHead) -> String {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    format!(
        "{} {} {:?} {:?} {:?} {:?}",
        text(head.method_name()),
        text(head.path()),
        head.version(),
        head.authority().map(text),
        head.framing(),
        head.fields().iter().map(|(n, v)| (text(n), text(v))).collect::<Vec<_>>()
    )
}

const SAMPLE: &str = "\r\nPOST /a/b?c HTTP/1.1\r\nHost: x.example:80\r\nContent-Length: 5\r\nX-MiXed:\t v v \t\r\nEmpty:\r\n\r\n";

#[test]
fn head_parts_are_found() {
    let head = request(SAMPLE);
    assert_eq!(head.method(), Some(Method::Post));
    assert_eq!(head.target(), b"/a/b?c");
    assert_eq!(head.path(), b"/a/b?c");
    assert_eq!(head.authority(), Some(&b"x.example:80"[..]));
    assert_eq!(head.version(), Version::Http11);
    assert_eq!(head.framing().body, BodyLength::Length(5));
    assert!(head.framing().persistent);
    assert_eq!(head.fields().get("x-mixed"), Some(&b"v v"[..]));
    assert_eq!(head.fields().get("empty"), Some(&b""[..]));
}

#[test]
fn any_split_gives_the_same_head() {
    let expected = summary(&request(SAMPLE));
    let bytes = SAMPLE.as_bytes();
    for at in 0..bytes.len() {
        let (a, b) = bytes.split_at(at);
        let head = decode_pieces(options(), [a, b].into_iter()).unwrap().unwrap();
        assert_eq!(summary(&head), expected, "split at {at}");
    }
    let head = decode_pieces(options(), bytes.chunks(1)).unwrap().unwrap();
    assert_eq!(summary(&head), expected);
}

#[test]
fn truncated_head_is_neither_complete_nor_fine_at_the_end() {
    let bytes = SAMPLE.as_bytes();
    for at in 3..bytes.len() {
        let mut decoder = RequestDecoder::new(options());
        let mut head = RequestHead::new();
        assert_eq!(decoder.decode(&bytes[..at], &mut head), Ok(Progress::NeedMore), "{at}");
        assert!(decoder.in_head());
        assert_eq!(decoder.finish(), Err(DecodeError::Incomplete));
    }
}

#[test]
fn connection_between_messages_is_idle_and_may_end() {
    let mut decoder = RequestDecoder::new(options());
    let mut head = RequestHead::new();
    assert_eq!(decoder.decode(b"\r\n\r\n", &mut head), Ok(Progress::NeedMore));
    assert!(!decoder.in_head());
    assert_eq!(decoder.finish(), Ok(()));
}

#[test]
fn pipelined_heads_come_one_by_one() {
    let text = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\nGET";
    let mut decoder = RequestDecoder::new(options());
    let mut head = RequestHead::new();
    let mut at = 0;
    for (path, host) in [("/1", "a"), ("/2", "b")] {
        let Ok(Progress::Complete { consumed }) = decoder.decode(&text[at..], &mut head) else { panic!() };
        at += consumed;
        assert_eq!(head.path(), path.as_bytes());
        assert_eq!(head.authority(), Some(host.as_bytes()));
    }
    assert_eq!(decoder.decode(&text[at..], &mut head), Ok(Progress::NeedMore));
    assert!(decoder.in_head());
}

#[test]
fn decoding_into_a_warm_head_allocates_nothing() {
    let mut decoder = RequestDecoder::new(options());
    let mut head = RequestHead::new();
    decoder.decode(SAMPLE.as_bytes(), &mut head).unwrap();
    let held = head.heap_bytes();
    for _ in 0..3 {
        decoder.decode(SAMPLE.as_bytes(), &mut head).unwrap();
        assert_eq!(head.heap_bytes(), held);
    }
}

#[test]
fn framing_that_receivers_could_read_differently_is_refused() {
    let with = |fields: &str| refused(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    use DecodeError as E;
    assert_eq!(with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), E::AmbiguousLength);
    assert_eq!(with("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), E::AmbiguousLength);
    assert_eq!(with("Content-Length: 1\r\nContent-Length: 1\r\n"), E::ContentLength);
    assert_eq!(with("Content-Length: 1, 1\r\n"), E::ContentLength);
    for bad in ["", "-1", "+1", "1 1", "0x1", "1a", "9223372036854775808", "99999999999999999999999", "１"] {
        assert_eq!(with(&format!("Content-Length: {bad}\r\n")), E::ContentLength, "{bad}");
    }
    for bad in
        ["gzip", "gzip, chunked", "chunked, gzip", "identity", "chunked;a=b", "\u{b}chunked", "", "xchunked"]
    {
        let error = with(&format!("Transfer-Encoding: {bad}\r\n"));
        assert!(matches!(error, E::TransferEncoding | E::FieldValue), "{bad}: {error}");
    }
    assert_eq!(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), E::TransferEncoding);
    assert_eq!(
        refused("POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"),
        E::TransferEncodingHttp10
    );
}

#[test]
fn lines_that_end_in_anything_but_crlf_are_refused() {
    use DecodeError as E;
    assert_eq!(refused("GET / HTTP/1.1\nHost: a\r\n\r\n"), E::LineEnd);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\n\r\n"), E::LineEnd);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\n\n"), E::LineEnd);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"), E::FieldValue);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"), E::FieldValue);
    assert_eq!(refused("GET / HTTP/1.1\r\r\n\r\n"), E::LineEnd);
    assert_eq!(refused("\nGET / HTTP/1.1\r\n\r\n"), E::LineEnd);
    assert_eq!(refused("\rGET / HTTP/1.1\r\n\r\n"), E::LineEnd);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\n\rX"), E::LineEnd);
}

#[test]
fn malformed_fields_are_refused() {
    use DecodeError as E;
    let with = |field: &str| refused(&format!("GET / HTTP/1.1\r\nA: 1\r\n{field}\r\n\r\n"));
    assert_eq!(with("Content-Length : 3"), E::FieldName);
    assert_eq!(with("Transfer-Encoding\t: chunked"), E::FieldName);
    assert_eq!(with(": x"), E::FieldName);
    assert_eq!(with("no colon"), E::FieldName);
    assert_eq!(with("nocolon"), E::FieldName);
    assert_eq!(with("a\u{e9}: x"), E::FieldName);
    assert_eq!(with(" folded"), E::FoldedLine);
    assert_eq!(with("\tfolded"), E::FoldedLine);
    assert_eq!(refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), E::FoldedLine);
    assert_eq!(with("A: \0"), E::FieldValue);
    assert_eq!(with("A: x\u{7f}"), E::FieldValue);
    assert_eq!(with("A: \u{1}x"), E::FieldValue);
    assert!(whole(b"GET / HTTP/1.1\r\nA: \xff\x80\r\n\r\n").is_ok());
}

#[test]
fn malformed_request_lines_are_refused() {
    use DecodeError as E;
    let with = |line: &str| refused(&format!("{line}\r\nHost: a\r\n\r\n"));
    assert_eq!(with("GET  / HTTP/1.1"), E::Target);
    assert_eq!(with("GET /  HTTP/1.1"), E::StartLine);
    assert_eq!(with("GET /\tHTTP/1.1"), E::Target);
    assert_eq!(with("GET / HTTP/1.1 "), E::LineEnd);
    assert_eq!(with(" GET / HTTP/1.1"), E::StartLine);
    assert_eq!(with("GET /a b HTTP/1.1"), E::StartLine);
    assert_eq!(with("GET /\u{e9} HTTP/1.1"), E::Target);
    assert_eq!(with("GET /\u{7f} HTTP/1.1"), E::Target);
    assert_eq!(with("get / HTTP/1.1"), E::Method);
    assert_eq!(with("FOO / HTTP/1.1"), E::Method);
    assert_eq!(with("GE(T / HTTP/1.1"), E::StartLine);
    assert_eq!(with("GET path HTTP/1.1"), E::Target);
    assert_eq!(with("GET * HTTP/1.1"), E::AsteriskTarget);
    assert_eq!(with("GET ftp://a/b HTTP/1.1"), E::Scheme);
    assert_eq!(with("GET http:///b HTTP/1.1"), E::Authority);
    assert_eq!(with("GET http://a\"b/ HTTP/1.1"), E::Authority);
    assert_eq!(with("GET / http/1.1"), E::StartLine);
    assert_eq!(with("GET / HTTP/1.10"), E::LineEnd);
    assert_eq!(with("GET / HTTPS/1.1"), E::StartLine);
    assert_eq!(with("hello world"), E::Target);
    assert_eq!(with("FOO /"), E::Target);
    assert_eq!(with("FOO / HTTP/2.0"), E::Method);
    assert_eq!(with("GET path"), E::Target);
}

#[test]
fn other_versions_ask_for_an_upgrade() {
    for line in ["GET / HTTP/2.0", "GET / HTTP/1.2", "GET / HTTP/0.9", "GET / HTTP/5.6", "GET /"] {
        let error = refused(&format!("{line}\r\n\r\n"));
        assert_eq!(
            (error, error.status(), error.details()),
            (DecodeError::Version, 426, "low_version"),
            "{line}"
        );
    }
}

#[test]
fn a_peer_that_does_not_speak_http_is_refused_at_its_first_bytes() {
    for bytes in [&b"\x16\x03\x01\x02"[..], b"SSH-2.0-OpenSSH\r", b"{\"a\"", b"*1\r\n"] {
        let mut head = RequestHead::new();
        let result = RequestDecoder::new(options()).decode(bytes, &mut head);
        // `*` and `SSH-2.0-OpenSSH` are tokens: refused at the first byte that is not.
        assert!(result.is_err(), "{bytes:?}");
    }
}

#[test]
fn connect_takes_an_authority_and_never_leaves_a_body_behind() {
    let head = request("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\n");
    assert_eq!(head.target_form(), TargetForm::Authority);
    assert_eq!(head.authority(), Some(&b"a.example:443"[..]));
    assert_eq!(head.framing().body, BodyLength::Tunnel);
    assert!(!head.framing().persistent);
    for target in ["a.example", "/a:1", "http://a:1", "a:", ":1", "a:0", "a:65536", "u@a:1", "a:+1"] {
        let result = whole(format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes());
        assert!(result.is_err(), "{target}");
    }
}

#[test]
fn absolute_target_overrides_host() {
    let head = request("GET HTTP://u.example:8080/x?y HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!(head.target_form(), TargetForm::Absolute);
    assert_eq!(head.target_scheme(), b"HTTP");
    assert_eq!(head.authority(), Some(&b"u.example:8080"[..]));
    assert_eq!(head.path(), b"/x?y");
    assert_eq!(head.fields().get("host"), Some(&b"u.example:8080"[..]));
    assert_eq!(request("GET http://a HTTP/1.1\r\n\r\n").path(), b"/");
    assert_eq!(request("GET http://a?b HTTP/1.1\r\n\r\n").path(), b"/?b");
}

#[test]
fn hosts_are_checked() {
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), DecodeError::DuplicateHost);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), DecodeError::Authority);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), DecodeError::Authority);
    for bad in ["a@b@c", "[::1", "[]", "[::1]x", "a[::1]", "::1]", "a]b", "[[::1]]", "a\\b", "a?b", "a#b"] {
        let error = refused(&format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n"));
        assert_eq!((error, error.details()), (DecodeError::Authority, "http.invalid_authority"), "{bad}");
    }
    for good in ["a", "A.b:80", "[::1]", "[fe80::1%25eth0]:80", "u:p@a:80", "0.0.0.0=5000", "x_y.", "a%20b"] {
        assert_eq!(
            request(&format!("GET / HTTP/1.1\r\nHost: {good}\r\n\r\n")).authority(),
            Some(good.as_bytes())
        );
    }
    assert_eq!(request("GET / HTTP/1.1\r\nHost:\r\n\r\n").authority(), Some(&b""[..]));
    assert_eq!(request("GET / HTTP/1.1\r\n\r\n").authority(), None);
}

#[test]
fn persistence_follows_version_and_connection() {
    let ask = |version: &str, connection: &str| {
        request(&format!("GET / {version}\r\nHost: a\r\n{connection}\r\n")).framing().persistent
    };
    assert!(ask("HTTP/1.1", ""));
    assert!(!ask("HTTP/1.1", "Connection: x, CLOSE\r\n"));
    assert!(!ask("HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
    assert!(!ask("HTTP/1.0", ""));
    assert!(ask("HTTP/1.0", "Connection: Keep-Alive\r\n"));
}

#[test]
fn head_size_is_limited_to_the_byte() {
    let head_of = |len: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "v".repeat(len - start.len() - 4))
    };
    let max = options().head_bytes_max;
    let bytes = head_of(max);
    assert_eq!(bytes.len(), max);
    assert!(matches!(whole(bytes.as_bytes()), Ok(Some(_))));
    let over = head_of(max + 1);
    for size in [max + 1, 4096, 1000] {
        let error = decode_pieces(options(), over.as_bytes().chunks(size)).unwrap_err();
        assert_eq!(error, DecodeError::HeadTooLarge);
        assert_eq!(
            (error.status(), error.fault(), error.details()),
            (431, Fault::Limit, "http1.headers_too_large")
        );
    }
}

#[test]
fn number_of_fields_is_limited() {
    let head_of = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert!(matches!(whole(head_of(100).as_bytes()), Ok(Some(_))));
    let error = refused(&head_of(101));
    assert_eq!((error, error.details()), (DecodeError::TooManyFields, "http1.too_many_headers"));
}

#[test]
fn empty_lines_before_a_request_are_limited() {
    let max = crate::limits::LEADING_EMPTY_BYTES_MAX / 2;
    let with = |count: usize| format!("{}GET / HTTP/1.1\r\n\r\n", "\r\n".repeat(count));
    assert!(matches!(whole(with(max).as_bytes()), Ok(Some(_))));
    assert_eq!(refused(&with(max + 1)), DecodeError::TooManyEmptyLines);
}

#[test]
fn underscores_follow_the_configuration() {
    let text = b"GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 3\r\n\r\n";
    let with =
        |underscores| decode_pieces(RequestOptions { underscores, ..options() }, std::iter::once(&text[..]));
    assert_eq!(with(UnderscoreNames::Allow).unwrap().unwrap().fields().len(), 2);
    assert_eq!(with(UnderscoreNames::Drop).unwrap().unwrap().fields().len(), 1);
    assert_eq!(with(UnderscoreNames::Reject).unwrap_err().details(), "http1.unexpected_underscore");
}

#[test]
fn custom_methods_pass_when_allowed() {
    let custom = RequestOptions { custom_methods: true, ..options() };
    let head = decode_pieces(custom, std::iter::once(&b"FOO / HTTP/1.1\r\n\r\n"[..])).unwrap().unwrap();
    assert_eq!((head.method(), head.method_name()), (None, &b"FOO"[..]));
}

fn response_to(to: ResponseTo, text: &str) -> Result<ResponseHead, DecodeError> {
    let mut head = ResponseHead::new();
    let whole = match ResponseDecoder::new(to).decode(text.as_bytes(), &mut head) {
        Ok(Progress::Complete { consumed }) if consumed == text.len() => Ok(head),
        Ok(progress) => panic!("{text:?}: {progress:?}"),
        Err(error) => Err(error),
    };
    let mut decoder = ResponseDecoder::new(to);
    let mut split_head = ResponseHead::new();
    let split = text.as_bytes().chunks(1).find_map(|byte| match decoder.decode(byte, &mut split_head) {
        Ok(Progress::NeedMore) => None,
        Ok(Progress::Complete { .. }) => Some(Ok(())),
        Err(error) => Some(Err(error)),
    });
    assert_eq!(split, Some(whole.as_ref().map(|_| ()).map_err(|e| *e)), "byte by byte: {text:?}");
    whole
}

fn response(text: &str) -> Result<ResponseHead, DecodeError> {
    response_to(ResponseTo { method: Some(Method::Get), upgrade: false }, text)
}

#[test]
fn response_bodies_end_as_the_standard_says() {
    let body = |method, upgrade, text: &str| {
        response_to(ResponseTo { method: Some(method), upgrade }, text).unwrap().framing().body
    };
    let get = |text: &str| body(Method::Get, false, text);
    assert_eq!(get("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"), BodyLength::Length(3));
    assert_eq!(get("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), BodyLength::Chunked);
    assert_eq!(get("HTTP/1.1 200 OK\r\n\r\n"), BodyLength::UntilClose);
    assert_eq!(get("HTTP/1.1 204 No Content\r\n\r\n"), BodyLength::None);
    assert_eq!(get("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"), BodyLength::None);
    assert_eq!(get("HTTP/1.1 103 Early Hints\r\n\r\n"), BodyLength::None);
    assert_eq!(body(Method::Head, false, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"), BodyLength::None);
    assert_eq!(
        body(Method::Connect, false, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
        BodyLength::Tunnel
    );
    assert_eq!(
        body(Method::Connect, false, "HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\n"),
        BodyLength::Length(3)
    );
    assert_eq!(body(Method::Get, true, "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\n\r\n"), BodyLength::Tunnel);
}

#[test]
fn bad_responses_are_refused() {
    use DecodeError as E;
    let refused = |text: &str| response(text).err().unwrap_or_else(|| panic!("accepted {text:?}"));
    assert_eq!(refused("HTTP/1.1 101 Go\r\nUpgrade: websocket\r\n\r\n"), E::UnexpectedUpgrade);
    assert_eq!(refused("HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n"), E::BodyNotAllowed);
    assert_eq!(refused("HTTP/1.1 100 Go\r\nTransfer-Encoding: chunked\r\n\r\n"), E::BodyNotAllowed);
    assert_eq!(
        refused("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n"),
        E::ContentLength
    );
    assert_eq!(
        refused("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
        E::AmbiguousLength
    );
    assert_eq!(refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n"), E::TransferEncoding);
    assert_eq!(refused("HTTP/1.1 20 OK\r\n\r\n"), E::Status);
    assert_eq!(refused("HTTP/1.1 099 OK\r\n\r\n"), E::Status);
    assert_eq!(refused("HTTP/1.1 2000 OK\r\n\r\n"), E::Status);
    assert_eq!(refused("HTTP/2 200 OK\r\n\r\n"), E::StartLine);
    assert_eq!(refused("HTTP/1.1 200 OK\nA: b\n\n"), E::LineEnd);
    assert_eq!(refused("hello\r\n\r\n"), E::StartLine);
}

#[test]
fn reason_phrase_is_kept_byte_for_byte() {
    let reason = |line: &[u8]| {
        let mut head = ResponseHead::new();
        ResponseDecoder::new(ResponseTo::default()).decode(line, &mut head).unwrap();
        head.reason().to_vec()
    };
    assert_eq!(reason(b"HTTP/1.1 500 Ori\xebnt \r\n\r\n"), b"Ori\xebnt ");
    assert_eq!(reason(b"HTTP/1.1 404 \r\n\r\n"), b"Not Found");
    assert_eq!(reason(b"HTTP/1.1 404\r\n\r\n"), b"Not Found");
}

#[test]
fn interim_responses_come_before_the_final_one() {
    let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let mut decoder = ResponseDecoder::new(ResponseTo::default());
    let mut head = ResponseHead::new();
    assert!(!decoder.answered());
    let mut at = 0;
    for status in [100, 103, 200] {
        let Ok(Progress::Complete { consumed }) = decoder.decode(&text[at..], &mut head) else { panic!() };
        at += consumed;
        assert_eq!(head.status(), status);
        assert!(decoder.answered());
    }
    assert_eq!(at, text.len());
}

#[test]
fn http_1_0_chunked_answer_is_read_and_its_connection_not_reused() {
    let head =
        response("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(head.framing().body, BodyLength::Chunked);
    assert!(!head.framing().persistent);
}

/// A small seeded generator (xorshift): the crate has no use for a random source otherwise.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Everything one connection's decoders report about `pieces`, data joined.
fn transcript<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let mut log = String::new();
    let mut decoder = RequestDecoder::new(options());
    let mut head = RequestHead::new();
    let mut body: Option<BodyDecoder> = None;
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            if let Some(current) = &mut body {
                match current.decode(rest) {
                    Ok(step) => {
                        log += &rest[step.data.clone()].escape_ascii().to_string();
                        rest = &rest[step.consumed..];
                        if step.end {
                            log += &format!("|end {:?}\n", current.trailers().map(|t| t.len()));
                            body = None;
                        }
                    }
                    Err(error) => return log + &format!("{error:?}"),
                }
                continue;
            }
            match decoder.decode(rest, &mut head) {
                Ok(Progress::NeedMore) => rest = &[],
                Ok(Progress::Complete { consumed }) => {
                    rest = &rest[consumed..];
                    log += &summary(&head);
                    log.push('\n');
                    let next = BodyDecoder::new(head.framing().body);
                    body = (!next.is_end()).then_some(next);
                }
                Err(error) => return log + &format!("{error:?}"),
            }
        }
    }
    log
}

/// A stream of plausible and implausible pieces.
fn random_stream(random: &mut Random) -> Vec<u8> {
    let pieces: &[&str] = &[
        "GET / HTTP/1.1\r\n",
        "POST /p HTTP/1.1\r\n",
        "Host: a\r\n",
        "Content-Length: 3\r\n",
        "\r\n",
        "\r",
        "\n",
        " ",
        "Transfer-Encoding: chunked\r\n",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        "0\r\n",
        "T: v\r\n",
        "a;b=\"c\r\n",
        "\0",
        "Connection: close\r\n",
        ":",
        "HTTP/1.1",
        "ffffffffffffffff",
        "CONNECT a:1 HTTP/1.1\r\n",
        "\u{e9}",
        "\t",
        "GET http://b/ HTTP/1.1\r\n",
        "2;x=\"\\\"\"\r\nhi\r\n",
        "Host: [::1]:80\r\n",
        "GET http://c?d HTTP/1.1\r\n",
    ];
    let mut stream = Vec::new();
    for _ in 0..random.below(14) {
        stream.extend_from_slice(pieces[random.below(pieces.len())].as_bytes());
        if random.below(20) == 0 {
            stream.push(random.below(256) as u8);
        }
    }
    stream
}

fn random(seed: u64) -> Random {
    Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[test]
fn random_streams_never_panic_and_do_not_depend_on_the_split() {
    for seed in 1..4000u64 {
        let mut random = random(seed);
        let stream = random_stream(&mut random);
        let expected = transcript(std::iter::once(&stream[..]));
        assert_eq!(transcript(stream.chunks(1)), expected, "seed {seed}: {}", stream.escape_ascii());
        let size = 1 + random.below(7);
        assert_eq!(transcript(stream.chunks(size)), expected, "seed {seed}: {}", stream.escape_ascii());
    }
}

/// What goes out means the same to the next decoder: the heart of not smuggling requests.
#[test]
fn what_is_accepted_keeps_its_meaning_when_forwarded() {
    let mut forwarded_count = 0;
    for seed in 1..40_000u64 {
        let stream = random_stream(&mut random(seed));
        let Ok(Some(mut head)) = whole(&stream) else { continue };
        if head.framing().body == BodyLength::Tunnel {
            continue;
        }
        let mut forwarded = Vec::new();
        crate::encode_request(&head, &mut forwarded);
        let again =
            whole(&forwarded).unwrap_or_else(|e| panic!("seed {seed}: {e}: {}", forwarded.escape_ascii()));
        let mut again =
            again.unwrap_or_else(|| panic!("seed {seed}: incomplete: {}", forwarded.escape_ascii()));
        head.fields_mut().remove("transfer-encoding");
        again.fields_mut().remove("transfer-encoding");
        assert_eq!(summary(&again), summary(&head), "seed {seed}");
        forwarded_count += 1;
    }
    assert!(forwarded_count > 100, "only {forwarded_count} heads were accepted");
}
