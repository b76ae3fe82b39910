//! Name servers, search domains and names of this machine, as the system's own resolver finds them.
//!
//! Both files are small and on this machine: they are read where they are needed, because reading them elsewhere costs a
//! thread for each name, and with it more memory than all else here.
//!
//! Source: resolv.conf(5), hosts(5).

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// Port of name servers.
const PORT: u16 = 53;
/// Largest `ndots`. Source: resolv.conf(5).
const NDOTS_MAX: usize = 15;

/// `/etc/resolv.conf`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ResolvConf {
    /// Name servers in order.
    pub servers: Vec<SocketAddr>,
    /// Domains that are appended to short names.
    pub search: Vec<String>,
    /// Dots from which on a name is tried as it stands first. Default 1.
    pub dots: usize,
    /// How long one server is waited for.
    pub timeout: Option<Duration>,
    /// How often all are asked.
    pub attempts: Option<u32>,
}

impl ResolvConf {
    /// The machine's; without the file as if it were empty.
    pub fn read() -> ResolvConf {
        ResolvConf::parse(&fs::read_to_string(RESOLV_CONF).unwrap_or_default())
    }

    fn parse(text: &str) -> ResolvConf {
        let mut conf = ResolvConf { dots: 1, ..ResolvConf::default() };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // A zone of a link-local address is left out: c-ares' servers have none either.
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    conf.servers.extend(address.map(|address| SocketAddr::new(address, PORT)));
                }
                // The last of them counts.
                Some("search" | "domain") => {
                    conf.search = words.map(|domain| domain.trim_end_matches('.').to_owned()).collect();
                    conf.search.retain(|domain| !domain.is_empty());
                }
                Some("options") => {
                    for (name, value) in words.filter_map(|word| word.split_once(':')) {
                        let Ok(value) = value.parse::<u32>() else { continue };
                        match name {
                            "ndots" => conf.dots = (value as usize).min(NDOTS_MAX),
                            "timeout" => conf.timeout = Some(Duration::from_secs(value.clamp(1, 30).into())),
                            "attempts" => conf.attempts = Some(value.clamp(1, 5)),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        conf
    }

    /// The names to try for `host`, in order. `search` false leaves search domains out.
    pub fn candidates(&self, host: &str, search: bool) -> Vec<String> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let domains: &[String] = if search { &self.search } else { &[] };
        let mut names: Vec<String> = domains.iter().map(|domain| format!("{host}.{domain}")).collect();
        let has_dots = host.bytes().filter(|byte| *byte == b'.').count() >= self.dots;
        names.insert(if has_dots { 0 } else { names.len() }, host.to_owned());
        names
    }
}

/// The addresses that `/etc/hosts` has of a name. `localhost` is there whatever the file says (RFC 6761 section 6.3).
pub fn of_hosts_file(host: &str) -> Vec<IpAddr> {
    in_hosts(&fs::read_to_string(HOSTS).unwrap_or_default(), host)
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.trim_end_matches('.');
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        if words.any(|name| name.eq_ignore_ascii_case(host)) && !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() && (host.eq_ignore_ascii_case("localhost") || host.ends_with(".localhost")) {
        found = vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_domains_and_options_are_read() {
        let conf = ResolvConf::parse(
            "# made by hand\nnameserver 10.96.0.10\nnameserver fd00::53 ; second\nnameserver nonsense\n\
             domain gone.test\nsearch ns.svc.cluster.local svc.cluster.local. cluster.local\n\
             options ndots:5 timeout:2 attempts:9 edns0 rotate\n",
        );
        assert_eq!(conf.servers, ["10.96.0.10:53".parse().unwrap(), "[fd00::53]:53".parse().unwrap()]);
        assert_eq!(conf.search, ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        assert_eq!((conf.dots, conf.timeout, conf.attempts), (5, Some(Duration::from_secs(2)), Some(5)));
        assert_eq!(ResolvConf::parse("").dots, 1);
    }

    #[test]
    fn short_names_are_searched_first_and_names_with_dots_last() {
        let conf =
            ResolvConf { search: vec!["ns.svc".into(), "svc".into()], dots: 2, ..ResolvConf::default() };
        assert_eq!(conf.candidates("app", true), ["app.ns.svc", "app.svc", "app"]);
        assert_eq!(conf.candidates("a.b.c", true), ["a.b.c", "a.b.c.ns.svc", "a.b.c.svc"]);
        assert_eq!(conf.candidates("app.", true), ["app"]);
        assert_eq!(conf.candidates("app", false), ["app"]);
    }

    #[test]
    fn names_of_this_machine_are_found() {
        let hosts =
            "127.0.0.1 localhost\n10.0.0.5 app App.test # mine\n10.0.0.6 other app\n::1 ip6-localhost\n";
        assert_eq!(in_hosts(hosts, "APP"), [[10, 0, 0, 5].into(), IpAddr::from([10, 0, 0, 6])]);
        assert_eq!(in_hosts(hosts, "app.test."), [IpAddr::from([10, 0, 0, 5])]);
        assert!(in_hosts(hosts, "mine").is_empty() && in_hosts(hosts, "10.0.0.5").is_empty());
        assert_eq!(in_hosts("", "localhost").len(), 2);
    }
}
