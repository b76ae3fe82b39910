//! DNS messages, as far as a stub resolver needs them: one question, and of the answer addresses and aliases.
//!
//! Source: RFC 1035 section 4, RFC 3596 section 2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// IPv4 addresses.
    A = 1,
    /// IPv6 addresses.
    Aaaa = 28,
}

/// What a server said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// There is more than fits; ask over TCP.
    pub truncated: bool,
    /// `RCODE`: 0 is no error, 3 is no such name.
    pub code: u8,
    /// The addresses in their order.
    pub addresses: Vec<IpAddr>,
    /// How long they hold, in seconds: the shortest of their records and of the aliases that lead to them.
    pub ttl: Option<u32>,
}

/// Longest encoded name. Source: RFC 1035 section 2.3.4.
const NAME_BYTES_MAX: usize = 255;
/// Longest label.
const LABEL_BYTES_MAX: usize = 63;
/// Pointers followed in one name: each must lead backwards, so that this only bounds the work.
const POINTERS_MAX: usize = 32;
/// Aliases followed from one name to the next.
const ALIASES_MAX: usize = 16;

const HEADER_LEN: usize = 12;
const TYPE_CNAME: u16 = 5;
const CLASS_IN: u16 = 1;

/// A question; `None` when `name` is no name.
pub fn encode(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(HEADER_LEN + name.len() + 6);
    out.extend_from_slice(&id.to_be_bytes());
    // A question that asks for recursion; one of them and no records.
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&encoded(name)?);
    out.extend_from_slice(&(kind as u16).to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    Some(out)
}

/// The answer to the question that [`encode`] writes of the same; `None` when `message` is not that.
pub fn decode(message: &[u8], id: u16, name: &str, kind: Kind) -> Option<Answer> {
    let mut reader = Reader { message, at: 0 };
    if reader.number()? != id {
        return None;
    }
    let flags = reader.number()?;
    let [questions, answers] = [reader.number()?, reader.number()?];
    reader.at = HEADER_LEN;
    let is_answer = flags & 0x8000 != 0 && flags & 0x7800 == 0;
    let asked = encoded(name)?;
    let repeated = questions == 1
        && reader.name()? == asked
        && reader.number()? == kind as u16
        && reader.number()? == CLASS_IN;
    if !is_answer || !repeated {
        return None;
    }
    let truncated = flags & 0x0200 != 0;
    let mut records = Vec::new();
    for _ in 0..answers {
        match reader.record() {
            Some(record) => records.push(record),
            // What does not fit is cut off anywhere.
            None if truncated => break,
            None => return None,
        }
    }
    let (mut owner, mut ttl) = (asked, None::<u32>);
    let mut shorten = |by: u32| ttl = Some(ttl.map_or(by, |ttl: u32| ttl.min(by)));
    for _ in 0..ALIASES_MAX {
        let alias = records.iter().find_map(|record| match &record.data {
            Data::Alias(target) if record.owner == owner => Some((target, record.ttl)),
            _ => None,
        });
        let Some((target, ttl)) = alias else { break };
        shorten(ttl);
        owner = target.clone();
    }
    let mut addresses = Vec::new();
    for record in &records {
        if let Data::Address(address) = record.data
            && record.owner == owner
            && address.is_ipv4() == (kind == Kind::A)
        {
            shorten(record.ttl);
            addresses.push(address);
        }
    }
    Some(Answer {
        truncated,
        code: (flags & 0xf) as u8,
        ttl: ttl.filter(|_| !addresses.is_empty()),
        addresses,
    })
}

/// A name as labels with their lengths, in lower case.
fn encoded(name: &str) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        if label.is_empty() || label.len() > LABEL_BYTES_MAX || !label.is_ascii() {
            return None;
        }
        out.push(label.len() as u8);
        out.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    out.push(0);
    (out.len() <= NAME_BYTES_MAX).then_some(out)
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

struct Record {
    owner: Vec<u8>,
    ttl: u32,
    data: Data,
}

enum Data {
    Address(IpAddr),
    Alias(Vec<u8>),
    Other,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.message.get(self.at..self.at.checked_add(N)?)?.try_into().ok()?;
        self.at += N;
        Some(bytes)
    }

    fn number(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn record(&mut self) -> Option<Record> {
        let owner = self.name()?;
        let [kind, class] = [self.number()?, self.number()?];
        let ttl = u32::from_be_bytes(self.take()?);
        let len = usize::from(self.number()?);
        let end = self.at + len;
        let data = match (kind, class, len) {
            (1, CLASS_IN, 4) => Data::Address(Ipv4Addr::from(self.take::<4>()?).into()),
            (28, CLASS_IN, 16) => Data::Address(Ipv6Addr::from(self.take::<16>()?).into()),
            (TYPE_CNAME, CLASS_IN, _) => Data::Alias(self.name()?),
            _ => Data::Other,
        };
        self.at = end;
        // RFC 2181 section 8: a lifetime with the topmost bit is none.
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        (end <= self.message.len()).then_some(Record { owner, ttl, data })
    }

    /// A name, whose rest may stand earlier in the message. In lower case.
    fn name(&mut self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        let (mut at, mut resume) = (self.at, None);
        for _ in 0..=POINTERS_MAX {
            loop {
                let length = *self.message.get(at)?;
                match length {
                    0 => {
                        name.push(0);
                        self.at = resume.unwrap_or(at + 1);
                        return (name.len() <= NAME_BYTES_MAX).then_some(name);
                    }
                    1..=63 => {
                        let label = self.message.get(at..at + 1 + usize::from(length))?;
                        name.extend(label.iter().map(|byte| byte.to_ascii_lowercase()));
                        if name.len() > NAME_BYTES_MAX {
                            return None;
                        }
                        at += label.len();
                    }
                    0xc0.. => {
                        let low = *self.message.get(at + 1)?;
                        resume.get_or_insert(at + 2);
                        let target = usize::from(length & 0x3f) << 8 | usize::from(low);
                        if target >= at {
                            return None;
                        }
                        at = target;
                        break;
                    }
                    64..=0xbf => return None,
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer of one question with records that were encoded by hand.
    fn answer(flags: u16, name: &str, kind: Kind, records: &[&[u8]]) -> Vec<u8> {
        let mut message = encode(7, name, kind).expect("a name");
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        records.iter().for_each(|record| message.extend_from_slice(record));
        message
    }

    fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
        let mut record = owner.to_vec();
        record.extend_from_slice(&kind.to_be_bytes());
        record.extend_from_slice(&CLASS_IN.to_be_bytes());
        record.extend_from_slice(&ttl.to_be_bytes());
        record.extend_from_slice(&(data.len() as u16).to_be_bytes());
        record.extend_from_slice(data);
        record
    }

    /// Points at the question's name.
    const ASKED: &[u8] = &[0xc0, 12];
    const GOOD: u16 = 0x8180;

    #[test]
    fn a_question_is_what_servers_read() {
        let question = encode(0x0102, "A.bc.", Kind::Aaaa).unwrap();
        assert_eq!(question, b"\x01\x02\x01\0\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x1c\0\x01");
        let label = "x".repeat(64);
        let long = format!("{}a", "a.".repeat(127));
        for name in ["", ".", "a..b", ".a", "ä.b", &label, &long] {
            assert!(encode(1, name, Kind::A).is_none(), "{name:?}");
        }
        assert!(encode(1, &"a.".repeat(127), Kind::A).is_some(), "255 bytes");
    }

    #[test]
    fn addresses_come_in_order_with_the_shortest_lifetime() {
        let one = record(ASKED, 1, 30, &[10, 0, 0, 2]);
        let two = record(ASKED, 1, 20, &[10, 0, 0, 1]);
        let message = answer(GOOD, "App.Test", Kind::A, &[&one, &two]);
        let found = decode(&message, 7, "app.test.", Kind::A).unwrap();
        assert_eq!(found.addresses, [[10, 0, 0, 2].into(), IpAddr::from([10, 0, 0, 1])]);
        assert_eq!((found.ttl, found.code, found.truncated), (Some(20), 0, false));
    }

    #[test]
    fn aliases_are_followed_in_any_order_and_strangers_are_not() {
        let alias = record(ASKED, TYPE_CNAME, 5, b"\x01b\x04test\0");
        let behind = record(b"\x01B\x04TEST\0", 1, 60, &[10, 0, 0, 1]);
        let stranger = record(b"\x01c\x04test\0", 1, 1, &[10, 0, 0, 9]);
        let message = answer(GOOD, "a.test", Kind::A, &[&stranger, &behind, &alias]);
        let found = decode(&message, 7, "a.test", Kind::A).unwrap();
        assert_eq!((found.addresses, found.ttl), (vec![[10, 0, 0, 1].into()], Some(5)));
    }

    #[test]
    fn aliases_in_a_circle_lead_nowhere() {
        let there = record(ASKED, TYPE_CNAME, 5, b"\x01b\0");
        let back = record(b"\x01b\0", TYPE_CNAME, 5, b"\x01a\0");
        let message = answer(GOOD, "a", Kind::A, &[&there, &back]);
        assert!(decode(&message, 7, "a", Kind::A).unwrap().addresses.is_empty());
    }

    #[test]
    fn the_answer_to_another_question_is_none() {
        let message = answer(GOOD, "a.test", Kind::A, &[]);
        assert!(decode(&message, 7, "a.test", Kind::A).is_some());
        assert!(decode(&message, 8, "a.test", Kind::A).is_none(), "number");
        assert!(decode(&message, 7, "b.test", Kind::A).is_none(), "name");
        assert!(decode(&message, 7, "a.test", Kind::Aaaa).is_none(), "kind");
        let question = answer(0x0100, "a.test", Kind::A, &[]);
        assert!(decode(&question, 7, "a.test", Kind::A).is_none(), "a question");
    }

    #[test]
    fn what_is_cut_off_is_no_answer_unless_it_says_so() {
        let one = record(ASKED, 28, 30, &[0; 16]);
        let whole = answer(GOOD, "a.test", Kind::Aaaa, &[&one]);
        let cut_off = answer(GOOD | 0x0200, "a.test", Kind::Aaaa, &[&one]);
        for end in 0..whole.len() {
            assert!(decode(&whole[..end], 7, "a.test", Kind::Aaaa).is_none(), "{end}");
        }
        let found = decode(&cut_off[..cut_off.len() - 3], 7, "a.test", Kind::Aaaa).unwrap();
        assert!(found.truncated && found.addresses.is_empty());
    }

    #[test]
    fn pointers_go_backwards_only() {
        for owner in [&[0xc0, 24][..], &[0xc0, 200], &[1, b'a', 0xc0, 24]] {
            let one = record(owner, 1, 30, &[10, 0, 0, 1]);
            let message = answer(GOOD, "a.test", Kind::A, &[&one]);
            assert!(decode(&message, 7, "a.test", Kind::A).is_none(), "{owner:?}");
        }
    }
}
