use std::time::Duration;

use ringsail_runtime::{
    limits::BLOCK_BYTES,
    net::{Listener, ListenerOptions, Stream},
    task::spawn,
    time::{sleep, timeout},
};

use crate::{loopback, on_each_engine, tcp_pair};

/// Growth here is paid by every connection of every proxy; raise a number only with a reason in the change.
#[test]
fn futures_and_handles_are_as_small_as_measured() {
    on_each_engine(|| async {
        let (near, _far) = tcp_pair().await;
        let listener = Listener::bind(&loopback(), ListenerOptions::default()).unwrap();
        let sizes = [
            ("Stream", size_of::<Stream>(), 8),
            ("recv", size_of_val(&near.recv(BLOCK_BYTES)), 48),
            ("send_all", size_of_val(&near.send_all(b"")), 112),
            ("send_vectored", size_of_val(&near.send_vectored(&mut [])), 80),
            ("accept", size_of_val(&listener.accept()), 80),
            ("sleep", size_of_val(&sleep(Duration::ZERO)), 32),
            ("timeout(recv)", size_of_val(&timeout(Duration::ZERO, near.recv(1))), 80),
        ];
        for (what, bytes, bytes_max) in sizes {
            println!("{what}: {bytes} bytes");
            assert!(bytes <= bytes_max, "{what} has {bytes} bytes, bound {bytes_max}");
        }
    });
}

/// User-space bytes of the runtime for a connection whose task waits for bytes: socket handle, armed wait, task.
/// Both ends are in this process, so the growth is divided by two connections per pair.
#[test]
fn idle_connection_costs_less_than_640_bytes() {
    const PAIRS: usize = 500;
    on_each_engine(|| async {
        let mut warm = Vec::new();
        for _ in 0..20 {
            warm.push(Stream::pair().unwrap());
        }
        let before = allocated();
        for _ in 0..PAIRS {
            let (near, far) = Stream::pair().unwrap();
            for end in [near, far] {
                spawn(async move { end.recv(BLOCK_BYTES).await.map(drop) });
            }
        }
        sleep(Duration::from_millis(2)).await;
        let each = (allocated() - before) / (2 * PAIRS);
        println!("{each} bytes per idle connection");
        assert!(each <= 640, "{each} bytes");
    });
}

use counting::allocated;

#[allow(unsafe_code)]
mod counting {
    use std::{
        alloc::{GlobalAlloc, Layout, System},
        cell::Cell,
    };

    thread_local! {
        static BYTES: Cell<usize> = const { Cell::new(0) };
    }

    /// Bytes this thread has allocated and not freed.
    pub(super) fn allocated() -> usize {
        BYTES.with(Cell::get)
    }

    struct Counting;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    // SAFETY: every call is passed on to the system's allocator unchanged; counting touches a thread-local cell
    // that needs no allocation and no drop.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // A thread that is ending has no cell any more.
            let _ = BYTES.try_with(|bytes| bytes.set(bytes.get().wrapping_add(layout.size())));
            // SAFETY: the caller's promise is passed on.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            let _ = BYTES.try_with(|bytes| bytes.set(bytes.get().wrapping_sub(layout.size())));
            // SAFETY: the caller's promise is passed on.
            unsafe { System.dealloc(pointer, layout) }
        }
    }
}
