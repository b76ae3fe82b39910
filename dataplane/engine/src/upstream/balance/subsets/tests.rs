use ringsail_tables::subset::Selector;

use super::*;

fn object(pairs: &[(&str, Value)]) -> Metadata {
    let fields = Value::object(pairs.iter().map(|(key, value)| (Str::new(key), value.clone())));
    Metadata::of([(Str::new("envoy.lb"), fields)])
}

fn text(text: &str) -> Value {
    Value::String(Str::new(text))
}

fn list(elements: &[Value]) -> Value {
    Value::List(elements.into())
}

fn keys(names: &[&str]) -> Box<[Str]> {
    names.iter().map(|name| Str::new(name)).collect()
}

fn settings(selectors: &[(&[&str], Option<Fallback>)], fallback: Fallback) -> Settings {
    let selector = |(names, fallback): &(&[&str], Option<Fallback>)| Selector {
        keys: keys(names),
        fallback: fallback.clone(),
    };
    Settings {
        selectors: selectors.iter().map(selector).collect(),
        fallback,
        default_subset: [(Str::new("version"), text("1"))].into(),
        locality_weight_aware: false,
        scale_locality_weight: false,
        panic_mode_any: false,
        list_as_any: false,
        fallback_list: false,
    }
}

/// Hosts 0 and 1 in stage prod with versions 1 and 2, host 2 in stage test with version 2, host 3 without metadata.
fn hosts() -> [Option<Metadata>; 4] {
    let host = |stage, version| Some(object(&[("stage", text(stage)), ("version", text(version))]));
    [host("prod", "1"), host("prod", "2"), host("test", "2"), None]
}

/// The hosts of each part that was asked, in order, when only `alive` ones can be picked.
fn asked(
    settings: Settings,
    hosts: &[Option<Metadata>],
    wanted: &[(&str, Value)],
    alive: &[u32],
) -> (Vec<Vec<u32>>, Served) {
    let mut subsets = Subsets::new(Arc::new(settings), hosts.iter().map(Option::as_ref));
    let mut asked = Vec::new();
    let criteria = Criteria::of(&object(wanted));
    let (_, served) = subsets.pick(criteria.as_ref(), |part| {
        asked.push(part.hosts.clone());
        part.hosts.iter().copied().find(|host| alive.contains(host))
    });
    (asked, served)
}

const ALL: &[u32] = &[0, 1, 2, 3];

#[test]
fn criteria_lead_to_the_hosts_that_have_them() {
    let both = || settings(&[(&["version"], None), (&["stage", "version"], None)], Fallback::Nobody);
    let of = |wanted: &[(&str, Value)]| asked(both(), &hosts(), wanted, ALL);
    assert_eq!(of(&[("version", text("2"))]), (vec![vec![1, 2]], Served::Selected));
    assert_eq!(of(&[("version", text("2")), ("stage", text("prod"))]), (vec![vec![1]], Served::Selected));
    // No selector has this key alone, and a value of another kind is another value.
    assert_eq!(of(&[("stage", text("prod"))]), (vec![], Served::Otherwise));
    assert_eq!(of(&[("version", Value::Number(2.0))]), (vec![], Served::Otherwise));
    assert_eq!(of(&[]), (vec![], Served::Otherwise));
}

#[test]
fn a_subset_whose_hosts_cannot_be_picked_has_no_fallback() {
    let settings = settings(&[(&["version"], None)], Fallback::Any);
    let found = asked(settings, &hosts(), &[("version", text("1"))], &[3]);
    assert_eq!(found, (vec![vec![0]], Served::Selected));
}

#[test]
fn the_cluster_says_who_serves_what_no_subset_takes() {
    let of = |fallback| {
        asked(settings(&[(&["version"], None)], fallback), &hosts(), &[("version", text("9"))], ALL)
    };
    assert_eq!(of(Fallback::Nobody), (vec![], Served::Otherwise));
    assert_eq!(of(Fallback::Any), (vec![vec![0, 1, 2, 3]], Served::Fallback));
    assert_eq!(of(Fallback::Default), (vec![vec![0]], Served::Fallback));
}

#[test]
fn any_host_serves_when_the_fallback_has_none_and_that_is_allowed() {
    for (panic_mode_any, expected) in [
        (false, (vec![vec![0]], Served::Otherwise)),
        (true, (vec![vec![0], vec![0, 1, 2, 3]], Served::Panic)),
    ] {
        let settings = Settings { panic_mode_any, ..settings(&[(&["version"], None)], Fallback::Default) };
        assert_eq!(asked(settings, &hosts(), &[("version", text("9"))], &[3]), expected);
    }
}

#[test]
fn a_selector_says_who_serves_before_its_cluster_does() {
    let of = |own: Fallback| {
        let selectors: &[(&[&str], Option<Fallback>)] =
            &[(&["stage", "version"], Some(own)), (&["version"], Some(Fallback::Any))];
        let wanted = &[("stage", text("none")), ("version", text("2"))];
        asked(settings(selectors, Fallback::Default), &hosts(), wanted, ALL)
    };
    assert_eq!(of(Fallback::Nobody), (vec![], Served::Otherwise));
    assert_eq!(of(Fallback::Any), (vec![vec![0, 1, 2, 3]], Served::Otherwise));
    assert_eq!(of(Fallback::Default), (vec![vec![0]], Served::Otherwise));
    assert_eq!(of(Fallback::Keys(keys(&["version"]))), (vec![vec![1, 2]], Served::Selected));
    // No selector has these keys: the cluster decides.
    assert_eq!(of(Fallback::Keys(keys(&["stage"]))), (vec![vec![0]], Served::Fallback));
}

#[test]
fn a_list_is_one_value_or_each_of_its_elements() {
    let hosts = [Some(object(&[("version", list(&[text("1"), text("2")]))])), hosts()[1].clone()];
    let of = |list_as_any, wanted: Value| {
        let settings = Settings { list_as_any, ..settings(&[(&["version"], None)], Fallback::Nobody) };
        asked(settings, &hosts, &[("version", wanted)], &[0, 1]).0
    };
    assert_eq!(of(true, text("2")), [[0, 1]]);
    assert_eq!(of(false, text("2")), [[1]]);
    assert_eq!(of(false, list(&[text("1"), text("2")])), [[0]]);
}

#[test]
fn a_list_of_fallbacks_is_tried_in_order() {
    let version = |version: &str| Value::object([(Str::new("version"), text(version))]);
    let fallbacks = list(&[version("9"), version("2"), version("1")]);
    let of = |fallback_list, alive: &[u32]| {
        let settings = Settings {
            fallback_list,
            ..settings(&[(&["version"], None), (&["stage", "version"], None)], Fallback::Nobody)
        };
        let wanted = &[("fallback_list", fallbacks.clone()), ("stage", text("prod"))];
        asked(settings, &hosts(), wanted, alive).0
    };
    assert_eq!(of(true, ALL), [[1]]);
    assert_eq!(of(true, &[0]), [[1], [0]]);
    assert!(of(false, ALL).is_empty());
}
