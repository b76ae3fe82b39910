//! Label sets and equality selectors.

use std::collections::BTreeMap;

/// Labels of an object, in key order.
pub type Labels = BTreeMap<String, String>;

/// Whether every pair of `selector` is among `labels`. An empty selector selects everything.
pub fn selects<'a>(selector: impl IntoIterator<Item = (&'a String, &'a String)>, labels: &Labels) -> bool {
    selector.into_iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selector_needs_every_pair() {
        let labels: Labels = [("app".into(), "a".into()), ("version".into(), "v1".into())].into();
        let selector = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
        };
        assert!(selects(&selector(&[]), &labels));
        assert!(selects(&selector(&[("app", "a")]), &labels));
        assert!(!selects(&selector(&[("app", "a"), ("version", "v2")]), &labels));
        assert!(!selects(&selector(&[("tier", "x")]), &labels));
    }
}
