use std::{rc::Rc, time::Duration};

use ringsail_runtime::{
    net::{ConnectOptions, Listener, Stream},
    race, random,
    shard::stats,
    task::{JoinHandle, spawn, yield_now},
    time::{sleep, timeout},
};

use crate::{listen, on_each_engine};

/// Connections that end in every way at random moments leave nothing behind: no connection, block, timer or task.
/// `RINGSAIL_TEST_SEED` repeats a run.
#[test]
fn whatever_ends_however_gives_everything_back() {
    let seed = match std::env::var("RINGSAIL_TEST_SEED") {
        Ok(seed) => seed.parse().expect("RINGSAIL_TEST_SEED is a number"),
        Err(_) => random::next_u64(),
    };
    println!("RINGSAIL_TEST_SEED={seed}");
    on_each_engine(move || async move {
        random::seed(seed);
        sleep(Duration::from_millis(1)).await;
        let (tasks_before, timers_before) = (stats().tasks.get(), stats().timers.get());
        let listener = Rc::new(listen());
        let address = listener.local_addr().clone();
        let server = spawn(serve(listener));
        let mut clients: Vec<JoinHandle<()>> = Vec::new();
        for _ in 0..300 {
            let address = address.clone();
            clients.push(spawn(async move {
                let options =
                    ConnectOptions { timeout: Some(Duration::from_secs(5)), ..ConnectOptions::default() };
                if let Ok(stream) = Stream::connect(&address, &options).await {
                    misbehave(stream).await;
                }
            }));
            if random::below(4) == 0 {
                sleep(Duration::from_micros(u64::from(random::below(1500)))).await;
            }
            if random::below(3) == 0 {
                let victim = &clients[random::below(clients.len() as u32) as usize];
                victim.abort();
            }
        }
        for client in clients {
            // Done or aborted.
            let _ = client.await;
        }
        server.abort();
        let _ = server.await;
        while stats().connections_open.get() > 0 || stats().tasks.get() > tasks_before {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_millis(1)).await;
        assert_eq!(stats().blocks_lent.get(), 0);
        assert_eq!(stats().timers.get(), timers_before);
        assert_eq!(stats().task_panics.get(), 0);
    });
}

async fn serve(listener: Rc<Listener>) {
    while let Ok(stream) = listener.accept().await {
        drop(spawn(misbehave(stream)));
    }
}

/// A few random acts, then the end of the connection.
async fn misbehave(stream: Stream) {
    let pause = || Duration::from_micros(u64::from(random::below(2000)));
    for _ in 0..random::below(12) {
        match random::below(8) {
            0 => {
                if timeout(pause(), stream.send_all(&[b'x'; 3000])).await.is_err() {
                    return;
                }
            }
            1 => {
                // The peer may have gone.
                let _ = stream.try_send(b"hello");
            }
            2 => match timeout(pause(), stream.recv(1 + random::below(5000) as usize)).await {
                // Held over an await, as by a slow request.
                Ok(Ok(lease)) if !lease.is_empty() => sleep(pause()).await,
                Ok(_) => return,
                Err(_) => (),
            },
            3 => drop(race(stream.readable(), sleep(pause())).await),
            4 => drop(stream.try_recv(100)),
            5 => drop(stream.shutdown_write()),
            6 => yield_now().await,
            _ => sleep(pause()).await,
        }
    }
    if random::below(3) == 0 {
        stream.reset();
    }
}
