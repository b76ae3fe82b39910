//! Which requests are logged, and by whom.

use std::collections::{BTreeMap, BTreeSet};

use ringsail_api::telemetry::{AccessLogging, WorkloadMode};

use super::{Role, TelemetryScope, names};

/// What a provider of access logs is to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRule {
    /// Nothing.
    pub disabled: bool,
    /// Only what this expression (CEL) holds for.
    pub filter: Option<String>,
}

impl TelemetryScope<'_> {
    /// What each provider is to write on one side of requests, in order of their names. `None` when neither a Telemetry
    /// object nor `defaultProviders` says anything of logs, so that MeshConfig's file log applies.
    ///
    /// Compat: an entry without providers inherits those of the entry before it, whatever side that one is about; a
    /// filter belongs to the last entry that names the provider.
    pub fn logging(&self, role: Role) -> Option<BTreeMap<String, LogRule>> {
        let levels: Vec<&[AccessLogging]> = self
            .objects
            .iter()
            .map(|object| &object.spec.access_logging[..])
            .filter(|level| !level.is_empty())
            .collect();
        let defaults = self.default_logging();
        if levels.is_empty() {
            let rules = defaults.iter().map(|name| ((*name).to_owned(), LogRule::default()));
            return (!defaults.is_empty()).then(|| rules.collect());
        }
        let mut in_scope: BTreeSet<&str> = defaults.iter().copied().collect();
        let mut filters: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        for level in &levels {
            let mut named: BTreeSet<&str> = BTreeSet::new();
            for logging in level.iter().filter(|logging| is_about(logging, role)) {
                let filter = logging.filter.as_ref().map(|filter| filter.expression.as_str());
                named.extend(names(&logging.providers));
                filters.extend(names(&logging.providers).into_iter().map(|name| (name, filter)));
            }
            // A level that names providers replaces those of the levels above it.
            if !named.is_empty() {
                in_scope = named;
            }
        }
        let mut rules = BTreeMap::new();
        let mut inherited = defaults;
        for logging in levels.into_iter().flatten() {
            let own = names(&logging.providers);
            if !own.is_empty() {
                inherited = own;
            }
            if !is_about(logging, role) {
                continue;
            }
            for provider in inherited.iter().filter(|name| in_scope.contains(*name)) {
                let disabled = logging.disabled == Some(true);
                let filter = filters.get(provider).copied().flatten().filter(|_| !disabled);
                let rule = LogRule { disabled, filter: filter.map(str::to_owned) };
                rules.insert((*provider).to_owned(), rule);
            }
        }
        Some(rules)
    }
}

fn is_about(logging: &AccessLogging, role: Role) -> bool {
    role.is_meant_by(logging.r#match.as_ref().map_or(WorkloadMode::ClientAndServer, |found| found.mode()))
}
