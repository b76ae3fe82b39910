//! A limit of the whole process, shared out among shards that seldom meet.
//!
//! The units of the limit lie in one cell for each shard. A shard takes from its own cell, which no other touches while
//! there is enough: an atomic operation without contention. Only when its own is empty it looks into the others', and
//! what it takes there stays with it when it is given back, so that room moves to where it is needed. A unit is always
//! in a cell or in use, never both, so the limit is never exceeded, and nothing is refused while a cell holds a unit.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Units of one limit.
#[derive(Debug)]
pub struct Pool {
    limit: u32,
    cells: OnceLock<Box<[Cell]>>,
}

/// On a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Cell {
    free: AtomicU32,
}

impl Pool {
    /// A pool with all units free. Cells are made when the first one is taken.
    pub const fn new(limit: u32) -> Pool {
        Pool { limit, cells: OnceLock::new() }
    }

    /// Takes a unit for shard `shard` of `shards`; false when all are in use.
    pub fn take(&self, shard: usize, shards: usize) -> bool {
        let cells = self.cells.get_or_init(|| share_out(self.limit, shards.max(1)));
        let own = shard % cells.len();
        take_one(&cells[own]) || (1..cells.len()).any(|step| take_one(&cells[(own + step) % cells.len()]))
    }

    /// Gives back a unit that shard `shard` took.
    pub fn give_back(&self, shard: usize) {
        if let Some(cells) = self.cells.get() {
            cells[shard % cells.len()].free.fetch_add(1, Ordering::Release);
        }
    }

    /// Units in all.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Units free at this moment, for whoever watches.
    pub fn left(&self) -> u32 {
        match self.cells.get() {
            Some(cells) => {
                let sum =
                    cells.iter().map(|cell| cell.free.load(Ordering::Relaxed)).fold(0, u32::saturating_add);
                sum.min(self.limit)
            }
            None => self.limit,
        }
    }
}

fn share_out(limit: u32, shards: usize) -> Box<[Cell]> {
    let count = u32::try_from(shards).unwrap_or(u32::MAX);
    let share = |shard: u32| limit / count + u32::from(shard < limit % count);
    (0..count).map(|shard| Cell { free: AtomicU32::new(share(shard)) }).collect()
}

fn take_one(cell: &Cell) -> bool {
    let mut free = cell.free.load(Ordering::Relaxed);
    while free > 0 {
        match cell.free.compare_exchange_weak(free, free - 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => free = now,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_may_use_everything() {
        for limit in [0, 1, 3, 4, 10] {
            let pool = Pool::new(limit);
            let taken = (0..20).filter(|_| pool.take(2, 4)).count();
            assert_eq!((taken as u32, pool.left()), (limit, 0));
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_by_another() {
        let pool = Pool::new(1);
        assert!(pool.take(0, 4) && !pool.take(1, 4));
        pool.give_back(0);
        assert!(pool.take(3, 4) && !pool.take(0, 4));
        pool.give_back(3);
        assert_eq!(pool.left(), 1);
    }

    #[test]
    fn shards_at_once_reach_the_limit_and_never_exceed_it() {
        use std::sync::atomic::AtomicU32;
        let pool = Pool::new(5);
        let (used, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for shard in 0..4 {
                let (pool, used, most) = (&pool, &used, &most);
                scope.spawn(move || {
                    for round in 0..20_000_u32 {
                        let want = (round % 4) as usize;
                        let got = (0..want).filter(|_| pool.take(shard, 4)).count() as u32;
                        let now = used.fetch_add(got, Ordering::SeqCst) + got;
                        most.fetch_max(now, Ordering::SeqCst);
                        used.fetch_sub(got, Ordering::SeqCst);
                        (0..got).for_each(|_| pool.give_back(shard));
                    }
                });
            }
        });
        assert_eq!(pool.left(), 5);
        assert!(most.load(Ordering::SeqCst) <= 5, "{most:?}");
    }
}
