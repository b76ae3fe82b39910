//! Route tables and requests of Envoy's route table check tool.
//!
//! A case is a route configuration (`NAME.yaml`) and one test of `NAME.golden.proto.json`: a request, and what must
//! come of it (cluster, virtual host, rewritten path and host, redirect, headers). Inputs of Envoy's fuzzers below
//! `robustness/` have no verdict; they must not make the compiler or a lookup panic.
//!
//! The tool is no proxy in two points, which are imitated here: its runtime takes a fraction only where the test names
//! the key, and then by `random_value <= numerator`; and a fixed response has the unchanged address as its redirect.

mod request;
mod robustness;
mod text_proto;
mod yaml;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use prost::Message;
use ringsail_reference::header_matches;
use ringsail_tables::route::{Action, Found, RouteConfig, RouteMatch};
use ringsail_tables::{Change, Compiler, Diagnostic, ResourceType, Severity, route};
use ringsail_xds::envoy::config::route::v3::{HeaderMatcher, RouteConfiguration};
use ringsail_xds::json::Schema;
use serde_json::Value;

use crate::report::Report;
use request::Request;

/// Runs every pair of files in `dir`, and the inputs of `dir/robustness`.
pub fn run(dir: &Path) -> Result<Report> {
    let mut report = Report::new("envoy-routes");
    let schema = Schema::shared();
    let mut names: Vec<_> = std::fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    names.sort_by_key(std::fs::DirEntry::file_name);
    for entry in names {
        let file = entry.path();
        let (Some(stem), Some("yaml")) = (file.file_stem(), file.extension().and_then(|e| e.to_str())) else {
            continue;
        };
        let stem = stem.to_string_lossy();
        let config = yaml::read(&text(&file)?).with_context(|| format!("reading {}", file.display()))?;
        let tests_file = dir.join(format!("{stem}.golden.proto.json"));
        let tests =
            yaml::read(&text(&tests_file)?).with_context(|| format!("reading {}", tests_file.display()))?;
        let tests = tests["tests"].as_array().with_context(|| format!("{stem}: no list of tests"))?;
        for test in tests {
            case(&mut report, &schema, &stem, &config, test)?;
        }
    }
    let robustness = dir.join("robustness");
    if robustness.is_dir() {
        robustness::run(&robustness, &schema, &mut report)?;
    }
    Ok(report)
}

fn text(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

fn case(report: &mut Report, schema: &Schema, stem: &str, config: &Value, test: &Value) -> Result<()> {
    let id = format!("{stem}/{}", test["test_name"].as_str().unwrap_or("?"));
    let mut config: RouteConfiguration =
        schema.from_json(config).map_err(|error| anyhow::anyhow!("{stem}: {error}"))?;
    let input = &test["input"];
    let mut request = Request::from_input(input)?;
    decide_fractions(&mut config, input["runtime"].as_str(), request.head().random);
    let compiled = match compile(&config) {
        Ok(compiled) => compiled,
        Err(found) => {
            report.disagreed(id, format!("refused: {found}"), "accepted");
            return Ok(());
        }
    };
    let mut response = Request::default();
    let outcome = Outcome::of(&compiled, &mut request, &mut response);
    let (mut ours, mut expected) = (Vec::new(), Vec::new());
    let wants = test["validate"].as_object().with_context(|| format!("{id}: nothing to validate"))?;
    for (key, want) in wants {
        match key.as_str() {
            "request_header_matches" => {
                headers_match(schema, key, want, &request, &mut ours, &mut expected)?;
            }
            "response_header_matches" => {
                headers_match(schema, key, want, &response, &mut ours, &mut expected)?;
            }
            _ => {
                let got = outcome.value(key).with_context(|| format!("{id}: unknown check `{key}`"))?;
                let want = want.as_str().unwrap_or_default();
                if got != want {
                    ours.push(format!("{key}={got:?}"));
                    expected.push(format!("{key}={want:?}"));
                }
            }
        }
    }
    if ours.is_empty() {
        report.agreed();
    } else {
        report.disagreed(id, ours.join(" "), expected.join(" "));
    }
    Ok(())
}

/// Decides runtime fractions as the tool's stand-in for runtime does: routes that lose are gone.
fn decide_fractions(config: &mut RouteConfiguration, runtime: Option<&str>, random: u64) {
    for host in &mut config.virtual_hosts {
        host.routes.retain_mut(|route| {
            let fraction = route.r#match.as_mut().and_then(|conditions| conditions.runtime_fraction.take());
            fraction.is_none_or(|fraction| {
                let numerator = fraction.default_value.map_or(0, |value| u64::from(value.numerator));
                Some(fraction.runtime_key.as_str()) == runtime && random <= numerator
            })
        });
    }
}

/// Compiles a configuration, or says why not.
fn compile(config: &RouteConfiguration) -> Result<Arc<RouteConfig>, String> {
    let name = if config.name.is_empty() { "case".to_owned() } else { config.name.clone() };
    let change =
        Change::Put { kind: ResourceType::RouteConfiguration, name, resource: config.encode_to_vec().into() };
    let (tables, found) = Compiler::new().apply([change]);
    let refused = |found: &&Diagnostic| found.severity == Severity::Refused;
    match (tables.route_configs().next(), found.iter().find(refused)) {
        (Some(config), None) => Ok(config.clone()),
        (_, Some(refused)) => Err(refused.to_string()),
        (None, None) => Err("nothing was published".to_owned()),
    }
}

fn headers_match(
    schema: &Schema,
    key: &str,
    matchers: &Value,
    message: &Request,
    ours: &mut Vec<String>,
    expected: &mut Vec<String>,
) -> Result<()> {
    let Some(matchers) = matchers.as_array() else { bail!("{key} is no list") };
    for matcher in matchers {
        let wanted: HeaderMatcher =
            schema.from_json(matcher).map_err(|error| anyhow::anyhow!("{key}: {error}"))?;
        if header_matches(&wanted, message.head()) != Ok(true) {
            ours.push(format!("{}={:?}", wanted.name, message.head().header(&wanted.name)));
            expected.push(matcher.to_string());
        }
    }
    Ok(())
}

/// What came of a request, in the check tool's words. What does not apply is empty.
#[derive(Default)]
struct Outcome {
    cluster_name: String,
    virtual_cluster_name: String,
    virtual_host_name: String,
    path_rewrite: String,
    host_rewrite: String,
    path_redirect: String,
}

impl Outcome {
    fn value(&self, key: &str) -> Option<&str> {
        Some(match key {
            "cluster_name" => &self.cluster_name,
            "virtual_cluster_name" => &self.virtual_cluster_name,
            "virtual_host_name" => &self.virtual_host_name,
            "path_rewrite" => &self.path_rewrite,
            "host_rewrite" => &self.host_rewrite,
            "path_redirect" => &self.path_redirect,
            _ => return None,
        })
    }

    /// Routes the request and changes it, and the response, as the proxy would.
    fn of(config: &RouteConfig, request: &mut Request, response: &mut Request) -> Outcome {
        let found = match config.find(&*request, request.head().random) {
            Found::Nothing => return Outcome::default(),
            Found::RedirectToHttps(_) => {
                let head = request.head();
                let path_redirect = format!("https://{}{}", head.authority, head.path);
                return Outcome { path_redirect, ..Outcome::default() };
            }
            Found::Route(found) => found,
        };
        let virtual_host_name = found.virtual_host.name.to_string();
        let outcome = match &found.route.action {
            Action::Forward(forward) => {
                let cluster_name = cluster_name(&found, forward, request);
                let virtual_cluster_name =
                    found.virtual_host.virtual_cluster(&*request).unwrap_or_default().to_owned();
                request.forward(&found, forward);
                Outcome {
                    cluster_name,
                    virtual_cluster_name,
                    virtual_host_name,
                    path_rewrite: request.head().path.clone(),
                    host_rewrite: request.head().authority.clone(),
                    path_redirect: String::new(),
                }
            }
            Action::Redirect(redirect) => {
                let mut path_redirect = String::new();
                redirect.location(&*request, &found.route.matcher.path, &mut path_redirect);
                Outcome { path_redirect, ..Outcome::default() }
            }
            Action::DirectResponse(direct) => {
                response.local_reply(&direct.body);
                let head = request.head();
                let path_redirect = format!("{}://{}{}", head.scheme, head.authority, head.path);
                Outcome { path_redirect, ..Outcome::default() }
            }
        };
        for edits in found.header_edits() {
            let ops = &edits.response;
            response.apply(ops, request);
        }
        outcome
    }
}

fn cluster_name(found: &RouteMatch<'_>, forward: &route::Forward, request: &Request) -> String {
    let choice = found.weighted_cluster.map_or(&forward.cluster, |weighted| &weighted.cluster);
    match choice {
        route::ClusterChoice::Named { name, .. } => name.to_string(),
        route::ClusterChoice::Header(name) => request.head().header(name).unwrap_or_default(),
        route::ClusterChoice::Weighted(_) => String::new(),
    }
}
