//! What a record holds.

use std::time::Duration;

use ringsail_http::{Fields, RequestHead, ResponseHead, TargetForm, Version};
use ringsail_runtime::net::Address;
use ringsail_tables::Str;
use ringsail_tables::cel::{self, Attributes};
use ringsail_tables::endpoint::Endpoint;
use ringsail_tables::metadata::{Metadata, Value};
use ringsail_telemetry::access_log::{
    self, Extra, ExtraKind, FilterStateForm, HeaderSource, MetadataOwner, Protocol, Record, Text, TimePoint,
    TlsValue, WantedMetadata,
};

use super::declare::Shown;
use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::serving::ChainVersion;
use crate::telemetry::{ConnectionAttributes, ExchangeAttributes};
use crate::tls::Facts;
use crate::trail::Trail;

/// The values that exchanges and relays have in common.
pub(super) fn common(
    connection: &Connection,
    chain: &ChainVersion,
    trail: &Trail,
    length: Duration,
) -> Box<Record> {
    let mut record = Box::new(Record::with_room());
    record.start_time = trail.start;
    record.duration = Some(length);
    record.response_code = trail.status;
    record.flags = trail.flags;
    record.upstream_attempts = trail.attempts;
    record.connection_id = connection.id;
    record.downstream_remote = connection.peer.map(Into::into);
    record.downstream_direct_remote = connection.direct_peer.map(Into::into);
    record.downstream_local = connection.local.map(Into::into);
    record.downstream_direct_local = connection.local.map(Into::into);
    record.upstream_local = trail.upstream_local.map(Into::into);
    record.upstream_connection_id = trail.upstream_connection.map(|connection| connection.id);
    record.upstream_remote = trail.upstream_host.as_ref().map(|address| match address {
        Address::Inet(address) => access_log::Address::Ip(*address),
        Address::Unix(path) => access_log::Address::Pipe(path.to_string_lossy().into()),
    });
    for (text, value) in [
        (Text::ResponseCodeDetails, &*trail.details),
        (Text::ConnectionTerminationDetails, &*trail.termination),
        (Text::UpstreamTransportFailureReason, &*trail.transport_failure),
        (Text::UpstreamCluster, &trail.cluster_stat_name),
        (Text::UpstreamClusterRaw, &trail.cluster_name),
        (Text::RouteName, &trail.route_name),
        (Text::RequestedServerName, connection.server_name()),
        (Text::FilterChainName, &chain.chain().name),
    ] {
        record.set(text, value.as_bytes());
    }
    if let Some(facts) = connection.stream.tls() {
        set_downstream(&mut record, facts);
    }
    if let Some(facts) = &trail.upstream_tls {
        set_upstream(&mut record, facts);
    }
    record
}

/// Sets what is known; what is not stays unset and is written as `-`.
fn set_known(record: &mut Record, values: &[(Text, &str)]) {
    for (text, value) in values.iter().filter(|(_, value)| !value.is_empty()) {
        record.set(*text, value.as_bytes());
    }
}

fn set_downstream(record: &mut Record, facts: &Facts) {
    set_known(
        record,
        &[
            (Text::DownstreamTlsVersion, facts.version_text()),
            (Text::DownstreamTlsCipher, facts.cipher),
            (Text::DownstreamTlsSessionId, &*facts.session_id),
        ],
    );
    if let Some(peer) = &facts.peer {
        let ips: Vec<String> = peer.ip_names.iter().map(ToString::to_string).collect();
        set_known(
            record,
            &[
                (Text::DownstreamPeerUriSan, &*peer.uri_names.join(",")),
                (Text::DownstreamPeerDnsSan, &*peer.dns_names.join(",")),
                (Text::DownstreamPeerIpSan, &*ips.join(",")),
                (Text::DownstreamPeerSubject, &*peer.subject),
                (Text::DownstreamPeerIssuer, &*peer.issuer),
                (Text::DownstreamPeerSerial, &*peer.serial),
                (Text::DownstreamPeerFingerprint, &*peer.fingerprint()),
            ],
        );
    }
    if let Some(local) = &facts.local {
        let local = local.facts();
        set_known(
            record,
            &[
                (Text::DownstreamLocalUriSan, &*local.uri_names.join(",")),
                (Text::DownstreamLocalDnsSan, &*local.dns_names.join(",")),
                (Text::DownstreamLocalSubject, &*local.subject),
            ],
        );
    }
}

fn set_upstream(record: &mut Record, facts: &Facts) {
    set_known(
        record,
        &[
            (Text::UpstreamTlsVersion, facts.version_text()),
            (Text::UpstreamTlsCipher, facts.cipher),
            (Text::UpstreamTlsSessionId, &*facts.session_id),
        ],
    );
    if let Some(peer) = &facts.peer {
        set_known(
            record,
            &[
                (Text::UpstreamPeerUriSan, &*peer.uri_names.join(",")),
                (Text::UpstreamPeerDnsSan, &*peer.dns_names.join(",")),
                (Text::UpstreamPeerSubject, &*peer.subject),
                (Text::UpstreamPeerIssuer, &*peer.issuer),
            ],
        );
    }
}

/// The values of an exchange that every format may show.
pub(crate) fn request_record(exchange: &Exchange<'_>, length: Duration) -> Box<Record> {
    let (facts, trail, progress) = (&exchange.facts, &*exchange.trail, exchange.facts.progress);
    let mut record = common(facts.connection, facts.chain, trail, length);
    record.protocol = Some(protocol(exchange.request.version()));
    record.upstream_protocol = trail.upstream_version.map(protocol);
    record.downstream_remote = facts.origin.client.map(Into::into).or(record.downstream_remote.take());
    record.bytes_received = progress.bytes_received.get();
    record.bytes_sent = progress.bytes_sent.get();
    if facts.grpc {
        let told = super::grpc_status(progress.grpc_status.get(), Some(exchange.response));
        // Compat: an answer that tells none has the one that its HTTP status stands for.
        record.grpc_status = told.or((trail.status > 0).then(|| super::filter::grpc_status_of(trail.status)));
    }
    let moments = [
        (TimePoint::RequestEnd, progress.request_complete.get()),
        (TimePoint::UpstreamSendEnd, progress.request_sent.get()),
        (TimePoint::UpstreamReceiveBegin, progress.answer_began.get()),
        (TimePoint::UpstreamSendBegin, progress.request_begun.get()),
        (TimePoint::UpstreamReceiveEnd, progress.answer_complete.get()),
        (TimePoint::ResponseBegin, progress.response_begun.get()),
        (TimePoint::UpstreamBodyBegin, progress.answer_body_began.get()),
        (TimePoint::UpstreamAttemptBegin, progress.attempt_began.get()),
        (TimePoint::UpstreamPoolReady, progress.pool_ready.get()),
        // Of a connection that served others these are in the past.
        (TimePoint::UpstreamConnectBegin, trail.upstream_connection.map(|connection| connection.dialed)),
        (TimePoint::UpstreamConnectEnd, trail.upstream_connection.map(|connection| connection.connected)),
    ];
    for (point, moment) in moments {
        match moment {
            Some(moment) if moment < progress.started => record.mark_before(point, progress.started - moment),
            Some(moment) => record.mark(point, moment - progress.started),
            None => {}
        }
    }
    record.mark(TimePoint::ResponseEnd, length);
    record.set(Text::StreamId, exchange.request.fields().get("x-request-id").unwrap_or_default());
    if let Some(span) = &trail.span {
        record.trace_id = Some(span.context.trace);
        // Compat: Zipkin's spans do not tell their id.
        record.span_id = span.tells_id.then_some(span.context.span);
    }
    record
}

fn protocol(version: Version) -> Protocol {
    match version {
        Version::Http10 => Protocol::Http10,
        Version::Http11 => Protocol::Http11,
        Version::Http2 => Protocol::Http2,
    }
}

/// The values that only some formats show.
pub(crate) fn fill(record: &mut Record, shown: &Shown, exchange: &Exchange<'_>) {
    let (trail, request, response) = (&*exchange.trail, &*exchange.request, &*exchange.response);
    let wanted = &shown.wanted;
    for (slot, header) in wanted.headers.iter().enumerate() {
        let push = |record: &mut Record, value: Option<&[u8]>| {
            if let Some(value) = value {
                record.push_header(slot, value);
            }
        };
        match header.source {
            HeaderSource::Request => push(record, request_header(request, &header.name)),
            HeaderSource::Response if trail.status == 0 => {}
            HeaderSource::Response if header.name == ":status" => {
                push(record, Some(trail.status.to_string().as_bytes()));
            }
            HeaderSource::Response => {
                push(record, crate::view::nth_field(response.fields(), &header.name, 0));
            }
            HeaderSource::ResponseTrailer => {
                let trailers = exchange.facts.progress.trailers.borrow();
                push(
                    record,
                    trailers.as_ref().and_then(|fields| crate::view::nth_field(fields, &header.name, 0)),
                );
            }
        }
    }
    for (slot, metadata) in wanted.metadata.iter().enumerate() {
        with_metadata(exchange, metadata.owner, |owner| {
            if let Some(value) = find(owner, metadata) {
                push(record, slot, value);
            }
        });
    }
    if !wanted.extras.is_empty() {
        let attributes = ExchangeAttributes { x: exchange, length: record.duration.unwrap_or_default() };
        let upstream = exchange.trail.upstream_tls.as_deref();
        fill_extras(record, shown, (exchange.facts.chain, upstream), &attributes);
        if let Some(slot) = wanted.extras.iter().position(|extra| *extra == Extra::HostName) {
            with_endpoint(exchange, |endpoint| {
                if let Some(name) = endpoint.hostname.as_deref().filter(|name| !name.is_empty()) {
                    record.push_extra(slot, name.as_bytes(), ExtraKind::Text);
                }
            });
        }
    }
    if wanted.header_bytes {
        fill_bytes(record, exchange);
    }
    fill_unique_id(record, shown);
}

/// The same of a relayed connection.
pub(super) fn fill_connection(record: &mut Record, shown: &Shown, attributes: &ConnectionAttributes<'_>) {
    let upstream = attributes.trail.upstream_tls.as_deref();
    fill_extras(record, shown, (attributes.version, upstream), attributes);
    fill_unique_id(record, shown);
}

fn fill_extras(
    record: &mut Record,
    shown: &Shown,
    (chain, upstream): (&ChainVersion, Option<&Facts>),
    attributes: &dyn Attributes,
) {
    for (slot, extra) in shown.wanted.extras.iter().enumerate() {
        match extra {
            Extra::Expression { typed, .. } => {
                let expression = shown.expressions.get(slot).and_then(Option::as_ref);
                let value = expression.and_then(|expression| expression.evaluate(attributes).ok());
                match value {
                    Some(value) if *typed => push_typed(record, slot, &value),
                    Some(value) => record.push_extra(slot, value.to_string().as_bytes(), ExtraKind::Text),
                    None => {}
                }
            }
            Extra::FilterState { key, form } => push_filter_state(record, slot, (key, form), attributes),
            Extra::Tls(value) => {
                if let Some(text) = tls_value(*value, upstream) {
                    record.push_extra(slot, text.as_bytes(), ExtraKind::Text);
                }
            }
            Extra::ListenerName => {
                record.push_extra(slot, chain.listener().name.as_bytes(), ExtraKind::Text);
            }
            // Known for exchanges only.
            Extra::HostName => {}
        }
    }
}

/// What no record holds of the TLS session of the upstream connection.
fn tls_value(value: TlsValue, upstream: Option<&Facts>) -> Option<String> {
    match value {
        TlsValue::UpstreamServerName => upstream.map(|facts| facts.server_name.to_string()),
        // Not known here.
        _ => None,
    }
    .filter(|text| !text.is_empty())
}

/// A value of an expression with its own type.
fn push_typed(record: &mut Record, slot: usize, value: &cel::Value<'_>) {
    match typed(value) {
        Some(Value::String(text)) => record.push_extra(slot, text.as_bytes(), ExtraKind::Text),
        Some(value) => {
            let mut json = String::new();
            write_json(&value, &mut json);
            record.push_extra(slot, json.as_bytes(), ExtraKind::Json);
        }
        None => {}
    }
}

fn typed(value: &cel::Value<'_>) -> Option<Value> {
    Some(match value {
        cel::Value::Null | cel::Value::Map(_) => return None,
        cel::Value::Bool(flag) => Value::Bool(*flag),
        cel::Value::Int(number) => Value::Number(*number as f64),
        cel::Value::Double(number) => Value::Number(*number),
        cel::Value::String(text) => Value::String(Str::new(text)),
        cel::Value::Duration(length) => {
            Value::String(Str::new(&format!("{}.{:09}s", length.as_secs(), length.subsec_nanos())))
        }
        cel::Value::List(items) => Value::List(items.iter().filter_map(typed).collect()),
    })
}

/// The parts of a peer, as attributes name them and as `baggage` does.
const PEER_FIELDS: [(&str, &str); 11] = [
    ("workload", "k8s.deployment.name"),
    ("service", "service.name"),
    ("revision", "service.version"),
    ("app", "app.name"),
    ("version", "app.version"),
    ("namespace", "k8s.namespace.name"),
    ("cluster", "k8s.cluster.name"),
    ("name", "k8s.instance.name"),
    ("region", "cloud.region"),
    ("availability_zone", "cloud.availability_zone"),
    ("identity", ""),
];

/// An object of the filter state: what peers told of themselves. Source: Istio's `WorkloadMetadataObject`.
fn push_filter_state(
    record: &mut Record,
    slot: usize,
    (key, form): (&str, &FilterStateForm),
    attributes: &dyn Attributes,
) {
    let key = key.strip_suffix("_obj").unwrap_or(key);
    if !matches!(key, "upstream_peer" | "downstream_peer") {
        // No other filter here leaves any.
        return;
    }
    let part = |field: &str| match attributes.attribute(&[Str::new(key), Str::new(field)])? {
        cel::Value::String(text) => Some(text.into_owned()),
        _ => None,
    };
    let parts = || PEER_FIELDS.iter().filter_map(|(field, baggage)| Some((*field, *baggage, part(field)?)));
    match form {
        FilterStateForm::Field(field) => {
            if let Some(text) = part(field) {
                record.push_extra(slot, text.as_bytes(), ExtraKind::Text);
            }
        }
        FilterStateForm::Plain => {
            let text: Vec<String> = parts()
                .filter(|(_, baggage, _)| !baggage.is_empty())
                .map(|(_, baggage, text)| format!("{baggage}={text}"))
                .collect();
            if !text.is_empty() {
                record.push_extra(slot, text.join(",").as_bytes(), ExtraKind::Text);
            }
        }
        FilterStateForm::Typed => {
            let fields: Vec<_> =
                parts().map(|(field, _, text)| (Str::new(field), Value::String(Str::new(&text)))).collect();
            if !fields.is_empty() {
                let mut json = String::new();
                write_json(&Value::object(fields), &mut json);
                record.push_extra(slot, json.as_bytes(), ExtraKind::Json);
            }
        }
    }
}

/// Bytes of heads and of everything.
fn fill_bytes(record: &mut Record, exchange: &Exchange<'_>) {
    let (facts, request, response) = (&exchange.facts, &*exchange.request, &*exchange.response);
    let (progress, wire) = (facts.progress, &facts.progress.wire);
    let answered = exchange.trail.status > 0;
    if !request.method_name().is_empty() {
        record.request_headers_bytes = request_head_bytes(request);
    }
    if answered {
        record.response_headers_bytes = response_head_bytes(response);
    }
    if let Some(trailers) = &*progress.trailers.borrow() {
        record.response_trailers_bytes = fields_bytes(trailers);
    }
    record.downstream_wire_bytes_received = wire.downstream.received.get();
    record.downstream_header_bytes_received = wire.downstream.fields_received.get();
    if facts.version == Version::Http2 {
        let head = if answered { http2_bytes(response.fields()) + ":status200".len() } else { 0 };
        record.downstream_header_bytes_sent = head as u64;
        record.downstream_wire_bytes_sent = head as u64 + progress.bytes_sent.get();
    } else {
        record.downstream_wire_bytes_sent =
            facts.connection.stream.bytes_sent().saturating_sub(wire.downstream.sent.get());
        if answered && record.downstream_wire_bytes_sent > 0 {
            let mut head = Vec::new();
            ringsail_http::encode_response(response, Version::Http11, &mut head);
            let line = "HTTP/1.1 200 \r\n\r\n".len() + response.reason().len();
            record.downstream_header_bytes_sent = head.len().saturating_sub(line) as u64;
        }
    }
    record.upstream_wire_bytes_received = wire.upstream.received.get();
    record.upstream_header_bytes_received = wire.upstream.fields_received.get();
    record.upstream_wire_bytes_sent = wire.upstream.sent.get();
    record.upstream_header_bytes_sent = wire.upstream.fields_sent.get();
    if exchange.trail.upstream_version == Some(Version::Http2) {
        record.upstream_wire_bytes_sent += progress.bytes_received.get();
    }
}

/// An id of its own for each line that shows one.
pub(super) fn fill_unique_id(record: &mut Record, shown: &Shown) {
    if shown.wanted.unique_id {
        record.set(Text::UniqueId, &crate::request_id::uuid4(fastrand::u128(..)));
    }
}

fn request_header<'a>(head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    match name {
        ":method" => Some(head.method_name()).filter(|name| !name.is_empty()),
        ":path" if head.target_form() == TargetForm::Authority => None,
        ":path" => Some(head.path()).filter(|path| !path.is_empty()),
        ":authority" | "host" => head.authority(),
        ":scheme" => Some(crate::view::scheme(head).as_bytes()).filter(|_| !head.method_name().is_empty()),
        _ => crate::view::nth_field(head.fields(), name, 0),
    }
}

/// Names and values without what is between them; pseudo headers are among them, as in Envoy's header map.
pub(crate) fn request_head_bytes(head: &RequestHead) -> u64 {
    let host = head.fields().get("host");
    let authority = head.authority().map_or(0, |value| ":authority".len() + value.len());
    let pseudo = [(":method", head.method_name()), (":path", head.path())];
    let pseudo: usize = pseudo.iter().map(|(name, value)| name.len() + value.len()).sum();
    let scheme = ":scheme".len() + crate::view::scheme(head).len();
    // The authority is counted once, whatever its field is called on the wire.
    let host = host.map_or(0, |value| "host".len() + value.len());
    (pseudo + scheme + authority) as u64 + fields_bytes(head.fields()) - host as u64
}

pub(crate) fn response_head_bytes(head: &ResponseHead) -> u64 {
    (":status".len() + 3) as u64 + fields_bytes(head.fields())
}

/// Compat: what says how the body is framed on the wire is no field of the message.
pub(crate) fn fields_bytes(fields: &Fields) -> u64 {
    let counted = fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"transfer-encoding"));
    counted.map(|(name, value)| (name.len() + value.len()) as u64).sum()
}

/// Names and values as HTTP/2 has them.
pub(super) fn http2_bytes(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// The pseudo fields of a request.
pub(super) fn pseudo_bytes(head: &RequestHead) -> usize {
    let names = ":method:path:scheme:authority".len();
    let scheme = crate::view::scheme(head).len();
    names + head.method_name().len() + head.path().len() + scheme + head.authority().map_or(0, <[u8]>::len)
}

/// Calls `use_it` with metadata of the exchange, when there is some.
fn with_metadata(exchange: &Exchange<'_>, owner: MetadataOwner, use_it: impl FnOnce(&Metadata)) {
    let (facts, trail) = (&exchange.facts, &*exchange.trail);
    let tables = facts.tables;
    let cluster = || trail.cluster.and_then(|id| tables.cluster(id));
    let found = match owner {
        // No filter here writes any.
        MetadataOwner::Dynamic => None,
        MetadataOwner::Listener => facts.chain.listener().metadata.clone(),
        MetadataOwner::FilterChain => facts.chain.chain().metadata.clone(),
        // Compat: known also where it has no route for the request.
        MetadataOwner::VirtualHost => tables
            .route_config(facts.manager.routes)
            .and_then(|config| config.virtual_host(std::str::from_utf8(exchange.request.authority()?).ok()?))
            .and_then(|host| host.metadata.clone()),
        MetadataOwner::Route => {
            exchange.route().and_then(|id| tables.route(id)).and_then(|found| found.route.metadata.clone())
        }
        MetadataOwner::PickedCluster if trail.upstream_host.is_none() => None,
        MetadataOwner::Cluster | MetadataOwner::PickedCluster => {
            cluster().and_then(|cluster| cluster.cluster.metadata.clone())
        }
        MetadataOwner::Endpoint => {
            let mut metadata = None;
            with_endpoint(exchange, |endpoint| metadata = endpoint.metadata.clone());
            metadata
        }
    };
    if let Some(metadata) = found {
        use_it(&metadata);
    }
}

/// Calls `use_it` with the endpoint of the last attempt, when it is still there.
fn with_endpoint(exchange: &Exchange<'_>, use_it: impl FnOnce(&Endpoint)) {
    let trail = &*exchange.trail;
    let Some(cluster) = trail.cluster.and_then(|id| exchange.facts.tables.cluster(id)) else { return };
    let Some(address) = trail.upstream_host.as_ref().map(ToString::to_string) else { return };
    let mut endpoints = cluster.endpoints.iter();
    if let Some((.., endpoint)) = endpoints.find(|(.., endpoint)| endpoint.address.to_string() == address) {
        use_it(endpoint);
    }
}

fn find<'m>(metadata: &'m Metadata, wanted: &WantedMetadata) -> Option<&'m Value> {
    let mut value = metadata.at(&wanted.namespace, &[] as &[Str])?;
    for key in &wanted.path {
        value = value.field(key)?;
    }
    Some(value).filter(|value| !matches!(value, Value::Null))
}

fn push(record: &mut Record, slot: usize, value: &Value) {
    match value {
        Value::String(text) => record.push_metadata(slot, text.as_bytes(), true),
        value => {
            let mut json = String::new();
            write_json(value, &mut json);
            record.push_metadata(slot, json.as_bytes(), false);
        }
    }
}

fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => access_log::write_json_string(text, out),
        Value::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Struct(fields) => {
            out.push('{');
            for (i, (name, field)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                access_log::write_json_string(name, out);
                out.push(':');
                write_json(field, out);
            }
            out.push('}');
        }
    }
}
