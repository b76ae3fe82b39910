//! Every scenario that ringsail supports, through both proxies. `cargo xtask conformance` prints the table.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ringsail_conformance::differences::{self, DIFFERENCES, PENDING};
use ringsail_conformance::suite::{Selection, Verdict};
use ringsail_conformance::suites;
use ringsail_harness::binaries;

#[test]
fn every_scenario_agrees_with_envoy_or_is_listed_as_different() {
    let Some((envoy, ringsail)) = binaries::both() else { return };
    let mut failures = Vec::new();
    for area in suites::all() {
        match area.run(&envoy, &ringsail, Selection::default()) {
            Ok(Some(outcome)) => {
                println!(
                    "{}: agree {} of {}, different on purpose {}",
                    outcome.suite,
                    outcome.count(&Verdict::Agrees),
                    outcome.verdicts.len(),
                    outcome.count(&Verdict::Differs)
                );
                failures.extend(outcome.failures());
            }
            Ok(None) => {}
            Err(error) => failures.push(format!("{}: {error:#}", area.name())),
        }
    }
    assert!(failures.is_empty(), "{} disagreements:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_scenario_has_a_name_of_its_own_and_every_difference_a_scenario() {
    let ids: Vec<&str> = suites::all().iter().flat_map(|area| area.scenarios()).map(|(id, _)| id).collect();
    let distinct: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), distinct.len(), "two scenarios share an id");
    for difference in DIFFERENCES {
        assert!(distinct.contains(difference.case), "{} is no scenario", difference.case);
    }
    for pending in PENDING {
        assert!(distinct.iter().any(|id| pending.names(id)), "{} is no scenario", pending.case);
    }
}

#[test]
fn the_page_of_differences_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/docs/differences.md");
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == differences::page(),
        "{} is stale: `cargo xtask conformance --write-differences`",
        path.display()
    );
}
