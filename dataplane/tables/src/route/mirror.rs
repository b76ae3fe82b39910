//! Copies of requests for other clusters, whose answers are thrown away.

use crate::fraction::Fraction;
use crate::header_ops::HeaderMutation;
use crate::route::ClusterChoice;
use crate::strings::Str;

/// Source: `envoy.config.route.v3.RouteAction.RequestMirrorPolicy`.
#[derive(Debug)]
pub struct Mirror {
    /// Where the copy goes: [`ClusterChoice::Named`] or [`ClusterChoice::Header`]. No such cluster, no copy.
    pub cluster: ClusterChoice,
    /// Which share of requests is copied.
    pub share: Fraction,
    /// The authority of the copy.
    pub host: MirrorHost,
    /// Changes to the copy's headers.
    pub mutations: Box<[HeaderMutation]>,
}

/// The authority of a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MirrorHost {
    /// The request's, with `-shadow` after its host, before the port.
    Shadow,
    /// The request's.
    Same,
    /// This one.
    Literal(Str),
}

impl MirrorHost {
    /// Appends the copy's authority to `out`; `false` and nothing appended when it stays.
    pub fn apply(&self, authority: &str, out: &mut String) -> bool {
        match self {
            MirrorHost::Same => false,
            MirrorHost::Literal(host) => {
                out.push_str(host);
                true
            }
            MirrorHost::Shadow => {
                let (host, port) = authority.split_at(crate::request::without_port(authority).len());
                out.push_str(host);
                out.push_str("-shadow");
                out.push_str(port);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_goes_before_the_port() {
        for (authority, expected) in [
            ("a.example", "a.example-shadow"),
            ("a.example:81", "a.example-shadow:81"),
            ("[::1]:80", "[::1]-shadow:80"),
        ] {
            let mut out = String::new();
            assert!(MirrorHost::Shadow.apply(authority, &mut out));
            assert_eq!(out, expected);
        }
    }
}
