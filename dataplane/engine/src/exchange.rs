//! One request, top to bottom: admit, route, filter, balance, connect, forward, respond, record.
//!
//! Everything a request can do is visible from [`exchange`]; put the breakpoint there. It reads one version of the
//! tables from its first step to the last moment at which another attempt is possible, then lets the version go.

mod admit;
mod answer;
mod attempt;
mod filter;
mod plan;
mod redirect;
mod reply;
mod values;

use std::rc::Rc;
use std::time::Instant;

use ringsail_http::{BodyLength, EditError, RequestHead, ResponseHead, Version};
use ringsail_runtime::publish::Current;
use ringsail_runtime::time::now;
use ringsail_tables::hcm::HttpConnectionManager;
use ringsail_tables::route::{Action, Found};
use ringsail_tables::{RouteId, Tables, Target};
use ringsail_telemetry::{HttpCounter, HttpStats};

use crate::body::RequestBody;
use crate::connection::{Connection, Entered};
use crate::failure::Failure;
use crate::filters::hash;
use crate::headers::request::Origin;
use crate::http2::downstream::ServerStream;
use crate::inflow::Inflow;
use crate::message::{Incoming, Outgoing};
use crate::progress::{Deadlines, Limits, Progress};
use crate::record;
use crate::serving::ChainVersion;
use crate::shard::{Scratch, Shard};
use crate::telemetry;
use crate::trace;
use crate::trail::Trail;
use crate::view::{RequestView, RoutedView};

use admit::{Admission, Switch};
use plan::Plan;

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The next request may come.
    KeepAlive,
    /// Both sides know that it ends: FIN.
    Close,
    /// The client may still be sending: FIN after a pause in which its bytes are read and dropped, or it would get
    /// a reset instead of our last bytes.
    DelayedClose,
}

/// How far a request came.
enum Outcome {
    /// Its answer is over.
    Ended(Ending),
    /// Its head is one for another place.
    Redirected,
}

/// The client's end of an exchange.
pub enum Client<'a> {
    /// Its connection speaks HTTP/1; body bytes and pipelined requests are in the inflow and on the socket.
    H1(&'a mut Inflow),
    /// A stream of its HTTP/2 connection.
    H2(ServerStream),
}

/// Serves the request whose head is in `scratch`.
pub async fn exchange(
    shard: &Rc<Shard>,
    connection: &Connection,
    entered: &Entered,
    scratch: &mut Scratch,
    client: Client<'_>,
) -> Ending {
    let progress = Progress::begin(now());
    let length = scratch.request.framing().body;
    let upstream_out = std::mem::take(&mut scratch.upstream_out);
    let (incoming, outgoing) = match client {
        Client::H1(inflow) => (Incoming::h1(&connection.stream, inflow, length), None),
        Client::H2(stream) => {
            let (receive, send) = stream.split(&progress.response_started);
            (Incoming::H2(receive), Some(Outgoing::H2(send)))
        }
    };
    let mut source = Source { body: RequestBody::new(incoming, length), upstream_out };
    let begun = Exchange::begin(shard, connection, entered, &progress, scratch, outgoing);
    let Some(mut exchange) = begun else { return Ending::Close };
    let ending = match exchange.run(&mut source).await {
        Ok(ending) => ending,
        Err(failure) => {
            if failure.is_found_while_receiving() {
                source.body.take_what_came(&progress).await;
            }
            exchange.fail(failure).await
        }
    };
    record::exchange(&exchange);
    scratch.upstream_out = source.upstream_out;
    ending
}

/// Answers a request whose head could not be received; `scratch` holds what came of it.
pub async fn refuse(
    shard: &Rc<Shard>,
    connection: &Connection,
    entered: &Entered,
    scratch: &mut Scratch,
    client: Client<'_>,
    failure: Failure,
) -> Ending {
    let progress = Progress::begin(now());
    let (_receive, outgoing) = match client {
        Client::H1(_) => (None, None),
        Client::H2(stream) => {
            let (receive, send) = stream.split(&progress.response_started);
            (Some(receive), Some(Outgoing::H2(send)))
        }
    };
    let begun = Exchange::begin(shard, connection, entered, &progress, scratch, outgoing);
    let Some(mut exchange) = begun else { return Ending::Close };
    // Nothing of a broken head is believed.
    exchange.request.clear();
    exchange.facts.grpc = false;
    progress.request_complete.set(None);
    let ending = exchange.fail(failure).await;
    record::exchange(&exchange);
    ending
}

/// Facts of an exchange that any step may read.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The shard it runs on.
    pub shard: &'a Rc<Shard>,
    /// The connection it came on.
    pub connection: &'a Connection,
    /// That connection's filter chain, for this request.
    pub chain: &'a ChainVersion,
    /// Its HTTP settings.
    pub manager: &'a HttpConnectionManager,
    /// The configuration it is served with.
    pub tables: &'a Current<Tables>,
    /// How far it is.
    pub progress: &'a Progress,
    /// Who sent the request.
    pub origin: Origin,
    /// gRPC clients get local replies as gRPC.
    pub grpc: bool,
    /// What the client speaks.
    pub version: Version,
    /// What the client asked of its connection.
    client_persistent: bool,
    switch: Switch,
}

/// The state of one exchange.
pub struct Exchange<'a> {
    /// What any step may read.
    pub facts: Facts<'a>,
    /// The request.
    pub request: &'a mut RequestHead,
    /// The answer.
    pub response: &'a mut ResponseHead,
    /// What happened, for the record.
    pub trail: &'a mut Trail,
    /// The way to the client.
    outgoing: Outgoing<'a>,
    text: &'a mut Vec<u8>,
    deadlines: Deadlines,
    /// Taken when no other attempt is possible any more.
    tables: Option<Current<Tables>>,
    /// The route, once it is found.
    route: Option<RouteId>,
    /// What filters left.
    left: filter::Left,
    /// Redirects that were followed.
    followed: redirect::Followed,
    /// The client wants an upstream's timeout answered with 204.
    no_content_for_timeout: bool,
}

/// Where the request's bytes come from and go through. Apart from [`Exchange`], because the request's direction uses it
/// while the answer's direction uses that.
struct Source<'a> {
    body: RequestBody<'a>,
    upstream_out: Vec<u8>,
}

impl<'a> Exchange<'a> {
    /// What may be hashed of the connection.
    fn ends(&self) -> hash::Ends {
        let connection = self.facts.connection;
        hash::Ends {
            client: self.facts.origin.client.or(connection.peer),
            peer: connection.peer,
            local: connection.local,
        }
    }

    fn begin(
        shard: &'a Rc<Shard>,
        connection: &'a Connection,
        entered: &'a Entered,
        progress: &'a Progress,
        scratch: &'a mut Scratch,
        outgoing: Option<Outgoing<'a>>,
    ) -> Option<Exchange<'a>> {
        let manager = entered.manager()?;
        let framing = scratch.request.framing();
        if matches!(framing.body, BodyLength::None | BodyLength::Length(0)) {
            progress.complete_request();
        }
        scratch.response.clear();
        scratch.trail.restart(shard.wall_clock());
        let facts = Facts {
            shard,
            connection,
            chain: &entered.chain,
            manager,
            tables: &entered.tables,
            progress,
            origin: Origin { client: connection.peer, internal: false },
            grpc: crate::local_reply::is_grpc(scratch.request.fields().get("content-type")),
            version: scratch.request.version(),
            client_persistent: framing.persistent,
            switch: Switch::None,
        };
        record::begin(&facts);
        record::begin_counting(&facts, &scratch.request, scratch.request_head_bytes);
        if entered.chain.telemetry.produces() {
            telemetry::begin(&facts, &scratch.request, &mut scratch.trail);
        }
        Some(Exchange {
            facts,
            request: &mut scratch.request,
            response: &mut scratch.response,
            trail: &mut scratch.trail,
            outgoing: outgoing.unwrap_or(Outgoing::h1(
                &connection.stream,
                &mut scratch.downstream_out,
                &progress.response_started,
            )),
            text: &mut scratch.text,
            deadlines: Deadlines::new(limits(manager)),
            tables: Some(entered.tables.clone()),
            route: None,
            left: filter::Left::default(),
            followed: redirect::Followed::default(),
            no_content_for_timeout: false,
        })
    }

    /// The route, once it is found.
    pub fn route(&self) -> Option<RouteId> {
        self.route
    }

    async fn run(&mut self, source: &mut Source<'_>) -> Result<Ending, Failure> {
        // Admit: what may be routed, and in which form.
        match admit::admit(self)? {
            Admission::Admitted => {}
            Admission::Redirect => return self.redirect_to_normal_path().await,
        }
        if !self.facts.manager.proxy_100_continue && self.request.expects_continue() {
            self.send_continue().await?;
        }

        if let Some(peers) = &self.facts.chain.telemetry.peers {
            let telemetry = &self.facts.shard.telemetry;
            let (peer, told) = peers.learn_downstream(telemetry, self.request.fields_mut(), self.text);
            (self.trail.seen.downstream, self.trail.seen.told) = (peer, told);
        }

        loop {
            match self.serve(source).await? {
                Outcome::Ended(ending) => return Ok(ending),
                Outcome::Redirected => {
                    if std::mem::take(&mut self.followed.without_body) {
                        source.body.forget();
                    }
                    self.begin_again();
                    // Compat: the body is received once more.
                    let bytes = &self.facts.progress.bytes_received;
                    bytes.set(bytes.get() + source.body.kept().len() as u64);
                }
            }
        }
    }

    /// Filters, routes and answers an admitted request.
    async fn serve(&mut self, source: &mut Source<'_>) -> Result<Outcome, Failure> {
        // Route.
        let tables = self.tables.clone().ok_or(Failure::RouteNotFound)?;
        let config = tables.route_config(self.facts.manager.routes).ok_or(Failure::RouteNotFound)?;
        if !self.facts.origin.internal {
            for name in &config.internal_only_headers {
                self.request.fields_mut().remove(name);
            }
        }
        let view = RoutedView { request: RequestView(self.request), ends: self.ends() };
        let found = config.find(&view, fastrand::u64(..));
        let route = if let Found::Route(found) = &found { Some(found) } else { None };
        trace::begin(self, route).map_err(|_| Failure::HeadTooLargeAfterEdits)?;
        let found = match found {
            Found::Route(found) => found,
            Found::RedirectToHttps(_) => return self.redirect_to_https().await.map(Outcome::Ended),
            Found::Nothing => {
                let answered = filter::request(self, source, None).await?;
                if answered.is_none() {
                    self.facts.count(HttpCounter::RqTotal);
                }
                return answered.map(Outcome::Ended).ok_or(Failure::RouteNotFound);
            }
        };
        self.trail.set_route(&found);
        self.route = Some(found.id());
        let target = tables.target(&found, |name| self.request.fields().get(name));
        if let Target::Cluster(cluster) = &target {
            self.trail.set_cluster(cluster.cluster);
            self.trail.seen.service = Some(self.facts.shard.telemetry.service(cluster));
            self.trail.cluster = Some(cluster.id);
        }
        record::exchange_begun(self);
        admit::allow_switch(self, &mut source.body, &found)?;

        // Filter.
        if let Some(ending) = filter::request(self, source, Some(&found)).await? {
            return Ok(Outcome::Ended(ending));
        }

        self.facts.count(HttpCounter::RqTotal);

        // Answer here, or forward: attempts until one gives an answer that is wanted, then that answer.
        let forward = match &found.route.action {
            Action::Redirect(redirect) => return self.redirect(redirect, &found).await.map(Outcome::Ended),
            Action::DirectResponse(direct) => {
                return self.direct_response(direct, &found).await.map(Outcome::Ended);
            }
            Action::Forward(forward) => forward,
        };
        let Target::Cluster(cluster) = target else {
            // Compat: Envoy logs the route's name and no cluster then.
            return Err(Failure::ClusterNotFound { status: forward.cluster_not_found_status });
        };
        let mut plan = Plan::new(self, &found, forward, &cluster);
        source.body.keep_from_here(plan.body_kept_max);
        plan.suppress_envoy_headers = self.left.suppress_envoy_headers;
        plan.prepare_request(self, &found, forward)?;
        if !found.mirrors().is_empty() && self.facts.switch == Switch::None {
            filter::start_mirrors(self, source, &tables, &found, forward.high_priority);
        }
        // The references end here: attempts look up by id, so that the version can go when they are over.
        drop(tables);
        attempt::forward(self, source, plan).await
    }

    /// The request was redirected to another place, and its head says so: it is served as one of its own.
    ///
    /// Compat: it is counted and logged once for every place.
    fn begin_again(&mut self) {
        let facts = self.facts;
        record::exchange(self);
        let seen = &self.trail.seen;
        let (downstream, told) = (seen.downstream.clone(), seen.told);
        self.trail.restart(facts.shard.wall_clock());
        (self.trail.seen.downstream, self.trail.seen.told) = (downstream, told);
        self.response.clear();
        self.deadlines = Deadlines::new(limits(facts.manager));
        self.tables = Some(facts.tables.clone());
        self.route = None;
        self.left = filter::Left::default();
        facts.progress.begin_try();
        record::begin(&facts);
    }

    /// Takes what the upstream says of itself out of the answer, and tells the client who answers, if it asked.
    fn settle_peers(&mut self) -> Result<(), EditError> {
        let Some(peers) = &self.facts.chain.telemetry.peers else { return Ok(()) };
        let telemetry = &self.facts.shard.telemetry;
        let told = self.trail.seen.told;
        if let Some(peer) = peers.settle_answer(telemetry, told, self.response.fields_mut(), self.text)? {
            self.trail.seen.upstream = Some(peer);
        }
        Ok(())
    }
}

/// The time limits of the connection manager.
fn limits(manager: &HttpConnectionManager) -> Limits {
    Limits {
        stream_idle: manager.stream_idle_timeout,
        duration: manager.stream_duration_max,
        request: manager.request_timeout,
        ..Limits::default()
    }
}

impl<'a> Facts<'a> {
    /// Counters of the connection manager.
    pub fn http_stats(&self) -> Option<&'a HttpStats> {
        self.chain.http_stats()
    }

    /// Counts for the connection manager.
    fn count(&self, counter: HttpCounter) {
        if let Some(stats) = self.http_stats() {
            stats.add(counter, 1);
        }
    }

    /// Milliseconds from the request's head to `at`.
    pub fn since_start(&self, at: Option<Instant>) -> Option<u64> {
        at.map(|at| at.saturating_duration_since(self.progress.started).as_millis() as u64)
    }

    /// The version of our status line.
    fn answer_version(&self, asked: Version) -> Version {
        if self.manager.accept_http_10 { asked } else { Version::Http11 }
    }

    /// The request arrived completely.
    fn request_is_complete(&self) -> bool {
        self.progress.request_complete.get().is_some()
    }

    /// Whether the connection may carry another request after an answer that starts now.
    fn may_persist(&self) -> bool {
        if self.version == Version::Http2 {
            // GOAWAY says it there, and ends no stream; what ends all connections they know themselves.
            return !self.connection.drain_closes(self.shard);
        }
        let manager = self.manager;
        let connection = self.connection;
        let too_old = manager.connection_duration_max.is_some_and(|max| now() - connection.opened >= max);
        let spent = manager.requests_per_connection_max > 0
            && connection.requests.get() >= manager.requests_per_connection_max;
        self.client_persistent
            && self.request_is_complete()
            && !connection.drain_closes(self.shard)
            && !ringsail_runtime::drain::draining()
            && !spent
            && !too_old
    }

    /// The ending after an answer that announced `persistent`.
    fn ending(&self, persistent: bool) -> Ending {
        match (persistent, self.client_persistent, self.request_is_complete()) {
            (true, _, true) => Ending::KeepAlive,
            // The client asked for it and sends no more.
            (false, false, true) => Ending::Close,
            _ => Ending::DelayedClose,
        }
    }

    /// How an answer's body is written, given how it comes. An HTTP/1.0 client knows no chunks.
    fn outward_length(&self, inward: BodyLength, client: Version) -> BodyLength {
        match (inward, client) {
            (BodyLength::UntilClose, Version::Http11 | Version::Http2) => BodyLength::Chunked,
            (BodyLength::Chunked, Version::Http10) => BodyLength::UntilClose,
            (length, _) => length,
        }
    }
}
