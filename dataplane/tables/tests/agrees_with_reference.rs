//! Random route configurations × random requests: the tables and the reference evaluator give the same verdict.
//!
//! `RINGSAIL_SEED=N cargo test -p ringsail-tables --test agrees_with_reference` repeats one case alone.

mod generate;

use generate::Generator;
use prost::Message;
use ringsail_reference::{Edit, Forward, Place, Request, Verdict};
use ringsail_tables::header_ops::HeaderAppend;
use ringsail_tables::metadata::Metadata;
use ringsail_tables::route::{Action, Found, RouteConfig, RouteMatch};
use ringsail_tables::template::{Property, Values};
use ringsail_tables::{Change, Compiler, ResourceType, route};
use ringsail_xds::envoy::config::route::v3::RouteConfiguration;

/// Configurations per run, each with [`REQUESTS`] requests.
const CONFIGS: u64 = 400;
const REQUESTS: usize = 40;

#[test]
fn tables_and_reference_agree_on_random_routes() {
    if let Some(seed) = std::env::var("RINGSAIL_SEED").ok().and_then(|seed| seed.parse().ok()) {
        check(seed);
        return;
    }
    let start = fastrand::u64(..u64::MAX / 2);
    println!("first seed {start}");
    for seed in start..start + CONFIGS {
        check(seed);
    }
}

#[test]
fn random_cases_reach_every_kind_of_verdict() {
    let mut kinds = [0_u32; 5];
    for seed in 0..100 {
        for verdict in check(seed) {
            match verdict {
                Verdict::NoRoute => kinds[0] += 1,
                Verdict::RedirectToHttps { .. } => kinds[1] += 1,
                Verdict::Forward(_) => kinds[2] += 1,
                Verdict::Redirect { .. } => kinds[3] += 1,
                Verdict::DirectResponse { .. } => kinds[4] += 1,
                Verdict::Unsupported(what) => {
                    panic!("RINGSAIL_SEED={seed}: the reference does not know {what}")
                }
            }
        }
    }
    // Out of 4,000: each kind often enough to mean something.
    assert!(kinds.iter().all(|count| *count >= 20), "{kinds:?}");
    assert!(kinds[2] >= 400, "{kinds:?}");
}

/// The verdicts on one configuration's requests, after comparing them.
fn check(seed: u64) -> Vec<Verdict> {
    let mut generator = Generator::new(seed);
    let config = generator.route_configuration();
    let compiled = compile(&config, seed);
    let compare = |request: Request| {
        let ours = verdict(&compiled, &request);
        let expected = ringsail_reference::evaluate(&config, &request);
        assert_eq!(ours, expected, "RINGSAIL_SEED={seed}\nrequest: {request:#?}\nconfiguration: {config:#?}");
        ours
    };
    (0..REQUESTS).map(|_| compare(generator.request())).collect()
}

fn compile(config: &RouteConfiguration, seed: u64) -> std::sync::Arc<RouteConfig> {
    let (tables, found) = Compiler::new().apply([Change::Put {
        kind: ResourceType::RouteConfiguration,
        name: config.name.clone(),
        resource: config.encode_to_vec().into(),
    }]);
    assert!(found.is_empty(), "RINGSAIL_SEED={seed}: {found:?}\n{config:#?}");
    tables.route_configs().next().expect("it was accepted").clone()
}

/// A request of the reference as the tables see it.
struct View<'a>(&'a Request);

impl ringsail_tables::Request for View<'_> {
    fn method(&self) -> &str {
        &self.0.method
    }
    fn authority(&self) -> &str {
        &self.0.authority
    }
    fn path(&self) -> &str {
        &self.0.path
    }
    fn scheme(&self) -> &str {
        &self.0.scheme
    }
    fn header(&self, name: &str, nth: usize) -> Option<&[u8]> {
        self.0.headers.iter().filter(|(n, _)| n == name).nth(nth).map(|(_, value)| value.as_bytes())
    }
}

impl Values for View<'_> {
    fn request_header(&self, name: &str) -> Option<&[u8]> {
        match name {
            ":path" => Some(self.0.path.as_bytes()),
            ":authority" => Some(self.0.authority.as_bytes()),
            ":method" => Some(self.0.method.as_bytes()),
            name => ringsail_tables::Request::header(self, name, 0),
        }
    }
    fn response_header(&self, _: &str) -> Option<&[u8]> {
        None
    }
    fn property(&self, _: Property, _: &mut Vec<u8>) {}
    fn start_time(&self, _: &str, _: &mut Vec<u8>) {}
    fn upstream_metadata(&self) -> Option<&Metadata> {
        None
    }
    fn cluster_metadata(&self) -> Option<&Metadata> {
        None
    }
}

fn verdict(config: &RouteConfig, request: &Request) -> Verdict {
    let view = View(request);
    let found = match config.find(&view, request.random) {
        Found::Nothing => return Verdict::NoRoute,
        Found::RedirectToHttps(host) => {
            return Verdict::RedirectToHttps { virtual_host: host.name.to_string() };
        }
        Found::Route(found) => found,
    };
    let place = Place { virtual_host: found.virtual_host.name.to_string(), route: found.id().route as usize };
    match &found.route.action {
        Action::Forward(forward) => Verdict::Forward(Forward {
            place,
            cluster: cluster(&found, forward, request),
            path: {
                let mut out = String::new();
                if forward.path_rewrite.apply(&found.route.matcher.path, &request.path, &mut out) {
                    out
                } else {
                    request.path.clone()
                }
            },
            authority: {
                let mut out = String::new();
                if found.rewrite_host(&view, None, &mut out) { out } else { request.authority.clone() }
            },
            request_edits: edits(&found, &view),
            timeout_millis: forward.timeout.map_or(0, |timeout| timeout.as_millis() as i64),
        }),
        Action::Redirect(redirect) => {
            let mut location = String::new();
            redirect.location(&view, &found.route.matcher.path, &mut location);
            Verdict::Redirect { place, status: redirect.status.into(), location }
        }
        Action::DirectResponse(response) => Verdict::DirectResponse {
            place,
            status: response.status.into(),
            body: String::from_utf8(response.body.to_vec()).unwrap(),
        },
    }
}

fn cluster(found: &RouteMatch<'_>, forward: &route::Forward, request: &Request) -> Option<String> {
    let choice = found.weighted_cluster.map_or(&forward.cluster, |weighted| &weighted.cluster);
    match choice {
        route::ClusterChoice::Named { name, .. } => Some(name.to_string()),
        route::ClusterChoice::Header(name) => {
            let value = View(request);
            let value = value.request_header(name)?;
            Some(String::from_utf8(value.to_vec()).unwrap())
        }
        route::ClusterChoice::Weighted(_) => panic!("a weighted route without a pick"),
    }
}

fn edits(found: &RouteMatch<'_>, view: &View<'_>) -> Vec<Edit> {
    let mut all = Vec::new();
    for level in found.header_edits() {
        all.extend(level.request.remove.iter().map(|name| Edit::Remove(name.to_string())));
        for add in &level.request.add {
            let mut value = Vec::new();
            add.value.render(view, &mut value);
            if value.is_empty() && !add.keep_empty {
                continue;
            }
            let (name, value) = (add.name.to_string(), String::from_utf8(value).unwrap());
            all.push(match add.action {
                HeaderAppend::AppendIfExistsOrAdd => Edit::Append(name, value),
                HeaderAppend::AddIfAbsent => Edit::AddIfAbsent(name, value),
                HeaderAppend::OverwriteIfExistsOrAdd => Edit::Overwrite(name, value),
                HeaderAppend::OverwriteIfExists => Edit::OverwriteIfExists(name, value),
            });
        }
    }
    all
}
