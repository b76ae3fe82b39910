//! What an idle session holds.

use std::sync::Arc;

use ringsail_tls::allocated_bytes;
use ringsail_tls::context::{ClientContext, ServerContext};
use ringsail_tls::settings::ClientSettings;

use crate::bench::*;

/// Both ends are on this thread, so what BoringSSL holds for a pair is counted here.
#[test]
fn an_idle_mutual_session_holds_no_buffer_on_either_side() {
    let ca = authority("root");
    let client = ClientSettings { certificate: Some(certificate(&workload(&ca, "cart"))), ..client(&ca) };
    let client = ClientContext::new(&Arc::new(client)).unwrap();
    let server = ServerContext::new(&mutual_server(&workload(&ca, "web"), &ca)).unwrap();
    let idle = || {
        let mut pair = Pair::new(&client, &server);
        pair.handshake().unwrap();
        pair.talk();
        assert!(!pair.client.has_pending() && !pair.server.has_pending());
        pair
    };
    // What is made once is made.
    drop(idle());
    let before = allocated_bytes();
    assert!(before > 0, "BoringSSL's allocations are counted");
    let pairs: Vec<Pair> = (0..64).map(|_| idle()).collect();
    let both = (allocated_bytes() - before) / 64;
    let servers: Vec<_> = pairs.into_iter().map(|pair| pair.server).collect();
    let server = (allocated_bytes() - before) / 64;
    let client = both - server;
    println!("bytes of BoringSSL for an idle mutual session: {server} of a server, {client} of a client");
    // A buffer for one record alone has 16 KiB.
    assert!(server < 8 * 1024, "{server}");
    assert!(client < 4 * 1024, "{client}");
    drop(servers);
}
