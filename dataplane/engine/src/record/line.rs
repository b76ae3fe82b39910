//! What a record holds.

use std::time::Duration;

use ringsail_http::{Fields, RequestHead, ResponseHead, TargetForm, Version};
use ringsail_runtime::net::Address;
use ringsail_tables::Str;
use ringsail_tables::metadata::{Metadata, Value};
use ringsail_telemetry::access_log::{
    self, HeaderSource, MetadataOwner, Protocol, Record, Text, TimePoint, Wanted, WantedMetadata,
};

use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::serving::ChainVersion;
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
    record.upstream_remote = trail.upstream_host.as_ref().map(|address| match address {
        Address::Inet(address) => access_log::Address::Ip(*address),
        Address::Unix(path) => access_log::Address::Pipe(path.to_string_lossy().into()),
    });
    for (text, value) in [
        (Text::ResponseCodeDetails, &*trail.details),
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
        record.grpc_status = super::grpc_status(progress.grpc_status.get(), Some(exchange.response));
    }
    let moments = [
        (TimePoint::RequestEnd, progress.request_complete.get()),
        (TimePoint::UpstreamSendEnd, progress.request_sent.get()),
        (TimePoint::UpstreamReceiveBegin, progress.answer_began.get()),
        (TimePoint::UpstreamSendBegin, progress.request_begun.get()),
        (TimePoint::UpstreamReceiveEnd, progress.answer_complete.get()),
        (TimePoint::ResponseBegin, progress.response_begun.get()),
    ];
    for (point, moment) in moments {
        if let Some(moment) = moment {
            record.mark(point, moment.saturating_duration_since(progress.started));
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
pub(crate) fn fill(record: &mut Record, wanted: &Wanted, exchange: &Exchange<'_>) {
    let (trail, request, response) = (&*exchange.trail, &*exchange.request, &*exchange.response);
    for (slot, header) in wanted.headers.iter().enumerate() {
        let value = match header.source {
            HeaderSource::Request => request_header(request, &header.name),
            HeaderSource::Response if trail.status == 0 => None,
            HeaderSource::Response => crate::view::nth_field(response.fields(), &header.name, 0),
            HeaderSource::ResponseTrailer => None,
        };
        if let Some(value) = value {
            record.push_header(slot, value);
        }
    }
    for (slot, metadata) in wanted.metadata.iter().enumerate() {
        with_metadata(exchange, metadata.owner, |owner| {
            if let Some(value) = find(owner, metadata) {
                push(record, slot, value);
            }
        });
    }
    if wanted.header_bytes && !request.method_name().is_empty() {
        record.request_headers_bytes = request_head_bytes(request);
        if trail.status > 0 {
            record.response_headers_bytes = response_head_bytes(response);
        }
    }
    fill_unique_id(record, wanted);
}

/// An id of its own for each line that shows one.
pub(super) fn fill_unique_id(record: &mut Record, wanted: &Wanted) {
    if wanted.unique_id {
        record.set(Text::UniqueId, &crate::request_id::uuid4(fastrand::u128(..)));
    }
}

fn request_header<'a>(head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    match name {
        ":method" => Some(head.method_name()).filter(|name| !name.is_empty()),
        ":path" if head.target_form() == TargetForm::Authority => None,
        ":path" => Some(head.path()).filter(|path| !path.is_empty()),
        ":authority" | "host" => head.authority(),
        ":scheme" => Some(crate::view::scheme(head).as_bytes()),
        _ => crate::view::nth_field(head.fields(), name, 0),
    }
}

/// Names and values without what is between them; pseudo headers are among them, as in Envoy's header map.
fn request_head_bytes(head: &RequestHead) -> u64 {
    let host = head.fields().get("host");
    let authority = head.authority().map_or(0, |value| ":authority".len() + value.len());
    let pseudo = [(":method", head.method_name()), (":path", head.path())];
    let pseudo: usize = pseudo.iter().map(|(name, value)| name.len() + value.len()).sum();
    let scheme = ":scheme".len() + crate::view::scheme(head).len();
    // The authority is counted once, whatever its field is called on the wire.
    let host = host.map_or(0, |value| "host".len() + value.len());
    (pseudo + scheme + authority) as u64 + fields_bytes(head.fields()) - host as u64
}

fn response_head_bytes(head: &ResponseHead) -> u64 {
    (":status".len() + 3) as u64 + fields_bytes(head.fields())
}

fn fields_bytes(fields: &Fields) -> u64 {
    fields.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
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
        MetadataOwner::Route => {
            exchange.route().and_then(|id| tables.route(id)).and_then(|found| found.route.metadata.clone())
        }
        MetadataOwner::Cluster => cluster().and_then(|cluster| cluster.cluster.metadata.clone()),
        MetadataOwner::Endpoint => cluster().and_then(|cluster| {
            let address = trail.upstream_host.as_ref()?.to_string();
            let mut endpoints = cluster.endpoints.iter();
            endpoints.find(|(.., endpoint)| endpoint.address.to_string() == address)?.2.metadata.clone()
        }),
    };
    if let Some(metadata) = found {
        use_it(&metadata);
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
