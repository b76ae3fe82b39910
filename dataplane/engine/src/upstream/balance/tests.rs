use super::*;

fn member(priority: u32, locality: u32, weight: u32, health: Health) -> Member {
    Member { priority, locality, locality_weight: None, weight, health }
}

fn settings(policy: Policy) -> Settings {
    Settings { policy, spread: Spread::default(), locality_weighted: false }
}

/// Picks `count` times and returns how often each member was chosen.
fn share(members: &[Member], settings: Settings, count: usize, in_flight: impl Fn(u32) -> u32) -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut balancer = Balancer::new(members, settings, || random.u64(..));
    let mut picks = vec![0; members.len()];
    for _ in 0..count {
        if let Some(host) = balancer.pick(members, || random.u64(..), &in_flight) {
            picks[host as usize] += 1;
        }
    }
    picks
}

#[test]
fn round_robin_takes_hosts_in_turn() {
    let members = [member(0, 0, 1, Health::Healthy); 3];
    assert_eq!(share(&members, settings(Policy::RoundRobin), 300, |_| 0), [100, 100, 100]);
}

#[test]
fn round_robin_follows_weights() {
    let members = [member(0, 0, 1, Health::Healthy), member(0, 0, 3, Health::Healthy)];
    assert_eq!(share(&members, settings(Policy::RoundRobin), 400, |_| 0), [100, 300]);
}

#[test]
fn random_ignores_weights() {
    let members = [member(0, 0, 1, Health::Healthy), member(0, 0, 1000, Health::Healthy)];
    let picks = share(&members, settings(Policy::Random), 1000, |_| 0);
    assert!(picks[0] > 400, "{picks:?}");
}

#[test]
fn least_request_prefers_the_less_busy_of_two() {
    let members = [member(0, 0, 1, Health::Healthy); 2];
    let policy = Policy::LeastRequest { choices: 2 };
    let picks = share(&members, settings(policy), 1000, |host| if host == 0 { 9 } else { 0 });
    // The busy one is taken only when it was drawn twice: a quarter of the time.
    assert!((180..320).contains(&picks[0]), "{picks:?}");
}

#[test]
fn least_request_with_unequal_weights_divides_them_by_load() {
    let members = [member(0, 0, 1, Health::Healthy), member(0, 0, 2, Health::Healthy)];
    let policy = Policy::LeastRequest { choices: 2 };
    // The heavier host is busy, so both weigh the same: 2 / (1 + 1) and 1 / (0 + 1).
    let picks = share(&members, settings(policy), 1000, |host| host);
    assert!((490..=510).contains(&picks[0]), "{picks:?}");
}

#[test]
fn unhealthy_hosts_are_not_picked_but_count_for_spill_over() {
    let mut members = vec![member(0, 0, 1, Health::Unhealthy); 3];
    members.push(member(0, 0, 1, Health::Healthy));
    members.push(member(1, 1, 1, Health::Healthy));
    let picks = share(&members, settings(Policy::RoundRobin), 10_000, |_| 0);
    assert_eq!(picks[..3], [0, 0, 0]);
    assert!((3_300..3_700).contains(&picks[3]), "{picks:?}");
}

#[test]
fn below_the_panic_threshold_all_hosts_are_picked() {
    let mut members = vec![member(0, 0, 1, Health::Unhealthy); 3];
    members.push(member(0, 0, 1, Health::Healthy));
    assert_eq!(share(&members, settings(Policy::RoundRobin), 400, |_| 0), [100; 4]);
}

#[test]
fn with_panic_off_and_nobody_healthy_there_is_no_host() {
    let members = [member(0, 0, 1, Health::Unhealthy); 2];
    let spread = Spread { panic_threshold_percent: 0, ..Spread::default() };
    let settings = Settings { spread, ..settings(Policy::RoundRobin) };
    assert_eq!(share(&members, settings, 100, |_| 0), [0, 0]);
    assert_eq!(share(&[], settings, 100, |_| 0), [0; 0]);
}

#[test]
fn localities_take_their_weight_whatever_their_size() {
    let mut members = vec![member(0, 0, 1, Health::Healthy); 4];
    members.push(member(0, 1, 1, Health::Healthy));
    for m in &mut members {
        m.locality_weight = Some(if m.locality == 0 { 20 } else { 80 });
    }
    let settings = Settings { locality_weighted: true, ..settings(Policy::RoundRobin) };
    assert_eq!(share(&members, settings, 1000, |_| 0), [50, 50, 50, 50, 800]);
}

#[test]
fn a_locality_without_weight_gets_nothing() {
    let mut members = vec![member(0, 0, 1, Health::Healthy), member(0, 1, 1, Health::Healthy)];
    members[0].locality_weight = Some(1);
    let settings = Settings { locality_weighted: true, ..settings(Policy::RoundRobin) };
    assert_eq!(share(&members, settings, 100, |_| 0), [100, 0]);
}

#[test]
fn without_any_locality_weight_hosts_are_taken_together() {
    let members = [member(0, 0, 1, Health::Healthy), member(0, 1, 1, Health::Healthy)];
    let settings = Settings { locality_weighted: true, ..settings(Policy::RoundRobin) };
    assert_eq!(share(&members, settings, 100, |_| 0), [50, 50]);
}
