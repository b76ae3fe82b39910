//! Answers that do not come from the upstream.

use std::borrow::Cow;

use ringsail_http::{EditError, Framing, ResponseHead, Version};
use ringsail_runtime::time::now;
use ringsail_tables::header_ops::HeaderOps;
use ringsail_tables::local_reply::LocalReplies;
use ringsail_tables::policy::{AbortStatus, CorsPolicy};
use ringsail_tables::route::{DirectResponse, Redirect, RouteMatch};
use ringsail_telemetry::{HttpCounter, ResponseFlag};

use super::{Ending, Exchange, filter, values};
use crate::decimal::Decimal;
use crate::failure::Failure;
use crate::filters::cors;
use crate::filters::rate_limit::Told;
use crate::headers::{edits, response};
use crate::local_reply::LocalReply;
use crate::record;
use crate::trace;
use crate::view::RequestView;

/// The answer that `x-envoy-upstream-rq-timeout-alt-response` asks for.
const NO_CONTENT: u16 = 204;

/// A local reply, before it is known how the connection ends.
pub(super) struct Reply<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
    pub(super) details: Cow<'static, str>,
    pub(super) flag: Option<ResponseFlag>,
    /// The connection cannot go on.
    pub(super) closes: bool,
    /// gRPC status, when it is not the one that follows from `status`.
    pub(super) grpc_status: Option<u32>,
    /// What a rate limit service tells, behind the headers of the route.
    pub(super) told: Option<&'a Told>,
    /// The filter's own headers, behind these.
    pub(super) headers: Option<&'a HeaderOps>,
    /// One more of them.
    pub(super) header: Option<(&'static str, &'a [u8])>,
    /// It is no local reply to Envoy, but an answer that its filter writes: the route's operations do not apply.
    pub(super) plain: bool,
}

impl Reply<'_> {
    pub(super) fn new(status: u16, details: &'static str) -> Reply<'static> {
        Reply {
            status,
            body: b"",
            details: Cow::Borrowed(details),
            flag: None,
            closes: false,
            grpc_status: None,
            told: None,
            headers: None,
            header: None,
            plain: false,
        }
    }
}

impl Exchange<'_> {
    /// Answers for a failure, if an answer is still possible.
    pub(super) async fn fail(&mut self, failure: Failure) -> Ending {
        let reset = failure == Failure::ClientGone && self.outgoing.was_reset();
        let failure = if reset { Failure::ClientReset } else { failure };
        let row = failure.row();
        if self.facts.progress.response_started.get() || row.status == 0 {
            return self.break_off(failure).await;
        }
        self.count_failure(failure);
        self.response.reset(row.status);
        if failure == Failure::Overflow {
            // Room is there: the head was just emptied.
            let _ = self.response.fields_mut().append("x-envoy-overloaded", b"true");
        }
        let mut body = std::mem::take(self.text);
        body.clear();
        let status = self.status_of(failure);
        if status != NO_CONTENT {
            failure.write_body(self.trail.attempts > 1, &mut body);
        }
        let reply = Reply {
            status,
            body: &body,
            details: failure.details(),
            flag: row.flag,
            closes: row.closes,
            grpc_status: (failure == Failure::MaxDuration).then_some(GRPC_DEADLINE_EXCEEDED),
            ..Reply::new(row.status, "")
        };
        let ending = self.reply(reply).await;
        *self.text = body;
        if failure == Failure::LowVersion {
            // Compat: to Envoy this is a codec's error, which knows no request.
            self.request.clear();
        }
        ending
    }

    /// The status of our answer for a failure.
    pub(super) fn status_of(&self, failure: Failure) -> u16 {
        let row = failure.row();
        if self.no_content_for_timeout && failure.is_upstream_timeout() {
            NO_CONTENT
        } else if self.facts.request_is_complete() {
            row.status
        } else {
            row.status_if_incomplete
        }
    }

    /// The client has a part of an answer, or is gone: nothing can be said any more.
    async fn break_off(&mut self, failure: Failure) -> Ending {
        let row = failure.row();
        row.flag.into_iter().for_each(|flag| self.trail.flag(flag));
        self.trail.details = match failure {
            Failure::ConnectionTermination | Failure::UpstreamProtocol => {
                Cow::Borrowed("upstream_reset_after_response_started{protocol_error}")
            }
            Failure::Codec(error) => Cow::Borrowed(error.details()),
            _ => failure.details(),
        };
        self.count_failure(failure);
        self.outgoing.abort().await;
        if failure == Failure::ClientGone { Ending::Close } else { Ending::DelayedClose }
    }

    fn count_failure(&self, failure: Failure) {
        let counter = match failure {
            Failure::RouteNotFound => HttpCounter::NoRoute,
            Failure::ClusterNotFound { .. } => HttpCounter::NoCluster,
            Failure::PathNormalization => HttpCounter::DownstreamRqFailedPathNormalization,
            Failure::NotAPath => HttpCounter::DownstreamRqNonRelativePath,
            Failure::UpgradeNotAllowed => HttpCounter::DownstreamRqWsOnNonWsRoute,
            Failure::StreamIdle => HttpCounter::DownstreamRqIdleTimeout,
            Failure::MaxDuration => HttpCounter::DownstreamRqMaxDurationReached,
            Failure::RequestTimeout => HttpCounter::DownstreamRqTimeout,
            Failure::RequestHeadersTimeout => HttpCounter::DownstreamRqHeaderTimeout,
            Failure::Codec(_) | Failure::LowVersion => HttpCounter::DownstreamCxProtocolError,
            Failure::ClientGone | Failure::ClientReset => HttpCounter::DownstreamRqRxReset,
            _ => return,
        };
        self.facts.connection.count(counter);
    }

    /// Sends `reply`; the response head may hold headers of a filter already.
    pub(super) async fn reply(&mut self, reply: Reply<'_>) -> Ending {
        self.trail.details = reply.details.clone();
        reply.flag.into_iter().for_each(|flag| self.trail.flag(flag));
        // Compat: the connection of a bad request is not trusted with another one.
        let closes = reply.closes || (reply.status == BAD_REQUEST && !self.facts.grpc);
        let stays = self.facts.may_persist();
        let persistent = stays && !closes;
        let http2 = self.facts.version == Version::Http2;
        let close = !persistent && !http2;
        let mut text = Cow::Borrowed(reply.body);
        let Ok(with_body) = self.write_reply(&reply, &mut text, close) else {
            return Ending::DelayedClose;
        };
        if http2 {
            let framing = self.response.framing();
            self.response.set_framing(Framing { persistent: stays, ..framing });
        }
        self.trail.status = self.response.status();
        self.facts.progress.response_begun.set(Some(now()));
        self.outgoing.head(self.response, self.facts.answer_version(self.request.version()));
        self.outgoing.set_framing(false, false);
        let body = if with_body { &*text } else { b"" };
        self.facts.progress.bytes_sent.set(body.len() as u64);
        self.facts.progress.response_started.set(true);
        let outgoing = &mut self.outgoing;
        let sent = async {
            outgoing.data(body).await?;
            outgoing.finish(None).await
        };
        match ringsail_runtime::time::timeout(crate::limits::LOCAL_REPLY_SEND_TIMEOUT, sent).await {
            Ok(Ok(())) if closes => Ending::DelayedClose,
            Ok(Ok(())) => self.facts.ending(persistent),
            Ok(Err(_)) | Err(_) => Ending::Close,
        }
    }

    /// Writes the head of a local reply in Envoy's order, and settles its body. Returns whether that follows.
    fn write_reply(
        &mut self,
        reply: &Reply<'_>,
        body: &mut Cow<'_, [u8]>,
        close: bool,
    ) -> Result<bool, EditError> {
        if !reply.plain {
            self.edit_response()?;
        }
        if let Some(told) = reply.told {
            told.write(self.response.fields_mut())?;
        }
        if let Some(ops) = reply.headers {
            let context = values::Context::of(&self.facts, self.trail);
            let context = context.with_request(self.request);
            edits::apply(ops, self.response, |head, use_values| use_values(&context.with_response(head)))?;
        }
        if let Some((name, value)) = reply.header {
            self.response.fields_mut().append(name, value)?;
        }
        let manager = self.facts.manager;
        let shape = match &manager.local_replies {
            Some(replies) if !reply.plain => self.reshape(replies, reply.status, body)?,
            Some(_) | None => Shape { status: reply.status, content_type: TEXT, typed: false },
        };
        let date = self.facts.shard.date();
        // The request's fields are not ours to keep while the filters below edit.
        let request_id = match self.facts.manager.always_set_request_id_in_response {
            true => self.request.fields().get("x-request-id").map(<[u8]>::to_vec),
            false => None,
        };
        let local = LocalReply {
            status: shape.status,
            body,
            content_type: shape.content_type.as_bytes(),
            body_replaced: !shape.typed && **body != *reply.body,
            // Compat: to a gRPC-Web client it is an answer of any server, and rewritten as such.
            grpc: self.facts.grpc && self.left.grpc_web.is_none(),
            grpc_status: reply.grpc_status,
            head_only: self.request.method() == Some(ringsail_http::Method::Head),
            close,
            date: &date,
            server: response::server_of_local_reply(self.facts.manager),
            request_id: request_id.as_deref(),
            via: self.facts.manager.via.as_bytes(),
        };
        local.begin(self.response)?;
        self.trail.status = self.response.status();
        let web = self.left.grpc_web.is_some();
        self.left.text = web.then(|| body.to_vec());
        filter::response(self)?;
        self.tell_operation()?;
        if web {
            LocalReply { body: b"", ..local }.finish(self.response)
        } else {
            local.finish(self.response)
        }
    }

    /// Changes an answer as the connection manager wants it. Source: Envoy's `LocalReplyImpl::rewrite`.
    fn reshape<'m>(
        &mut self,
        replies: &'m LocalReplies,
        status: u16,
        body: &mut Cow<'_, [u8]>,
    ) -> Result<Shape<'m>, EditError> {
        self.trail.status = status;
        let mut shape = Shape { status, content_type: TEXT, typed: false };
        let mut format = replies.body.as_ref();
        if let Some(mapper) = replies.mappers.iter().find(|mapper| record::passes(self, &mapper.filter)) {
            if let Some(text) = &mapper.body {
                *body = Cow::Owned(text.to_vec());
            }
            let content_type = |head: &ResponseHead| head.fields().get("content-type").map(<[u8]>::to_vec);
            let typed_before = content_type(self.response);
            let context = values::Context::of(&self.facts, self.trail);
            let context = context.with_request(self.request);
            edits::apply(&mapper.headers, self.response, |head, use_values| {
                use_values(&context.with_response(head));
            })?;
            shape.typed = content_type(self.response) != typed_before;
            shape.status = mapper.status.unwrap_or(status);
            self.trail.status = shape.status;
            format = mapper.format.as_ref().or(format);
        }
        if let Some(format) = format {
            shape.content_type = &format.content_type;
            if let Some(made) = record::body(self, format, body) {
                *body = Cow::Owned(made);
            }
        }
        Ok(shape)
    }

    /// `100 Continue` of our own; the request then goes on without its `Expect`.
    pub(super) async fn send_continue(&mut self) -> Result<(), Failure> {
        self.request.fields_mut().remove("expect");
        self.outgoing.send_continue().await.map_err(|_| Failure::ClientGone)
    }

    /// A path with escaped slashes: the client is sent to the unescaped one, which is in the scratch text.
    pub(super) async fn redirect_to_normal_path(&mut self) -> Result<Ending, Failure> {
        self.facts.connection.count(HttpCounter::DownstreamRqRedirectedWithNormalizedPath);
        self.response.reset(307);
        let too_large = |_: EditError| Failure::HeadTooLargeAfterEdits;
        self.response.fields_mut().append("location", self.text).map_err(too_large)?;
        Ok(self.reply(Reply::new(307, "path_normalization_failed")).await)
    }

    /// The virtual host wants https.
    pub(super) async fn redirect_to_https(&mut self) -> Result<Ending, Failure> {
        self.facts.connection.count(HttpCounter::RqDirectResponse);
        self.text.clear();
        self.text.extend_from_slice(b"https://");
        let authority = self.request.authority().unwrap_or_default();
        self.text.extend_from_slice(authority);
        self.text.extend_from_slice(self.request.path());
        self.response.reset(301);
        self.set_location()?;
        Ok(self.reply(Reply::new(301, "direct_response")).await)
    }

    /// A route that redirects.
    pub(super) async fn redirect(
        &mut self,
        redirect: &Redirect,
        found: &RouteMatch<'_>,
    ) -> Result<Ending, Failure> {
        // Compat: Envoy counts every route that answers itself here, and nothing as `rq_redirect`.
        self.facts.connection.count(HttpCounter::RqDirectResponse);
        self.response.reset(redirect.status);
        self.locate(redirect, found)?;
        Ok(self.reply(Reply::new(redirect.status, "direct_response")).await)
    }

    fn locate(&mut self, redirect: &Redirect, found: &RouteMatch<'_>) -> Result<(), Failure> {
        let mut location = String::new();
        redirect.location(&RequestView(self.request), &found.route.matcher.path, &mut location);
        self.text.clear();
        self.text.extend_from_slice(location.as_bytes());
        self.set_location()
    }

    fn set_location(&mut self) -> Result<(), Failure> {
        let fields = self.response.fields_mut();
        fields.set("location", self.text).map_err(|_| Failure::HeadTooLargeAfterEdits)
    }

    /// A route that answers itself.
    pub(super) async fn direct_response(
        &mut self,
        direct: &DirectResponse,
        found: &RouteMatch<'_>,
    ) -> Result<Ending, Failure> {
        self.facts.connection.count(HttpCounter::RqDirectResponse);
        self.response.reset(direct.status);
        // Compat: Envoy names the request's own place where the status wants a place (RFC 9110 §15.3.2, §15.4).
        if direct.status == 201 || (300..400).contains(&direct.status) {
            self.locate(&Redirect::nowhere(direct.status), found)?;
        }
        let made = match &direct.format {
            Some(format) => {
                if format.content_type != *TEXT {
                    let fields = self.response.fields_mut();
                    fields
                        .set("content-type", format.content_type.as_bytes())
                        .map_err(|_| Failure::HeadTooLargeAfterEdits)?;
                }
                record::body(self, format, &direct.body)
            }
            None => None,
        };
        let body = made.as_deref().unwrap_or(&direct.body);
        Ok(self.reply(Reply { body, ..Reply::new(direct.status, "direct_response") }).await)
    }

    /// An injected abort.
    pub(super) async fn abort_by_fault(&mut self, abort: AbortStatus) -> Result<Ending, Failure> {
        let (status, grpc_status) = match abort {
            AbortStatus::Http(status) => (status, None),
            AbortStatus::Grpc(code) => (200, Some(code)),
        };
        self.response.reset(status);
        let row = Failure::FaultAbort { status }.row();
        let reply = Reply {
            body: row.body.as_bytes(),
            flag: row.flag,
            grpc_status,
            ..Reply::new(status, row.details)
        };
        Ok(self.reply(reply).await)
    }

    /// A preflight.
    pub(super) async fn answer_preflight(&mut self, policy: &CorsPolicy) -> Result<Ending, Failure> {
        self.response.reset(200);
        cors::write_preflight(policy, self.request, self.response.fields_mut())
            .map_err(|_| Failure::HeadTooLargeAfterEdits)?;
        Ok(self.reply(Reply { plain: true, ..Reply::new(200, "cors_response") }).await)
    }

    /// The operation's name, between proxies.
    pub(super) fn tell_operation(&mut self) -> Result<(), EditError> {
        let facts = self.facts;
        if facts.chain.tracer.is_none() {
            return Ok(());
        }
        let found = self.route.and_then(|route| facts.tables.route(route));
        let decorator = found.and_then(|found| found.route.decorator.as_deref());
        let operation = decorator.map(|decorator| decorator.operation.as_str());
        trace::settle_response(facts.chain.tracer.as_ref(), self.trail, self.response, operation)
    }

    /// The route's operations on an answer of ours, and how often its upstream was tried.
    ///
    /// Compat: they apply to every local reply to a request whose route is known, also a filter's.
    fn edit_response(&mut self) -> Result<(), EditError> {
        let Some(tables) = self.tables.clone() else { return Ok(()) };
        let Some(found) = self.route.and_then(|route| tables.route(route)) else { return Ok(()) };
        let context = values::Context::of(&self.facts, self.trail);
        let context = context.with_request(self.request);
        for levels in found.header_edits().filter(|levels| !levels.response.is_empty()) {
            edits::apply(&levels.response, self.response, |head, use_values| {
                use_values(&context.with_response(head));
            })?;
        }
        if self.trail.attempts > 0 && found.virtual_host.include_attempt_count_in_response {
            let count = Decimal::new(self.trail.attempts.into());
            self.response.fields_mut().set("x-envoy-attempt-count", count.text())?;
        }
        Ok(())
    }
}

/// What becomes of a local reply.
struct Shape<'m> {
    status: u16,
    /// The body's type, where the head names none.
    content_type: &'m str,
    /// The head's own type was chosen for this answer.
    typed: bool,
}

/// The type of bodies that are no more than a text.
const TEXT: &str = "text/plain";
const BAD_REQUEST: u16 = 400;
/// gRPC's DEADLINE_EXCEEDED.
const GRPC_DEADLINE_EXCEEDED: u32 = 4;
