use std::net::TcpListener;

use ringsail_agent::Phase;
use ringsail_agent::news::{self, News};
use ringsail_xds::protocol::server::Answer;
use ringsail_xds::type_url::{CLUSTER, LISTENER, TCP_PROXY};
use serde_json::{Value, json};

use crate::ads::{BOTH, bootstrap};
use crate::control_plane::ControlPlane;
use crate::proxy::{Proxy, eventually};

fn listener(name: &str, port: u16) -> Value {
    json!({"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "t",
            "typed_config": {"@type": TCP_PROXY, "stat_prefix": "t", "cluster": "c"}}]}]})
}

/// A port that nobody else can have while this lives.
fn taken() -> (TcpListener, u16) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    (taken, port)
}

#[test]
fn a_listener_whose_address_is_taken_is_refused_and_tried_again_while_the_last_good_one_serves() {
    for api_type in BOTH {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("xds");
        let plane = ControlPlane::new();
        plane.set(CLUSTER, "1", &[]);
        plane.set(LISTENER, "1", &[listener("moves", 0), listener("other", 0)]);
        let _listening = plane.listen(&socket);
        let proxy = Proxy::start(&bootstrap(api_type, &socket));
        eventually("live", || proxy.agent.phase() == Phase::Live);

        let (taken, port) = taken();
        plane.set(LISTENER, "2", &[listener("moves", port), listener("other", 0)]);
        let nack = || {
            let heard = plane.heard.lock().expect("lock");
            heard.iter().find_map(|request| match &request.answer {
                Some(Answer::Nack { error, .. }) if request.type_url == LISTENER => Some(error.clone()),
                _ => None,
            })
        };
        eventually("refused", || nack().is_some());
        let text = nack().expect("refused");
        assert_eq!(
            text,
            format!(
                "Listener \"moves\": address: cannot bind 127.0.0.1:{port}: Address already in use (os error 98)"
            )
        );
        assert_eq!(
            proxy.get("/listeners"),
            "moves::127.0.0.1:0\nother::127.0.0.1:0\n",
            "the last good version"
        );
        let state = || {
            let dump = proxy.json("/config_dump?resource=dynamic_listeners&name_regex=moves");
            dump["configs"][0].clone()
        };
        assert_eq!(state()["error_state"]["details"], text);
        assert_eq!(state()["client_status"], "NACKED");

        drop(taken);
        let here = format!("moves::127.0.0.1:{port}\nother::127.0.0.1:0\n");
        eventually("bound once it is free", || proxy.get("/listeners") == here);
        assert_eq!(state().get("error_state"), None);
    }
}

#[test]
fn a_refused_listener_that_is_taken_back_is_not_tried_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("xds");
    let plane = ControlPlane::new();
    let (taken, port) = taken();
    plane.set(CLUSTER, "1", &[]);
    plane.set(LISTENER, "1", &[listener("bad", port), listener("other", 0)]);
    let _listening = plane.listen(&socket);
    let proxy = Proxy::start(&bootstrap("DELTA_GRPC", &socket));
    eventually("live", || proxy.agent.phase() == Phase::Live);
    assert_eq!(proxy.get("/listeners"), "other::127.0.0.1:0\n");
    plane.set(LISTENER, "2", &[listener("new", 0)]);
    eventually("replaced", || proxy.get("/listeners") == "new::127.0.0.1:0\n");
    drop(taken);
    // Longer than the pause between two tries.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(proxy.get("/listeners"), "new::127.0.0.1:0\n");
}

#[test]
fn the_proxy_is_live_only_when_every_shard_has_its_listeners() {
    let (shards, news) = news::channel();
    let listeners = "static_resources: {listeners: []}";
    let proxy = Proxy::start_with(listeners, news);
    eventually("waits for the shards", || proxy.agent.phase() == Phase::Initializing);
    let version = 0;
    shards.send(News::Adopted { shard: 0, version }).expect("received");
    // The second shard could bind nothing; that is an answer too.
    assert_eq!(proxy.request("GET", "/ready"), (503, "INITIALIZING\n".to_string()));
    let failed =
        News::NotListening { name: "l".into(), address: "127.0.0.1:1".into(), error: "taken".into() };
    shards.send(failed).expect("received");
    shards.send(News::Adopted { shard: 1, version }).expect("received");
    eventually("live", || proxy.request("GET", "/ready") == (200, "LIVE\n".to_string()));
    assert_eq!(proxy.stat("listener_manager.listener_create_failure"), Some(1));
}
