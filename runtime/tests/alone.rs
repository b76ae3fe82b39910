//! Claims that need a process of their own: limits of the process, another user, a network namespace. Each test
//! starts this binary again with one of the ignored tests below. What the system does not permit is skipped, loudly.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    process::{Command, Output},
    time::Duration,
};

use nix::sys::resource::{Resource, setrlimit};
use ringsail_runtime::{
    engine::{Engine, EngineChoice, RingConfig, probe},
    net::{Address, ConnectOptions, Listener, ListenerOptions, Stream},
    shard::{Shards, ShardsConfig, run_local, stats},
    task::spawn,
    time::sleep,
};

/// The command that runs one ignored test of this binary.
fn alone(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", test]);
    command
}

fn must_pass(output: Output) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
    print!("{err}");
}

#[test]
fn accept_rests_while_descriptors_are_short_and_loses_nobody() {
    must_pass(alone("inner_short_of_descriptors").output().unwrap());
}

#[test]
#[ignore = "started by accept_rests_while_descriptors_are_short_and_loses_nobody"]
fn inner_short_of_descriptors() {
    for engine in [EngineChoice::Auto, EngineChoice::Epoll] {
        let config = ShardsConfig { engine, ..ShardsConfig::default() };
        let ended = run_local(config, || async {
            let listener = Listener::bind(&loopback(0), ListenerOptions::default()).unwrap();
            let near = Stream::connect(listener.local_addr(), &ConnectOptions::default()).await.unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 64, 20_000).unwrap();
            let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
            let accepting = spawn(async move { listener.accept().await.unwrap() });
            while stats().accept_rests.get() == 0 {
                sleep(Duration::from_millis(1)).await;
            }
            assert!(!accepting.is_finished());
            drop(hoard);
            let far = accepting.await.unwrap();
            assert_eq!(far.peer_addr().unwrap(), near.local_addr().unwrap());
        });
        assert!(ended.unwrap().is_some(), "failed on {engine:?}");
    }
}

#[test]
fn shards_that_ended_leave_no_descriptor_behind() {
    must_pass(alone("inner_restart").output().unwrap());
}

#[test]
#[ignore = "started by shards_that_ended_leave_no_descriptor_behind"]
fn inner_restart() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for engine in [EngineChoice::Auto, EngineChoice::Epoll] {
        for round in 0..10 {
            let config = ShardsConfig { engine, ..ShardsConfig::default() };
            let (ready, told) = std::sync::mpsc::channel();
            let shards = Shards::start(config, |_| {
                let ready = ready.clone();
                move || async move {
                    // Waits are armed, idle and done when the shard is told to stop.
                    let listener = Listener::bind(&loopback(0), ListenerOptions::default()).unwrap();
                    let address = listener.local_addr().clone();
                    let near = Stream::connect(&address, &ConnectOptions::default()).await.unwrap();
                    let far = listener.accept().await.unwrap();
                    far.send_all(b"x").await.unwrap();
                    let (idle, _other) = Stream::pair().unwrap();
                    spawn(async move { listener.accept().await.map(drop) });
                    spawn(async move { idle.recv(1).await.map(drop) });
                    near.readable().await.unwrap();
                    ready.send(()).unwrap();
                    sleep(Duration::from_secs(3600)).await;
                }
            })
            .unwrap();
            told.recv_timeout(Duration::from_secs(10)).unwrap();
            assert!(descriptors() > before);
            shards.control().stop();
            shards.join().unwrap();
            assert_eq!(descriptors(), before, "round {round} on {engine:?}");
        }
    }
}

#[test]
fn memlock_limit_without_room_for_a_ring_ends_on_epoll() {
    let nobody = 65_534;
    // Root is exempt from the limit, and only root can become somebody else.
    let output = alone("inner_no_locked_memory").uid(nobody).gid(nobody).output();
    match output {
        Ok(output) => must_pass(output),
        Err(error) => eprintln!("NOT TESTED: cannot become another user: {error}"),
    }
}

#[test]
#[ignore = "started by memlock_limit_without_room_for_a_ring_ends_on_epoll"]
fn inner_no_locked_memory() {
    setrlimit(Resource::RLIMIT_MEMLOCK, 0, 0).unwrap();
    let report = probe(EngineChoice::Auto, RingConfig::default()).unwrap();
    assert_eq!(report.engine, Engine::Epoll);
    // Where io_uring is forbidden altogether, that comes first.
    if !report.reason.contains("memlock") {
        eprintln!("NOT TESTED: {report}");
    }
}

#[test]
fn redirected_connection_knows_where_it_was_meant_to_go() {
    let script = format!(
        "ip link set lo up && iptables -t nat -A OUTPUT -p tcp --dport {MEANT_PORT} -j REDIRECT --to-ports {PORT} \
         && exec \"$0\" \"$@\""
    );
    let inner = alone("inner_redirected");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-c", &script]);
    command.arg(inner.get_program()).args(inner.get_args());
    match command.output() {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("running 1 test") => must_pass(output),
        Ok(output) => {
            eprintln!("NOT TESTED: no namespace or rule: {}", String::from_utf8_lossy(&output.stderr))
        }
        Err(error) => eprintln!("NOT TESTED: no unshare: {error}"),
    }
}

const MEANT_PORT: u16 = 9080;
const PORT: u16 = 15_001;

#[test]
#[ignore = "started by redirected_connection_knows_where_it_was_meant_to_go"]
fn inner_redirected() {
    for engine in [EngineChoice::Auto, EngineChoice::Epoll] {
        let config = ShardsConfig { engine, ..ShardsConfig::default() };
        let ended = run_local(config, || async {
            let listener = Listener::bind(&loopback(PORT), ListenerOptions::default()).unwrap();
            let _near = Stream::connect(&loopback(MEANT_PORT), &ConnectOptions::default()).await.unwrap();
            let far = listener.accept().await.unwrap();
            assert_eq!(far.original_dst(), Some(([127, 0, 0, 1], MEANT_PORT).into()));
            assert_eq!(far.local_addr().unwrap(), loopback(PORT));
        });
        assert!(ended.unwrap().is_some(), "failed on {engine:?}");
    }
}

fn loopback(port: u16) -> Address {
    Address::Inet(([127, 0, 0, 1], port).into())
}
