//! A bounded run of every target. `RINGSAIL_FUZZ_SEED=N` repeats a run, `RINGSAIL_FUZZ_FACTOR=N` makes it N times as long.

use std::env;
use std::panic::catch_unwind;
use std::time::{SystemTime, UNIX_EPOCH};

use ringsail_fuzz::mutate::Mutator;
use ringsail_fuzz::targets::TARGETS;

#[test]
fn no_target_panics_on_what_is_almost_right() {
    let seed = number("RINGSAIL_FUZZ_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
    });
    let factor = number("RINGSAIL_FUZZ_FACTOR").unwrap_or(1);
    println!("RINGSAIL_FUZZ_SEED={seed}");
    let mut failures = Vec::new();
    for target in TARGETS {
        let mut mutator = Mutator::new(seed, target.seeds, target.words);
        for round in 0..u64::from(target.rounds) * factor {
            let input = mutator.next_input();
            if catch_unwind(|| (target.run)(&input)).is_err() {
                failures.push(format!("{} in round {round}: {}", target.name, input.escape_ascii()));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "RINGSAIL_FUZZ_SEED={seed}\n{}", failures.join("\n"));
}

#[test]
fn every_seed_and_the_empty_input_pass() {
    for target in TARGETS {
        (target.run)(b"");
        for seed in target.seeds {
            for end in (0..=seed.len()).step_by(3).chain([seed.len()]) {
                (target.run)(&seed[..end]);
            }
        }
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}
