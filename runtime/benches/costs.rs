//! What the pieces cost by themselves, in nanoseconds: `cargo bench -p ringsail-runtime`. Whole requests are measured
//! in `perf/`.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use ringsail_runtime::{
    buffers::lease,
    engine::EngineChoice,
    local::channel,
    mailbox::mailbox,
    net::Stream,
    publish::publication,
    shard::{ShardsConfig, run_local},
    task::{spawn, yield_now},
    time::{now, precise_now, timeout},
};

fn main() {
    for engine in [EngineChoice::IoUring, EngineChoice::Epoll] {
        let config = ShardsConfig { engine, ..ShardsConfig::default() };
        match run_local(config, measure) {
            Ok(Some(lines)) => {
                lines.iter().for_each(|(what, ns)| println!("{engine:?}\t{ns:8.1} ns\t{what}"))
            }
            Ok(None) => println!("{engine:?}\tpanicked"),
            Err(error) => println!("{engine:?}\tnot measured: {error}"),
        }
    }
}

async fn measure() -> Vec<(&'static str, f64)> {
    let mut lines = Vec::new();
    let mut line = |what, started: Instant, rounds: u32| {
        lines.push((what, started.elapsed().as_nanos() as f64 / f64::from(rounds)));
    };

    const MANY: u32 = 200_000;
    let started = Instant::now();
    for _ in 0..MANY {
        black_box(now());
    }
    line("read the shard's clock", started, MANY);

    let started = Instant::now();
    for _ in 0..MANY {
        black_box(precise_now());
    }
    line("read the true clock", started, MANY);

    let started = Instant::now();
    (0..MANY).for_each(|_| drop(black_box(lease())));
    line("lease a block and give it back", started, MANY);

    let (_publisher, mut seats) = publication(Arc::new(0u64), 1).expect("a thread");
    let subscriber = seats.remove(0).subscribe();
    let started = Instant::now();
    (0..MANY).for_each(|_| drop(black_box(subscriber.current())));
    line("take the current version and let it go", started, MANY);

    let started = Instant::now();
    for _ in 0..MANY {
        let _ = black_box(timeout(Duration::from_secs(15), async { 1 }).await);
    }
    line("timeout around what is ready", started, MANY);

    let started = Instant::now();
    for _ in 0..MANY {
        // Pending once, so that the timer enters the wheel and leaves it.
        let _ = black_box(timeout(Duration::from_secs(15), yield_now()).await);
    }
    line("timeout around one yield", started, MANY);

    let started = Instant::now();
    for _ in 0..MANY {
        yield_now().await;
    }
    line("yield", started, MANY);

    let started = Instant::now();
    for _ in 0..MANY {
        spawn(async {}).await.expect("no panic");
    }
    line("spawn a task and await it", started, MANY);

    let (sender, mut receiver) = channel(1);
    let echo = spawn(async move { while receiver.recv().await.is_some() {} });
    let started = Instant::now();
    for _ in 0..MANY {
        let _ = sender.send(1).await;
    }
    line("message to a task of this shard", started, MANY);
    drop(sender);
    let _ = echo.await;

    let (sender, mut mail) = mailbox(1);
    let started = Instant::now();
    for _ in 0..MANY {
        let _ = sender.try_send(1);
        black_box(mail.recv().await);
    }
    line("message through a mailbox, no wake-up", started, MANY);

    const FEW: u32 = 20_000;
    let (near, far) = Stream::pair().expect("descriptors");
    let echo = spawn(async move {
        while let Ok(bytes) = far.recv(64).await {
            if bytes.is_empty() || far.send_all(&bytes).await.is_err() {
                break;
            }
        }
    });
    let started = Instant::now();
    for _ in 0..FEW {
        near.send_all(b"ping").await.expect("connected");
        black_box(near.recv(64).await.expect("connected"));
    }
    line("there and back over a Unix socket, one thread", started, FEW);
    drop(near);
    let _ = echo.await;
    lines
}
