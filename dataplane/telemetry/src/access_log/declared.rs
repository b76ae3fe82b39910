//! Places for what the writer was told of. A place is given back when nobody holds its [`Declaration`] any more, and is
//! given out again once the writer has seen everything that was sent there.

use std::marker::PhantomData;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::writer::Message;
use crate::limits::LOGS_MAX;

/// A log or tracer that the writer knows for as long as this lives.
#[derive(Debug)]
pub struct Declaration<T> {
    slot: u32,
    released: Sender<u32>,
    messages: Sender<Message>,
    kind: PhantomData<fn() -> T>,
}

impl<T> Declaration<T> {
    /// Its place.
    pub(super) fn slot(&self) -> u32 {
        self.slot
    }
}

impl<T> Drop for Declaration<T> {
    fn drop(&mut self) {
        // Not bounded itself, but there are at most as many as places. It fails only when the writer is gone.
        let _ = self.released.send(self.slot);
        // When the queue is full the writer is awake anyway.
        let _ = self.messages.try_send(Message::Wake);
    }
}

/// The places, as those who declare see them.
#[derive(Debug)]
pub(super) struct Places<T> {
    specs: Vec<Option<Arc<T>>>,
    free: Vec<u32>,
    released: Sender<u32>,
    messages: Sender<Message>,
}

impl<T> Places<T> {
    /// None yet, and where they are given back.
    pub(super) fn new(messages: Sender<Message>) -> (Self, Receiver<u32>) {
        let (released, given_back) = unbounded();
        (Self { specs: Vec::new(), free: Vec::new(), released, messages }, given_back)
    }

    /// Takes a place; `None` when there is none left.
    pub(super) fn take(&mut self, spec: T) -> Option<Declaration<T>> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.specs.len() >= LOGS_MAX => return None,
            None => {
                self.specs.push(None);
                u32::try_from(self.specs.len() - 1).ok()?
            }
        };
        *self.specs.get_mut(slot as usize)? = Some(Arc::new(spec));
        let (released, messages) = (self.released.clone(), self.messages.clone());
        Some(Declaration { slot, released, messages, kind: PhantomData })
    }

    /// What was declared at a place.
    pub(super) fn at(&self, slot: u32) -> Option<Arc<T>> {
        self.specs.get(slot as usize)?.clone()
    }

    /// A place may be given out again.
    pub(super) fn free(&mut self, slot: u32) {
        if let Some(spec) = self.specs.get_mut(slot as usize) {
            *spec = None;
            self.free.push(slot);
        }
    }
}

/// A place that was given back, with what was there.
pub(super) type Left<T, P> = (u32, Option<(Arc<T>, P)>);

/// The places, as the writer sees them, with what waits to be sent of each.
#[derive(Debug)]
pub(super) struct Known<T, P> {
    slots: Vec<Option<(Arc<T>, P)>>,
    given_back: Receiver<u32>,
    /// Places given back, and how many messages have to be seen before nothing can follow.
    leaving: Vec<(u64, u32)>,
}

impl<T, P: Default> Known<T, P> {
    pub(super) fn new(given_back: Receiver<u32>) -> Self {
        Self { slots: Vec::new(), given_back, leaving: Vec::new() }
    }

    /// What is at a place; `learn` asks for what was not seen before.
    pub(super) fn at(
        &mut self,
        slot: u32,
        learn: impl FnOnce(u32) -> Option<Arc<T>>,
    ) -> Option<&mut (Arc<T>, P)> {
        let index = slot as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        let place = self.slots.get_mut(index)?;
        if place.is_none() {
            *place = learn(slot).map(|spec| (spec, P::default()));
        }
        place.as_mut()
    }

    /// Everything there is.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut (Arc<T>, P)> {
        self.slots.iter_mut().flatten()
    }

    /// Everything there is.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Arc<T>, P)> {
        self.slots.iter().flatten()
    }

    /// The places that nothing can come to any more, taken out. `seen` messages were received, `waiting` are in the
    /// queue: a place is given back after the last message for it was sent.
    pub(super) fn left(&mut self, seen: u64, waiting: impl FnOnce() -> usize) -> Vec<Left<T, P>> {
        if !self.given_back.is_empty() {
            let slots: Vec<u32> = self.given_back.try_iter().collect();
            // Asked after they were given back: what was sent before is among those that wait.
            let bound = seen + waiting() as u64;
            self.leaving.extend(slots.into_iter().map(|slot| (bound, slot)));
        }
        let mut left = Vec::new();
        self.leaving.retain(|(bound, slot)| {
            if *bound > seen {
                return true;
            }
            left.push((*slot, self.slots.get_mut(*slot as usize).and_then(Option::take)));
            false
        });
        left
    }
}
