//! Counts the frames of a connection as they pass, and tells when a peer sends more of a kind than any honest one.
//!
//! It looks at frame headers only and knows no streams; what frames mean is `h2`'s business. The bounds are Envoy's.
//! Each is about frames that cost the receiver work or memory and the sender next to nothing.

use std::cell::Cell;

use ringsail_tables::http2::Http2Settings;

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
    resets_received: Cell<u64>,
    resets_sent: Cell<u64>,
    go_aways_sent: Cell<u64>,
    settings_received: Cell<bool>,
    go_away_received: Cell<bool>,
    in_header_block: Cell<bool>,
    blocked: Cell<bool>,
    flood: Cell<Option<Flood>>,
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
}

const FRAME_HEADER_BYTES: usize = 9;

/// A frame's header. Source: RFC 9113 §4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    len: u32,
    kind: u8,
    flags: u8,
}

impl Guard {
    /// For a connection. `preface` bytes of the peer come before its first frame.
    pub fn new(settings: &Http2Settings, preface_in: u32, preface_out: u32) -> Guard {
        Guard {
            incoming: Cell::new(Scanner { skip: preface_in, ..Scanner::default() }),
            outgoing: Cell::new(Scanner { skip: preface_out, ..Scanner::default() }),
            empty_in_row: Cell::new(0),
            priorities: Cell::new(0),
            window_updates: Cell::new(0),
            unanswered: Cell::new(0),
            streams: Cell::new(0),
            data_sent: Cell::new(0),
            resets_received: Cell::new(0),
            resets_sent: Cell::new(0),
            go_aways_sent: Cell::new(0),
            settings_received: Cell::new(false),
            go_away_received: Cell::new(false),
            in_header_block: Cell::new(false),
            blocked: Cell::new(false),
            flood: Cell::new(None),
            empty_max: settings.empty_frames_max,
            priorities_per_stream_max: settings.priority_frames_per_stream_max.into(),
            window_updates_per_data_max: settings.window_updates_per_data_frame_max.into(),
            unanswered_max: settings.control_frames_max,
        }
    }

    /// Looks at received bytes.
    pub fn received(&self, bytes: &[u8]) -> Result<(), Flood> {
        let mut scanner = self.incoming.get();
        let result = scanner.scan(bytes, |frame| self.judge(frame));
        self.incoming.set(scanner);
        result.inspect_err(|flood| self.flood.set(Some(*flood)))
    }

    /// Looks at sent bytes.
    pub fn sent(&self, bytes: &[u8]) {
        self.blocked.set(false);
        self.unanswered.set(0);
        let mut scanner = self.outgoing.get();
        let _ = scanner.scan(bytes, |frame| {
            match frame.kind {
                DATA => self.data_sent.set(self.data_sent.get() + 1),
                RST_STREAM => self.resets_sent.set(self.resets_sent.get() + 1),
                GOAWAY => self.go_aways_sent.set(self.go_aways_sent.get() + 1),
                _ => {}
            }
            Ok(())
        });
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

    /// RST_STREAM frames received and sent, and GOAWAY frames sent.
    pub fn resets_and_go_aways(&self) -> (u64, u64, u64) {
        (self.resets_received.get(), self.resets_sent.get(), self.go_aways_sent.get())
    }

    fn judge(&self, frame: Frame) -> Result<(), Flood> {
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
                self.resets_received.set(self.resets_received.get() + 1);
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

fn bump(count: &Cell<u32>) {
    count.set(count.get().saturating_add(1));
}

impl Scanner {
    fn scan(&mut self, bytes: &[u8], mut found: impl FnMut(Frame) -> Result<(), Flood>) -> Result<(), Flood> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let skipped = (self.skip as usize).min(rest.len());
            self.skip -= skipped as u32;
            rest = &rest[skipped..];
            let wanted = FRAME_HEADER_BYTES - usize::from(self.filled);
            let taken = wanted.min(rest.len());
            let filled = usize::from(self.filled);
            self.header[filled..filled + taken].copy_from_slice(&rest[..taken]);
            self.filled += taken as u8;
            rest = &rest[taken..];
            if usize::from(self.filled) == FRAME_HEADER_BYTES {
                let [a, b, c, kind, flags, ..] = self.header;
                let len = u32::from_be_bytes([0, a, b, c]);
                self.filled = 0;
                self.skip = len;
                found(Frame { len, kind, flags })?;
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
        Guard::new(&Http2Settings::default(), 0, 0)
    }

    fn repeat(guard: &Guard, bytes: &[u8], times: usize) -> Result<(), Flood> {
        (0..times).try_for_each(|_| guard.received(bytes))
    }

    #[test]
    fn one_empty_frame_passes_and_two_in_a_row_do_not() {
        let empty = frame(DATA, 0, b"");
        let guard = guard();
        assert_eq!(repeat(&guard, &empty, 1), Ok(()));
        assert_eq!(guard.received(&frame(DATA, 0, b"x")), Ok(()));
        assert_eq!(repeat(&guard, &empty, 1), Ok(()));
        assert_eq!(repeat(&guard, &empty, 1), Err(Flood::Empty));
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
        assert_eq!(repeat(&guard(), &priority, 101), Err(Flood::Priority));
        let open = guard();
        open.received(&frame(HEADERS, END_HEADERS, b"x")).unwrap();
        assert_eq!(repeat(&open, &priority, 200), Ok(()));
        assert_eq!(repeat(&open, &priority, 1), Err(Flood::Priority));
    }

    #[test]
    fn window_updates_are_bounded_by_the_data_sent() {
        let update = frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1]);
        assert_eq!(repeat(&guard(), &update, 5), Ok(()));
        assert_eq!(repeat(&guard(), &update, 6), Err(Flood::WindowUpdate));
        let sender = guard();
        sender.sent(&frame(DATA, 0, b"data"));
        assert_eq!(repeat(&sender, &update, 25), Ok(()));
        assert_eq!(repeat(&sender, &update, 1), Err(Flood::WindowUpdate));
    }

    #[test]
    fn pings_flood_only_a_peer_that_cannot_answer() {
        let ping = frame(PING, 0, &[0; 8]);
        let guard = guard();
        assert_eq!(repeat(&guard, &ping, 5000), Ok(()));
        guard.sending_is_blocked();
        assert_eq!(repeat(&guard, &ping, 1000), Ok(()));
        assert_eq!(repeat(&guard, &ping, 1), Err(Flood::Control));
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
            let guard = Guard::new(&Http2Settings::default(), 3, 0);
            for part in bytes.chunks(size) {
                guard.received(part).unwrap();
            }
            assert_eq!(guard.resets_and_go_aways().0, 3, "in pieces of {size}");
        }
    }
}
