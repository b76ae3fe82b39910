//! What a run found: figures of every peer in every round, and latency curves.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Options;
use crate::peer::Peer;

/// The figures of one run.
#[derive(Debug)]
pub struct Results {
    /// The machine they come from.
    pub machine: String,
    /// Rounds and seconds, as text.
    pub method: String,
    /// The peers' names and how they name their version.
    pub versions: Vec<(String, String)>,
    /// Figures in the order they first came.
    pub figures: Vec<Figure>,
    /// `(load, peer)` to `[quantile, microseconds]` points; the last round's.
    pub curves: BTreeMap<(String, String), Vec<(f64, f64)>>,
}

/// One quantity, measured for several peers. Less is better for all of them.
#[derive(Debug)]
pub struct Figure {
    /// The case it belongs to.
    pub case: String,
    /// What it is.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Peer to value of each round, peers in the order they first came.
    pub values: Vec<(String, Vec<f64>)>,
}

impl Results {
    /// Nothing found yet.
    pub fn new(machine: String, options: &Options, peers: &[Peer]) -> Results {
        let method = format!(
            "medians of {} rounds, {} s of load each, peers interleaved",
            options.rounds, options.seconds
        );
        let named = peers.iter().filter(|peer| !peer.is_direct());
        let versions = named.map(|peer| (peer.name.clone(), peer.version.clone())).collect();
        Results { machine, method, versions, figures: Vec::new(), curves: BTreeMap::new() }
    }

    /// Adds one round's value.
    pub fn add(&mut self, case: &str, name: &str, unit: &str, peer: &str, value: f64) {
        let known = self.figures.iter().position(|figure| figure.case == case && figure.name == name);
        let index = known.unwrap_or_else(|| {
            let (case, name, unit) = (case.to_string(), name.to_string(), unit.to_string());
            self.figures.push(Figure { case, name, unit, values: Vec::new() });
            self.figures.len() - 1
        });
        let values = &mut self.figures[index].values;
        match values.iter_mut().find(|(name, _)| name == peer) {
            Some((_, rounds)) => rounds.push(value),
            None => values.push((peer.to_string(), vec![value])),
        }
    }

    /// Keeps the load generator's latency curve; a later round replaces it.
    pub fn add_curve(&mut self, load: &str, peer: &str, points: &Value) {
        let points = points.as_array().into_iter().flatten();
        let points = points.filter_map(|point| Some((point[0].as_f64()?, point[1].as_f64()?))).collect();
        self.curves.insert((load.to_string(), peer.to_string()), points);
    }

    /// The peers of all figures, in the order they first came.
    pub fn peers(&self) -> Vec<&str> {
        let mut peers = Vec::new();
        for (peer, _) in self.figures.iter().flat_map(|figure| &figure.values) {
            if !peers.contains(&peer.as_str()) {
                peers.push(peer.as_str());
            }
        }
        peers
    }

    /// Everything as JSON.
    pub fn to_json(&self) -> Value {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| {
                let peers: serde_json::Map<String, Value> = figure
                    .values
                    .iter()
                    .map(|(peer, rounds)| (peer.clone(), json!({"median": median(rounds), "rounds": rounds})))
                    .collect();
                json!({"case": figure.case, "figure": figure.name, "unit": figure.unit, "peers": peers})
            })
            .collect();
        let versions: serde_json::Map<String, Value> =
            self.versions.iter().map(|(peer, version)| (peer.clone(), json!(version))).collect();
        json!({"machine": self.machine, "method": self.method, "versions": versions, "figures": figures})
    }
}

impl Figure {
    /// The median over the rounds of `peer`.
    pub fn median(&self, peer: &str) -> Option<f64> {
        let (_, rounds) = self.values.iter().find(|(name, _)| name == peer)?;
        Some(median(rounds))
    }

    /// The first ringsail peer's median divided by `peer`'s.
    pub fn ratio_to(&self, peer: &str) -> Option<f64> {
        let (ours, _) = self.values.iter().find(|(name, _)| name.starts_with("ringsail"))?;
        Some(self.median(ours)? / self.median(peer).filter(|value| *value != 0.0)?)
    }
}

/// The middle value; the mean of the two middle ones of an even count; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.len() % 2) {
        (Some(upper), 0) => (sorted[sorted.len() / 2 - 1] + upper) / 2.0,
        (Some(middle), _) => *middle,
        (None, _) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_one_noisy_round() {
        assert_eq!(median(&[9.0, 10.0, 500.0]), 10.0);
        assert_eq!(median(&[1.0, 2.0, 3.0, 4.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn a_ratio_needs_both_peers() {
        let values = vec![("ringsail".to_string(), vec![10.0]), ("envoy".to_string(), vec![40.0])];
        let figure = Figure { case: "http".into(), name: "CPU".into(), unit: "µs".into(), values };
        assert_eq!(figure.ratio_to("envoy"), Some(0.25));
        assert_eq!(figure.ratio_to("nginx"), None);
    }
}
