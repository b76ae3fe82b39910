use super::*;

/// A request, with `x-team: blue`, one peer label, and no response.
struct Sample;

impl Attributes for Sample {
    fn attribute(&self, path: &[Str]) -> Option<Value<'_>> {
        let path: Vec<&str> = path.iter().map(Str::as_str).collect();
        match path[..] {
            ["request", "host"] => Some(Value::text("web.shop")),
            ["request", "path"] => Some(Value::text("/api/v1/items?x=1")),
            ["request", "size"] => Some(Value::Int(20)),
            ["request", "duration"] => Some(Value::Duration(std::time::Duration::from_millis(1500))),
            ["request", "headers"] => Some(Value::Map(1)),
            ["request", "headers", "x-team"] => Some(Value::text("blue")),
            ["destination", "port"] => Some(Value::Int(8080)),
            ["connection", "mtls"] => Some(Value::Bool(false)),
            ["filter_state", "upstream_peer", "labels", "role"] => Some(Value::text("db")),
            _ => None,
        }
    }
}

fn value(text: &str) -> String {
    let expression = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    match expression.evaluate(&Sample) {
        Ok(value) => value.to_string(),
        Err(failed) => format!("{failed:?}"),
    }
}

fn refused(text: &str) -> String {
    Expression::parse(text).expect_err(text).to_string()
}

#[test]
fn expressions_of_istios_documentation_have_their_values() {
    for (text, wanted) in [
        ("request.host", "web.shop"),
        ("request.headers['x-team']", "blue"),
        ("string(destination.port)", "8080"),
        ("has(request.host) ? request.host : 'unknown'", "web.shop"),
        ("has(request.referer) ? request.referer : \"none\"", "none"),
        ("filter_state.upstream_peer.labels['role']", "db"),
        ("filter_state['upstream_peer'].labels['role']", "db"),
        ("request.path.startsWith('/api') && destination.port == 8080", "true"),
        ("request.path.matches('^/api/v[0-9]+/')", "true"),
        ("matches(request.path, 'nothing')", "false"),
        ("'x-team' in request.headers", "true"),
        ("'x-other' in request.headers", "false"),
        ("destination.port in [80, 8080]", "true"),
        ("connection.mtls ? 'mutual' : 'plain'", "plain"),
        ("request.duration > duration('1s')", "true"),
        ("request.size * 2 + 1", "41"),
        ("-request.size", "-20"),
        ("size(request.host)", "8"),
        ("request.host + ':' + string(destination.port)", "web.shop:8080"),
        ("1.5 < 2", "true"),
    ] {
        assert_eq!(value(text), wanted, "{text}");
    }
}

#[test]
fn a_missing_attribute_fails_unless_it_does_not_matter() {
    assert_eq!(value("response.code"), "Missing");
    assert_eq!(value("response.code >= 400"), "Missing");
    assert_eq!(value("response.code >= 400 || true"), "true");
    assert_eq!(value("true || response.code >= 400"), "true");
    assert_eq!(value("response.code >= 400 && false"), "false");
    assert_eq!(value("!has(response.code) || response.code >= 400"), "true");
}

#[test]
fn operators_bind_as_the_language_says() {
    assert_eq!(value("1 + 2 * 3"), "7");
    assert_eq!(value("(1 + 2) * 3"), "9");
    assert_eq!(value("10 - 4 - 3"), "3");
    assert_eq!(value("true || false && false"), "true");
    assert_eq!(value("1 < 2 == true"), "true");
    assert_eq!(value("false ? 1 : true ? 2 : 3"), "2");
    assert_eq!(value("!!true"), "true");
}

#[test]
fn wrong_types_and_ranges_fail_without_a_panic() {
    for text in
        ["'a' + 1", "1 / 0", "9223372036854775807 + 1", "!1", "request.host > 1", "duration('x')", "int('z')"]
    {
        assert_eq!(value(text), "Type", "{text}");
    }
}

#[test]
fn what_is_not_supported_is_refused() {
    assert_eq!(refused("request.host.foo()"), "the function foo() is not supported");
    assert!(refused("request.headers.all(x, x == '')").contains("cannot be iterated"));
    assert!(refused("request.headers[request.host]").starts_with("only a string"));
    assert!(refused("request.host in request.headers").starts_with("only a string"));
    assert!(refused("timestamp('2026-01-01T00:00:00Z')").contains("timestamp()"));
    assert!(refused("a.matches(b)").contains("literal pattern"));
    refused("a.matches('(')");
    assert!(refused("1 +").starts_with("line 1, column "), "{}", refused("1 +"));
    for text in ["", "(1", "'a", "a b", "a.", "has(a)", "1 ? 2", "\u{e4}", "#", "\\", "'\\x'"] {
        refused(text);
    }
}

#[test]
fn lists_and_maps_of_the_expression_itself_may_be_iterated_and_indexed() {
    assert_eq!(value("[1, 2].all(x, x > 0)"), "true");
    assert_eq!(value("[80, 8080].exists(port, port == destination.port)"), "true");
    assert_eq!(value("{'blue': 1, 'red': 2}[request.headers['x-team']]"), "1");
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let deepest = crate::limits::CEL_DEPTH_MAX as usize;
    assert!(Expression::parse(&nested(deepest - 1)).is_ok());
    refused(&nested(deepest + 1));
    refused(&"!".repeat(4000));
    refused(&vec!["1"; 200].join("+"));
    refused(&vec!["1"; 2000].join("+"));
    refused(&format!("a{}", ".b".repeat(2000)));
    refused(&format!("'{}'", "x".repeat(CEL_BYTES_MAX)));
}

#[test]
fn no_text_makes_the_parser_panic() {
    let parts = [
        "request", ".", "[", "]", "'", "\"", "(", ")", "?", ":", "&&", "1", "e", "-", "0x", "\\", "\u{20ac}",
        " ", "in", "has",
    ];
    let mut state = 7_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..(state >> 60) + 1 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            text.push_str(parts[(state >> 33) as usize % parts.len()]);
        }
        if let Ok(expression) = Expression::parse(&text) {
            let _ = expression.evaluate(&Sample);
        }
    }
}
