//! `istio-simulation`: configuration in, traffic decision out.
//!
//! Each scenario is taken through the whole of our control plane (decode, model, translate) and our proxy's tables,
//! then each call is traced through listener, filter chain, virtual host, route and cluster, and compared with what
//! Istio's own simulation found. Scenarios that list virtual hosts instead are compared host by host.
//!
//! Objects that are refused because they ask for TLS or a policy that is not enforced yet leave their scenario without
//! a verdict of ours: its calls disagree, and are not counted as unsafe, because nothing was accepted. Objects that are
//! refused because they are malformed are simply not there, as after a refused `kubectl apply`.

mod scenario;
mod trace;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use ringsail_model::{Change, MeshBuilder, MeshSettings, Proxy};
use ringsail_translate::{ProxyResources, translate};
use serde_json::Value;

use crate::report::Report;
use scenario::Scenario;
use trace::Outcome;

/// Runs every scenario of a folder.
pub fn run(dir: &Path) -> Result<Report> {
    let path = dir.join("scenarios.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let scenarios: Vec<Value> =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    let mut report = Report::new("istio-simulation");
    for value in &scenarios {
        run_scenario(&Scenario::read(value)?, &mut report)?;
    }
    Ok(report)
}

fn run_scenario(scenario: &Scenario<'_>, report: &mut Report) -> Result<()> {
    let (resources, refused) = resources(scenario)?;
    for (name, call, expected) in scenario.calls() {
        let id = format!("{}: {name}", scenario.id);
        let outcome = match &refused {
            Some(reason) => Outcome { error: Some(format!("not enforced: {reason}")), ..Outcome::default() },
            None => trace::call(&resources, &call, scenario.is_router())?,
        };
        if expected.agrees(&outcome) {
            report.agreed();
        } else if expected.error.is_some() && outcome.error.is_none() {
            report.unsafe_accept(id, outcome.to_string(), expected.to_string());
        } else {
            report.disagreed(id, outcome.to_string(), expected.to_string());
        }
    }
    if let Some((routes, hosts)) = scenario.virtual_hosts() {
        let found = trace::clusters_by_domain(&resources, routes);
        for (host, clusters) in hosts {
            let id = format!("{}: route {routes}, host {host}", scenario.id);
            let ours = found
                .get(host)
                .map(|clusters| clusters.iter().map(|c| scenario::bare(c)).collect::<Vec<_>>());
            let wanted =
                clusters.map(|clusters| clusters.iter().map(|c| scenario::bare(c)).collect::<Vec<_>>());
            if ours == wanted {
                report.agreed();
            } else {
                report.disagreed(id, format!("{ours:?}"), format!("{wanted:?}"));
            }
        }
    }
    Ok(())
}

/// What the scenario's proxy is sent, and why an object was refused, if one was.
fn resources(scenario: &Scenario<'_>) -> Result<(ProxyResources, Option<String>)> {
    let settings = match scenario.mesh_config {
        Some(config) => {
            let config = ringsail_api::decode_mesh_config(&config.to_string(), "mesh_config")
                .map_err(|problems| anyhow::anyhow!("mesh_config of {}: {}", scenario.id, problems[0]))?;
            MeshSettings::new(config, CLUSTER_DOMAIN)
        }
        None => MeshSettings::new(Default::default(), CLUSTER_DOMAIN),
    };
    let mut builder = MeshBuilder::new(settings);
    let mut refused = None;
    for (text, name) in [(scenario.config, "config"), (scenario.kube_config, "kube_config")] {
        let decoded = ringsail_api::decode(text, name);
        let unenforced =
            decoded.diagnostics.iter().find(|d| d.code == Some(ringsail_api::validate::UNENFORCED));
        refused = unenforced.map(ToString::to_string).or(refused);
        builder.apply(decoded.objects.into_iter().map(|object| Change::Put(Arc::new(object))));
    }
    let proxy = Proxy::from_node(&scenario.node())?;
    Ok((translate(builder.mesh(), &proxy), refused))
}

/// DNS suffix of the simulated cluster.
const CLUSTER_DOMAIN: &str = "cluster.local";
