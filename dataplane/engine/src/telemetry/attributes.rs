//! What expressions may ask about exchanges and connections. Source: Envoy, "Attributes"; Istio's `upstream_peer` and
//! `downstream_peer`.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use ringsail_runtime::net::Address;
use ringsail_tables::Str;
use ringsail_tables::cel::{Attributes, Value};
use ringsail_tables::istio::Workload;
use ringsail_tables::metadata::Value as Metadata;

use super::{Local, Peer};
use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::serving::ChainVersion;
use crate::trail::Trail;

/// An exchange at its end.
pub struct ExchangeAttributes<'a> {
    pub x: &'a Exchange<'a>,
    /// How long it took.
    pub length: Duration,
}

/// A relayed connection.
pub struct ConnectionAttributes<'a> {
    pub connection: &'a Connection,
    pub trail: &'a Trail,
    pub version: &'a ChainVersion,
    pub local: &'a Local,
}

fn bytes(value: &[u8]) -> Value<'_> {
    Value::String(String::from_utf8_lossy(value))
}

fn owned<'a>(value: impl ToString) -> Value<'a> {
    Value::String(Cow::Owned(value.to_string()))
}

fn count<'a>(value: u64) -> Value<'a> {
    Value::Int(value.try_into().unwrap_or(i64::MAX))
}

impl Attributes for ExchangeAttributes<'_> {
    fn attribute(&self, path: &[Str]) -> Option<Value<'_>> {
        let [root, rest @ ..] = path else { return None };
        match root.as_str() {
            "request" => self.request(rest),
            "response" => self.response(rest),
            _ => ConnectionAttributes {
                connection: self.x.facts.connection,
                trail: self.x.trail,
                version: self.x.facts.chain,
                local: &self.x.facts.shard.identity.local,
            }
            .about(root, rest),
        }
    }
}

impl ExchangeAttributes<'_> {
    fn request(&self, rest: &[Str]) -> Option<Value<'_>> {
        let (head, progress) = (&*self.x.request, self.x.facts.progress);
        let field = |name: &str| head.fields().get(name).map(bytes);
        let path = || String::from_utf8_lossy(head.path());
        let [name, rest @ ..] = rest else { return Some(Value::Map(1)) };
        match (name.as_str(), rest) {
            ("host", []) => head.authority().map(bytes),
            ("path", []) => Some(Value::String(path())),
            ("url_path", []) => {
                let path = path();
                let end = path.find(['?', '#']).unwrap_or(path.len());
                Some(owned(&path[..end]))
            }
            ("query", []) => {
                let path = path();
                path.split_once('?').map(|(_, query)| owned(query))
            }
            ("method", []) => Some(bytes(head.method_name())),
            ("scheme", []) => Some(Value::text(crate::view::scheme(head))),
            ("protocol", []) => Some(Value::text(head.version().as_str())),
            ("id", []) => field("x-request-id"),
            ("referer", []) => field("referer"),
            ("useragent", []) => field("user-agent"),
            ("size", []) => Some(count(progress.bytes_received.get())),
            ("total_size", []) => {
                let head = crate::record::request_head_bytes(head);
                Some(count(progress.bytes_received.get() + head))
            }
            ("duration", []) => Some(Value::Duration(self.length)),
            // Text, because expressions here have no moments.
            ("time", []) => {
                let mut text = Vec::new();
                ringsail_telemetry::access_log::write_time(
                    self.x.trail.start,
                    "%Y-%m-%dT%H:%M:%E6S+00:00",
                    &mut text,
                );
                Some(owned(String::from_utf8_lossy(&text)))
            }
            ("headers", []) => Some(Value::Map(head.fields().len())),
            ("headers", [name]) => match name.as_str() {
                ":authority" => head.authority().map(bytes),
                ":path" => Some(Value::String(path())),
                ":method" => Some(bytes(head.method_name())),
                name => field(name),
            },
            _ => None,
        }
    }

    fn response(&self, rest: &[Str]) -> Option<Value<'_>> {
        let (head, trail) = (&*self.x.response, &*self.x.trail);
        let [name, rest @ ..] = rest else { return Some(Value::Map(1)) };
        match (name.as_str(), rest) {
            ("code", []) => (trail.status > 0).then(|| Value::Int(trail.status.into())),
            ("code_details", []) => (!trail.details.is_empty()).then(|| Value::text(&trail.details)),
            ("grpc_status", []) => {
                self.x.facts.progress.grpc_status.get().map(|status| Value::Int(status.into()))
            }
            ("flags", []) => {
                let bits = trail.flags.iter().map(|flag| 1i64 << flag as u8);
                Some(Value::Int(bits.fold(0, |set, bit| set | bit)))
            }
            ("size", []) => Some(count(self.x.facts.progress.bytes_sent.get())),
            ("total_size", []) => {
                let head = if trail.status > 0 { crate::record::response_head_bytes(head) } else { 0 };
                let trailers = self.x.facts.progress.trailers.borrow();
                let trailers = trailers.as_ref().map_or(0, crate::record::fields_bytes);
                Some(count(self.x.facts.progress.bytes_sent.get() + head + trailers))
            }
            ("trailers", [name]) => {
                let trailers = self.x.facts.progress.trailers.borrow();
                let value = trailers.as_ref()?.get(name)?;
                Some(owned(String::from_utf8_lossy(value)))
            }
            ("backend_latency", []) => {
                let progress = self.x.facts.progress;
                let (sent, came) = (progress.request_sent.get()?, progress.answer_complete.get()?);
                Some(Value::Duration(came.saturating_duration_since(sent)))
            }
            ("headers", []) if trail.status > 0 => Some(Value::Map(head.fields().len())),
            ("headers", [name]) if trail.status > 0 => head.fields().get(name).map(bytes),
            _ => None,
        }
    }
}

impl Attributes for ConnectionAttributes<'_> {
    fn attribute(&self, path: &[Str]) -> Option<Value<'_>> {
        let [root, rest @ ..] = path else { return None };
        self.about(root, rest)
    }
}

impl<'a> ConnectionAttributes<'a> {
    fn about(&self, root: &Str, rest: &[Str]) -> Option<Value<'a>> {
        let seen = &self.trail.seen;
        match root.as_str() {
            "source" => address(self.connection.peer, rest),
            "destination" => address(self.connection.local, rest),
            "upstream" => self.upstream(rest),
            "connection" => self.connection(rest),
            "xds" => self.xds(rest),
            "node" => self.node(rest),
            "upstream_peer" => peer(seen.upstream.as_deref(), rest),
            "downstream_peer" => peer(seen.downstream.as_deref(), rest),
            "filter_state" => match rest {
                [name, rest @ ..] if name == "upstream_peer" => peer(seen.upstream.as_deref(), rest),
                [name, rest @ ..] if name == "downstream_peer" => peer(seen.downstream.as_deref(), rest),
                _ => None,
            },
            _ => None,
        }
    }

    fn upstream(&self, rest: &[Str]) -> Option<Value<'a>> {
        let [name] = rest else { return None };
        let host = match self.trail.upstream_host.as_ref()? {
            Address::Inet(address) => Some(*address),
            Address::Unix(_) => None,
        };
        match name.as_str() {
            "local_address" => self.trail.upstream_local.map(owned),
            "transport_failure_reason" => {
                let reason = &self.trail.transport_failure;
                (!reason.is_empty()).then(|| Value::text(reason))
            }
            _ => address(host, rest),
        }
    }

    fn connection(&self, rest: &[Str]) -> Option<Value<'a>> {
        let [name] = rest else { return None };
        let tls = self.connection.stream.tls();
        let set = |text: &'a str| (!text.is_empty()).then(|| Value::text(text));
        match name.as_str() {
            "mtls" => Some(Value::Bool(tls.is_some_and(|facts| facts.peer.is_some()))),
            "id" => Some(count(self.connection.id)),
            "requested_server_name" => set(self.connection.server_name()),
            "tls_version" => set(tls?.version_text()),
            "subject_peer_certificate" => set(&tls?.peer.as_deref()?.subject),
            "uri_san_peer_certificate" => set(tls?.peer.as_deref()?.uri_names.first()?),
            "dns_san_peer_certificate" => set(tls?.peer.as_deref()?.dns_names.first()?),
            "subject_local_certificate" => set(&tls?.local.as_deref()?.facts().subject),
            "uri_san_local_certificate" => set(tls?.local.as_deref()?.facts().uri_names.first()?),
            "dns_san_local_certificate" => set(tls?.local.as_deref()?.facts().dns_names.first()?),
            _ => None,
        }
    }

    fn xds(&self, rest: &[Str]) -> Option<Value<'a>> {
        let [name, rest @ ..] = rest else { return None };
        let text = |text: &'a str| (!text.is_empty()).then(|| Value::text(text));
        match (name.as_str(), rest) {
            ("cluster_name", []) => text(&self.trail.cluster_name),
            ("route_name", []) => text(&self.trail.route_name),
            ("filter_chain_name", []) => text(&self.version.chain().name),
            ("listener_direction", []) => Some(Value::Int(match self.version.listener().direction {
                ringsail_tables::listener::Direction::Unspecified => 0,
                ringsail_tables::listener::Direction::Inbound => 1,
                ringsail_tables::listener::Direction::Outbound => 2,
            })),
            ("node", rest) => self.node(rest),
            _ => None,
        }
    }

    fn node(&self, rest: &[Str]) -> Option<Value<'a>> {
        let [name, rest @ ..] = rest else { return Some(Value::Map(1)) };
        match (name.as_str(), rest) {
            ("id", []) => Some(Value::text(&self.local.node_id)),
            ("cluster", []) => Some(Value::text(&self.local.node_cluster)),
            ("metadata", path) => self.local.metadata_at(path).map(json),
            _ => None,
        }
    }
}

fn address<'a>(address: Option<SocketAddr>, rest: &[Str]) -> Option<Value<'a>> {
    let [name] = rest else { return None };
    match name.as_str() {
        "address" => address.map(owned),
        "port" => address.map(|address| Value::Int(address.port().into())),
        _ => None,
    }
}

fn peer<'a>(peer: Option<&'a Peer>, rest: &[Str]) -> Option<Value<'a>> {
    let workload: &'a Workload = &peer?.workload;
    let [name, rest @ ..] = rest else { return Some(Value::Map(1)) };
    let text = |text: &'a str| (!text.is_empty()).then(|| Value::text(text));
    match (name.as_str(), rest) {
        ("name", []) => text(&workload.instance),
        ("workload", []) => text(&workload.name),
        ("namespace", []) => text(&workload.namespace),
        ("type", []) => text(&workload.kind),
        ("service", []) => text(&workload.canonical_service),
        ("revision", []) => text(&workload.canonical_revision),
        ("app", []) => text(&workload.app),
        ("version", []) => text(&workload.version),
        ("cluster", []) => text(&workload.cluster),
        ("identity", []) => text(&workload.identity),
        ("region", []) => text(&workload.region),
        ("availability_zone", []) => text(&workload.zone),
        ("labels", []) => Some(Value::Map(workload.labels.len())),
        ("labels", [label]) => {
            let (_, value) = workload.labels.iter().find(|(name, _)| label == name.as_str())?;
            text(value)
        }
        _ => None,
    }
}

fn json(value: &Metadata) -> Value<'_> {
    match value {
        Metadata::Null => Value::Null,
        Metadata::Bool(value) => Value::Bool(*value),
        Metadata::Number(value) => Value::Double(*value),
        Metadata::String(text) => Value::text(text),
        Metadata::List(items) => Value::List(items.iter().map(json).collect()),
        Metadata::Struct(fields) => Value::Map(fields.len()),
    }
}
