//! Sessions that are resumed.

use std::sync::Arc;

use ringsail_tls::TicketKeys;
use ringsail_tls::context::{ClientContext, ServerContext};
use ringsail_tls::settings::{ClientSettings, Parameters, ServerSettings, Version};
use ringsail_tls::validation::Rules;

use crate::bench::*;

fn resumes(client: &ClientContext, server: &ServerSettings) -> bool {
    let mut pair = Pair::new(client, &ServerContext::new(server).unwrap());
    pair.handshake().unwrap();
    pair.talk();
    assert_eq!(pair.client.is_resumed(), pair.server.is_resumed());
    pair.client.is_resumed()
}

#[test]
fn a_session_is_resumed_on_another_shard_that_has_the_same_ticket_keys() {
    for version_max in [Version::Tls12, Version::Tls13] {
        let ca = authority("root");
        let parameters = Parameters { version_max, ..Parameters::default() };
        let client = ClientSettings {
            parameters,
            certificate: Some(certificate(&workload(&ca, "cart"))),
            ..client(&ca)
        };
        let client = ClientContext::new(&Arc::new(client)).unwrap();
        let keys = TicketKeys::random();
        let shard =
            ServerSettings { tickets: Some(keys.clone()), ..mutual_server(&workload(&ca, "web"), &ca) };
        assert!(!resumes(&client, &shard));
        // A context of its own, as each shard has.
        assert!(resumes(&client, &shard), "{version_max:?}");
        keys.rotate(1);
        assert!(resumes(&client, &shard), "the key before the last still opens");
        keys.rotate(0);
        assert!(!resumes(&client, &shard), "a key that is gone opens nothing");
    }
}

#[test]
fn a_ticket_is_worth_nothing_under_other_rules() {
    let ca = authority("root");
    let client = ClientSettings { certificate: Some(certificate(&workload(&ca, "cart"))), ..client(&ca) };
    let client = ClientContext::new(&Arc::new(client)).unwrap();
    let before = mutual_server(&workload(&ca, "web"), &ca);
    assert!(!resumes(&client, &before));
    let rules = Rules {
        names: vec![exact(ringsail_tls::validation::NameKind::Uri, "spiffe://cluster.local/ns/shop/sa/cart")],
        ..trusting(&ca)
    };
    let after = ServerSettings { validation: validation(rules), ..before.clone() };
    assert!(!resumes(&client, &after));
}

#[test]
fn without_ticket_keys_nothing_is_resumed() {
    let ca = authority("root");
    let client = ClientContext::new(&Arc::new(client(&ca))).unwrap();
    let server = ServerSettings { tickets: None, ..server(&workload(&ca, "web")) };
    assert!(!resumes(&client, &server));
    assert!(!resumes(&client, &server));
}

#[test]
fn a_client_that_keeps_no_sessions_resumes_none() {
    let ca = authority("root");
    let client = ClientContext::new(&Arc::new(ClientSettings { sessions_kept: 0, ..client(&ca) })).unwrap();
    let server = server(&workload(&ca, "web"));
    assert!(!resumes(&client, &server));
    assert!(!resumes(&client, &server));
}
