//! Access logs and tracers, made known to the writer.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use ringsail_tables::access_log::{
    AccessLog, Buffering, Filter, Format, GrpcLog, OpenTelemetryLog, Shape, Sink,
};
use ringsail_tables::cel::Expression;
use ringsail_tables::collector::{Collector, CollectorProtocol};
use ringsail_tables::local_reply::BodyFormat;
use ringsail_tables::metadata::Value;
use ringsail_tables::tracing::{CustomTag, MetadataKind, Resource, TagSource, TraceProvider};
use ringsail_telemetry::access_log::{
    self, Context, DeclaredLog, DeclaredTracer, Extra, FormatError, JsonTemplate, LogFormat, LogQueue,
    LogSink, LogSpec, LogWriter, SpanSpec, Tag, TagValue, TracerKind, Wanted, WantedMetadata,
};
use ringsail_telemetry::export::{Call, Destination};
use ringsail_telemetry::limits::ZIPKIN_BATCH_MAX;
use ringsail_telemetry::trace::{OtlpTracer, Span, ZipkinTracer, environment_attributes};

use super::body::BodyFormats;
use crate::shard::Identity;

/// A shard's way to the access-log writer.
pub struct Log {
    writer: Arc<LogWriter>,
    pub(super) queue: LogQueue,
    identity: Identity,
    /// Logs that are declared, by their configuration: listeners share most of them. They last as long as a version of a
    /// listener names them.
    logs: RefCell<Vec<(Sink, Weak<Known>)>>,
    /// The same of tracers.
    tracers: RefCell<Vec<(TraceProvider, Weak<DeclaredTracer>)>>,
    bodies: BodyFormats,
}

/// A log that the writer knows.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) log: DeclaredLog,
    pub(super) shown: Shown,
}

/// What records must hold, with its expressions compiled.
#[derive(Debug, Default)]
pub struct Shown {
    pub(super) wanted: Wanted,
    /// By slot of [`Wanted::extras`].
    pub(super) expressions: Vec<Option<Expression>>,
}

impl Shown {
    /// Compiles the expressions. One that is none was refused with its configuration.
    pub fn new(wanted: Wanted) -> Shown {
        let expressions = wanted.extras.iter().map(|extra| match extra {
            Extra::Expression { text, .. } => Expression::parse(text).ok(),
            _ => None,
        });
        Shown { expressions: expressions.collect(), wanted }
    }
}

/// What the logs of a filter chain show, that has to be counted or kept while an exchange runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// Bytes of heads, and all of them.
    pub bytes: bool,
    /// Trailers of answers.
    pub trailers: bool,
}

impl Needs {
    /// Of all these logs.
    pub fn of(logs: &[Rc<Declared>]) -> Needs {
        let wanted = |test: fn(&Wanted) -> bool| logs.iter().any(|log| test(&log.known.shown.wanted));
        let bytes = wanted(|wanted| wanted.header_bytes);
        Needs { bytes, trailers: bytes || wanted(Wanted::trailers) }
    }
}

/// An access log of a listener or filter chain.
#[derive(Debug)]
pub struct Declared {
    pub(super) known: Rc<Known>,
    pub(super) filter: Option<Arc<Filter>>,
}

impl Log {
    /// A way for one more shard.
    pub fn new(writer: Arc<LogWriter>, identity: Identity) -> Log {
        let queue = writer.queue();
        let bodies = BodyFormats::default();
        Log { writer, queue, identity, logs: RefCell::default(), tracers: RefCell::default(), bodies }
    }

    /// Makes logs known to the writer. One that the writer cannot render, or has no room for, is reported and left out.
    pub fn declare(&self, logs: &[AccessLog]) -> Vec<Rc<Declared>> {
        let declared = logs.iter().filter_map(|log| {
            let known = self.known(&log.sink)?;
            Some(Rc::new(Declared { known, filter: log.filter.clone() }))
        });
        declared.collect()
    }

    fn known(&self, sink: &Sink) -> Option<Rc<Known>> {
        if let Some(known) = find(&self.logs, sink) {
            return Some(known);
        }
        let spec = match self.spec(sink) {
            Ok(spec) => spec,
            Err(error) => {
                tracing::error!(%error, "access log left out: its format cannot be rendered");
                return None;
            }
        };
        let shown = Shown::new(spec.wanted().clone());
        let Some(log) = self.writer.declare(spec) else {
            tracing::error!("access log left out: there are as many as there may be");
            return None;
        };
        let known = Rc::new(Known { log, shown });
        keep(&self.logs, sink.clone(), &known);
        Some(known)
    }

    fn spec(&self, sink: &Sink) -> Result<LogSpec, FormatError> {
        let (sink, format) = match sink {
            Sink::File(path, format) => (LogSink::of_path(path), format),
            Sink::Stdout(format) => (LogSink::Stdout, format),
            Sink::Stderr(format) => (LogSink::Stderr, format),
            Sink::Grpc(log) => return self.grpc(log),
            Sink::OpenTelemetry(log) => return self.open_telemetry(log),
        };
        Ok(LogSpec::Lines { sink, format: self.format(format)? })
    }

    fn format(&self, format: &Format) -> Result<LogFormat, FormatError> {
        let context = Context {
            omit_empty: format.omit_empty,
            req_without_query: format.req_without_query,
            ..self.context()
        };
        match &format.shape {
            Shape::Default => LogFormat::envoy_default(&context),
            Shape::Text(text) => LogFormat::text(text, &context),
            Shape::Json(template) => LogFormat::json(&json_template(template), &context),
        }
    }

    /// The compiled format of a body.
    pub(super) fn body_format(&self, settings: &Arc<BodyFormat>) -> Option<Rc<LogFormat>> {
        self.bodies.get(settings, || match self.format(&settings.format) {
            Ok(format) => Some(format),
            Err(error) => {
                tracing::error!(%error, "the format of a body cannot be rendered");
                None
            }
        })
    }

    fn grpc(&self, log: &GrpcLog) -> Result<LogSpec, FormatError> {
        let names = |list: &[ringsail_tables::Str]| list.iter().map(ToString::to_string).collect();
        let settings = access_log::GrpcLogSettings {
            tcp: log.tcp,
            tags: tags(&log.tags),
            request_headers: names(&log.request_headers),
            response_headers: names(&log.response_headers),
            response_trailers: names(&log.response_trailers),
        };
        let call = |authority: &str| Call::AccessLogStream {
            authority: authority.to_owned(),
            log_name: log.log_name.to_string(),
        };
        Ok(LogSpec::Grpc {
            destination: destination(&log.collector, call),
            log: access_log::GrpcLog::new(&settings, &self.context())?,
            buffering: buffering(log.buffering),
        })
    }

    fn open_telemetry(&self, log: &OpenTelemetryLog) -> Result<LogSpec, FormatError> {
        let text = |key: &str, value: &str| (key.to_owned(), JsonTemplate::String(value.to_owned()));
        let node = &self.identity.node;
        let mut resource = Vec::new();
        if log.builtin_labels {
            resource.extend([
                text("log_name", &log.log_name),
                text("zone_name", &node.zone),
                text("cluster_name", &node.cluster),
                text("node_name", &node.id),
            ]);
        }
        resource.extend(self.resource(&log.resource));
        let settings = access_log::OtlpLogSettings {
            resource,
            body: log.body.as_ref().map(json_template),
            attributes: log
                .attributes
                .iter()
                .map(|(key, value)| (key.to_string(), json_template(value)))
                .collect(),
            tags: tags(&log.tags),
        };
        let context = Context { req_without_query: log.req_without_query, ..self.context() };
        Ok(LogSpec::OpenTelemetry {
            destination: otlp_destination(&log.collector, OTLP_LOGS),
            log: access_log::OtlpLog::new(&settings, &context)?,
            buffering: buffering(log.buffering),
        })
    }

    /// What resource detectors find.
    fn resource(&self, resource: &Resource) -> Vec<(String, JsonTemplate)> {
        let configured =
            resource.attributes.iter().map(|(key, value)| (key.to_string(), json_template(value)));
        let from_environment = match std::env::var("OTEL_RESOURCE_ATTRIBUTES") {
            Ok(value) if resource.from_environment => environment_attributes(&value),
            Ok(_) | Err(_) => Vec::new(),
        };
        let from_environment =
            from_environment.into_iter().map(|(key, value)| (key, JsonTemplate::String(value)));
        configured.chain(from_environment).collect()
    }

    /// Makes a tracing system known to the writer. `None` when there is no room for it, which is reported.
    pub(crate) fn declare_tracer(&self, provider: &TraceProvider) -> Option<Rc<DeclaredTracer>> {
        if let Some(known) = find(&self.tracers, provider) {
            return Some(known);
        }
        let spec = match provider {
            TraceProvider::Zipkin(zipkin) => SpanSpec {
                destination: http_destination(&zipkin.collector, "application/json"),
                kind: TracerKind::Zipkin(ZipkinTracer {
                    service_name: self.identity.node.cluster.clone(),
                    address: self.identity.address,
                }),
                batch_max: ZIPKIN_BATCH_MAX,
            },
            TraceProvider::OpenTelemetry(otel) => {
                let own = ("service.name".to_owned(), otel.service_name.to_string());
                let found =
                    self.resource(&otel.resource).into_iter().filter_map(|(key, value)| match value {
                        JsonTemplate::String(text) => Some((key, text)),
                        _ => None,
                    });
                SpanSpec {
                    destination: otlp_destination(&otel.collector, OTLP_TRACES),
                    kind: TracerKind::OpenTelemetry(OtlpTracer {
                        resource: std::iter::once(own).chain(found).collect(),
                    }),
                    batch_max: otel.batch_max,
                }
            }
        };
        let Some(tracer) = self.writer.declare_tracer(spec) else {
            tracing::error!("tracing provider left out: there are as many as there may be");
            return None;
        };
        let tracer = Rc::new(tracer);
        keep(&self.tracers, provider.clone(), &tracer);
        Some(tracer)
    }

    /// Hands a span to the writer. One that finds no room is dropped and counted with the queue.
    pub(crate) fn send_span(&self, tracer: &DeclaredTracer, span: Box<Span>) {
        self.queue.send_span(tracer, span);
    }

    /// Compiles tags of spans.
    pub(crate) fn tags(&self, list: &[CustomTag], wanted: &mut Wanted) -> Vec<TagValue> {
        TagValue::compile(&tags(list), &self.context(), wanted).unwrap_or_else(|error| {
            tracing::error!(%error, "tags of spans left out: their format cannot be rendered");
            Vec::new()
        })
    }

    fn context(&self) -> Context<'_> {
        Context { hostname: &self.identity.hostname, environment: &variable, ..Context::default() }
    }
}

/// What is known under a key and still in use.
fn find<K: PartialEq, T>(list: &RefCell<Vec<(K, Weak<T>)>>, key: &K) -> Option<Rc<T>> {
    list.borrow().iter().find(|(other, known)| other == key && known.strong_count() > 0)?.1.upgrade()
}

/// Remembers what is known under a key, and forgets what is not in use any more.
fn keep<K, T>(list: &RefCell<Vec<(K, Weak<T>)>>, key: K, known: &Rc<T>) {
    let mut list = list.borrow_mut();
    list.retain(|(_, known)| known.strong_count() > 0);
    list.push((key, Rc::downgrade(known)));
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

const OTLP_LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const OTLP_TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

fn destination(collector: &Collector, grpc_call: impl Fn(&str) -> Call) -> Arc<Destination> {
    any_destination(collector, grpc_call, "application/grpc")
}

fn otlp_destination(collector: &Collector, method: &'static str) -> Arc<Destination> {
    let call = |authority: &str| Call::GrpcUnary { authority: authority.to_owned(), method };
    any_destination(collector, call, "application/x-protobuf")
}

fn http_destination(collector: &Collector, content_type: &'static str) -> Arc<Destination> {
    let call =
        |authority: &str| Call::HttpPost { host: authority.to_owned(), path: "/".to_owned(), content_type };
    any_destination(collector, call, content_type)
}

fn any_destination(
    collector: &Collector,
    grpc_call: impl Fn(&str) -> Call,
    content_type: &'static str,
) -> Arc<Destination> {
    Arc::new(Destination {
        cluster: collector.cluster.to_string(),
        call: match &collector.protocol {
            CollectorProtocol::Grpc { authority } => grpc_call(authority),
            CollectorProtocol::Http { host, path } => {
                Call::HttpPost { host: host.to_string(), path: path.to_string(), content_type }
            }
        },
        headers: collector
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        timeout: collector.timeout,
    })
}

fn buffering(settings: Buffering) -> access_log::Buffering {
    access_log::Buffering { bytes: settings.bytes as usize, interval: settings.interval }
}

fn tags(list: &[CustomTag]) -> Vec<Tag> {
    let source = |source: &TagSource| match source {
        TagSource::Literal(text) => access_log::TagSource::Literal(text.to_string()),
        TagSource::Environment(name) => access_log::TagSource::Environment(name.to_string()),
        TagSource::RequestHeader(name) => access_log::TagSource::RequestHeader(name.to_string()),
        TagSource::Metadata { kind, namespace, path } => access_log::TagSource::Metadata(WantedMetadata {
            owner: match kind {
                MetadataKind::Request => access_log::MetadataOwner::Dynamic,
                MetadataKind::Route => access_log::MetadataOwner::Route,
                MetadataKind::Cluster => access_log::MetadataOwner::PickedCluster,
                MetadataKind::Host => access_log::MetadataOwner::Endpoint,
            },
            namespace: namespace.to_string(),
            path: path.iter().map(ToString::to_string).collect(),
        }),
        TagSource::Format(format) => access_log::TagSource::Format(format.to_string()),
    };
    list.iter()
        .map(|tag| Tag {
            name: tag.name.to_string(),
            source: source(&tag.source),
            default: tag.default.as_ref().map(ToString::to_string),
        })
        .collect()
}

fn json_template(value: &Value) -> JsonTemplate {
    match value {
        Value::Null => JsonTemplate::Null,
        Value::Bool(flag) => JsonTemplate::Bool(*flag),
        Value::Number(number) => JsonTemplate::Number(*number),
        Value::String(text) => JsonTemplate::String(text.to_string()),
        Value::List(items) => JsonTemplate::List(items.iter().map(json_template).collect()),
        Value::Struct(fields) => JsonTemplate::Object(
            fields.iter().map(|(key, value)| (key.to_string(), json_template(value))).collect(),
        ),
    }
}
