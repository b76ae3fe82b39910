//! One scenario: the configuration it needs, what is done, and what must be the same on both sides.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ringsail_harness::client::{Answer, Connection};
use ringsail_harness::peer::Peer;
use serde_json::{Value, json};

use crate::backend::{self, Seen};
use crate::case::{Case, masked_field};

/// How long a run waits for something that happens beside the exchange, such as a mirrored request.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a scenario does on one proxy.
type Script = Box<dyn Fn(&Run<'_>) -> Result<Observed> + Send + Sync>;

/// A scenario; [`crate::suite`] builds one bootstrap out of the scenarios of a suite.
pub struct Scenario {
    /// Unique over all suites; it is also the path prefix, the route's name and the cluster's name.
    pub id: &'static str,
    /// Entries of the route table, first match first.
    pub routes: Vec<Value>,
    /// Clusters.
    pub clusters: Vec<Value>,
    /// Fields of the virtual host; where there are any, the scenario has one of its own, called `ID.example`.
    pub host: Option<Value>,
    /// Its requests take ways drawn at random, so that log lines and counters differ between any two runs.
    pub by_chance: bool,
    /// Fields of the HTTP connection manager; where there are any, the scenario has a listener of its own.
    pub manager: Option<Value>,
    /// Fields of that listener.
    pub listener: Value,
    /// Its network filters before the connection manager.
    pub network_filters: Vec<Value>,
    /// Fields of the bootstrap that its suite's proxies share.
    pub bootstrap: Option<Value>,
    script: Script,
}

impl Scenario {
    /// A scenario whose route leads to a cluster of its own with the backend `a`, and which sends one plain request.
    pub fn new(id: &'static str) -> Scenario {
        let route = json!({"name": id, "match": {"prefix": format!("/{id}")}, "route": {"cluster": id, "timeout": "0s"}});
        Scenario {
            id,
            routes: vec![route],
            clusters: vec![cluster(id, &["a"])],
            host: None,
            by_chance: false,
            manager: None,
            listener: json!({}),
            network_filters: Vec::new(),
            bootstrap: None,
            script: Box::new(|run| run.exchange("")),
        }
    }

    /// Merges `fields` into the route's action.
    pub fn route(mut self, fields: Value) -> Scenario {
        merge(&mut self.routes[0]["route"], fields);
        self
    }

    /// Merges `fields` into the route entry; a `redirect` or `direct_response` takes the place of the action.
    pub fn entry(mut self, fields: Value) -> Scenario {
        if fields.get("redirect").is_some() || fields.get("direct_response").is_some() {
            self.routes[0].as_object_mut().map(|entry| entry.remove("route"));
        }
        merge(&mut self.routes[0], fields);
        self
    }

    /// Another route entry, before those there are.
    pub fn before(mut self, entry: Value) -> Scenario {
        self.routes.insert(0, entry);
        self
    }

    /// Merges `fields` into the cluster.
    pub fn cluster(mut self, fields: Value) -> Scenario {
        merge(&mut self.clusters[0], fields);
        self
    }

    /// Adds a cluster.
    pub fn and_cluster(mut self, cluster: Value) -> Scenario {
        self.clusters.push(cluster);
        self
    }

    /// The cluster's endpoints: names of backends.
    pub fn backends(self, names: &[&str]) -> Scenario {
        let id = self.id;
        self.cluster(json!({"load_assignment": assignment(id, names)}))
    }

    /// Gives the scenario a virtual host of its own with `fields`.
    pub fn virtual_host(mut self, fields: Value) -> Scenario {
        self.host = Some(fields);
        self
    }

    /// Gives the scenario a listener of its own, whose connection manager has `fields`.
    pub fn manager(mut self, fields: Value) -> Scenario {
        self.manager = Some(fields);
        self
    }

    /// Gives the scenario a listener of its own, with `fields`.
    pub fn listener(mut self, fields: Value) -> Scenario {
        self.manager.get_or_insert(json!({}));
        self.listener = fields;
        self
    }

    /// Gives the scenario a listener of its own, with these network filters before the connection manager.
    pub fn network_filters(mut self, filters: Vec<Value>) -> Scenario {
        self.manager.get_or_insert(json!({}));
        self.network_filters = filters;
        self
    }

    /// Merges `fields` into the bootstrap of its suite.
    pub fn bootstrap(mut self, fields: Value) -> Scenario {
        self.bootstrap = Some(fields);
        self
    }

    /// Merges `fields` into those of the connection manager.
    pub fn manager_too(mut self, fields: Value) -> Scenario {
        merge(self.manager.get_or_insert(json!({})), fields);
        self
    }

    /// Sends one request with `fields`, lines that each end in CRLF.
    pub fn sends(self, fields: &'static str) -> Scenario {
        self.does(move |run| run.exchange(fields))
    }

    /// Does `script` instead of one exchange.
    pub fn does(mut self, script: impl Fn(&Run<'_>) -> Result<Observed> + Send + Sync + 'static) -> Scenario {
        self.script = Box::new(script);
        self
    }

    /// What happens is drawn at random: only what the script itself notes is compared.
    pub fn by_chance(mut self) -> Scenario {
        self.by_chance = true;
        self
    }

    /// Runs the scenario on a peer.
    pub fn run(&self, peer: &Peer, address: SocketAddr) -> Result<Observed> {
        let run = Run { id: self.id, peer, address, run: format!("{}-{}", &peer.name[..1], self.id) };
        (self.script)(&run).with_context(|| format!("{} on {}", self.id, peer.name))
    }
}

/// A cluster of backends by name, without anything else.
pub fn cluster(name: &str, backends: &[&str]) -> Value {
    json!({"name": name, "type": "STATIC", "connect_timeout": "2s", "load_assignment": assignment(name, backends)})
}

/// The `load_assignment` of a cluster.
pub fn assignment(name: &str, backends: &[&str]) -> Value {
    let endpoints: Vec<Value> = backends.iter().map(|backend| endpoint(backend, json!({}))).collect();
    json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]})
}

/// One `lb_endpoint`, with further fields.
pub fn endpoint(backend: &str, fields: Value) -> Value {
    let address = backend::shared().address(backend);
    let mut endpoint = json!({"endpoint": {"address": {"socket_address":
        {"address": address.ip().to_string(), "port_value": address.port()}}}});
    merge(&mut endpoint, fields);
    endpoint
}

/// Merges objects deeply; null removes, anything else replaces.
pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match into.get_mut(&key) {
                    _ if value.is_null() => {
                        into.remove(&key);
                    }
                    Some(existing) => merge(existing, value),
                    None => {
                        into.insert(key, value);
                    }
                }
            }
        }
        (into, from) => *into = from,
    }
}

/// One scenario on one proxy.
pub struct Run<'a> {
    /// The scenario's id.
    pub id: &'static str,
    /// The proxy.
    pub peer: &'a Peer,
    /// The listener to talk to.
    pub address: SocketAddr,
    /// What the backends know this run by: both peers share them.
    pub run: String,
}

impl Run<'_> {
    /// The scenario's authority.
    pub fn host(&self) -> String {
        format!("{}.example", self.id)
    }

    /// The fields that name the scenario to the access log and the run to the backends.
    pub fn names(&self) -> String {
        format!("x-case: {}\r\nx-run: {}\r\n", self.id, self.run)
    }

    /// A GET of `/ID` with further field lines.
    pub fn request(&self, fields: &str) -> String {
        self.request_of("GET", &format!("/{}", self.id), fields)
    }

    /// A request without body.
    pub fn request_of(&self, method: &str, target: &str, fields: &str) -> String {
        format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n{}{fields}\r\n", self.host(), self.names())
    }

    /// Sends one request on a connection of its own and observes everything about it.
    pub fn exchange(&self, fields: &str) -> Result<Observed> {
        self.raw(self.request(fields))
    }

    /// The same with the bytes given.
    pub fn raw(&self, request: impl Into<Vec<u8>>) -> Result<Observed> {
        self.case(Case::new(self.id, request))
    }

    /// The same with a prepared case.
    pub fn case(&self, case: Case) -> Result<Observed> {
        let seen = case.run(self.address)?;
        let mut observed = Observed::new();
        observed.exact("reply", self.unnamed(&seen.reply));
        observed.exact("end", format!("{:?}", seen.end));
        observed.attempts(self);
        Ok(observed)
    }

    /// A connection that is kept alive between requests.
    pub fn connection(&self) -> Result<Connection> {
        Connection::open(self.address)
    }

    /// Sends `count` GETs one after the other on one connection; gives the answers.
    pub fn many(&self, count: usize, fields: impl Fn(usize) -> String) -> Result<Vec<Answer>> {
        let mut connection = self.connection()?;
        (0..count).map(|index| connection.send(&self.request(&fields(index)))).collect()
    }

    /// What the backends have seen of this run.
    pub fn seen(&self) -> Vec<Seen> {
        backend::shared().journal.of(&self.run)
    }

    /// Waits until the backends have seen `count` requests of this run.
    pub fn wait_for_requests(&self, count: usize) -> Result<Vec<Seen>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.seen();
            if seen.len() >= count {
                return Ok(seen);
            }
            if Instant::now() > deadline {
                bail!("{} of {count} requests reached a backend: {seen:?}", seen.len());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `text` without what tells the peers' runs apart.
    pub fn unnamed(&self, text: &str) -> String {
        text.replace(&self.run, "*")
    }
}

/// What is compared of one aspect.
#[derive(Debug, Clone, PartialEq)]
pub enum Facet {
    /// Must be equal.
    Exact(String),
    /// How often each outcome was drawn; must be what `shares` says, within chance.
    Drawn(BTreeMap<String, usize>),
}

/// Everything observed of a run, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Name and value of each aspect.
    pub facets: Vec<(String, Facet)>,
}

impl Observed {
    /// Nothing yet.
    pub fn new() -> Observed {
        Observed::default()
    }

    /// Notes an aspect that must be equal.
    pub fn exact(&mut self, name: &str, value: impl Into<String>) -> &mut Observed {
        self.facets.push((name.to_string(), Facet::Exact(value.into())));
        self
    }

    /// Notes how often each outcome was drawn.
    pub fn drawn(
        &mut self,
        name: &str,
        outcomes: impl IntoIterator<Item = impl Into<String>>,
    ) -> &mut Observed {
        let mut counts = BTreeMap::new();
        for outcome in outcomes {
            *counts.entry(outcome.into()).or_insert(0) += 1;
        }
        self.facets.push((name.to_string(), Facet::Drawn(counts)));
        self
    }

    /// Leaves out an aspect.
    pub fn without(mut self, name: &str) -> Observed {
        self.facets.retain(|(other, _)| other != name);
        self
    }

    /// Notes the attempts of a run as the backends saw them, without which backend.
    pub fn attempts(&mut self, run: &Run<'_>) -> &mut Observed {
        let steps: Vec<String> =
            run.seen().iter().map(|seen| format!("{} [{}]", seen.start, seen.step)).collect();
        self.exact("attempts", steps.join(", "))
    }

    /// Notes which of two classes a duration falls in. Timers do not fire early but for the milliseconds they are rounded
    /// to, so a busy machine does not change the class of what waits; whatever must not wait has almost all of `timer`.
    pub fn timing(&mut self, elapsed: Duration, timer: Duration) -> &mut Observed {
        let class = if elapsed >= timer.mul_f64(0.95) { "waited" } else { "at once" };
        self.exact("timing", class)
    }

    /// Notes an answer: status, masked fields, body.
    pub fn answer(&mut self, name: &str, run: &Run<'_>, answer: &Answer) -> &mut Observed {
        let mut text = format!("{}\n", answer.status);
        for (field, value) in &answer.fields {
            text.push_str(&format!("{field}: {}\n", masked_field(field, value)));
        }
        text.push_str(&masked_body(&answer.body));
        let text = run.unnamed(&text);
        self.exact(name, text)
    }

    /// Where `other` differs, in words; `None` when it does not.
    pub fn difference(&self, other: &Observed) -> Option<String> {
        let names = |observed: &Observed| -> Vec<String> {
            observed.facets.iter().map(|(name, _)| name.clone()).collect()
        };
        if names(self) != names(other) {
            return Some(format!("aspects {:?} and {:?}", names(self), names(other)));
        }
        let differs: Vec<String> = self
            .facets
            .iter()
            .zip(&other.facets)
            .filter(|((_, ours), (_, theirs))| !agree(ours, theirs))
            .map(|((name, ours), (_, theirs))| {
                format!("{name}\n    envoy    {ours:?}\n    ringsail {theirs:?}")
            })
            .collect();
        (!differs.is_empty()).then(|| differs.join("\n  "))
    }
}

fn masked_body(body: &str) -> String {
    crate::case::masked(body)
}

/// Equal, or for draws: close enough that chance explains it. The difference of two counts has at most the variance of
/// their sum; five standard deviations are exceeded once in two million comparisons.
fn agree(left: &Facet, right: &Facet) -> bool {
    match (left, right) {
        (Facet::Exact(left), Facet::Exact(right)) => left == right,
        (Facet::Drawn(left), Facet::Drawn(right)) => {
            let keys: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            keys.into_iter().all(|key| {
                let (left, right) =
                    (left.get(key).copied().unwrap_or(0), right.get(key).copied().unwrap_or(0));
                (left.abs_diff(right) as f64) <= 5.0 * ((left + right) as f64).sqrt() + 1.0
            })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_agree_within_chance_and_not_beyond() {
        let drawn = |left: usize, right: usize| {
            let mut observed = Observed::new();
            observed.drawn(
                "spread",
                std::iter::repeat_n("a", left).chain(std::iter::repeat_n("b", right)).map(String::from),
            );
            observed
        };
        assert_eq!(drawn(500, 500).difference(&drawn(530, 470)), None);
        assert!(drawn(500, 500).difference(&drawn(900, 100)).is_some());
        assert!(drawn(1000, 0).difference(&drawn(900, 100)).is_some());
    }

    #[test]
    fn merging_goes_into_objects_and_replaces_the_rest() {
        let mut value = json!({"a": {"b": 1, "c": [1]}, "d": 1});
        merge(&mut value, json!({"a": {"c": [2], "e": 3}, "d": {"f": 4}}));
        assert_eq!(value, json!({"a": {"b": 1, "c": [2], "e": 3}, "d": {"f": 4}}));
    }
}
