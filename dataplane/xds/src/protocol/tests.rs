//! Both halves against each other in one thread, and each against what the other side may really be.

use std::collections::BTreeMap;

use super::client::{Client, Ignored, Update};
use super::server::{Answer, Heard, Server, State, Violation};
use super::*;
use crate::envoy::config::cluster::v3::Cluster;
use crate::envoy::config::core::v3::Node;
use crate::envoy::config::endpoint::v3::ClusterLoadAssignment;
use crate::google::rpc::Status;
use crate::limits::{NACK_TEXT_BYTES_MAX, NAMES_MAX, OUTSTANDING_MAX, TYPES_MAX};
use crate::type_url::{CLUSTER, ENDPOINT, ROUTE};
use crate::{pack, unpack};

const BOTH: [Variant; 2] = [Variant::StateOfTheWorld, Variant::Delta];

fn node() -> Node {
    Node { id: "sidecar~10.0.0.5~cart-0.shop~shop.svc.cluster.local".to_string(), ..Node::default() }
}

fn cluster(name: &str, version: &str) -> Arc<Resource> {
    let body =
        pack(&Cluster { name: name.to_string(), alt_stat_name: version.to_string(), ..Cluster::default() });
    Arc::new(Resource { name: name.into(), version: version.into(), body })
}

fn endpoints(name: &str, version: &str) -> Arc<Resource> {
    let body =
        pack(&ClusterLoadAssignment { cluster_name: name.to_string(), ..ClusterLoadAssignment::default() });
    Arc::new(Resource { name: name.into(), version: version.into(), body })
}

/// A client and a server with what is on the way between them.
struct Stream {
    client: Client,
    server: Server,
    streams: u64,
    heard: Vec<Heard>,
}

impl Stream {
    fn new(variant: Variant) -> Stream {
        let mut client = Client::new(variant, node());
        client.connected();
        Stream { client, server: Server::new(variant, 1), streams: 1, heard: Vec::new() }
    }

    /// Delivers all requests; gives back what they meant.
    fn requests(&mut self) -> Vec<Heard> {
        while let Some(request) = self.client.poll() {
            self.heard.push(self.server.received(request).expect("no violation"));
        }
        std::mem::take(&mut self.heard)
    }

    /// Delivers one push without answering it.
    fn push(&mut self, type_url: &str, version: &str, state: State<'_>) -> Option<Update> {
        let response = self.server.push(type_url, version, state)?;
        Some(self.client.received(response).expect("subscribed"))
    }

    /// Delivers one push and accepts it; gives the changed and removed names.
    fn sync(
        &mut self,
        type_url: &str,
        version: &str,
        all: &[Arc<Resource>],
    ) -> Option<(Vec<String>, Vec<String>)> {
        self.requests();
        let update = self.push(type_url, version, State::Complete(all))?;
        self.client.accept(&update);
        let heard = self.requests();
        assert!(matches!(heard[0].answer, Some(Answer::Ack { .. })), "{heard:?}");
        Some((update.changed.iter().map(|one| one.name.to_string()).collect(), update.removed))
    }

    fn reconnect(&mut self) {
        self.client.disconnected();
        self.streams += 1;
        self.server = Server::new(self.client.variant(), self.streams);
        self.client.connected();
    }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

#[test]
fn a_wildcard_subscription_brings_everything_then_differences() {
    for variant in BOTH {
        let mut stream = Stream::new(variant);
        stream.client.subscribe(CLUSTER, Interest::everything());
        let heard = stream.requests();
        assert!(heard[0].respond && heard[0].added == [WILDCARD], "{heard:?}");
        assert_eq!(stream.server.node(), Some(&node()));

        let (a1, a2, b, c) = (cluster("a", "1"), cluster("a", "2"), cluster("b", "1"), cluster("c", "1"));
        let first = stream.sync(CLUSTER, "1", &[a1.clone(), b.clone()]);
        assert_eq!(first, Some((strings(&["a", "b"]), vec![])));
        assert_eq!(stream.sync(CLUSTER, "2", &[a1, b]), None, "{variant:?}: nothing changed, nothing sent");

        let (changed, removed) = stream.sync(CLUSTER, "3", &[a2, c]).expect("changes");
        assert_eq!(removed, ["b"], "{variant:?}");
        assert_eq!(changed, ["a", "c"], "{variant:?}");
        let progress = stream.server.progress(CLUSTER).expect("watched");
        assert_eq!((progress.version_acked.as_str(), &progress.error), ("3", &None));
    }
}

#[test]
fn an_empty_world_is_answered_once_so_that_the_client_need_not_wait() {
    for variant in BOTH {
        let mut stream = Stream::new(variant);
        stream.client.subscribe(CLUSTER, Interest::everything());
        assert_eq!(stream.sync(CLUSTER, "1", &[]), Some((vec![], vec![])));
        assert_eq!(stream.sync(CLUSTER, "2", &[]), None);
    }
}

#[test]
fn growing_names_bring_the_added_ones_only() {
    for variant in BOTH {
        let mut stream = Stream::new(variant);
        let all = [endpoints("a", "1"), endpoints("b", "1"), endpoints("c", "1")];
        stream.client.subscribe(ENDPOINT, Interest::names(["a"]));
        assert_eq!(stream.sync(ENDPOINT, "1", &all).expect("asked").0, ["a"]);
        stream.client.subscribe(ENDPOINT, Interest::names(["a", "b"]));
        assert_eq!(stream.sync(ENDPOINT, "1", &all).expect("asked").0, ["b"], "{variant:?}");
        stream.client.subscribe(ENDPOINT, Interest::names(["b"]));
        assert_eq!(stream.requests()[0].removed, ["a"]);
        assert_eq!(stream.sync(ENDPOINT, "2", &all), None, "{variant:?}: shrinking triggers nothing");
    }
}

#[test]
fn a_name_that_does_not_exist_is_reported_gone_in_delta() {
    let mut stream = Stream::new(Variant::Delta);
    stream.client.subscribe(ENDPOINT, Interest::names(["a"]));
    assert_eq!(stream.sync(ENDPOINT, "1", &[]), Some((vec![], strings(&["a"]))));
    assert_eq!(stream.sync(ENDPOINT, "2", &[endpoints("a", "1")]).expect("it appears").0, ["a"]);
}

#[test]
fn a_partial_push_says_nothing_about_other_resources() {
    let mut stream = Stream::new(Variant::Delta);
    stream.client.subscribe(ENDPOINT, Interest::names(["a", "b"]));
    stream.sync(ENDPOINT, "1", &[endpoints("a", "1"), endpoints("b", "1")]);
    let changed = [endpoints("a", "2"), endpoints("unwanted", "1")];
    let update =
        stream.push(ENDPOINT, "2", State::Partial { changed: &changed, removed: &[] }).expect("a changed");
    assert_eq!((update.changed.len(), update.removed.len()), (1, 0));
    let gone = ["b".into(), "never sent".into()];
    let update =
        stream.push(ENDPOINT, "3", State::Partial { changed: &[], removed: &gone }).expect("b is gone");
    assert_eq!(update.removed, ["b"]);
}

#[test]
fn a_refusal_keeps_the_accepted_version_and_names_the_fault() {
    for variant in BOTH {
        let mut stream = Stream::new(variant);
        stream.client.subscribe(CLUSTER, Interest::everything());
        stream.sync(CLUSTER, "1", &[cluster("a", "1"), cluster("b", "1")]);
        let bad = [cluster("a", "2"), cluster("b", "2")];
        let update = stream.push(CLUSTER, "2", State::Complete(&bad)).expect("changed");
        stream.client.reject(&update, &["b"], "b: connect_timeout: is negative");
        let heard = stream.requests();
        let Some(Answer::Nack { error, .. }) = &heard[0].answer else { panic!("{heard:?}") };
        assert_eq!(error, "b: connect_timeout: is negative");
        let progress = stream.server.progress(CLUSTER).expect("watched").clone();
        assert_eq!((progress.version_acked.as_str(), progress.version_sent.as_str()), ("1", "2"));
        assert_eq!(progress.error.as_deref(), Some("b: connect_timeout: is negative"));
        // The same push is not repeated until something changes.
        assert_eq!(stream.push(CLUSTER, "2", State::Complete(&bad)), None);
        // A new stream learns what is really in use.
        stream.reconnect();
        let Some(request) = stream.client.poll() else { panic!("asks again") };
        match request {
            Request::Delta(request) => assert_eq!(
                request.initial_resource_versions,
                BTreeMap::from([("a".to_string(), "2".to_string()), ("b".to_string(), "1".to_string())])
            ),
            Request::StateOfTheWorld(request) => assert_eq!(request.version_info, "1"),
        }
    }
}

#[test]
fn a_long_refusal_is_cut_at_a_character() {
    let mut stream = Stream::new(Variant::Delta);
    stream.client.subscribe(CLUSTER, Interest::everything());
    stream.requests();
    let update = stream.push(CLUSTER, "1", State::Complete(&[cluster("a", "1")])).expect("first");
    stream.client.reject(&update, &["a"], &"€".repeat(2000));
    let heard = stream.requests();
    let Some(Answer::Nack { error, .. }) = &heard[0].answer else { panic!("{heard:?}") };
    assert_eq!(error.len(), NACK_TEXT_BYTES_MAX / 3 * 3);
}

#[test]
fn a_reconnect_brings_only_what_changed_meanwhile_in_delta() {
    let mut stream = Stream::new(Variant::Delta);
    stream.client.subscribe(CLUSTER, Interest::everything());
    stream.client.subscribe(ENDPOINT, Interest::names(["a"]));
    stream.sync(CLUSTER, "1", &[cluster("a", "1"), cluster("b", "1"), cluster("c", "1")]);
    stream.sync(ENDPOINT, "1", &[endpoints("a", "1")]);
    stream.reconnect();
    let first = stream.client.poll().expect("asks again");
    let Request::Delta(request) = &first else { panic!("{first:?}") };
    assert_eq!(request.type_url, CLUSTER, "clusters come first");
    assert_eq!(request.node, Some(node()), "each stream's first request says who asks");
    stream.server.received(first).expect("valid");
    let (changed, removed) =
        stream.sync(CLUSTER, "2", &[cluster("a", "1"), cluster("b", "2")]).expect("b and c changed");
    assert_eq!((changed, removed), (strings(&["b"]), strings(&["c"])));
    // Nothing to tell is told once, so that the client knows it is in sync.
    assert_eq!(stream.sync(ENDPOINT, "1", &[endpoints("a", "1")]), Some((vec![], vec![])));
}

#[test]
fn unversioned_resources_are_sent_again_after_a_reconnect() {
    let mut stream = Stream::new(Variant::Delta);
    stream.client.subscribe(CLUSTER, Interest::everything());
    stream.sync(CLUSTER, "1", &[cluster("a", "")]);
    stream.reconnect();
    assert_eq!(stream.sync(CLUSTER, "1", &[cluster("a", "")]).expect("sent").0, ["a"]);
}

#[test]
fn an_answer_from_an_earlier_stream_is_not_sent() {
    for variant in BOTH {
        let mut stream = Stream::new(variant);
        stream.client.subscribe(CLUSTER, Interest::everything());
        stream.requests();
        let update = stream.push(CLUSTER, "1", State::Complete(&[cluster("a", "1")])).expect("first");
        stream.reconnect();
        stream.requests();
        stream.client.accept(&update);
        assert_eq!(stream.requests(), []);
    }
}

#[test]
fn names_that_change_while_a_response_is_worked_on_go_with_its_answer() {
    let mut stream = Stream::new(Variant::StateOfTheWorld);
    stream.client.subscribe(ENDPOINT, Interest::names(["a"]));
    stream.requests();
    let all = [endpoints("a", "1"), endpoints("b", "1")];
    let update = stream.push(ENDPOINT, "1", State::Complete(&all)).expect("first");
    stream.client.subscribe(ENDPOINT, Interest::names(["a", "b"]));
    assert_eq!(stream.requests(), [], "a request now would look like an answer");
    stream.client.accept(&update);
    let heard = stream.requests();
    assert!(matches!(heard[0].answer, Some(Answer::Ack { .. })));
    assert_eq!(heard[0].added, ["b"]);
    assert!(heard[0].respond);
}

#[test]
fn a_subscription_change_in_delta_carries_no_nonce() {
    let mut stream = Stream::new(Variant::Delta);
    stream.client.subscribe(ENDPOINT, Interest::names(["a"]));
    stream.sync(ENDPOINT, "1", &[endpoints("a", "1")]);
    stream.client.subscribe(ENDPOINT, Interest::names(["b"]));
    let Some(Request::Delta(request)) = stream.client.poll() else { panic!("a change") };
    assert_eq!(request.response_nonce, "");
    assert_eq!(request.resource_names_subscribe, ["b"]);
    assert_eq!(request.resource_names_unsubscribe, ["a"]);
    assert!(request.initial_resource_versions.is_empty(), "only the first request of a stream");
}

#[test]
fn a_type_without_names_is_not_asked_for() {
    for variant in BOTH {
        let mut stream = Stream::new(variant);
        stream.client.subscribe(ENDPOINT, Interest::names(Vec::<String>::new()));
        assert_eq!(stream.client.poll(), None, "it would mean everything");
        stream.client.subscribe(ENDPOINT, Interest::names(["a"]));
        stream.sync(ENDPOINT, "1", &[endpoints("a", "1")]);
        stream.client.subscribe(ENDPOINT, Interest::default());
        assert_eq!(stream.requests()[0].removed, ["a"]);
        assert!(stream.server.interest(ENDPOINT).expect("known").is_empty(), "{variant:?}");
        assert_eq!(stream.server.push(ENDPOINT, "2", State::Complete(&[endpoints("a", "2")])), None);
    }
}

#[test]
fn a_stale_nonce_changes_nothing() {
    let mut stream = Stream::new(Variant::StateOfTheWorld);
    stream.client.subscribe(ENDPOINT, Interest::names(["a"]));
    stream.requests();
    let first = stream.push(ENDPOINT, "1", State::Complete(&[endpoints("a", "1")])).expect("first");
    let second = stream.push(ENDPOINT, "2", State::Complete(&[endpoints("a", "2")])).expect("second");
    stream.client.accept(&first);
    let heard = stream.requests();
    assert!(matches!(heard[0].answer, Some(Answer::Stale { .. })), "{heard:?}");
    assert!(stream.server.awaits_answer(ENDPOINT));
    stream.client.accept(&second);
    let heard = stream.requests();
    assert!(matches!(heard[0].answer, Some(Answer::Ack { .. })), "{heard:?}");
    assert!(!stream.server.awaits_answer(ENDPOINT));
}

#[test]
fn envoy_may_change_names_with_the_nonce_of_an_answered_response() {
    let mut server = Server::new(Variant::StateOfTheWorld, 1);
    let ask = |names: &[&str], nonce: &str| {
        Request::StateOfTheWorld(DiscoveryRequest {
            node: Some(node()),
            type_url: ENDPOINT.to_string(),
            resource_names: strings(names),
            response_nonce: nonce.to_string(),
            ..DiscoveryRequest::default()
        })
    };
    server.received(ask(&["a"], "")).expect("valid");
    let all = [endpoints("a", "1"), endpoints("b", "1")];
    let nonce = server.push(ENDPOINT, "1", State::Complete(&all)).expect("first").nonce().to_string();
    assert!(matches!(server.received(ask(&["a"], &nonce)).expect("valid").answer, Some(Answer::Ack { .. })));
    let heard = server.received(ask(&["a", "b"], &nonce)).expect("valid");
    assert_eq!((heard.answer, heard.respond, heard.added), (None, true, strings(&["b"])));
}

#[test]
fn envoy_may_put_a_subscription_change_into_a_delta_answer() {
    let mut stream = Stream::new(Variant::Delta);
    stream.client.subscribe(ENDPOINT, Interest::names(["a"]));
    stream.requests();
    let update = stream.push(ENDPOINT, "1", State::Complete(&[endpoints("a", "1")])).expect("first");
    stream.client.accept(&update);
    let Some(Request::Delta(mut request)) = stream.client.poll() else { panic!("an answer") };
    request.resource_names_subscribe.push("b".to_string());
    let heard = stream.server.received(Request::Delta(request)).expect("valid");
    assert!(matches!(heard.answer, Some(Answer::Ack { .. })) && heard.respond);
}

#[test]
fn subscribing_again_brings_an_unchanged_resource_again() {
    let mut stream = Stream::new(Variant::Delta);
    stream.client.subscribe(ENDPOINT, Interest::names(["a"]));
    stream.sync(ENDPOINT, "1", &[endpoints("a", "1")]);
    stream
        .server
        .received(Request::Delta(DeltaDiscoveryRequest {
            type_url: ENDPOINT.to_string(),
            resource_names_subscribe: strings(&["a"]),
            ..DeltaDiscoveryRequest::default()
        }))
        .expect("valid");
    assert_eq!(stream.sync(ENDPOINT, "1", &[endpoints("a", "1")]).expect("sent again").0, ["a"]);
}

#[test]
fn a_resource_that_cannot_be_understood_is_refused_and_the_others_are_used() {
    for variant in BOTH {
        let mut client = Client::new(variant, node());
        client.subscribe(CLUSTER, Interest::everything());
        client.connected();
        client.poll().expect("asks");
        let good = cluster("a", "1");
        let foreign = pack(&ClusterLoadAssignment { cluster_name: "x".to_string(), ..Default::default() });
        let nameless = pack(&Cluster::default());
        let response = match variant {
            Variant::StateOfTheWorld => Response::StateOfTheWorld(DiscoveryResponse {
                type_url: CLUSTER.to_string(),
                nonce: "1".to_string(),
                resources: vec![good.body.clone(), foreign, nameless, good.body.clone()],
                ..DiscoveryResponse::default()
            }),
            Variant::Delta => Response::Delta(DeltaDiscoveryResponse {
                type_url: CLUSTER.to_string(),
                nonce: "1".to_string(),
                resources: [
                    ("a", good.body.clone()),
                    ("x", foreign),
                    ("", nameless),
                    ("a", good.body.clone()),
                ]
                .map(|(name, body)| crate::envoy::service::discovery::v3::Resource {
                    name: name.to_string(),
                    resource: Some(body),
                    ..Default::default()
                })
                .to_vec(),
                ..DeltaDiscoveryResponse::default()
            }),
        };
        let update = client.received(response).expect("subscribed");
        assert_eq!(update.changed.len(), 1);
        assert_eq!(unpack::<Cluster>(&update.changed[0].body).expect("a cluster").name, "a");
        client.accept(&update);
        let detail = match client.poll().expect("an answer") {
            Request::StateOfTheWorld(request) => request.error_detail,
            Request::Delta(request) => request.error_detail,
        };
        let Some(Status { message, .. }) = detail else { panic!("a refusal") };
        assert_eq!(
            message,
            format!(
                "resource \"x\" is of type \"{ENDPOINT}\"; a resource has no name; resource \"a\" is there twice"
            )
        );
    }
}

#[test]
fn a_response_that_nobody_asked_for_is_dropped() {
    let mut client = Client::new(Variant::Delta, node());
    client.connected();
    client.subscribe(CLUSTER, Interest::everything());
    let response = |type_url: &str| {
        Response::Delta(DeltaDiscoveryResponse { type_url: type_url.to_string(), ..Default::default() })
    };
    assert_eq!(client.received(response(ROUTE)), Err(Ignored::NotSubscribed(ROUTE.to_string())));
    let other =
        Response::StateOfTheWorld(DiscoveryResponse { type_url: CLUSTER.to_string(), ..Default::default() });
    assert_eq!(client.received(other), Err(Ignored::OtherVariant));
    assert!(client.received(response(CLUSTER)).is_ok());
}

#[test]
fn peers_that_break_the_protocol_or_a_bound_are_refused() {
    let delta = |type_url: &str, names: usize| {
        Request::Delta(DeltaDiscoveryRequest {
            node: Some(node()),
            type_url: type_url.to_string(),
            resource_names_subscribe: (0..names).map(|index| index.to_string()).collect(),
            ..DeltaDiscoveryRequest::default()
        })
    };
    let server = || Server::new(Variant::Delta, 1);
    assert_eq!(server().received(Request::StateOfTheWorld(Default::default())), Err(Violation::OtherVariant));
    assert_eq!(server().received(Request::Delta(Default::default())), Err(Violation::NoNode));
    assert_eq!(server().received(delta("", 0)), Err(Violation::NoType));
    assert!(server().received(delta(ENDPOINT, NAMES_MAX)).is_ok());
    assert_eq!(server().received(delta(ENDPOINT, NAMES_MAX + 1)), Err(Violation::TooManyNames));
    let mut many = server();
    for index in 0..TYPES_MAX {
        many.received(delta(&index.to_string(), 0)).expect("within the bound");
    }
    assert_eq!(many.received(delta("one more", 0)), Err(Violation::TooManyTypes));
}

#[test]
fn a_client_that_never_answers_is_sent_nothing_more() {
    let mut server = Server::new(Variant::Delta, 1);
    server
        .received(Request::Delta(DeltaDiscoveryRequest {
            node: Some(node()),
            type_url: CLUSTER.to_string(),
            ..DeltaDiscoveryRequest::default()
        }))
        .expect("valid");
    for version in 0..OUTSTANDING_MAX {
        let version = version.to_string();
        assert!(server.push(CLUSTER, &version, State::Complete(&[cluster("a", &version)])).is_some());
    }
    assert!(server.push(CLUSTER, "x", State::Complete(&[cluster("a", "x")])).is_none());
}

#[test]
fn random_changes_reach_the_client_in_both_variants() {
    for variant in BOTH {
        for seed in 0..50u64 {
            converges(variant, seed);
        }
    }
}

/// Random sets of resources, subscriptions, lost streams and late answers; at the end both sides agree.
fn converges(variant: Variant, seed: u64) {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut stream = Stream::new(variant);
    let mut world: BTreeMap<String, u64> = BTreeMap::new();
    let mut held: BTreeMap<String, String> = BTreeMap::new();
    let mut pending: Vec<Update> = Vec::new();
    let mut settle = false;
    stream.client.subscribe(CLUSTER, Interest::everything());
    for step in 0..80 {
        settle |= step == 70;
        match if settle { 9 } else { random(10) } {
            0..=2 => drop(world.insert(random(6).to_string(), step)),
            3 => drop(world.remove(&random(6).to_string())),
            4 => {
                stream.reconnect();
                pending.clear();
            }
            5 | 6 if !pending.is_empty() => stream.client.accept(&pending.remove(0)),
            7 => {
                stream.requests();
            }
            _ => {
                stream.requests();
                let all: Vec<_> =
                    world.iter().map(|(name, version)| cluster(name, &version.to_string())).collect();
                if let Some(update) = stream.push(CLUSTER, &step.to_string(), State::Complete(&all)) {
                    for name in &update.removed {
                        held.remove(name);
                    }
                    for resource in &update.changed {
                        let body: Cluster = unpack(&resource.body).expect("a cluster");
                        held.insert(resource.name.to_string(), body.alt_stat_name);
                    }
                    pending.push(update);
                }
            }
        }
        if settle {
            pending.drain(..).for_each(|update| stream.client.accept(&update));
        }
    }
    let expected: BTreeMap<String, String> =
        world.into_iter().map(|(name, v)| (name, v.to_string())).collect();
    assert_eq!(held, expected, "{variant:?}, seed {seed}");
}
