//! io_uring forbidden by seccomp, as container runtimes do. The filter is installed on a thread of the test, and
//! inherited by the shards it starts.
#![allow(unsafe_code)]

use std::thread;

use ringsail_runtime::{
    engine::{Engine, EngineChoice, EngineError, RingConfig, probe},
    shard::{Shards, ShardsConfig, StartError},
};

use crate::tcp_pair;

/// Makes `io_uring_setup` (or `io_uring_enter`) of this thread and its children fail.
fn forbid(system_call: libc::c_long, errno: i32) {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let program = [
        // The number of the call is the first word of `seccomp_data`.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, system_call as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the first call takes no pointer; the second reads `filter` and the program it points to, both of
    // which live across it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let installed = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter);
        assert_eq!(installed, 0, "{}", std::io::Error::last_os_error());
    }
}

#[test]
fn forbidden_io_uring_falls_back_to_epoll_and_says_why() {
    let cases = [
        (libc::SYS_io_uring_setup, libc::EPERM, "seccomp"),
        (libc::SYS_io_uring_setup, libc::ENOSYS, "no io_uring"),
        (libc::SYS_io_uring_enter, libc::EPERM, "seccomp"),
    ];
    for (system_call, errno, word) in cases {
        let restricted = thread::spawn(move || {
            forbid(system_call, errno);
            let report = probe(EngineChoice::Auto, RingConfig::default()).unwrap();
            assert_eq!(report.engine, Engine::Epoll);
            assert!(report.reason.contains(word), "{report}");
            let shards = Shards::start(ShardsConfig::default(), |_| {
                || async {
                    let (near, far) = tcp_pair().await;
                    near.send_all(b"x").await.unwrap();
                    assert_eq!(far.recv(1).await.unwrap().len(), 1);
                }
            })
            .unwrap();
            assert_eq!(shards.reports()[0], report);
            let stats = shards.stats()[0].clone();
            shards.join().unwrap();
            assert_eq!(stats.task_panics.get(), 0);
            let forced = ShardsConfig { engine: EngineChoice::IoUring, ..ShardsConfig::default() };
            let error = Shards::start(forced, |_| || async {}).unwrap_err();
            assert!(matches!(error, StartError::Engine(EngineError::Refused(_))), "{error}");
        });
        restricted.join().unwrap();
    }
}

#[test]
fn engine_names_are_those_of_the_flag() {
    assert_eq!("io_uring".parse::<EngineChoice>().unwrap(), EngineChoice::IoUring);
    let error = "uring".parse::<EngineChoice>().unwrap_err();
    assert!(error.to_string().contains("auto, io_uring or epoll"), "{error}");
}
