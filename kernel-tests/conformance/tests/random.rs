//! A short run of random routes and requests, the same each time. `cargo xtask conformance --random N` goes on.

use std::env;

use ringsail_conformance::random::{self, Plan};
use ringsail_harness::binaries;

/// Settings 100 and 101, unless `RINGSAIL_RANDOM_SEED` says otherwise.
const SEED: u64 = 100;
const REQUESTS: usize = 480;

#[test]
fn random_routes_and_requests_are_answered_as_envoy_answers_them() {
    let Some((envoy, ringsail)) = binaries::both() else { return };
    let seed = env::var("RINGSAIL_RANDOM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let report =
        random::run(&envoy, &ringsail, Plan { requests: REQUESTS, seed }, |text| println!("{text}")).unwrap();
    println!("{report}");
    assert!(report.requests >= REQUESTS, "{report}");
    assert!(report.differences.is_empty(), "RINGSAIL_RANDOM_SEED={seed}: {report}");
}
