//! Parts of a cluster's hosts, chosen by the metadata a route wants.
//!
//! Compat: which part serves a request, and who serves when none does, is Envoy's (`SubsetLoadBalancer`): criteria
//! have to name exactly the keys of a selector.

use std::hash::Hasher as _;
use std::sync::Arc;

use hashbrown::HashMap;
use ringsail_tables::Str;
use ringsail_tables::metadata::{Metadata, Value};
use ringsail_tables::subset::{Criteria, FALLBACK_LIST, Fallback, Subsets as Settings, values_of};
use twox_hash::XxHash64;

use super::Balancer;

/// The parts of one set of endpoints.
pub struct Subsets {
    settings: Arc<Settings>,
    /// For each selector: its parts, by what their values hash to.
    by_selector: Vec<HashMap<u64, Vec<Part>>>,
    all: Part,
    default: Part,
}

/// Some of the hosts.
#[derive(Default)]
pub struct Part {
    values: Vec<Value>,
    hosts: Vec<u32>,
    balancer: Option<Box<Balancer>>,
}

/// Who served a pick, for the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// The subset that was asked for.
    Selected,
    /// The cluster's fallback.
    Fallback,
    /// Any host, because the fallback had none.
    Panic,
    /// A selector's own fallback, or nobody.
    Otherwise,
}

/// Criteria with less or more than the route gave.
type Changed<'a> = Vec<(&'a Str, &'a Value)>;

impl Part {
    /// The balancer among its hosts, made when it is first asked for.
    pub fn balancer(&mut self, make: impl FnOnce(&[u32]) -> Balancer) -> &mut Balancer {
        let Part { hosts, balancer, .. } = self;
        balancer.get_or_insert_with(|| Box::new(make(hosts)))
    }
}

impl Subsets {
    /// Divides hosts by their metadata, given in the order of their indexes.
    pub fn new<'m>(
        settings: Arc<Settings>,
        metadata: impl Iterator<Item = Option<&'m Metadata>> + Clone,
    ) -> Subsets {
        let mut by_selector: Vec<HashMap<u64, Vec<Part>>> = Vec::new();
        for selector in &settings.selectors {
            let mut parts: HashMap<u64, Vec<Part>> = HashMap::new();
            for (host, metadata) in (0..).zip(metadata.clone()) {
                for values in combinations(metadata, &selector.keys, settings.list_as_any) {
                    let same_hash = parts.entry(hash(values.iter().copied())).or_default();
                    match same_hash.iter_mut().find(|part| part.values.iter().eq(values.iter().copied())) {
                        // A list may name an element twice.
                        Some(part) if part.hosts.last() == Some(&host) => {}
                        Some(part) => part.hosts.push(host),
                        None => same_hash.push(Part {
                            values: values.into_iter().cloned().collect(),
                            hosts: vec![host],
                            balancer: None,
                        }),
                    }
                }
            }
            by_selector.push(parts);
        }
        let is_default = |metadata: Option<&Metadata>| {
            let has = |(key, wanted): &(Str, Value)| {
                values_of(metadata, key, settings.list_as_any).contains(wanted)
            };
            settings.default_subset.iter().all(has)
        };
        let part = |hosts: Vec<u32>| Part { hosts, ..Part::default() };
        let all = part((0..).zip(metadata.clone()).map(|(host, _)| host).collect());
        let default = (0..).zip(metadata).filter(|(_, metadata)| is_default(*metadata));
        let default = part(default.map(|(host, _)| host).collect());
        Subsets { by_selector, all, default, settings }
    }

    /// Picks with `choose` among the hosts that the criteria lead to.
    pub fn pick(
        &mut self,
        criteria: Option<&Criteria>,
        mut choose: impl FnMut(&mut Part) -> Option<u32>,
    ) -> (Option<u32>, Served) {
        let Some(criteria) = criteria else { return self.pick_once(None, &mut choose) };
        let list = criteria.iter().find_map(|(key, value)| match value {
            Value::List(list) if key.as_str() == FALLBACK_LIST && self.settings.fallback_list => Some(list),
            _ => None,
        });
        let Some(list) = list else { return self.pick_once(Some(criteria.iter().collect()), &mut choose) };
        let rest: Changed<'_> = criteria.iter().filter(|(key, _)| key.as_str() != FALLBACK_LIST).collect();
        if list.is_empty() {
            return self.pick_once(Some(rest), &mut choose);
        }
        let mut last = (None, Served::Otherwise);
        for more in list {
            let Value::Struct(more) = more else { continue };
            let kept = rest.iter().copied().filter(|(key, _)| more.iter().all(|(other, _)| other != *key));
            let mut all: Changed<'_> = kept.chain(more.iter().map(|(key, value)| (key, value))).collect();
            all.sort_by(|a, b| a.0.cmp(b.0));
            last = self.pick_once(Some(all), &mut choose);
            if last.0.is_some() {
                break;
            }
        }
        last
    }

    fn pick_once(
        &mut self,
        criteria: Option<Changed<'_>>,
        choose: &mut impl FnMut(&mut Part) -> Option<u32>,
    ) -> (Option<u32>, Served) {
        if let Some(mut criteria) = criteria {
            // A selector's fallback has fewer keys each time, so that this ends.
            while let Some(index) = self.selector(&criteria) {
                if let Some(part) = part_of(&mut self.by_selector[index], &criteria) {
                    return (choose(part), Served::Selected);
                }
                match &self.settings.selectors[index].fallback {
                    None => break,
                    Some(Fallback::Nobody) => return (None, Served::Otherwise),
                    Some(Fallback::Any) => return (choose(&mut self.all), Served::Otherwise),
                    Some(Fallback::Default) => return (choose(&mut self.default), Served::Otherwise),
                    Some(Fallback::Keys(keys)) => criteria.retain(|(key, _)| keys.contains(key)),
                }
            }
        }
        let picked = match self.settings.fallback {
            Fallback::Any => choose(&mut self.all),
            Fallback::Default => choose(&mut self.default),
            Fallback::Nobody | Fallback::Keys(_) => return (None, Served::Otherwise),
        };
        match picked {
            Some(host) => (Some(host), Served::Fallback),
            None if self.settings.panic_mode_any => match choose(&mut self.all) {
                Some(host) => (Some(host), Served::Panic),
                None => (None, Served::Otherwise),
            },
            None => (None, Served::Otherwise),
        }
    }

    /// The selector that has exactly these keys.
    fn selector(&self, criteria: &Changed<'_>) -> Option<usize> {
        let keys = || criteria.iter().map(|(key, _)| *key);
        self.settings.selectors.iter().position(|selector| selector.keys.iter().eq(keys()))
    }
}

fn part_of<'p>(parts: &'p mut HashMap<u64, Vec<Part>>, criteria: &Changed<'_>) -> Option<&'p mut Part> {
    let values = || criteria.iter().map(|(_, value)| *value);
    parts.get_mut(&hash(values()))?.iter_mut().find(|part| part.values.iter().eq(values()))
}

/// The values a host has for `keys`: one list, or, where lists have their elements, one for each choice of elements.
fn combinations<'m>(metadata: Option<&'m Metadata>, keys: &[Str], list_as_any: bool) -> Vec<Vec<&'m Value>> {
    let mut all: Vec<Vec<&Value>> = vec![Vec::new()];
    for key in keys {
        let values = values_of(metadata, key, list_as_any);
        let extended = |known: Vec<&'m Value>| {
            values.iter().map(move |value| known.iter().copied().chain([value]).collect())
        };
        all = all.into_iter().flat_map(extended).collect();
    }
    all
}

/// Equal lists have equal hashes.
fn hash<'v>(values: impl Iterator<Item = &'v Value>) -> u64 {
    let mut hasher = XxHash64::default();
    values.for_each(|value| feed(value, &mut hasher));
    hasher.finish()
}

fn feed(value: &Value, hasher: &mut XxHash64) {
    match value {
        Value::Null => hasher.write_u8(0),
        Value::Bool(flag) => hasher.write_u8(1 + u8::from(*flag)),
        // Both zeros are equal.
        Value::Number(number) => hasher.write_u64((number + 0.0).to_bits()),
        Value::String(text) => hasher.write(text.as_bytes()),
        Value::List(list) => list.iter().for_each(|element| feed(element, hasher)),
        Value::Struct(fields) => fields.iter().for_each(|(key, value)| {
            hasher.write(key.as_bytes());
            feed(value, hasher);
        }),
    }
}

#[cfg(test)]
mod tests;
