//! Wakers that are plain numbers. A waker names a task by shard, index and generation, packed into the 64 bits of
//! its data pointer: cloning copies, dropping does nothing, and no reference count is touched. Waking on the
//! task's own shard appends to its run queue; from any other thread it goes through `remote.rs`.
//!
//! A stale waker (task gone, slot reused) at worst polls a task once for nothing, which futures must bear anyway.
#![allow(unsafe_code)]

use std::{
    ptr,
    task::{RawWaker, RawWakerVTable, Waker},
};

use crate::{core, remote::remote_of};

const _: () = assert!(size_of::<usize>() == 8, "a waker packs a task's name into 64 bits");

/// A task's name within the process: 16 bits of shard slot, 24 of generation, 24 of index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskName {
    pub shard_slot: u16,
    pub generation: u32,
    pub index: u32,
}

/// Indexes and generations have 24 bits.
pub(crate) const INDEX_MASK: u32 = (1 << 24) - 1;

impl TaskName {
    fn pack(self) -> u64 {
        (u64::from(self.shard_slot) << 48)
            | (u64::from(self.generation & INDEX_MASK) << 24)
            | u64::from(self.index & INDEX_MASK)
    }

    fn unpack(bits: u64) -> Self {
        TaskName {
            shard_slot: (bits >> 48) as u16,
            generation: (bits >> 24) as u32 & INDEX_MASK,
            index: bits as u32 & INDEX_MASK,
        }
    }

    /// The waker of this task, usable on any thread.
    pub(crate) fn waker(self) -> Waker {
        // SAFETY: the vtable's functions treat the pointer as a number, so they are valid for every value, on
        // every thread, any number of times.
        unsafe { Waker::from_raw(raw(ptr::without_provenance(self.pack() as usize))) }
    }

    fn wake(self) {
        if core::wake_local(self) {
            return;
        }
        if let Some(remote) = remote_of(self.shard_slot) {
            remote.wake(self);
        }
    }
}

fn raw(data: *const ()) -> RawWaker {
    static TABLE: RawWakerVTable = RawWakerVTable::new(raw, wake, wake, |_| ());
    fn wake(data: *const ()) {
        TaskName::unpack(data.addr() as u64).wake();
    }
    RawWaker::new(data, &TABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Remote;

    #[test]
    fn names_survive_packing_at_their_bounds() {
        for (shard_slot, generation, index) in [(0, 0, 0), (u16::MAX, INDEX_MASK, INDEX_MASK), (7, 1, 2)] {
            let name = TaskName { shard_slot, generation, index };
            assert_eq!(TaskName::unpack(name.pack()), name);
        }
    }

    #[test]
    fn waker_of_a_shard_that_ended_does_nothing() {
        let remote = Remote::register().unwrap();
        let waker = TaskName { shard_slot: remote.slot(), generation: 0, index: 0 }.waker();
        drop(remote);
        waker.wake();
    }
}
