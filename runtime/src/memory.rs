//! The allocator: handing freed memory back to the kernel, and watching what a test's code allocates.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};

/// Returns what this thread and the ended ones have freed to the kernel, for threads that free much at once and then
/// sleep: the allocator purges by itself only when it is called again.
///
/// Takes about a millisecond; never call it on a shard. Without effect where mimalloc is not the process's allocator.
pub fn give_back() {
    // SAFETY: `mi_collect` may be called on any thread at any time; it touches the calling thread's own heap and the
    // shared arenas under the allocator's own synchronisation.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// The system's allocator, which tells a function of every allocation (its bytes) and release (its bytes, negative),
/// on the thread that makes it. For tests that bound what code allocates; the function must not allocate itself.
#[derive(Debug)]
pub struct Observed(pub fn(isize));

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Observed {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        (self.0)(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        (self.0)(-(layout.size() as isize));
        // SAFETY: `memory` came from `System.alloc` with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}
