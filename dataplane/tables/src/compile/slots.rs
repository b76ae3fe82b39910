//! Names with stable places.

use hashbrown::HashMap;

use crate::strings::Str;

/// Gives each name in use a dense slot, and frees the slot when its last user is gone.
///
/// Generations are unique over the compiler's life, so that a reused slot is never mistaken for its earlier user.
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_name: HashMap<Str, Entry>,
    free: Vec<u32>,
    end: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    users: u32,
}

/// A slot with its generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl Slots {
    /// The place of a name, with one more user.
    pub(super) fn acquire(&mut self, name: &Str) -> Place {
        if let Some(entry) = self.by_name.get_mut(name) {
            entry.users += 1;
            return entry.place;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        });
        let place = Place { slot, generation: self.next_generation() };
        self.by_name.insert(name.clone(), Entry { place, users: 1 });
        place
    }

    /// One user less; the place is free after the last one.
    pub(super) fn release(&mut self, name: &Str) {
        let Some(entry) = self.by_name.get_mut(name) else { return };
        entry.users -= 1;
        if entry.users == 0 {
            self.free.push(entry.place.slot);
            self.by_name.remove(name);
        }
    }

    /// The place of a name that is in use.
    pub(super) fn place(&self, name: &str) -> Option<Place> {
        self.by_name.get(name).map(|entry| entry.place)
    }

    /// A generation that nobody else has.
    pub(super) fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// First slot that was never used.
    pub(super) fn end(&self) -> usize {
        self.end as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_place_while_anyone_uses_it() {
        let mut slots = Slots::default();
        let name = Str::new("a");
        let place = slots.acquire(&name);
        slots.acquire(&name);
        slots.release(&name);
        assert_eq!(slots.place("a"), Some(place));
        slots.release(&name);
        assert_eq!(slots.place("a"), None);
    }

    #[test]
    fn a_reused_slot_has_another_generation() {
        let mut slots = Slots::default();
        let first = slots.acquire(&Str::new("a"));
        slots.release(&Str::new("a"));
        let second = slots.acquire(&Str::new("b"));
        assert_eq!(first.slot, second.slot);
        assert_ne!(first.generation, second.generation);
        assert_eq!(slots.end(), 1);
    }
}
