//! Counts the frames of a connection as they pass, and tells when a peer sends more of a kind than any honest one.
//!
//! It looks at frame headers and the first bytes behind them; what frames mean is `h2`'s business. The bounds are
//! Envoy's. Each is about frames that cost the receiver work or memory and the sender next to nothing. It also finds
//! mistakes that `h2` answers with another code than the RFC has for them, or not at all: [`Mistake`].

use std::cell::Cell;

use ringsail_tables::http2::Http2Settings;
use ringsail_telemetry::Http2Counter;

use super::codec_stats::CodecStats;

/// More frames of a kind than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// HEADERS, CONTINUATION or DATA without payload.
    Empty,
    /// PRIORITY.
    Priority,
    /// WINDOW_UPDATE.
    WindowUpdate,
    /// Frames that need an answer, from a peer that takes none.
    Control,
}

/// What a peer may not send, and with which code its connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A frame of fixed size has another. Source: RFC 9113 §6.3 to §6.9.
    FrameSize,
    /// A window past 2³¹ − 1. Source: RFC 9113 §6.5.2.
    Window,
    /// Trailers with a pseudo-header field, as far as their first byte shows it: an entry of HPACK's dynamic table does
    /// not. Such a field is dropped. Source: RFC 9113 §8.1.
    ///
    /// Compat: it ends the connection, as in Envoy, where the RFC only resets the stream.
    Trailers,
}

impl Mistake {
    /// The error code. Source: RFC 9113 §7.
    pub fn code(self) -> u32 {
        match self {
            Mistake::FrameSize => 0x6,
            Mistake::Window => 0x3,
            Mistake::Trailers => 0x1,
        }
    }
}

/// Why the rest of what was received is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Too much of a kind: the connection is cut.
    Flood(Flood),
    /// The connection is ended with a code, after the bytes before this place.
    Mistake(Mistake, usize),
}

/// What passed so far; the bounds come from the settings of the side it guards.
#[derive(Debug)]
pub struct Guard {
    incoming: Cell<Scanner>,
    outgoing: Cell<Scanner>,
    empty_in_row: Cell<u32>,
    priorities: Cell<u64>,
    window_updates: Cell<u64>,
    unanswered: Cell<u32>,
    streams: Cell<u64>,
    data_sent: Cell<u64>,
    stats: CodecStats,
    /// The largest id of a stream that a HEADERS frame of the peer has named.
    latest_stream: Cell<u32>,
    /// Looks into the frame that the peer is sending.
    inside: Cell<Inside>,
    mistake: Cell<Option<Mistake>>,
    settings_received: Cell<bool>,
    go_away_received: Cell<bool>,
    in_header_block: Cell<bool>,
    blocked: Cell<bool>,
    flood: Cell<Option<Flood>>,
    /// Received and sent so far, frames and all.
    bytes: Cell<(u64, u64)>,
    peer_has_ended: Cell<bool>,
    empty_max: u32,
    priorities_per_stream_max: u64,
    window_updates_per_data_max: u64,
    unanswered_max: u32,
}

/// Finds frame headers in one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Scanner {
    header: [u8; FRAME_HEADER_BYTES],
    filled: u8,
    /// Bytes until the next frame header.
    skip: u32,
    /// They are looked at.
    looks: bool,
}

const FRAME_HEADER_BYTES: usize = 9;

/// A frame's header. Source: RFC 9113 §4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    len: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

/// What is looked for in a frame's payload.
#[derive(Clone, Copy, Debug, Default)]
enum Inside {
    #[default]
    Nothing,
    /// Entries of SETTINGS: how many bytes of the current one came, and which.
    Settings(usize, [u8; SETTING_BYTES]),
    /// The first field of trailers, after so many bytes.
    Trailers(u32),
}

const SETTING_BYTES: usize = 6;

impl Guard {
    /// Notes what went over the wire so far.
    pub fn set_bytes(&self, received: u64, sent: u64) {
        self.bytes.set((received, sent));
    }

    /// Bytes received and sent so far.
    pub fn bytes(&self) -> (u64, u64) {
        self.bytes.get()
    }

    /// The peer has ended its side of the connection.
    pub fn peer_ends(&self) {
        self.peer_has_ended.set(true);
    }

    /// Whether it has.
    pub fn peer_has_ended(&self) -> bool {
        self.peer_has_ended.get()
    }

    /// For a connection. `preface` bytes of the peer come before its first frame.
    pub fn new(settings: &Http2Settings, preface_in: u32, preface_out: u32, stats: CodecStats) -> Guard {
        Guard {
            incoming: Cell::new(Scanner { skip: preface_in, ..Scanner::default() }),
            outgoing: Cell::new(Scanner { skip: preface_out, ..Scanner::default() }),
            empty_in_row: Cell::new(0),
            priorities: Cell::new(0),
            window_updates: Cell::new(0),
            unanswered: Cell::new(0),
            streams: Cell::new(0),
            data_sent: Cell::new(0),
            stats,
            latest_stream: Cell::new(0),
            inside: Cell::default(),
            mistake: Cell::new(None),
            settings_received: Cell::new(false),
            go_away_received: Cell::new(false),
            in_header_block: Cell::new(false),
            blocked: Cell::new(false),
            flood: Cell::new(None),
            bytes: Cell::new((0, 0)),
            peer_has_ended: Cell::new(false),
            empty_max: settings.empty_frames_max,
            priorities_per_stream_max: settings.priority_frames_per_stream_max.into(),
            window_updates_per_data_max: settings.window_updates_per_data_frame_max.into(),
            unanswered_max: settings.control_frames_max,
        }
    }

    /// Looks at received bytes.
    pub fn received(&self, bytes: &[u8]) -> Result<(), Stop> {
        let mut scanner = self.incoming.get();
        let result = scanner.scan(bytes, |frame| self.judge(frame), |payload| self.look_inside(payload));
        self.incoming.set(scanner);
        result.inspect_err(|stop| match stop {
            Stop::Flood(flood) => {
                self.flood.set(Some(*flood));
                self.stats.count(match flood {
                    Flood::Empty => Http2Counter::InboundEmptyFramesFlood,
                    Flood::Priority => Http2Counter::InboundPriorityFramesFlood,
                    Flood::WindowUpdate => Http2Counter::InboundWindowUpdateFramesFlood,
                    Flood::Control => Http2Counter::OutboundControlFlood,
                });
            }
            Stop::Mistake(mistake, _) => {
                self.mistake.set(Some(*mistake));
                self.stats.count(Http2Counter::RxMessagingError);
            }
        })
    }

    /// Looks at sent bytes.
    pub fn sent(&self, bytes: &[u8]) {
        self.blocked.set(false);
        self.unanswered.set(0);
        let mut scanner = self.outgoing.get();
        let found = |frame: Frame| {
            match frame.kind {
                DATA => self.data_sent.set(self.data_sent.get() + 1),
                RST_STREAM => self.stats.count(Http2Counter::TxReset),
                GOAWAY => self.stats.count(Http2Counter::GoawaySent),
                _ => {}
            }
            Ok(false)
        };
        let _ = scanner.scan(bytes, found, |_| Ok(()));
        self.outgoing.set(scanner);
    }

    /// The peer takes no bytes.
    pub fn sending_is_blocked(&self) {
        self.blocked.set(true);
    }

    /// A head has begun and its end has not come: nothing else can come before.
    pub fn in_header_block(&self) -> bool {
        self.in_header_block.get()
    }

    /// The peer has sent its settings.
    pub fn settings_received(&self) -> bool {
        self.settings_received.get()
    }

    /// The peer wants no more streams.
    pub fn go_away_received(&self) -> bool {
        self.go_away_received.get()
    }

    /// What ended the connection.
    pub fn flood(&self) -> Option<Flood> {
        self.flood.get()
    }

    /// What ends the connection, once the bytes before it are read.
    pub fn mistake(&self) -> Option<Mistake> {
        self.mistake.get()
    }

    /// Where the connection counts.
    pub fn stats(&self) -> &CodecStats {
        &self.stats
    }

    /// Judges a frame by its header. True when its payload is looked into.
    fn judge(&self, frame: Frame) -> Result<bool, Reject> {
        let wrong_size = match frame.kind {
            PRIORITY => frame.len != 5,
            RST_STREAM | WINDOW_UPDATE => frame.len != 4,
            PING => frame.len != 8,
            SETTINGS if frame.flags & ACK != 0 => frame.len != 0,
            SETTINGS => !frame.len.is_multiple_of(SETTING_BYTES as u32),
            _ => false,
        };
        if wrong_size {
            return Err(Reject::Mistake(Mistake::FrameSize));
        }
        self.count_frame(frame).map_err(Reject::Flood)?;
        let inside = match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => Inside::Settings(0, [0; SETTING_BYTES]),
            HEADERS if frame.stream > self.latest_stream.get() => {
                self.latest_stream.set(frame.stream);
                Inside::Nothing
            }
            // Of a stream that is known: trailers. Upstream they cannot be told from heads that follow a 100.
            HEADERS if matches!(self.stats, CodecStats::Downstream(_)) => {
                let padding = if frame.flags & PADDED != 0 { 1 } else { 0 };
                Inside::Trailers(padding + if frame.flags & HAS_PRIORITY != 0 { 5 } else { 0 })
            }
            _ => Inside::Nothing,
        };
        self.inside.set(inside);
        Ok(!matches!(inside, Inside::Nothing))
    }

    /// Looks at bytes of a frame's payload.
    fn look_inside(&self, payload: &[u8]) -> Result<(), Reject> {
        for byte in payload {
            match self.inside.get() {
                Inside::Nothing => return Ok(()),
                Inside::Settings(filled, mut entry) => {
                    entry[filled] = *byte;
                    let whole = filled + 1 == SETTING_BYTES;
                    self.inside.set(Inside::Settings(if whole { 0 } else { filled + 1 }, entry));
                    let [a, b, value @ ..] = entry;
                    let is_window = u16::from_be_bytes([a, b]) == INITIAL_WINDOW_SIZE;
                    if whole && is_window && u32::from_be_bytes(value) > WINDOW_MAX {
                        return Err(Reject::Mistake(Mistake::Window));
                    }
                }
                Inside::Trailers(0) => {
                    // A change of the table's size may come first.
                    if byte & 0xe0 == TABLE_SIZE {
                        self.inside.set(Inside::Nothing);
                        return Ok(());
                    }
                    self.inside.set(Inside::Nothing);
                    if names_pseudo_header(*byte) {
                        return Err(Reject::Mistake(Mistake::Trailers));
                    }
                }
                Inside::Trailers(before) => self.inside.set(Inside::Trailers(before - 1)),
            }
        }
        Ok(())
    }

    fn count_frame(&self, frame: Frame) -> Result<(), Flood> {
        match frame.kind {
            DATA | HEADERS | CONTINUATION => {
                let ends_stream = frame.kind != CONTINUATION && frame.flags & END_STREAM != 0;
                if frame.len == 0 && !ends_stream {
                    bump(&self.empty_in_row);
                } else {
                    self.empty_in_row.set(0);
                }
                if frame.kind != DATA {
                    self.in_header_block.set(frame.flags & END_HEADERS == 0);
                }
                if frame.kind == HEADERS {
                    self.streams.set(self.streams.get() + 1);
                    self.needs_an_answer()?;
                }
                if self.empty_in_row.get() > self.empty_max { Err(Flood::Empty) } else { Ok(()) }
            }
            PRIORITY => {
                let count = self.priorities.get() + 1;
                self.priorities.set(count);
                let allowed = self.priorities_per_stream_max.saturating_mul(1 + self.streams.get());
                if count > allowed { Err(Flood::Priority) } else { Ok(()) }
            }
            WINDOW_UPDATE => {
                let count = self.window_updates.get() + 1;
                self.window_updates.set(count);
                let by_data = self.window_updates_per_data_max.saturating_mul(self.data_sent.get());
                let allowed = 5 + 2_u64.saturating_mul(self.streams.get().saturating_add(by_data));
                if count > allowed { Err(Flood::WindowUpdate) } else { Ok(()) }
            }
            RST_STREAM => {
                self.stats.count(Http2Counter::RxReset);
                self.needs_an_answer()
            }
            PING | SETTINGS if frame.flags & ACK == 0 => {
                self.settings_received.set(self.settings_received.get() || frame.kind == SETTINGS);
                self.needs_an_answer()
            }
            GOAWAY => {
                self.go_away_received.set(true);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn needs_an_answer(&self) -> Result<(), Flood> {
        if !self.blocked.get() {
            return Ok(());
        }
        bump(&self.unanswered);
        if self.unanswered.get() > self.unanswered_max { Err(Flood::Control) } else { Ok(()) }
    }
}

/// Why a frame is not passed on.
enum Reject {
    Flood(Flood),
    Mistake(Mistake),
}

/// Whether a field whose representation begins so has one of the names `:authority` to `:status`, entries 1 to 14 of
/// HPACK's static table. Source: RFC 7541 §6 and appendix A.
fn names_pseudo_header(first: u8) -> bool {
    let index = match first {
        _ if first & 0x80 != 0 => first & 0x7f,
        _ if first & 0x40 != 0 => first & 0x3f,
        _ => first & 0x0f,
    };
    (1..=14).contains(&index)
}

fn bump(count: &Cell<u32>) {
    count.set(count.get().saturating_add(1));
}

impl Reject {
    fn at(self, place: usize) -> Stop {
        match self {
            Reject::Flood(flood) => Stop::Flood(flood),
            Reject::Mistake(mistake) => Stop::Mistake(mistake, place),
        }
    }
}

impl Scanner {
    /// `found` judges a frame by its header and says whether `inside` is to see its payload.
    fn scan(
        &mut self,
        bytes: &[u8],
        mut found: impl FnMut(Frame) -> Result<bool, Reject>,
        mut inside: impl FnMut(&[u8]) -> Result<(), Reject>,
    ) -> Result<(), Stop> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let skipped = (self.skip as usize).min(rest.len());
            if self.looks && skipped > 0 {
                let before = bytes.len() - rest.len();
                inside(&rest[..skipped]).map_err(|reject| reject.at(before))?;
            }
            self.skip -= skipped as u32;
            rest = &rest[skipped..];
            let wanted = FRAME_HEADER_BYTES - usize::from(self.filled);
            let taken = wanted.min(rest.len());
            let filled = usize::from(self.filled);
            self.header[filled..filled + taken].copy_from_slice(&rest[..taken]);
            self.filled += taken as u8;
            rest = &rest[taken..];
            if usize::from(self.filled) == FRAME_HEADER_BYTES {
                let [a, b, c, kind, flags, id @ ..] = self.header;
                let len = u32::from_be_bytes([0, a, b, c]);
                let stream = u32::from_be_bytes(id) & STREAM_ID_MAX;
                // The whole header is in front of `rest`, a part of it perhaps in bytes that went on before.
                let before = (bytes.len() - rest.len()).saturating_sub(FRAME_HEADER_BYTES);
                self.filled = 0;
                self.skip = len;
                self.looks = found(Frame { len, kind, flags, stream }).map_err(|reject| reject.at(before))?;
            }
        }
        Ok(())
    }
}

// Frame types and flags: RFC 9113 §6.
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;
const HAS_PRIORITY: u8 = 0x20;
const STREAM_ID_MAX: u32 = 0x7fff_ffff;
/// Source: RFC 9113 §6.5.2.
const INITIAL_WINDOW_SIZE: u16 = 0x4;
/// Source: RFC 9113 §6.9.1.
const WINDOW_MAX: u32 = 0x7fff_ffff;
/// Source: RFC 7541 §6.3.
const TABLE_SIZE: u8 = 0x20;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.extend(payload);
        bytes
    }

    fn guard() -> Guard {
        Guard::new(&Http2Settings::default(), 0, 0, CodecStats::None)
    }

    fn repeat(guard: &Guard, bytes: &[u8], times: usize) -> Result<(), Stop> {
        (0..times).try_for_each(|_| guard.received(bytes))
    }

    #[test]
    fn one_empty_frame_passes_and_two_in_a_row_do_not() {
        let empty = frame(DATA, 0, b"");
        let guard = guard();
        assert_eq!(repeat(&guard, &empty, 1), Ok(()));
        assert_eq!(guard.received(&frame(DATA, 0, b"x")), Ok(()));
        assert_eq!(repeat(&guard, &empty, 1), Ok(()));
        assert_eq!(repeat(&guard, &empty, 1), Err(Stop::Flood(Flood::Empty)));
        assert_eq!(guard.flood(), Some(Flood::Empty));
    }

    #[test]
    fn empty_frames_that_end_streams_are_no_flood() {
        assert_eq!(repeat(&guard(), &frame(DATA, END_STREAM, b""), 1000), Ok(()));
    }

    #[test]
    fn priorities_are_bounded_by_the_streams_opened() {
        let priority = frame(PRIORITY, 0, &[0; 5]);
        assert_eq!(repeat(&guard(), &priority, 100), Ok(()));
        assert_eq!(repeat(&guard(), &priority, 101), Err(Stop::Flood(Flood::Priority)));
        let open = guard();
        open.received(&frame(HEADERS, END_HEADERS, b"x")).unwrap();
        assert_eq!(repeat(&open, &priority, 200), Ok(()));
        assert_eq!(repeat(&open, &priority, 1), Err(Stop::Flood(Flood::Priority)));
    }

    #[test]
    fn window_updates_are_bounded_by_the_data_sent() {
        let update = frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1]);
        assert_eq!(repeat(&guard(), &update, 5), Ok(()));
        assert_eq!(repeat(&guard(), &update, 6), Err(Stop::Flood(Flood::WindowUpdate)));
        let sender = guard();
        sender.sent(&frame(DATA, 0, b"data"));
        assert_eq!(repeat(&sender, &update, 25), Ok(()));
        assert_eq!(repeat(&sender, &update, 1), Err(Stop::Flood(Flood::WindowUpdate)));
    }

    #[test]
    fn pings_flood_only_a_peer_that_cannot_answer() {
        let ping = frame(PING, 0, &[0; 8]);
        let guard = guard();
        assert_eq!(repeat(&guard, &ping, 5000), Ok(()));
        guard.sending_is_blocked();
        assert_eq!(repeat(&guard, &ping, 1000), Ok(()));
        assert_eq!(repeat(&guard, &ping, 1), Err(Stop::Flood(Flood::Control)));
        guard.sent(b"");
        assert_eq!(repeat(&guard, &ping, 1), Ok(()));
    }

    #[test]
    fn an_open_header_block_is_seen() {
        let guard = guard();
        guard.received(&frame(HEADERS, 0, b"x")).unwrap();
        assert!(guard.in_header_block());
        guard.received(&frame(CONTINUATION, END_HEADERS, b"x")).unwrap();
        assert!(!guard.in_header_block());
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_split() {
        let mut bytes = b"PRI".to_vec();
        for _ in 0..3 {
            bytes.extend(frame(PING, 0, &[7; 8]));
            bytes.extend(frame(RST_STREAM, 0, &[0; 4]));
        }
        for size in 1..bytes.len() {
            let guard = Guard::new(&Http2Settings::default(), 3, 0, CodecStats::None);
            for part in bytes.chunks(size) {
                guard.received(part).unwrap();
            }
            let wrong = frame(PING, 0, b"short");
            assert_eq!(
                guard.received(&wrong),
                Err(Stop::Mistake(Mistake::FrameSize, 0)),
                "in pieces of {size}"
            );
        }
    }

    #[test]
    fn frames_of_a_wrong_size_are_mistakes() {
        for (kind, flags, len) in [
            (PRIORITY, 0, 4),
            (RST_STREAM, 0, 5),
            (SETTINGS, ACK, 6),
            (SETTINGS, 0, 7),
            (WINDOW_UPDATE, 0, 3),
        ] {
            let bytes = [frame(PING, 0, &[0; 8]), frame(kind, flags, &vec![0; len])].concat();
            let stop = Stop::Mistake(Mistake::FrameSize, FRAME_HEADER_BYTES + 8);
            assert_eq!(guard().received(&bytes), Err(stop), "kind {kind}");
        }
    }

    #[test]
    fn a_window_past_its_largest_is_a_mistake() {
        let settings =
            |value: u32| frame(SETTINGS, 0, &[&[0, 3, 0, 0, 0, 9, 0, 4][..], &value.to_be_bytes()].concat());
        assert_eq!(guard().received(&settings(WINDOW_MAX)), Ok(()));
        for split in 0..21 {
            let (bytes, guard) = (settings(WINDOW_MAX + 1), guard());
            let (first, rest) = bytes.split_at(split);
            guard.received(first).unwrap();
            assert!(guard.received(rest).is_err(), "split at {split}");
            assert_eq!(guard.mistake(), Some(Mistake::Window));
        }
    }

    #[test]
    fn pseudo_headers_are_known_by_their_index() {
        for first in [0x81, 0x88, 0x8e, 0x41, 0x01, 0x11, 0x0e] {
            assert!(names_pseudo_header(first), "{first:#x}");
        }
        for first in [0x8f, 0xbe, 0x40, 0x00, 0x10, 0x0f, 0x7f] {
            assert!(!names_pseudo_header(first), "{first:#x}");
        }
    }
}
