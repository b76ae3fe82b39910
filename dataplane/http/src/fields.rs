//! The field section of a head or of trailers: one byte arena and a small index into it.

use crate::limits::HEAD_EDIT_BYTES_MAX;

/// A range of the arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// One field line. 16 bytes, so that a scan for a name touches few cache lines.
#[derive(Clone, Copy, Debug)]
struct FieldSpan {
    name_start: u32,
    value_start: u32,
    value_len: u32,
    name_len: u16,
}

/// Why an edit was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The head would grow past [`HEAD_EDIT_BYTES_MAX`] beyond its decoded size.
    #[error("head too large after edits")]
    TooLarge,
    /// The name is empty, longer than 65535 bytes, or has a byte outside `token`.
    #[error("invalid field name")]
    Name,
}

/// Fields in the order received, names in their original case.
///
/// Lookups compare names without regard to ASCII case. Edits append to the arena and move index
/// entries only, so replacing a value costs its length. All memory is kept by
/// [`clear`](Self::clear): a warm `Fields` allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    arena: Vec<u8>,
    index: Vec<FieldSpan>,
    /// Arena length when decoding ended; edits are counted from here.
    decoded_len: usize,
}

impl Fields {
    /// An empty section; allocates on first use.
    pub const fn new() -> Self {
        Self { arena: Vec::new(), index: Vec::new(), decoded_len: 0 }
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// All fields in order as (name, value).
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone + '_ {
        self.index.iter().map(|f| (self.name(f), self.value(f)))
    }

    /// Value of the first field called `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.index.iter().find(|f| self.is_named(f, name)).map(|f| self.value(f))
    }

    /// Values of all fields called `name`, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.index.iter().filter(move |f| self.is_named(f, name)).map(|f| self.value(f))
    }

    /// Whether a field called `name` is present.
    pub fn contains(&self, name: &str) -> bool {
        self.index.iter().any(|f| self.is_named(f, name))
    }

    /// All values of `name` joined by `,` as matchers see repeated fields, written to `out`
    /// (cleared first). False when the field is absent.
    pub fn get_joined(&self, name: &str, out: &mut Vec<u8>) -> bool {
        out.clear();
        let mut found = false;
        for value in self.get_all(name) {
            if found {
                out.push(b',');
            }
            out.extend_from_slice(value);
            found = true;
        }
        found
    }

    /// Adds a field at the end.
    ///
    /// Bytes of `value` that could end the line (CR, LF, NUL) are written as spaces: a value from
    /// configuration or from another message can never start a field of its own.
    pub fn append(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
        let field = self.store(name, value)?;
        self.index.push(field);
        Ok(())
    }

    /// Adds a field that arrived, without the bound for edits: whoever received it has bounded the head. False, and
    /// nothing is added, when the name is longer than 65535 bytes or the head 4 GiB.
    pub fn receive(&mut self, name: &[u8], value: &[u8]) -> bool {
        let fits = self.arena.len() + name.len() + value.len() <= u32::MAX as usize;
        let Some(name_len) = u16::try_from(name.len()).ok().filter(|_| fits) else { return false };
        let name = self.receive_bytes(name);
        let value = self.receive_bytes(value);
        self.index.push(FieldSpan {
            name_start: name.start,
            name_len,
            value_start: value.start,
            value_len: value.len,
        });
        true
    }

    /// Replaces all fields called `name` by one, at the place and with the name's case of the
    /// first; appends when there is none. `value` is treated as in [`append`](Self::append).
    pub fn set(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
        let Some(position) = self.index.iter().position(|f| self.is_named(f, name)) else {
            return self.append(name, value);
        };
        let value = self.store_value(value)?;
        if let Some(field) = self.index.get_mut(position) {
            field.value_start = value.start;
            field.value_len = value.len;
        }
        let Self { arena, index, .. } = self;
        let mut i = 0;
        index.retain(|f| {
            let duplicate = i > position && span_is_named(arena, f, name);
            i += 1;
            !duplicate
        });
        Ok(())
    }

    /// The same, but a field that was not there comes before all others.
    pub fn set_first(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
        if self.contains(name) {
            return self.set(name, value);
        }
        let field = self.store(name, value)?;
        self.index.insert(0, field);
        Ok(())
    }

    /// Removes all fields called `name`; true when there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.index.len();
        let Self { arena, index, .. } = self;
        index.retain(|f| !span_is_named(arena, f, name));
        self.index.len() != before
    }

    /// Keeps the fields for which `keep(name, value)` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let Self { arena, index, .. } = self;
        index.retain(|f| keep(span_name(arena, f), span_value(arena, f)));
    }

    /// Forgets all fields and keeps the memory for the next message.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.index.clear();
        self.decoded_len = 0;
    }

    /// Heap bytes held, used or not: what an idle connection would keep. Drop or replace the
    /// value before parking a connection whose head was unusually large.
    pub fn heap_bytes(&self) -> usize {
        self.arena.capacity() + self.index.capacity() * size_of::<FieldSpan>()
    }

    pub(crate) fn arena(&self) -> &[u8] {
        &self.arena
    }

    /// Adds received bytes that are no field.
    pub(crate) fn receive_bytes(&mut self, bytes: &[u8]) -> Span {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        // The caller's bound on a head is far below 4 GiB.
        Span { start: start as u32, len: bytes.len() as u32 }
    }

    pub(crate) fn extend_arena(&mut self, bytes: &[u8]) {
        self.arena.extend_from_slice(bytes);
    }

    /// Ends receiving: everything that follows counts as an edit.
    pub fn seal(&mut self) {
        self.decoded_len = self.arena.len();
    }

    /// The received bytes, and the index to fill while they are parsed.
    pub(crate) fn parts(&mut self) -> (&[u8], Index<'_>) {
        (&self.arena, Index(&mut self.index))
    }

    /// Sets `name` to a value that is already in the arena.
    pub(crate) fn set_from_arena(&mut self, name: &str, value: Span) -> Result<(), EditError> {
        self.set(name, b"")?;
        let Self { arena, index, .. } = self;
        if let Some(field) = index.iter_mut().find(|f| span_is_named(arena, f, name)) {
            field.value_start = value.start;
            field.value_len = value.len;
        }
        Ok(())
    }

    /// Appends `prefix` and a copy of bytes that are already in the arena.
    pub(crate) fn store_joined(&mut self, prefix: &[u8], rest: Span) -> Result<Span, EditError> {
        let stored = self.store_value(prefix)?;
        let start = rest.start as usize;
        let end = start + rest.len as usize;
        if end <= self.arena.len() {
            self.arena.extend_from_within(start..end);
        }
        Ok(Span { start: stored.start, len: stored.len + rest.len })
    }

    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        slice(&self.arena, span.start, span.len)
    }

    /// Appends bytes that are not a field (a rewritten path, for example).
    pub(crate) fn store_value(&mut self, value: &[u8]) -> Result<Span, EditError> {
        self.expect_room(value.len())?;
        let start = self.arena.len();
        self.arena.extend_from_slice(value);
        if memchr::memchr3(b'\r', b'\n', 0, value).is_some() {
            for byte in self.arena.iter_mut().skip(start) {
                if matches!(*byte, b'\r' | b'\n' | 0) {
                    *byte = b' ';
                }
            }
        }
        // Both lengths are bounded by limits far below 4 GiB.
        Ok(Span { start: start as u32, len: value.len() as u32 })
    }

    fn expect_room(&self, added_len: usize) -> Result<(), EditError> {
        let fits = self.arena.len() + added_len <= self.decoded_len + HEAD_EDIT_BYTES_MAX;
        fits.then_some(()).ok_or(EditError::TooLarge)
    }

    fn store(&mut self, name: &str, value: &[u8]) -> Result<FieldSpan, EditError> {
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return Err(EditError::Name);
        }
        let name_len = u16::try_from(name.len()).map_err(|_| EditError::Name)?;
        self.expect_room(name.len() + value.len())?;
        // A token has nothing that could end the line.
        let name = self.receive_bytes(name.as_bytes());
        let value = self.store_value(value)?;
        Ok(FieldSpan { name_start: name.start, name_len, value_start: value.start, value_len: value.len })
    }

    fn name(&self, field: &FieldSpan) -> &[u8] {
        span_name(&self.arena, field)
    }

    fn value(&self, field: &FieldSpan) -> &[u8] {
        span_value(&self.arena, field)
    }

    fn is_named(&self, field: &FieldSpan, name: &str) -> bool {
        span_is_named(&self.arena, field, name)
    }
}

/// The index of a section being decoded.
pub(crate) struct Index<'a>(&'a mut Vec<FieldSpan>);

impl Index<'_> {
    /// Adds a field whose bytes are in the arena. False when the name is longer than 65535 bytes,
    /// which only a head limit raised above its default lets through.
    #[must_use]
    pub(crate) fn push(&mut self, name: Span, value: Span) -> bool {
        let Ok(name_len) = u16::try_from(name.len) else { return false };
        let (name_start, value_start, value_len) = (name.start, value.start, value.len);
        self.0.push(FieldSpan { name_start, name_len, value_start, value_len });
        true
    }
}

fn slice(arena: &[u8], start: u32, len: u32) -> &[u8] {
    let start = start as usize;
    arena.get(start..start + len as usize).unwrap_or(&[])
}

fn span_name<'a>(arena: &'a [u8], field: &FieldSpan) -> &'a [u8] {
    slice(arena, field.name_start, u32::from(field.name_len))
}

fn span_value<'a>(arena: &'a [u8], field: &FieldSpan) -> &'a [u8] {
    slice(arena, field.value_start, field.value_len)
}

fn span_is_named(arena: &[u8], field: &FieldSpan, name: &str) -> bool {
    field.name_len as usize == name.len() && span_name(arena, field).eq_ignore_ascii_case(name.as_bytes())
}

/// RFC 9110 §5.6.2 `tchar`.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    // A bit of a table instead of a dozen comparisons: every name that is added is checked.
    let half = if byte < 64 { TOKEN_BYTES as u64 } else { (TOKEN_BYTES >> 64) as u64 };
    byte < 128 && half >> (byte % 64) & 1 == 1
}

/// Bit N is set when byte N is a `tchar`.
const TOKEN_BYTES: u128 = {
    let mut bits = 0;
    let mut byte = 0;
    while byte < 128 {
        let is_token = matches!(byte as u8,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z');
        bits |= (is_token as u128) << byte;
        byte += 1;
    }
    bits
};

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in list {
            fields.append(name, value.as_bytes()).expect("valid test field");
        }
        fields
    }

    fn show(fields: &Fields) -> String {
        fields
            .iter()
            .map(|(n, v)| format!("{}: {}\n", String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
            .collect()
    }

    #[test]
    fn names_match_in_any_case_and_keep_their_own() {
        let f = fields(&[("X-Foo", "1"), ("x-bar", "2")]);
        assert_eq!(f.get("x-foo"), Some(&b"1"[..]));
        assert_eq!(f.get("X-BAR"), Some(&b"2"[..]));
        assert_eq!(show(&f), "X-Foo: 1\nx-bar: 2\n");
    }

    #[test]
    fn set_replaces_in_place_and_drops_repetitions() {
        let mut f = fields(&[("A", "1"), ("B", "2"), ("a", "3"), ("C", "4")]);
        f.set("a", b"9").expect("fits");
        assert_eq!(show(&f), "A: 9\nB: 2\nC: 4\n");
        f.set("D", b"5").expect("fits");
        assert_eq!(f.len(), 4);
    }

    #[test]
    fn remove_takes_every_occurrence() {
        let mut f = fields(&[("a", "1"), ("b", "2"), ("A", "3")]);
        assert!(f.remove("a"));
        assert!(!f.remove("a"));
        assert_eq!(show(&f), "b: 2\n");
    }

    #[test]
    fn a_value_cannot_start_a_line() {
        let mut f = Fields::new();
        f.append("a", b"1\r\nInjected: yes\0").expect("fits");
        assert_eq!(f.get("a"), Some(&b"1  Injected: yes "[..]));
    }

    #[test]
    fn names_outside_token_are_refused() {
        let mut f = Fields::new();
        for bad in ["", "a b", "a:", "a\r\n", "é"] {
            assert_eq!(f.append(bad, b"1"), Err(EditError::Name), "{bad:?}");
        }
        assert!(f.is_empty());
    }

    #[test]
    fn edits_stop_at_their_limit() {
        let mut f = Fields::new();
        let value = vec![b'v'; HEAD_EDIT_BYTES_MAX - 1];
        f.append("a", &value).expect("exactly at the limit");
        assert_eq!(f.append("b", b""), Err(EditError::TooLarge));
    }

    #[test]
    fn repeated_values_join_with_a_comma() {
        let f = fields(&[("a", "1"), ("b", "x"), ("a", "2")]);
        let mut out = Vec::new();
        assert!(f.get_joined("a", &mut out));
        assert_eq!(out, b"1,2");
        assert!(!f.get_joined("zz", &mut out));
    }

    #[test]
    fn clear_keeps_the_memory() {
        let mut f = fields(&[("name", "value")]);
        let held = f.heap_bytes();
        f.clear();
        assert!(f.is_empty());
        assert_eq!(f.heap_bytes(), held);
    }
}
