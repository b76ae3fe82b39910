//! What an idle session holds.

use std::sync::Arc;

use ringsail_tls::allocated_bytes;
use ringsail_tls::context::{ClientContext, ServerContext};
use ringsail_tls::settings::ClientSettings;

use crate::bench::*;

/// Both ends are on this thread, so what BoringSSL holds for a pair is counted here.
#[test]
fn an_idle_pair_of_mutual_sessions_holds_no_buffers() {
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
    let each = (allocated_bytes() - before) / 64;
    println!("{each} bytes of BoringSSL for an idle pair of mutual sessions");
    // One full record alone is 16 KiB.
    assert!(each < 16 * 1024, "{each}");
    drop(pairs);
}
