//! The answers Envoy 1.40 was seen to give to bad and odd requests, row by row (envoy-observed §2, §3), and the
//! rows where we differ on purpose.

use ringsail_http::{
    BodyDecoder, DecodeError, Progress, RequestDecoder, RequestHead, RequestOptions, UnderscoreNames, Version,
};

/// Status, body and `RESPONSE_CODE_DETAILS`.
type Answer = (u16, &'static str, &'static str);

/// Decodes one request, head and body.
fn decode(request: &[u8], options: RequestOptions) -> Result<RequestHead, DecodeError> {
    let mut head = RequestHead::new();
    let mut decoder = RequestDecoder::new(options);
    let consumed = match decoder.decode(request, &mut head)? {
        Progress::Complete { consumed } => consumed,
        Progress::NeedMore => panic!("incomplete: {}", request.escape_ascii()),
    };
    let mut rest = &request[consumed..];
    let mut body = BodyDecoder::new(head.framing().body);
    while !rest.is_empty() && !body.is_end() {
        let step = body.decode(rest)?;
        rest = &rest[step.consumed..];
    }
    Ok(head)
}

fn accepted(request: &[u8]) -> RequestHead {
    decode(request, RequestOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", request.escape_ascii()))
}

fn answer(request: &[u8]) -> Answer {
    answer_with(request, RequestOptions::default())
}

fn answer_with(request: &[u8], options: RequestOptions) -> Answer {
    let error = decode(request, options).expect_err(&request.escape_ascii().to_string());
    (error.status(), error.body(), error.details())
}

#[test]
fn codec_errors_are_answered_as_envoy_does() {
    let codec_error = (400, "Bad Request", "http1.codec_error");
    let rows: &[(&[u8], Answer)] = &[
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", codec_error),
        (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", codec_error),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", codec_error),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA b: c\r\n\r\n", codec_error),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA : c\r\n\r\n", codec_error),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", codec_error),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", codec_error),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", codec_error),
        (b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", codec_error),
        (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", codec_error),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", codec_error),
        (b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", codec_error),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", codec_error),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n0\n\n", codec_error),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: \0\r\n\r\n", (400, "Bad Request", "http1.invalid_characters")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: \x01\r\n\r\n", (400, "Bad Request", "http1.invalid_characters")),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            (400, "Bad Request", "http1.content_length_and_chunked_not_allowed"),
        ),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", (400, "Bad Request", "http1.invalid_url")),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", (400, "Bad Request", "http1.invalid_scheme")),
        (b"GET / HTTP/1.1\r\nHost: a\"b\r\n\r\n", (400, "Bad Request", "http.invalid_authority")),
    ];
    for (request, expected) in rows {
        assert_eq!(answer(request), *expected, "{}", request.escape_ascii());
    }
}

#[test]
fn transfer_encodings_other_than_one_chunked_are_not_implemented() {
    for encoding in ["gzip", "gzip, chunked", "identity", "chunked, chunked"] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {encoding}\r\n\r\n");
        assert_eq!(answer(request.as_bytes()), (501, "Not Implemented", "http1.invalid_transfer_encoding"));
    }
    accepted(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n");
}

#[test]
fn versions_other_than_http_1_are_asked_to_upgrade() {
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0"] {
        let request = format!("GET / {version}\r\nHost: a\r\n\r\n");
        assert_eq!(answer(request.as_bytes()), (426, "Upgrade Required", "low_version"));
    }
    // HTTP/1.0 is decoded: whether it is accepted is the connection manager's configuration.
    assert_eq!(accepted(b"GET / HTTP/1.0\r\n\r\n").version(), Version::Http10);
}

#[test]
fn heads_beyond_their_limits_are_too_large() {
    let mut long = b"GET / HTTP/1.1\r\nHost: a\r\nA: ".to_vec();
    long.resize(61_441, b'x');
    let too_large = (431, "Request Header Fields Too Large");
    let (status, body, details) = answer(&long);
    assert_eq!(((status, body), details), (too_large, "http1.headers_too_large"));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(101));
    let (status, body, details) = answer(many.as_bytes());
    assert_eq!(((status, body), details), (too_large, "http1.too_many_headers"));
}

#[test]
fn underscores_are_refused_where_configured() {
    let options = RequestOptions { underscores: UnderscoreNames::Reject, ..RequestOptions::default() };
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nA_b: c\r\n\r\n";
    assert_eq!(answer_with(request, options), (400, "Bad Request", "http1.unexpected_underscore"));
}

#[test]
fn what_real_clients_send_is_accepted() {
    let rows: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: user:password@a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: A.Example:8080\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: \xff\xfe\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\nT: v\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        b"PURGE / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: something-else\r\nContent-Length: 0\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\"x<>#y HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for request in rows {
        accepted(request);
    }
}

/// Compat: Envoy accepts these. Two receivers can read each of them differently, so we refuse.
#[test]
fn ambiguous_requests_that_envoy_accepts_are_refused() {
    let rows: &[&[u8]] = &[
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
    ];
    for request in rows {
        let (status, body, _) = answer(request);
        assert_eq!((status, body), (400, "Bad Request"), "{}", request.escape_ascii());
    }
}
