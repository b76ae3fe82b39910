//! The whole proxy between clients and an upstream that both misbehave by a plan, while its routes change.
//!
//! The plan (sizes, cuts, stalls, resets, configuration versions) is drawn from one seed, which is printed and taken back
//! in `RINGSAIL_SIMULATION_SEED`. What the kernel and the threads make of its order is not repeated.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use ringsail_harness::config::{TYPE, bootstrap, http_listener, static_cluster};
use ringsail_harness::peer::Peer;
use ringsail_harness::wait::{self, PATIENCE};
use ringsail_harness::{binaries, engines};
use serde_json::json;

const CLIENTS: u64 = 6;
const REQUESTS_OF_A_CLIENT: u64 = 40;

/// A small generator (SplitMix64), so that one number repeats the plan.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)) >> 11) % bound
    }
}

#[test]
fn faults_on_both_sides_lose_no_byte_mix_no_versions_and_leave_nothing_behind() {
    let Some(binary) = binaries::ringsail_or_notice() else { return };
    let seed =
        env::var("RINGSAIL_SIMULATION_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
        });
    println!("RINGSAIL_SIMULATION_SEED={seed}");
    for engine in engines::available() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rds.json");
        write_version(&file, 0);
        let rds = json!({"rds": {"route_config_name": "inline",
            "config_source": {"path_config_source": {"path": file}, "resource_api_version": "V3"}}});
        let template =
            bootstrap(json!([http_listener("http", rds)]), json!([static_cluster("app", &[upstream()])]));
        let peer = Peer::start_with("ringsail", &binary, &template, &["--engine", engine]).unwrap();
        let address = peer.address(0);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let churn = scope.spawn(|| {
                let mut random = Random(seed ^ 1);
                for version in 1.. {
                    if over.load(Ordering::Relaxed) {
                        return version;
                    }
                    write_version(&file, version);
                    thread::sleep(Duration::from_millis(5 + random.below(30)));
                }
                0
            });
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| scope.spawn(move || run_client(address, seed.wrapping_add(client), client)))
                .collect();
            let outcomes: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
            over.store(true, Ordering::Relaxed);
            let versions = churn.join().unwrap();
            let whole: u64 = outcomes.into_iter().map(|outcome| outcome.expect("the client says why")).sum();
            println!("{engine}: {whole} whole answers over {versions} versions");
            assert!(whole > CLIENTS * REQUESTS_OF_A_CLIENT / 4, "seed {seed}: only {whole} whole answers");
        });
        let gauges = [
            "http.http.downstream_rq_active: 0",
            "http.http.downstream_cx_active: 0",
            "cluster.app.upstream_rq_active: 0",
        ];
        wait::until("nothing is left behind", || {
            let stats = peer.admin("/stats").unwrap();
            gauges.iter().all(|gauge| stats.contains(gauge))
        });
    }
}

/// Makes the client's requests; gives how many came back whole.
fn run_client(proxy: SocketAddr, seed: u64, client: u64) -> u64 {
    let mut random = Random(seed);
    let mut whole = 0;
    for number in 0..REQUESTS_OF_A_CLIENT {
        let id = client * 1_000 + number;
        let sent = random.below(60_000);
        let wanted = random.below(200_000);
        let plan =
            ["plain", "plain", "plain", "stall", "reset-first", "reset-midway"][random.below(6) as usize];
        let leaves = random.below(8) == 0;
        let mut stream = TcpStream::connect(proxy).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST /{id} HTTP/1.1\r\nhost: a\r\nx-id: {id}\r\nx-plan: {plan}\r\nx-wanted: {wanted}\r\ncontent-length: {sent}\r\n\r\n"
        );
        let mut bytes = head.into_bytes();
        bytes.extend((0..sent).map(|at| pattern(id, at)));
        let until = if leaves { random.below(bytes.len() as u64) as usize } else { bytes.len() };
        let written = write_in_pieces(&mut stream, &bytes[..until], &mut random);
        if leaves {
            continue;
        }
        // Only where the upstream resets may the proxy answer and close before the request is complete.
        let may_be_cut = plan.starts_with("reset");
        assert!(may_be_cut || written.is_ok(), "request {id} ({plan}): {written:?}");
        let Some((status, versions, body)) = read_answer(stream, &format!("request {id} ({plan})")) else {
            assert!(may_be_cut, "request {id} ({plan}): no answer, or half a head");
            continue;
        };
        if status != 200 {
            assert!(plan.starts_with("reset"), "request {id} ({plan}) was answered {status}");
            continue;
        }
        assert_eq!(versions.0, versions.1, "request {id} saw two versions");
        assert!(
            body.iter().enumerate().all(|(at, byte)| *byte == pattern(id, at as u64)),
            "request {id}: the body was changed"
        );
        if body.len() as u64 == wanted {
            whole += 1;
        } else {
            assert_eq!(plan, "reset-midway", "request {id}: {} of {wanted} bytes", body.len());
        }
    }
    whole
}

fn pattern(id: u64, at: u64) -> u8 {
    ((id + at) % 251) as u8
}

fn write_in_pieces(stream: &mut TcpStream, bytes: &[u8], random: &mut Random) -> std::io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = (1 + random.below(20_000) as usize).min(rest.len());
        stream.write_all(&rest[..size])?;
        rest = &rest[size..];
        if random.below(4) == 0 {
            thread::sleep(Duration::from_millis(random.below(4)));
        }
    }
    Ok(())
}

/// Status, the versions that the upstream and the client were shown, and the body as far as it came; `None` when the
/// connection ended before the head did.
fn read_answer(stream: TcpStream, what: &str) -> Option<(u16, (String, String), Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let (mut status, mut length, mut versions) = (0, 0, (String::new(), String::new()));
    for index in 0.. {
        let mut line = String::new();
        let read = reader.read_line(&mut line);
        let stuck = read.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!stuck, "{what}: stuck before the answer");
        if !read.is_ok_and(|count| count > 0) {
            return None;
        }
        if index == 0 {
            status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            continue;
        }
        let Some((name, value)) = line.split_once(':') else { break };
        match name {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "x-seen" => versions.0 = value.trim().to_string(),
            "x-version" => versions.1 = value.trim().to_string(),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if let Err(error) = reader.take(length).read_to_end(&mut body) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{what}: stuck after {} bytes", body.len());
    }
    Some((status, versions, body))
}

/// An upstream that checks what it is sent and answers as the request's plan says.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || while answer(&stream).is_some() {});
        }
    });
    address
}

/// Answers one request; `None` ends the connection.
fn answer(stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::with_capacity(1, stream);
    let (mut id, mut length, mut wanted, mut plan, mut version) = (0, 0, 0u64, String::new(), String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.starts_with("POST ") {
            continue;
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name {
            "x-id" => id = value.parse().ok()?,
            "content-length" => length = value.parse().ok()?,
            "x-wanted" => wanted = value.parse().ok()?,
            "x-plan" => plan = value.to_string(),
            "x-version" => version = value.to_string(),
            _ => {}
        }
    }
    let mut random = Random(id);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let intact = body.iter().enumerate().all(|(at, byte)| *byte == pattern(id, at as u64));
    if plan == "reset-first" {
        return None;
    }
    let status = if intact { 200 } else { 400 };
    let mut bytes =
        format!("HTTP/1.1 {status} Planned\r\nx-seen: {version}\r\ncontent-length: {wanted}\r\n\r\n")
            .into_bytes();
    let head = bytes.len();
    bytes.extend((0..wanted).map(|at| pattern(id, at)));
    if plan == "reset-midway" {
        bytes.truncate(head + random.below(wanted.max(1)) as usize);
    }
    if plan == "stall" {
        thread::sleep(Duration::from_millis(random.below(60)));
    }
    let mut out = stream;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let size = (1 + random.below(50_000) as usize).min(rest.len());
        out.write_all(&rest[..size]).ok()?;
        rest = &rest[size..];
    }
    (plan != "reset-midway").then_some(())
}

/// A route table that shows its version to both sides.
fn write_version(path: &std::path::Path, version: u64) {
    let shown = json!([{"header": {"key": "x-version", "value": version.to_string()}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]);
    let resource = json!({"@type": format!("{TYPE}envoy.config.route.v3.RouteConfiguration"), "name": "inline",
        "virtual_hosts": [{"name": "any", "domains": ["*"], "routes": [{"match": {"prefix": "/"},
            "route": {"cluster": "app", "timeout": "0s"},
            "request_headers_to_add": shown, "response_headers_to_add": shown}]}]});
    let beside = path.with_extension("tmp");
    fs::write(&beside, json!({"version_info": version.to_string(), "resources": [resource]}).to_string())
        .unwrap();
    fs::rename(&beside, path).unwrap();
}
