use ringsail_tables::balancing::HashFunction;

use super::*;

fn member(priority: u32, locality: u32, weight: u32, health: Health) -> Member {
    Member { priority, locality, locality_weight: None, weight, health, excluded: false }
}

fn settings(policy: LbPolicy) -> Settings {
    Settings {
        policy,
        spread: Spread::default(),
        locality_weighted: false,
        locality_scaled: false,
        fail_on_panic: false,
        slow_start: None,
        hash_balance_percent: None,
    }
}

const TWO_CHOICES: LbPolicy = LbPolicy::LeastRequest { choices: Some(2), active_request_bias: 1.0 };

/// A moment of which everything is known.
pub(super) struct Fixed<F> {
    random: fastrand::Rng,
    in_flight: F,
    age: fn(u32) -> Duration,
}

impl<F: Fn(u32) -> u32> Moment for Fixed<F> {
    fn random(&mut self) -> u64 {
        self.random.u64(..)
    }

    fn in_flight(&self, member: u32) -> u32 {
        (self.in_flight)(member)
    }

    fn healthy_for(&self, member: u32) -> Duration {
        (self.age)(member)
    }
}

pub(super) fn fixed<F: Fn(u32) -> u32>(in_flight: F) -> Fixed<F> {
    Fixed { random: fastrand::Rng::with_seed(7), in_flight, age: |_| Duration::from_secs(3600) }
}

fn key(member: u32) -> String {
    format!("10.0.0.{member}:80")
}

/// Picks `count` times and returns how often each member was chosen.
fn share(members: &[Member], settings: Settings, count: usize, in_flight: impl Fn(u32) -> u32) -> Vec<usize> {
    share_at(members, settings, count, fixed(in_flight))
}

fn share_at(members: &[Member], settings: Settings, count: usize, mut moment: impl Moment) -> Vec<usize> {
    let mut balancer = Balancer::new(members, settings, key, &mut moment);
    let mut picks = vec![0; members.len()];
    for _ in 0..count {
        if let Some(host) = balancer.pick(members, Wanted::default(), &mut moment).member {
            picks[host as usize] += 1;
        }
    }
    picks
}

#[test]
fn round_robin_takes_hosts_in_turn() {
    let members = [member(0, 0, 1, Health::Healthy); 3];
    assert_eq!(share(&members, settings(LbPolicy::RoundRobin), 300, |_| 0), [100, 100, 100]);
}

#[test]
fn round_robin_follows_weights() {
    let members = [member(0, 0, 1, Health::Healthy), member(0, 0, 3, Health::Healthy)];
    assert_eq!(share(&members, settings(LbPolicy::RoundRobin), 400, |_| 0), [100, 300]);
}

#[test]
fn random_ignores_weights() {
    let members = [member(0, 0, 1, Health::Healthy), member(0, 0, 1000, Health::Healthy)];
    let picks = share(&members, settings(LbPolicy::Random), 1000, |_| 0);
    assert!(picks[0] > 400, "{picks:?}");
}

#[test]
fn least_request_prefers_the_less_busy_of_two() {
    let members = [member(0, 0, 1, Health::Healthy); 2];
    let policy = TWO_CHOICES;
    let picks = share(&members, settings(policy), 1000, |host| if host == 0 { 9 } else { 0 });
    // The busy one is taken only when it was drawn twice: a quarter of the time.
    assert!((180..320).contains(&picks[0]), "{picks:?}");
}

#[test]
fn least_request_with_unequal_weights_divides_them_by_load() {
    let members = [member(0, 0, 1, Health::Healthy), member(0, 0, 2, Health::Healthy)];
    let policy = TWO_CHOICES;
    // The heavier host is busy, so both weigh the same: 2 / (1 + 1) and 1 / (0 + 1).
    let picks = share(&members, settings(policy), 1000, |host| host);
    assert!((490..=510).contains(&picks[0]), "{picks:?}");
}

#[test]
fn unhealthy_hosts_are_not_picked_but_count_for_spill_over() {
    let mut members = vec![member(0, 0, 1, Health::Unhealthy); 3];
    members.push(member(0, 0, 1, Health::Healthy));
    members.push(member(1, 1, 1, Health::Healthy));
    let picks = share(&members, settings(LbPolicy::RoundRobin), 10_000, |_| 0);
    assert_eq!(picks[..3], [0, 0, 0]);
    assert!((3_300..3_700).contains(&picks[3]), "{picks:?}");
}

#[test]
fn below_the_panic_threshold_all_hosts_are_picked() {
    let mut members = vec![member(0, 0, 1, Health::Unhealthy); 3];
    members.push(member(0, 0, 1, Health::Healthy));
    assert_eq!(share(&members, settings(LbPolicy::RoundRobin), 400, |_| 0), [100; 4]);
}

#[test]
fn with_panic_off_and_nobody_healthy_there_is_no_host() {
    let members = [member(0, 0, 1, Health::Unhealthy); 2];
    let spread = Spread { panic_threshold_percent: 0, ..Spread::default() };
    let settings = Settings { spread, ..settings(LbPolicy::RoundRobin) };
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
    let settings = Settings { locality_weighted: true, ..settings(LbPolicy::RoundRobin) };
    assert_eq!(share(&members, settings, 1000, |_| 0), [50, 50, 50, 50, 800]);
}

#[test]
fn a_locality_without_weight_gets_nothing() {
    let mut members = vec![member(0, 0, 1, Health::Healthy), member(0, 1, 1, Health::Healthy)];
    members[0].locality_weight = Some(1);
    let settings = Settings { locality_weighted: true, ..settings(LbPolicy::RoundRobin) };
    assert_eq!(share(&members, settings, 100, |_| 0), [100, 0]);
}

#[test]
fn without_any_locality_weight_hosts_are_taken_together() {
    let members = [member(0, 0, 1, Health::Healthy), member(0, 1, 1, Health::Healthy)];
    let settings = Settings { locality_weighted: true, ..settings(LbPolicy::RoundRobin) };
    assert_eq!(share(&members, settings, 100, |_| 0), [50, 50]);
}

#[test]
fn a_full_scan_always_finds_the_least_busy() {
    let members = [member(0, 0, 1, Health::Healthy); 3];
    let policy = LbPolicy::LeastRequest { choices: None, active_request_bias: 1.0 };
    assert_eq!(share(&members, settings(policy), 100, |host| [4, 0, 2][host as usize]), [0, 100, 0]);
    let picks = share(&members, settings(policy), 3000, |host| [4, 0, 0][host as usize]);
    assert!((1300..1700).contains(&picks[1]) && picks[0] == 0, "ties are drawn: {picks:?}");
}

#[test]
fn without_active_request_bias_least_request_follows_weights_alone() {
    let members = [member(0, 0, 1, Health::Healthy), member(0, 0, 3, Health::Healthy)];
    let policy = LbPolicy::LeastRequest { choices: Some(2), active_request_bias: 0.0 };
    assert_eq!(share(&members, settings(policy), 400, |host| host * 50), [100, 300]);
}

#[test]
fn a_new_host_gets_its_share_of_weight() {
    let members = [member(0, 0, 1, Health::Healthy); 2];
    let slow = SlowStart { window: Duration::from_secs(100), aggression: 1.0, weight_min: 0.1 };
    let settings = Settings { slow_start: Some(slow), ..settings(LbPolicy::RoundRobin) };
    let age = |host| Duration::from_secs(if host == 0 { 25 } else { 1000 });
    let moment = Fixed { age, ..fixed(|_| 0) };
    assert_eq!(share_at(&members, settings, 500, moment), [100, 400]);
}

#[test]
fn in_panic_nobody_is_picked_when_traffic_is_to_fail() {
    let mut members = vec![member(0, 0, 1, Health::Unhealthy); 3];
    members.push(member(0, 0, 1, Health::Healthy));
    let settings = Settings { fail_on_panic: true, ..settings(LbPolicy::RoundRobin) };
    assert_eq!(share(&members, settings, 400, |_| 0), [0; 4]);
    let mut moment = fixed(|_| 0);
    let mut balancer = Balancer::new(&members, settings, key, &mut moment);
    let picked = balancer.pick(&members, Wanted::default(), &mut moment);
    assert_eq!(picked, Picked { member: None, panic: true, routed: None });
}

#[test]
fn an_excluded_host_does_not_cause_panic() {
    let mut members = vec![Member { excluded: true, ..member(0, 0, 1, Health::Unhealthy) }; 3];
    members.push(member(0, 0, 1, Health::Healthy));
    assert_eq!(share(&members, settings(LbPolicy::RoundRobin), 400, |_| 0), [0, 0, 0, 400]);
}

const RING: LbPolicy =
    LbPolicy::RingHash { size_min: 1024, size_max: 8 << 20, function: HashFunction::XxHash };
const MAGLEV: LbPolicy = LbPolicy::Maglev { table_size: 65_537 };

#[test]
fn a_hash_finds_the_same_host_in_every_shard() {
    let members = [member(0, 0, 1, Health::Healthy); 5];
    for policy in [RING, MAGLEV] {
        let picks: Vec<Vec<Option<u32>>> = [1, 2]
            .iter()
            .map(|seed| {
                let mut moment = Fixed { random: fastrand::Rng::with_seed(*seed), ..fixed(|_| 0) };
                let mut balancer = Balancer::new(&members, settings(policy), key, &mut moment);
                let wanted = |n: u64| Wanted { hash: Some(n << 56), ..Wanted::default() };
                (0..200).map(|n| balancer.pick(&members, wanted(n), &mut moment).member).collect()
            })
            .collect();
        assert_eq!(picks[0], picks[1]);
        assert!((0..5).all(|host| policy == MAGLEV || picks[0].contains(&Some(host))), "{picks:?}");
    }
}

#[test]
fn hashing_without_a_hash_spreads_requests() {
    let members = [member(0, 0, 1, Health::Healthy); 2];
    for policy in [RING, MAGLEV] {
        let picks = share(&members, settings(policy), 1000, |_| 0);
        assert!(picks.iter().all(|count| *count > 300), "{picks:?}");
    }
}

#[test]
fn hashing_skips_unhealthy_hosts_and_follows_localities() {
    let mut members = vec![member(0, 0, 1, Health::Healthy); 4];
    members[0].health = Health::Unhealthy;
    members[3].locality = 1;
    members.iter_mut().for_each(|m| m.locality_weight = Some(if m.locality == 0 { 1 } else { 3 }));
    for policy in [RING, MAGLEV] {
        let settings = Settings { locality_weighted: true, ..settings(policy) };
        let picks = share(&members, settings, 4000, |_| 0);
        assert_eq!(picks[0], 0);
        assert!((2800..3200).contains(&picks[3]), "{picks:?}");
    }
}

#[test]
fn another_pick_for_the_same_hash_looks_elsewhere() {
    let members = [member(0, 0, 1, Health::Healthy); 3];
    for policy in [RING, MAGLEV] {
        let mut moment = fixed(|_| 0);
        let mut balancer = Balancer::new(&members, settings(policy), key, &mut moment);
        let mut at = |pick| {
            let wanted = Wanted { hash: Some(99), pick, ..Wanted::default() };
            balancer.pick(&members, wanted, &mut moment).member
        };
        let first = at(0);
        assert!((1..12).any(|pick| at(pick) != first));
    }
}

#[test]
fn avoided_priorities_are_left_out() {
    let members = [member(0, 0, 1, Health::Healthy), member(1, 1, 1, Health::Healthy)];
    let mut moment = fixed(|_| 0);
    let mut balancer = Balancer::new(&members, settings(LbPolicy::RoundRobin), key, &mut moment);
    let wanted = Wanted { avoid_priorities: &[0], ..Wanted::default() };
    assert_eq!(balancer.pick(&members, wanted, &mut moment).member, Some(1));
}
