//! The targets. Each takes any bytes.

use prost::Message;
use prost_types::Any;
use ringsail_agent::{dns, document};
use ringsail_engine::client_hello;
use ringsail_engine::sniff::{Inspectors, recognize};
use ringsail_http::path::{EscapedSlashes, Fragment, Normalization, Outcome};
use ringsail_http::{
    BodyDecoder, BodyLength, DecodeError, Method, Progress, RequestDecoder, RequestHead, RequestOptions,
    ResponseDecoder, ResponseHead, ResponseTo,
};
use ringsail_tables::cel::Expression;
use ringsail_tables::istio::Workload;
use ringsail_tables::regex_re2::Regex;
use ringsail_tables::{Change, Compiler, ResourceType};
use ringsail_telemetry::access_log::{Context, LogFormat};
use ringsail_telemetry::trace::{Format, Incoming};
use ringsail_xds::envoy::config::bootstrap::v3::Bootstrap;
use ringsail_xds::json::Schema;

/// A target with what the short run starts from.
pub struct Target {
    /// Its name, as `cargo fuzz run NAME` takes it.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
    /// Inputs that are right or almost right.
    pub seeds: &'static [&'static [u8]],
    /// Pieces that mean something.
    pub words: &'static [&'static [u8]],
    /// Rounds of the short run; the costly targets have fewer.
    pub rounds: u32,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "request_head", run: request_head, seeds: REQUESTS, words: HTTP_WORDS, rounds: 2_000 },
    Target { name: "response_head", run: response_head, seeds: RESPONSES, words: HTTP_WORDS, rounds: 2_000 },
    Target { name: "chunked_body", run: chunked_body, seeds: CHUNKS, words: CHUNK_WORDS, rounds: 6_000 },
    Target { name: "path", run: path, seeds: PATHS, words: PATH_WORDS, rounds: 6_000 },
    Target {
        name: "client_hello",
        run: hello,
        seeds: HELLOS,
        words: &[b"\x16\x03\x01", b"\0\0"],
        rounds: 6_000,
    },
    Target { name: "sniff", run: sniff, seeds: FIRST_BYTES, words: HTTP_WORDS, rounds: 6_000 },
    Target {
        name: "trace_context",
        run: trace_context,
        seeds: CONTEXTS,
        words: CONTEXT_WORDS,
        rounds: 6_000,
    },
    Target { name: "peer_metadata", run: peer_metadata, seeds: PEERS, words: PEER_WORDS, rounds: 6_000 },
    Target { name: "log_format", run: log_format, seeds: FORMATS, words: FORMAT_WORDS, rounds: 4_000 },
    Target { name: "regex", run: regex, seeds: REGEXES, words: REGEX_WORDS, rounds: 150 },
    Target { name: "expression", run: expression, seeds: EXPRESSIONS, words: EXPRESSION_WORDS, rounds: 600 },
    Target { name: "bootstrap", run: bootstrap, seeds: BOOTSTRAPS, words: YAML_WORDS, rounds: 150 },
    Target { name: "dns_message", run: dns_message, seeds: DNS_ANSWERS, words: DNS_WORDS, rounds: 20_000 },
    Target { name: "xds_json", run: xds_json, seeds: RESOURCES, words: YAML_WORDS, rounds: 150 },
    Target { name: "xds_bytes", run: xds_bytes, seeds: WIRE, words: WIRE_WORDS, rounds: 1_500 },
    Target { name: "istio_yaml", run: istio_yaml, seeds: OBJECTS, words: YAML_WORDS, rounds: 150 },
];

/// What came of reading heads: where they ended, and the error.
type HeadVerdict = (Vec<usize>, Option<DecodeError>);

/// One HTTP/1 request head: the verdict may not depend on where the bytes are cut.
pub fn request_head(input: &[u8]) {
    let input = &ended(input)[..];
    let read = |size: usize| -> HeadVerdict {
        let mut head = RequestHead::new();
        let mut decoder = RequestDecoder::new(RequestOptions::default());
        first_head(input, size, |piece| decoder.decode(piece, &mut head))
    };
    let whole = read(input.len().max(1));
    assert_eq!(whole, read(1), "the verdict depends on the split");
    assert_eq!(whole, read(7), "the verdict depends on the split");
}

/// One HTTP/1 response head.
pub fn response_head(input: &[u8]) {
    let input = &ended(input)[..];
    for method in [Method::Get, Method::Head] {
        let read = |size: usize| -> HeadVerdict {
            let mut head = ResponseHead::new();
            let mut decoder = ResponseDecoder::new(ResponseTo { method: Some(method), upgrade: false });
            first_head(input, size, |piece| decoder.decode(piece, &mut head))
        };
        let whole = read(input.len().max(1));
        assert_eq!(whole, read(1), "the verdict depends on the split");
    }
}

/// The input with an end of its head: before it, a decoder may refuse as early as it likes.
fn ended(input: &[u8]) -> Vec<u8> {
    [input, b"\r\n\r\n"].concat()
}

fn first_head(
    input: &[u8],
    size: usize,
    mut decode: impl FnMut(&[u8]) -> Result<Progress, DecodeError>,
) -> HeadVerdict {
    let mut before = 0;
    for piece in input.chunks(size) {
        match decode(piece) {
            Ok(Progress::NeedMore) => before += piece.len(),
            Ok(Progress::Complete { consumed }) => {
                assert!(consumed <= piece.len(), "more was consumed than was given");
                return (vec![before + consumed], None);
            }
            Err(error) => return (Vec::new(), Some(error)),
        }
    }
    (Vec::new(), None)
}

/// A chunked body: the same data however it is cut, and never more of it than there was input.
pub fn chunked_body(input: &[u8]) {
    // As with heads: a part of a trailer may be refused before its end or at it.
    let input = &ended(input)[..];
    let read = |size: usize| {
        let mut decoder = BodyDecoder::new(BodyLength::Chunked);
        let (mut data, mut error) = (Vec::new(), None);
        'pieces: for piece in input.chunks(size) {
            let mut rest = piece;
            while !rest.is_empty() && !decoder.is_end() {
                match decoder.decode(rest) {
                    Ok(step) => {
                        data.extend_from_slice(&rest[step.data.clone()]);
                        assert!(step.consumed > 0 || step.end, "no progress");
                        rest = &rest[step.consumed..];
                    }
                    Err(found) => {
                        error = Some(found);
                        break 'pieces;
                    }
                }
            }
        }
        (data, error, decoder.is_end())
    };
    let whole = read(input.len().max(1));
    assert!(whole.0.len() <= input.len());
    assert_eq!(whole, read(1), "the verdict depends on the split");
}

/// Path normalisation: no dot segment is left.
pub fn path(input: &[u8]) {
    for escaped_slashes in [EscapedSlashes::Keep, EscapedSlashes::Forward] {
        let normalization = Normalization {
            normalize: true,
            merge_slashes: true,
            escaped_slashes,
            fragment: Fragment::Strip,
        };
        let mut once = Vec::new();
        if normalization.apply(input, &mut once) != Outcome::Changed {
            continue;
        }
        let end = once.iter().position(|byte| *byte == b'?').unwrap_or(once.len());
        let dots = once[..end].split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b"..");
        assert!(!dots, "dot segments are left in {:?}", once.escape_ascii().to_string());
    }
}

/// A TLS client hello as it is looked into for its server name.
pub fn hello(input: &[u8]) {
    let _ = client_hello::parse(input);
}

/// The first bytes of a connection: what a part of them says, all of them say.
pub fn sniff(input: &[u8]) {
    for inspectors in [Inspectors { tls: true, http: true }, Inspectors { tls: false, http: true }] {
        let whole = recognize(input, inspectors);
        let verdicts = (0..input.len().min(200)).filter_map(|end| recognize(&input[..end], inspectors));
        for verdict in verdicts {
            assert_eq!(Some(verdict), whole, "more bytes changed the verdict");
        }
    }
}

/// Trace headers: the first line is the B3 header, the second `traceparent`, the following the parts of B3. What was
/// understood is understood again when it is passed on.
pub fn trace_context(input: &[u8]) {
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let header = |name: &str| {
        let names = [
            "b3",
            "traceparent",
            "x-b3-traceid",
            "x-b3-spanid",
            "x-b3-parentspanid",
            "x-b3-sampled",
            "x-b3-flags",
        ];
        let at = names.iter().position(|known| *known == name)?;
        lines.get(at).copied().filter(|line| !line.is_empty())
    };
    for found in [Incoming::b3(header, true), Incoming::w3c(header)] {
        let Ok(Incoming { context: Some(context), .. }) = found else { continue };
        let mut passed_on = Vec::new();
        context.inject(Format::B3Multi, true, |name, value| passed_on.push((name, value.to_vec())));
        let again = |name: &str| {
            passed_on.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_slice())
        };
        let read = Incoming::b3(again, false).ok().and_then(|incoming| incoming.context);
        assert_eq!(read.map(|read| read.trace), Some(context.trace), "a trace id changed on its way");
    }
}

/// What the proxy of a peer says about its workload, in a header or in an endpoint's metadata.
pub fn peer_metadata(input: &[u8]) {
    if let Some(workload) = Workload::from_header(input) {
        let _ = workload.to_header(&[]);
    }
    let _ = Workload::from_endpoint(&String::from_utf8_lossy(input));
}

/// An access-log format.
pub fn log_format(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let _ = LogFormat::text(&text, &Context::default());
}

/// A regular expression in RE2's syntax, and a match with it.
pub fn regex(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(regex) = Regex::whole(ringsail_tables::Str::new(&text)) {
        let _ = regex.matches(input);
    }
}

/// A CEL expression.
pub fn expression(input: &[u8]) {
    let _ = Expression::parse(&String::from_utf8_lossy(input));
}

/// A bootstrap file, JSON or YAML.
pub fn bootstrap(input: &[u8]) {
    if let Ok(value) = document::read("fuzz", &String::from_utf8_lossy(input)) {
        let _ = Schema::shared().from_json::<Bootstrap>(&value);
    }
}

/// A name server's answer to the question about the address of `app.test`.
pub fn dns_message(input: &[u8]) {
    for kind in [dns::Kind::A, dns::Kind::Aaaa] {
        let _ = dns::decode(input, 7, "app.test", kind);
    }
}

const DNS_ANSWERS: &[&[u8]] = &[
    b"\0\x07\x81\x80\0\x01\0\x01\0\0\0\0\x03app\x04test\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\0\0\x01",
    b"\0\x07\x83\x83\0\x01\0\x02\0\0\0\0\x03app\x04test\0\0\x1c\0\x01\xc0\x0c\0\x05\0\x01\0\0\0\x1e\0\x04\x01b\xc0\x10\xc0\x26\0\x1c\0\x01\0\0\0\x05\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01",
];

const DNS_WORDS: &[&[u8]] =
    &[b"\xc0\x0c", b"\xc0\x26", b"\x03app\x04test\0", b"\0\x01\0\x01", b"\0\x05\0\x01", b"\xff\xff"];

/// Resources as a file names them, compiled.
pub fn xds_json(input: &[u8]) {
    let Ok(value) = serde_json::from_slice(input) else { return };
    if let Ok(any) = Schema::shared().any_from_json(&value) {
        compile(any);
    }
}

/// Resources as they come over the wire, compiled; the first byte chooses the type.
pub fn xds_bytes(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    let kind = ResourceType::ALL[usize::from(*kind) % ResourceType::ALL.len()];
    let type_url = format!("type.googleapis.com/{}", kind.message_name());
    compile(Any { type_url, value: bytes.to_vec() });
    // What our own types cannot read must not be read as something else by the JSON side.
    let _ = Bootstrap::decode(bytes);
}

fn compile(any: Any) {
    let Some(kind) = ResourceType::from_type_url(&any.type_url) else { return };
    let mut compiler = Compiler::new();
    for _ in 0..2 {
        let put = Change::Put { kind, name: "fuzz".into(), resource: any.value.clone().into() };
        let _ = compiler.apply([put]);
    }
    let _ = compiler.apply([Change::Remove { kind, name: "fuzz".into() }]);
}

/// Objects of the control plane.
pub fn istio_yaml(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let _ = ringsail_api::decode(&text, "fuzz.yaml");
    let _ = ringsail_api::decode_mesh_config(&text, "fuzz.yaml");
}

const REQUESTS: &[&[u8]] = &[
    b"GET /a?b=c HTTP/1.1\r\nhost: a.example\r\naccept: */*\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nContent-Type: a/b\r\n\r\nhello world!",
    b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET http://a.example:80/x HTTP/1.1\r\nhost: b\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n",
    b"CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n",
    b"OPTIONS * HTTP/1.1\nhost: a\n\n",
    b"GET / HTTP/1.0\r\n\r\n",
];
const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    b"HTTP/1.0 304\r\ntransfer-encoding: gzip, chunked\r\nset-cookie: a=b\r\n\r\n",
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\nall of it",
];
const HTTP_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b": ",
    b" ",
    b"\t",
    b"\0",
    b"\x80",
    b"content-length: ",
    b"transfer-encoding: chunked\r\n",
    b"host: ",
    b"connection: close\r\n",
    b"HTTP/1.1",
    b"x-field: value\r\n",
    b"\r\n folded",
    b"%00",
    b"/../",
];
const CHUNKS: &[&[u8]] = &[
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;name=value\r\nhello\r\n6;q=\"a b\"\r\n world\r\n0\r\nx-trailer: 1\r\ny: 2\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"0\r\na: 1\r\nb:\x7f",
    b"000000000a\r\n0123456789\r\n0\r\n\r\n",
];
const FIRST_BYTES: &[&[u8]] = &[
    b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    b"\x16\x03\x01\0\x05\x01\0\0\x01\0",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"GET /\r\n",
];
const CONTEXTS: &[&[u8]] = &[
    b"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90\n00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    b"\n\n463ac35c9f6413ad48485a3953bb6124\na2fb4a1d1a96d312\n0020000000000001\n1\n",
    b"0\n00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more",
];
const CONTEXT_WORDS: &[&[u8]] =
    &[b"-", b"\n", b"0", b"00", b"ff-", b"0000000000000000", b"d", b"F", b"true", b" "];
const PEERS: &[&[u8]] = &[
    b"ChEKBE5BTUUSCRoHcmV2aWV3cw==",
    b"ChcKCU5BTUVTUEFDRRIKGghkZWZhdWx0CgA=",
    b"reviews;default;reviews;v1;Kubernetes",
];
const PEER_WORDS: &[&[u8]] = &[b"=", b";", b"AAAA", b"CgA=", b"//", b"EgA="];
const CHUNK_WORDS: &[&[u8]] =
    &[b"\r\n", b"\n", b"0\r\n", b";", b"f", b"\r\n\r\n", b"x: y\r\n", b" ", b"-", b"0x"];
const PATHS: &[&[u8]] =
    &[b"/a/b/../c?x=/../y", b"/%2e%2E/%2f%5c/a", b"//a//b\\c", b"/a%00b", b"/a#b?c", b"*"];
const PATH_WORDS: &[&[u8]] = &[
    b"/..", b"/.", b"//", b"%2e", b"%2F", b"%5c", b"%zz", b"%", b"\\", b"?", b"#", b"%25", b";", b"\"<>",
    b"\xff",
];
const HELLOS: &[&[u8]] = &[
    b"\x16\x03\x01\0\x3f\x01\0\0\x3b\x03\x030123456789abcdef0123456789abcdef\0\0\x02\x13\x01\x01\0\0\x10\0\0\0\x0c\0\x0a\0\0\x07a.local",
    b"\x16\x03\x01\0\x05\x01\0\0\x01\0",
    b"\x16\x03\x01\xff\xff\x01\0\xff\xfb\x03\x03",
];
const FORMATS: &[&[u8]] = &[
    b"[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH):20%\" %RESPONSE_CODE% %DURATION%\n",
    b"%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)% %BYTES_SENT% %UPSTREAM_HOST% %%",
    b"%DYNAMIC_METADATA(a:b:c)% %FILTER_STATE(k:PLAIN):5% %ENVIRONMENT(X)% %COMMON_DURATION(DS_RX_BEG:US_TX_END:ms)%",
];
const FORMAT_WORDS: &[&[u8]] = &[
    b"%",
    b"%REQ(",
    b")%",
    b":10%",
    b"?",
    b"%START_TIME(",
    b"%9f",
    b"%%",
    b"RESP(A)",
    b"(",
    b")",
    b"\xc3\xa4",
];
const REGEXES: &[&[u8]] =
    &[b"^/api/v[0-9]+/(.*)$", b"(?i)a+|b{2,5}[^c]\\d\\w", b"(?P<x>a)(b)?\\pL\\x{41}", b"\\Aa\\z"];
const REGEX_WORDS: &[&[u8]] = &[
    b"(",
    b")",
    b"[",
    b"]",
    b"{1000}",
    b"*",
    b"+",
    b"?",
    b"\\",
    b"(?",
    b"|",
    b"\\b",
    b"\\Q",
    b"[[:alpha:]]",
    b"^",
    b"$",
    b".{9,}",
];
const EXPRESSIONS: &[&[u8]] = &[
    b"request.headers['x-a'] == 'b' && size(request.path) > 3",
    b"has(request.id) ? response.code >= 500 : request.method in ['GET', 'POST']",
    b"!(source.address.startsWith('10.')) || request.path.matches('^/a')",
];
const EXPRESSION_WORDS: &[&[u8]] = &[
    b"(", b")", b"[", b"]", b"'", b"\"", b"&&", b"||", b"!", b"?", b":", b"==", b"in", b".", b"request",
    b"1e9", b"0x", b"\\u", b"--",
];
const BOOTSTRAPS: &[&[u8]] = &[
    b"node: {id: a, cluster: b, metadata: {X: [1, 2.5, null]}}\nadmin:\n  address:\n    socket_address: {address: 127.0.0.1, port_value: 15000}\nstatic_resources:\n  clusters:\n  - name: a\n    type: STATIC\n    connect_timeout: 1.5s\n",
    b"{\"node\":{\"id\":\"a\"},\"static_resources\":{\"listeners\":[{\"name\":\"l\",\"address\":{\"socket_address\":{\"address\":\"::1\",\"port_value\":1}}}]}}",
    b"layered_runtime:\n  layers:\n  - name: a\n    static_layer: {b: true}\ndynamic_resources:\n  ads_config: {api_type: GRPC}\n",
];
const RESOURCES: &[&[u8]] = &[
    b"{\"@type\":\"type.googleapis.com/envoy.config.cluster.v3.Cluster\",\"name\":\"fuzz\",\"type\":\"STATIC\",\"connect_timeout\":\"1s\",\"lb_policy\":\"RING_HASH\",\"circuit_breakers\":{\"thresholds\":[{\"max_requests\":5}]},\"outlier_detection\":{\"consecutive_5xx\":3},\"load_assignment\":{\"cluster_name\":\"fuzz\",\"endpoints\":[{\"priority\":1,\"lb_endpoints\":[{\"endpoint\":{\"address\":{\"socket_address\":{\"address\":\"10.0.0.1\",\"port_value\":80}}}}]}]}}",
    b"{\"@type\":\"type.googleapis.com/envoy.config.route.v3.RouteConfiguration\",\"name\":\"fuzz\",\"virtual_hosts\":[{\"name\":\"a\",\"domains\":[\"*\",\"a.*\"],\"routes\":[{\"match\":{\"safe_regex\":{\"regex\":\"/a.*\"},\"headers\":[{\"name\":\"x\",\"range_match\":{\"start\":1,\"end\":5}}]},\"route\":{\"weighted_clusters\":{\"clusters\":[{\"name\":\"a\",\"weight\":1},{\"name\":\"b\",\"weight\":2}]},\"timeout\":\"5s\",\"retry_policy\":{\"retry_on\":\"5xx\",\"num_retries\":2}}}]}]}",
    b"{\"@type\":\"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment\",\"cluster_name\":\"fuzz\",\"endpoints\":[{\"locality\":{\"zone\":\"a\"},\"load_balancing_weight\":5,\"lb_endpoints\":[{\"health_status\":\"DRAINING\",\"load_balancing_weight\":3,\"endpoint\":{\"address\":{\"pipe\":{\"path\":\"/x\"}}}}]}]}",
    b"{\"@type\":\"type.googleapis.com/envoy.config.listener.v3.Listener\",\"name\":\"fuzz\",\"address\":{\"socket_address\":{\"address\":\"0.0.0.0\",\"port_value\":80}},\"filter_chains\":[{\"filter_chain_match\":{\"prefix_ranges\":[{\"address_prefix\":\"10.0.0.0\",\"prefix_len\":8}],\"application_protocols\":[\"h2c\"]},\"filters\":[{\"name\":\"t\",\"typed_config\":{\"@type\":\"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\",\"stat_prefix\":\"a\",\"cluster\":\"a\"}}]}]}",
];
const YAML_WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b": ",
    b"- ",
    b"\n  ",
    b"\n",
    b",",
    b"null",
    b"true",
    b"-1",
    b"1e400",
    b"&a ",
    b"*a",
    b"!!int ",
    b"---\n",
    b"|\n",
    b"\t",
    b"'",
    b"\"name\":",
    b"9223372036854775808",
    b"0.1s",
    b"\\u0000",
    b"\xf0\x9f\x8e\x89",
];
const WIRE: &[&[u8]] = &[
    b"\0\x0a\x04fuzz\x12\x10\x0a\x0e\x12\x090.0.0.0\x18\x50",
    b"\x01\x0a\x04fuzz\x12\x0e\x0a\x01a\x12\x01*\x1a\x06\x0a\x03\x0a\x01/",
    b"\x02\x0a\x04fuzz\x22\x02\x08\x01\x10\0",
    b"\x03\x0a\x04fuzz\x12\x04\x12\x02\x0a\0",
];
const WIRE_WORDS: &[&[u8]] = &[
    b"\x0a\x01a",
    b"\x12\x00",
    b"\xff\xff\xff\xff\x0f",
    b"\x1a\x02\x08\x01",
    b"\x0a\xff\x7f",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
];
const OBJECTS: &[&[u8]] = &[
    b"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: b}\nspec:\n  hosts: [reviews]\n  http:\n  - match:\n    - uri: {prefix: /a}\n      headers: {x: {regex: '^a'}}\n    route:\n    - destination: {host: reviews, subset: v1}\n      weight: 90\n    timeout: 1.5s\n    retries: {attempts: 3, perTryTimeout: 2s}\n",
    b"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: a\nspec:\n  host: '*.b.svc.cluster.local'\n  trafficPolicy:\n    loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 0s}}}\n    outlierDetection: {consecutive5xxErrors: 5, interval: 10s}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{name: http, port: 80, targetPort: web}], selector: {app: s}}\n",
    b"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: x}, spec: {action: DENY, rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}}\n",
    b"accessLogFile: /dev/stdout\ndefaultConfig: {concurrency: 2, drainDuration: 45s}\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\n",
];
