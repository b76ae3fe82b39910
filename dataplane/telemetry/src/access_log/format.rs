//! Compiled formats, text and JSON.

use super::error::{FormatError, FormatProblem};
use super::evaluate::Given;
use super::extra::Extra;
use super::operator::{Operator, Wanted, compile};
use super::record::Record;
use super::template::{Piece, split};
use crate::limits::{LOG_FORMAT_BYTES_MAX, LOG_JSON_DEPTH_MAX};
use crate::render::push_json_string;

/// What a format may refer to besides the record.
pub struct Context<'a> {
    /// `%HOSTNAME%`
    pub hostname: &'a str,
    /// `%ENVIRONMENT(x)%`
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Whether the extension `envoy.formatter.req_without_query` is listed.
    pub req_without_query: bool,
    /// Missing values: nothing instead of `-` in text, the key left out in JSON.
    /// Source: Envoy `omit_empty_values`.
    pub omit_empty: bool,
}

impl Default for Context<'_> {
    fn default() -> Self {
        Self { hostname: "", environment: &|_| None, req_without_query: false, omit_empty: false }
    }
}

/// A JSON format as configured: strings are formats, everything else is itself.
#[derive(Clone, Debug, PartialEq)]
pub enum JsonTemplate {
    /// `null`
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A format string.
    String(String),
    /// A list.
    List(Vec<JsonTemplate>),
    /// An object; written sorted by key, as Envoy does.
    Object(Vec<(String, JsonTemplate)>),
}

/// A compiled access-log format.
#[derive(Clone, Debug)]
pub struct LogFormat {
    shape: Shape,
    wanted: Wanted,
    omit_empty: bool,
}

#[derive(Clone, Debug)]
enum Shape {
    Text(Vec<Part>),
    Json(Json),
}

#[derive(Clone, Debug)]
enum Part {
    Literal(String),
    Operator(Operator),
}

#[derive(Clone, Debug)]
enum Json {
    Null,
    /// Already JSON.
    Fixed(String),
    /// One operator alone keeps its type: numbers are numbers, missing is null.
    Value(Operator),
    /// Anything else is a string.
    String(Vec<Part>),
    List(Vec<Json>),
    /// Keys are already JSON strings.
    Object(Vec<(String, Json)>),
}

/// Istio's default text format. Source: telemetry contract §3.
pub const ISTIO_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Envoy's default text format, used when a log names none.
/// Source: Envoy `docs/root/configuration/observability/access_log/usage`.
pub const ENVOY_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

impl LogFormat {
    /// Compiles a text format. Its line end is part of it.
    pub fn text(format: &str, context: &Context<'_>) -> Result<Self, FormatError> {
        let mut wanted = Wanted::default();
        let parts = parts(format, context, &mut wanted)?;
        Ok(Self { shape: Shape::Text(parts), wanted, omit_empty: context.omit_empty })
    }

    /// Compiles a JSON format. Every record becomes one line.
    pub fn json(template: &JsonTemplate, context: &Context<'_>) -> Result<Self, FormatError> {
        let mut wanted = Wanted::default();
        let json = compile_json(template, context, &mut wanted, 0)?;
        Ok(Self { shape: Shape::Json(json), wanted, omit_empty: context.omit_empty })
    }

    /// [`ENVOY_TEXT`].
    pub fn envoy_default(context: &Context<'_>) -> Result<Self, FormatError> {
        Self::text(ENVOY_TEXT, context)
    }

    /// The same, with what is shown added to a list that several formats of one record share.
    pub(super) fn text_sharing(
        format: &str,
        context: &Context<'_>,
        wanted: &mut Wanted,
    ) -> Result<Self, FormatError> {
        let parts = parts(format, context, wanted)?;
        Ok(Self { shape: Shape::Text(parts), wanted: Wanted::default(), omit_empty: context.omit_empty })
    }

    /// What this format shows that the engine has to copy.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Appends the line for `record`.
    pub fn write(&self, record: &Record, out: &mut Vec<u8>) {
        match &self.shape {
            Shape::Text(parts) => write_parts(parts, record, self.omit_empty, out),
            Shape::Json(json) => {
                write_json(json, record, self.omit_empty, out);
                out.push(b'\n');
            }
        }
    }
}

/// The expressions in a format.
///
/// # Errors
/// With a sentence that says what is wrong with it.
pub fn check(format: &str, req_without_query: bool) -> Result<Vec<String>, String> {
    let context = Context { req_without_query, ..Context::default() };
    let format = LogFormat::text(format, &context).map_err(|error| error.to_string())?;
    let expressions = format.wanted.extras.into_iter().filter_map(|extra| match extra {
        Extra::Expression { text, .. } => Some(text),
        _ => None,
    });
    Ok(expressions.collect())
}

fn parts(format: &str, context: &Context<'_>, wanted: &mut Wanted) -> Result<Vec<Part>, FormatError> {
    if format.len() > LOG_FORMAT_BYTES_MAX {
        return Err(FormatError { position: LOG_FORMAT_BYTES_MAX, problem: FormatProblem::TooLong });
    }
    let compiled = split(format)?.into_iter().map(|piece| match piece {
        Piece::Literal(text) => Ok(Part::Literal(text.to_owned())),
        Piece::Call(call) => compile(call, context, wanted).map(Part::Operator),
    });
    compiled.collect()
}

fn compile_json(
    template: &JsonTemplate,
    context: &Context<'_>,
    wanted: &mut Wanted,
    depth: usize,
) -> Result<Json, FormatError> {
    if depth > LOG_JSON_DEPTH_MAX {
        return Err(FormatError { position: 0, problem: FormatProblem::TooDeep });
    }
    Ok(match template {
        JsonTemplate::Null => Json::Null,
        JsonTemplate::Bool(value) => Json::Fixed(value.to_string()),
        JsonTemplate::Number(value) if value.is_finite() => Json::Fixed(value.to_string()),
        JsonTemplate::Number(_) => Json::Null,
        JsonTemplate::String(format) => {
            let mut parts = parts(format, context, wanted)?;
            match (parts.pop(), parts.is_empty()) {
                (Some(Part::Operator(operator)), true) => Json::Value(operator),
                (last, _) => {
                    parts.extend(last);
                    Json::String(parts)
                }
            }
        }
        JsonTemplate::List(items) => {
            let items = items.iter().map(|item| compile_json(item, context, wanted, depth + 1));
            Json::List(items.collect::<Result<_, _>>()?)
        }
        JsonTemplate::Object(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            let entries = entries.into_iter().map(|(key, value)| {
                let mut name = String::new();
                push_json_string(key, &mut name);
                Ok((name, compile_json(value, context, wanted, depth + 1)?))
            });
            Json::Object(entries.collect::<Result<_, FormatError>>()?)
        }
    })
}

fn write_parts(parts: &[Part], record: &Record, omit_empty: bool, out: &mut Vec<u8>) {
    for part in parts {
        match part {
            Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Part::Operator(operator) => {
                if operator.write(record, out, false) == Given::Nothing && !omit_empty {
                    out.push(b'-');
                }
            }
        }
    }
}

/// Appends a value; false, with nothing appended, when it is missing and to be omitted.
fn write_json(json: &Json, record: &Record, omit_empty: bool, out: &mut Vec<u8>) -> bool {
    match json {
        Json::Null if omit_empty => return false,
        Json::Null => out.extend_from_slice(b"null"),
        Json::Fixed(text) => out.extend_from_slice(text.as_bytes()),
        Json::Value(operator) => {
            let start = out.len();
            match operator.write(record, out, true) {
                Given::Number | Given::Json => {}
                Given::Text => quote_from(start, out),
                Given::Nothing if omit_empty => return false,
                Given::Nothing => out.extend_from_slice(b"null"),
            }
        }
        Json::String(parts) => {
            let start = out.len();
            write_parts(parts, record, omit_empty, out);
            quote_from(start, out);
        }
        Json::List(items) => {
            out.push(b'[');
            let mut first = true;
            for item in items {
                let start = out.len();
                if !first {
                    out.push(b',');
                }
                if write_json(item, record, omit_empty, out) {
                    first = false;
                } else {
                    out.truncate(start);
                }
            }
            out.push(b']');
        }
        Json::Object(entries) => {
            out.push(b'{');
            let mut first = true;
            for (key, value) in entries {
                let start = out.len();
                if !first {
                    out.push(b',');
                }
                out.extend_from_slice(key.as_bytes());
                out.push(b':');
                if write_json(value, record, omit_empty, out) {
                    first = false;
                } else {
                    out.truncate(start);
                }
            }
            out.push(b'}');
        }
    }
    true
}

/// Turns what was appended since `start` into a JSON string. Bytes that are not UTF-8 are replaced.
fn quote_from(start: usize, out: &mut Vec<u8>) {
    let raw = out.split_off(start);
    let mut quoted = String::with_capacity(raw.len() + 2);
    push_json_string(&String::from_utf8_lossy(&raw), &mut quoted);
    out.extend_from_slice(quoted.as_bytes());
}
