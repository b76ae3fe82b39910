//! The secrets the compiler holds.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use ringsail_xds::envoy::extensions::transport_sockets::tls::v3 as pb;

use super::context::Context;
use super::decode;
use super::fingerprint::Fingerprint;
use super::report::Report;
use super::slots::Slots;
use super::tls;
use crate::diagnostic::Diagnostic;
use crate::strings::{Interner, Str};
use crate::tables::Tables;
use crate::tls::{ClientTls, Secrets, ServerTls};

/// What handshakes are made with.
pub(super) enum Use<'a> {
    /// A filter chain's.
    Server(&'a ServerTls),
    /// A cluster's.
    Client(&'a ClientTls),
}

impl Use<'_> {
    fn names(&self, name: &str) -> bool {
        match self {
            Use::Server(tls) => tls.secrets().any(|one| one.as_str() == name),
            Use::Client(tls) => tls.secrets().any(|one| one.as_str() == name),
        }
    }

    /// What is wrong with it; secrets that have not come are not.
    fn check(&self, secrets: &Secrets) -> Result<(), String> {
        match self {
            Use::Server(tls) if tls.secrets().all(|name| secrets.0.contains_key(name)) => {
                tls::check_server(tls, secrets)
            }
            Use::Client(tls) if tls.secrets().all(|name| secrets.0.contains_key(name)) => {
                tls::check_client(tls, secrets)
            }
            Use::Server(_) | Use::Client(_) => Ok(()),
        }
    }
}

/// Secrets as they were accepted.
#[derive(Default)]
pub(super) struct Held {
    secrets: Secrets,
    fingerprints: HashMap<Str, Fingerprint>,
    /// Removed by the control plane; kept while something uses them.
    removed: HashSet<Str>,
    changed: bool,
}

impl Held {
    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Takes a secret, unless something that uses it could not serve handshakes with it: then the last one stays.
    pub(super) fn put<'u>(
        &mut self,
        strings: &mut Interner,
        mut report: Report,
        name: &str,
        resource: Bytes,
        users: impl Iterator<Item = Use<'u>>,
    ) -> Vec<Diagnostic> {
        let fingerprint = Fingerprint::of(&resource);
        let interned = strings.intern(name);
        if self.fingerprints.get(&interned) == Some(&fingerprint) {
            self.removed.remove(&interned);
            return Vec::new();
        }
        let Some(message) = decode::<pb::Secret>(&mut report, &resource, name, |message| &message.name)
        else {
            return report.into_diagnostics();
        };
        let (mut clusters, mut routes) = (Slots::default(), Slots::default());
        let mut cx = Context::new(report, strings, &mut clusters, &mut routes);
        let secret = tls::secret(&mut cx, &message);
        let mut report = cx.report;
        let Some(secret) = secret.filter(|_| !report.is_refused()) else { return report.into_diagnostics() };
        let previous = self.secrets.0.insert(interned.clone(), secret);
        let problem = users.filter(|user| user.names(name)).find_map(|user| user.check(&self.secrets).err());
        if let Some(problem) = problem {
            match previous {
                Some(previous) => drop(self.secrets.0.insert(interned, previous)),
                None => drop(self.secrets.0.remove(&interned)),
            }
            report.refuse(problem);
            return report.into_diagnostics();
        }
        self.fingerprints.insert(interned.clone(), fingerprint);
        self.removed.remove(&interned);
        self.changed = true;
        report.into_diagnostics()
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some((name, _)) = self.secrets.0.get_key_value(name) {
            self.removed.insert(name.clone());
        }
    }

    /// Forgets removed secrets that nothing uses.
    pub(super) fn settle<'u>(&mut self, users: impl Fn() -> Box<dyn Iterator<Item = Use<'u>> + 'u>) {
        if self.removed.is_empty() {
            return;
        }
        let unused: Vec<Str> =
            self.removed.extract_if(|name| !users().any(|user| user.names(name))).collect();
        for name in unused {
            self.secrets.0.remove(&name);
            self.fingerprints.remove(&name);
            self.changed = true;
        }
    }

    pub(super) fn publish(&mut self, next: &mut Tables) -> bool {
        let changed = std::mem::take(&mut self.changed);
        if changed {
            next.secrets = Arc::new(self.secrets.clone());
        }
        changed
    }
}
