//! Values of `%…%` operators in configured headers.

use std::io::Write;
use std::net::SocketAddr;

use ringsail_http::{RequestHead, ResponseHead, TargetForm, Version};
use ringsail_tables::metadata::Metadata;
use ringsail_tables::template::{Property, Values};
use ringsail_telemetry::access_log;

use super::Facts;
use crate::trail::Trail;

/// An exchange as templates see it, apart from the head that is being edited.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    facts: &'a Facts<'a>,
    trail: &'a Trail,
    request: Option<&'a RequestHead>,
    response: Option<&'a ResponseHead>,
    upstream_metadata: Option<&'a Metadata>,
    cluster_metadata: Option<&'a Metadata>,
}

impl<'a> Context<'a> {
    pub(super) fn of(facts: &'a Facts<'a>, trail: &'a Trail) -> Context<'a> {
        Context {
            facts,
            trail,
            request: None,
            response: None,
            upstream_metadata: None,
            cluster_metadata: None,
        }
    }

    pub(super) fn with_request<'b>(&'b self, request: &'b RequestHead) -> Context<'b> {
        Context { request: Some(request), ..*self }
    }

    pub(super) fn with_response<'b>(&'b self, response: &'b ResponseHead) -> Context<'b> {
        Context { response: Some(response), ..*self }
    }

    pub(super) fn with_metadata<'b>(
        &'b self,
        upstream: Option<&'b Metadata>,
        cluster: Option<&'b Metadata>,
    ) -> Context<'b> {
        Context { upstream_metadata: upstream, cluster_metadata: cluster, ..*self }
    }
}

impl Values for Context<'_> {
    fn request_header(&self, name: &str) -> Option<&[u8]> {
        let head = self.request?;
        match name {
            ":method" => Some(head.method_name()),
            ":authority" | "host" => head.authority(),
            ":path" => (head.target_form() != TargetForm::Authority).then(|| head.path()),
            ":scheme" => Some(crate::view::scheme(head).as_bytes()),
            _ => head.fields().get(name),
        }
    }

    fn response_header(&self, name: &str) -> Option<&[u8]> {
        self.response?.fields().get(name)
    }

    fn property(&self, property: Property, out: &mut Vec<u8>) {
        let (facts, trail) = (self.facts, self.trail);
        let connection = facts.connection;
        let client = facts.origin.client.or(connection.peer);
        match property {
            Property::Protocol => {
                out.extend_from_slice(
                    self.request.map_or("HTTP/1.1", |head| head.version().as_str()).as_bytes(),
                );
            }
            Property::UpstreamProtocol => write(out, trail.upstream_version.map(Version::as_str)),
            Property::Hostname => write(out, Some(&facts.shard.identity.hostname)),
            Property::DownstreamRemoteAddress => write(out, client),
            Property::DownstreamRemoteAddressWithoutPort => write(out, client.map(|at| at.ip())),
            Property::DownstreamRemotePort => write(out, client.map(|at| at.port())),
            Property::DownstreamDirectRemoteAddress => write(out, connection.direct_peer),
            Property::DownstreamDirectRemoteAddressWithoutPort => {
                write(out, connection.direct_peer.map(|at| at.ip()))
            }
            Property::DownstreamDirectRemotePort => write(out, connection.direct_peer.map(|at| at.port())),
            Property::DownstreamLocalAddress => write(out, connection.local),
            Property::DownstreamLocalAddressWithoutPort => write(out, connection.local.map(|at| at.ip())),
            Property::DownstreamLocalPort => write(out, connection.local.map(|at| at.port())),
            Property::ConnectionId => write(out, Some(connection.id)),
            Property::StreamId => {
                let id = self.request.and_then(|head| head.fields().get("x-request-id"));
                out.extend_from_slice(id.unwrap_or_default());
            }
            Property::UniqueId => out.extend_from_slice(&crate::request_id::uuid4(fastrand::u128(..))),
            Property::RouteName => write(out, Some(&trail.route_name)),
            Property::FilterChainName => write(out, Some(&facts.chain.chain().name)),
            Property::UpstreamHost | Property::UpstreamRemoteAddress => {
                write(out, trail.upstream_host.as_ref())
            }
            Property::UpstreamRemoteAddressWithoutPort => write(out, upstream(trail).map(|at| at.ip())),
            Property::UpstreamRemotePort => write(out, upstream(trail).map(|at| at.port())),
            Property::UpstreamCluster => write(out, Some(&trail.cluster_stat_name)),
            Property::UpstreamClusterRaw => write(out, Some(&trail.cluster_name)),
            Property::UpstreamLocalAddress => write(out, trail.upstream_local),
            Property::UpstreamLocalAddressWithoutPort => write(out, trail.upstream_local.map(|at| at.ip())),
            Property::UpstreamLocalPort => write(out, trail.upstream_local.map(|at| at.port())),
            Property::UpstreamRequestAttemptCount => write(out, Some(trail.attempts)),
            Property::UpstreamTransportFailureReason => {
                write(out, Some(trail.transport_failure.replace(' ', "_")));
            }
            // Compat: 0 while a local reply is made.
            Property::ResponseCode => write(out, self.response.map(|_| trail.status)),
            Property::ResponseCodeDetails => write(out, Some(&trail.details)),
            Property::ResponseFlags => write(out, Some(trail.flags)),
            Property::ResponseFlagsLong => {
                let flags: Vec<&str> = trail.flags.iter().map(|flag| flag.long()).collect();
                write(out, Some(if flags.is_empty() { "-".to_owned() } else { flags.join(",") }));
            }
            Property::BytesReceived => write(out, Some(facts.progress.bytes_received.get())),
            Property::BytesSent => write(out, Some(facts.progress.bytes_sent.get())),
            Property::Duration => write(out, Some(facts.progress.started.elapsed().as_millis())),
            Property::RequestDuration => write(out, facts.since_start(facts.progress.request_complete.get())),
            Property::ResponseDuration => write(out, facts.since_start(facts.progress.answer_began.get())),
            Property::DownstreamPeerUriSan => {
                write(
                    out,
                    peer(facts).map(|peer| peer.uri_names.join(",")).filter(|names| !names.is_empty()),
                );
            }
            Property::DownstreamPeerSubject => {
                write(out, peer(facts).map(|peer| &*peer.subject).filter(|subject| !subject.is_empty()));
            }
            Property::DownstreamTlsVersion => {
                write(out, facts.connection.stream.tls().map(|facts| facts.version_text()));
            }
            Property::RequestedServerName => {
                write(out, Some(facts.connection.server_name()).filter(|name| !name.is_empty()));
            }
            // Not there to have a value.
            Property::TraceId => {}
        }
    }

    fn start_time(&self, format: &str, out: &mut Vec<u8>) {
        access_log::write_time(self.trail.start, format, out);
    }

    fn upstream_metadata(&self) -> Option<&Metadata> {
        self.upstream_metadata
    }

    fn cluster_metadata(&self) -> Option<&Metadata> {
        self.cluster_metadata
    }
}

fn peer<'a>(facts: &Facts<'a>) -> Option<&'a ringsail_tls::certificate::Facts> {
    facts.connection.stream.tls()?.peer.as_deref()
}

fn upstream(trail: &Trail) -> Option<SocketAddr> {
    trail.upstream_host.as_ref().and_then(|address| address.as_inet())
}

fn write(out: &mut Vec<u8>, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        // Writing to memory cannot fail.
        let _ = write!(out, "{value}");
    }
}
