//! The shard's blocks of receive memory. A connection borrows one when bytes have come and gives it back when
//! they are consumed; an idle connection holds none.

use std::{cell::Cell, cell::RefCell, fmt, io, ops::Deref, rc::Rc, sync::Arc};

use crate::{core, limits, stats::ShardStats};

/// The blocks of one shard.
pub(crate) struct BlockPool {
    free: RefCell<Vec<Box<[u8]>>>,
    lent: Cell<u32>,
    blocks_max: u32,
    stats: Arc<ShardStats>,
}

impl BlockPool {
    pub(crate) fn new(blocks_max: u32, stats: Arc<ShardStats>) -> Self {
        BlockPool { free: RefCell::default(), lent: Cell::new(0), blocks_max, stats }
    }

    /// Lends an empty block.
    pub(crate) fn lease(self: &Rc<Self>) -> Result<Lease, BlocksExhausted> {
        if self.lent.get() >= self.blocks_max {
            self.stats.blocks_refused.add(1);
            return Err(BlocksExhausted);
        }
        self.lent.set(self.lent.get() + 1);
        self.stats.blocks_lent.set(u64::from(self.lent.get()));
        let block = self.free.borrow_mut().pop();
        let block = block.unwrap_or_else(|| vec![0; limits::BLOCK_BYTES].into_boxed_slice());
        Ok(Lease { block, start: 0, end: 0, pool: Some(self.clone()) })
    }

    fn give_back(&self, block: Box<[u8]>) {
        self.lent.set(self.lent.get() - 1);
        self.stats.blocks_lent.set(u64::from(self.lent.get()));
        let mut free = self.free.borrow_mut();
        if free.len() < limits::BLOCKS_KEPT_MAX {
            free.push(block);
        }
    }
}

/// Borrows an empty block of [`limits::BLOCK_BYTES`] from this shard, to assemble bytes in.
///
/// # Errors
/// The shard has lent `blocks_max`; counted.
///
/// # Panics
/// Outside a shard.
pub fn lease() -> Result<Lease, BlocksExhausted> {
    core::current().blocks.lease()
}

/// Received bytes in a block borrowed from the shard; dereferences to them. The block goes back when this is
/// dropped. An empty lease from a receive is the end of the stream and holds no block.
pub struct Lease {
    block: Box<[u8]>,
    start: u32,
    end: u32,
    pool: Option<Rc<BlockPool>>,
}

impl Lease {
    /// A lease on nothing: the end of a stream.
    pub fn none() -> Self {
        Lease { block: Box::default(), start: 0, end: 0, pool: None }
    }

    /// Drops the first `count` bytes, which were consumed.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "advanced past the end of a lease");
        self.start += count as u32;
    }

    /// Forgets all bytes after the first `count`.
    pub fn truncate(&mut self, count: usize) {
        self.end = self.start + count.min(self.len()) as u32;
    }

    /// The room behind the bytes. Call [`Lease::filled`] after writing to it.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.block[self.end as usize..]
    }

    /// The first `count` bytes of the room now hold data.
    ///
    /// # Panics
    /// When the room is smaller.
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.block.len() - self.end as usize, "filled past the end of a block");
        self.end += count as u32;
    }

    /// Appends as many of `bytes` as there is room for and says how many.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let room = self.room();
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.filled(count);
        count
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block[self.start as usize..self.end as usize]
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("bytes", &self.len()).finish()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give_back(std::mem::take(&mut self.block));
        }
    }
}

/// The shard has lent all the blocks it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard has no receive block left")]
pub struct BlocksExhausted;

impl BlocksExhausted {
    /// Whether an I/O error of this crate means that blocks ran out, and not the socket failed.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<BlocksExhausted>())
    }
}

impl From<BlocksExhausted> for io::Error {
    fn from(exhausted: BlocksExhausted) -> Self {
        io::Error::new(io::ErrorKind::OutOfMemory, exhausted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(blocks_max: u32) -> Rc<BlockPool> {
        Rc::new(BlockPool::new(blocks_max, Arc::default()))
    }

    #[test]
    fn block_past_the_limit_is_refused_and_counted() {
        let pool = pool(2);
        let first = pool.lease().unwrap();
        let _second = pool.lease().unwrap();
        assert_eq!(pool.lease().unwrap_err(), BlocksExhausted);
        assert_eq!(pool.stats.blocks_refused.get(), 1);
        drop(first);
        assert!(pool.lease().is_ok());
        assert!(BlocksExhausted::is(&BlocksExhausted.into()));
        assert!(!BlocksExhausted::is(&io::ErrorKind::OutOfMemory.into()));
    }

    #[test]
    fn burst_of_blocks_goes_back_to_the_allocator() {
        let count = limits::BLOCKS_KEPT_MAX + 10;
        let pool = pool(count as u32);
        let leases: Vec<Lease> = (0..count).map(|_| pool.lease().unwrap()).collect();
        assert_eq!(pool.stats.blocks_lent.get(), count as u64);
        drop(leases);
        assert_eq!(pool.stats.blocks_lent.get(), 0);
        assert_eq!(pool.free.borrow().len(), limits::BLOCKS_KEPT_MAX);
    }

    #[test]
    fn bytes_are_appended_up_to_the_block_and_consumed_from_its_start() {
        let mut lease = pool(1).lease().unwrap();
        assert_eq!(lease.append(b"hello world"), 11);
        lease.advance(6);
        lease.truncate(3);
        assert_eq!(&*lease, b"wor");
        assert_eq!(lease.append(&[b'x'; limits::BLOCK_BYTES]), limits::BLOCK_BYTES - 9);
        assert!(lease.room().is_empty());
    }
}
