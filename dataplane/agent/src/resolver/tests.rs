use ringsail_tables::cluster::{DnsFamily, DnsServers};

use super::*;

fn following(respect_ttl: bool, failure_refresh: Option<(Duration, Duration)>) -> Following {
    let servers = DnsServers {
        addresses: Box::default(),
        as_fallback: false,
        tcp: false,
        search: true,
        rotate: false,
        timeout: None,
        attempts: None,
    };
    let resolver = DnsResolver::Servers(Arc::new(servers));
    let family = DnsFamily::Auto;
    let refresh_rate = Duration::from_secs(60);
    let jitter = Duration::ZERO;
    Following {
        query: DnsQuery { host: Str::new("app.test"), family, resolver: resolver.clone() },
        settings: Arc::new(DnsSettings {
            family,
            resolver,
            refresh_rate,
            failure_refresh,
            jitter,
            respect_ttl,
        }),
        counts: Rc::default(),
        answers: mpsc::channel(1).0,
        lookups: Rc::new(Semaphore::new(1)),
    }
}

#[test]
fn records_say_when_to_ask_again_where_that_is_wanted() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (respect_ttl, ttl, pause) in
        [(true, seconds(7), 7), (true, seconds(0), 60), (true, None, 60), (false, seconds(7), 60)]
    {
        assert_eq!(following(respect_ttl, None).pause_after(ttl), Duration::from_secs(pause), "{ttl:?}");
    }
}

#[test]
fn pauses_after_failures_grow_to_their_bound() {
    assert_eq!(following(true, None).pause_after_failure(3), Duration::from_secs(60));
    let seconds = Duration::from_secs;
    let following = following(true, Some((seconds(1), seconds(5))));
    for (failures, bound) in [(1, 1), (2, 2), (3, 4), (4, 5), (40, 5)] {
        let longest = (0..200).map(|_| following.pause_after_failure(failures)).max().unwrap();
        assert!(
            longest <= seconds(bound) && longest > seconds(bound).mul_f64(0.7),
            "{failures}: {longest:?}"
        );
    }
}

#[test]
fn the_order_of_addresses_is_no_change_of_them() {
    let [one, two]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
    assert!(same_addresses(&[one, two], &[two, one]) && !same_addresses(&[one], &[one, two]));
}
