//! One HTTP/2 stream as the exchange uses it: its two directions, behind [`crate::message`].

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use ::h2::{Reason, RecvStream, SendStream, server};
use bytes::{Buf, Bytes};
use ringsail_http::{BodyLength, Fields, ResponseHead};
use ringsail_runtime::task;
use ringsail_telemetry::Http2Counter;

use super::downstream::Streams;
use super::guard::Guard;
use super::heads;
use crate::limits::COPIED_BODY_BYTES_MAX;
use crate::message::{Closed, Lost, Piece};

/// A message's body as it comes. What is consumed is given back to the sender's window, and not before.
pub struct Receive {
    stream: RecvStream,
    chunk: Bytes,
    /// No more data comes.
    over: bool,
    /// The end was found by [`Receive::piece`].
    ended: bool,
    trailers: Option<Fields>,
    /// The other direction, where a reset shows when this one is over.
    half: Rc<Half>,
}

impl Receive {
    /// Of a stream whose other direction is `half`.
    pub(super) fn new(stream: RecvStream, half: Rc<Half>) -> Receive {
        let over = stream.is_end_stream();
        Receive { stream, chunk: Bytes::new(), over, ended: over, trailers: None, half }
    }

    /// Whether the body was received and consumed.
    pub fn is_end(&self) -> bool {
        self.ended
    }

    /// Whether nothing is at hand.
    pub fn is_empty(&self) -> bool {
        self.chunk.is_empty() && (!self.over || self.ended)
    }

    /// The bytes at hand.
    pub fn bytes(&self) -> &[u8] {
        &self.chunk
    }

    /// Waits for bytes, or the end, when nothing is at hand.
    pub async fn fill(&mut self) -> Result<(), Lost> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        while self.chunk.is_empty() && !self.over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(chunk)) => {
                    self.chunk = chunk;
                    self.over = self.stream.is_end_stream();
                }
                Some(Err(error)) => return Poll::Ready(Err(self.lost(&error))),
                None => match ready!(self.stream.poll_trailers(cx)) {
                    Ok(trailers) => {
                        if trailers.is_some() {
                            self.half.guard.stats().count(Http2Counter::Trailers);
                        }
                        self.trailers = trailers.map(|trailers| heads::read_trailers(&trailers));
                        self.over = true;
                    }
                    Err(error) => return Poll::Ready(Err(self.lost(&error))),
                },
            }
        }
        Poll::Ready(Ok(()))
    }

    fn lost(&self, error: &::h2::Error) -> Lost {
        let lost = lost(error);
        if lost == Lost::Malformed {
            self.half.guard.stats().count(Http2Counter::RxMessagingError);
        }
        lost
    }

    /// The bytes at hand are a piece of the body.
    pub fn piece(&mut self) -> Piece {
        self.ended = self.over;
        Piece { consumed: self.chunk.len(), data: 0..self.chunk.len(), end: self.over }
    }

    /// Uses up the first `count` bytes at hand.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.chunk.len());
        self.chunk.advance(count);
        // It fails only for more than was received.
        let _ = self.stream.flow_control().release_capacity(count);
    }

    /// Trailers, once the body has ended.
    pub fn trailers(&self) -> Option<&Fields> {
        self.trailers.as_ref()
    }

    /// Waits until the peer has reset the stream, or the connection is gone.
    pub async fn gone(&mut self) {
        poll_fn(|cx| self.half.poll_reset(cx)).await;
    }
}

impl std::fmt::Debug for Receive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receive").field("at_hand", &self.chunk.len()).field("over", &self.over).finish()
    }
}

fn lost(error: &::h2::Error) -> Lost {
    match error.reason() {
        Some(reason) if error.is_reset() && error.is_remote() => Lost::Reset(reason.into()),
        Some(_) => Lost::Malformed,
        None => Lost::Closed,
    }
}

/// The sending direction of a stream, which both directions look at.
pub(super) struct Half {
    state: RefCell<State>,
    guard: Rc<Guard>,
    /// Those of a client's connection.
    streams: Option<Rc<Streams>>,
}

enum State {
    /// No answer was begun.
    Unanswered(server::SendResponse<Bytes>),
    /// The head is out.
    Streaming(SendStream<Bytes>),
    /// The stream takes no more.
    Gone,
}

impl Half {
    /// Of a request to be answered.
    pub(super) fn answer(
        respond: server::SendResponse<Bytes>,
        guard: Rc<Guard>,
        streams: Rc<Streams>,
    ) -> Rc<Half> {
        let streams = Some(streams);
        Rc::new(Half { state: RefCell::new(State::Unanswered(respond)), guard, streams })
    }

    /// Of a request that was begun.
    pub(super) fn request(stream: SendStream<Bytes>, guard: Rc<Guard>) -> Rc<Half> {
        Rc::new(Half { state: RefCell::new(State::Streaming(stream)), guard, streams: None })
    }

    /// Ready when the peer has reset the stream (true), or its connection is gone.
    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<bool> {
        match &mut *self.state.borrow_mut() {
            State::Unanswered(respond) => respond.poll_reset(cx).map(|reset| reset.is_ok()),
            State::Streaming(stream) => stream.poll_reset(cx).map(|reset| reset.is_ok()),
            State::Gone => Poll::Ready(false),
        }
    }

    /// Whether the peer has reset the stream.
    pub(super) fn was_reset(&self) -> bool {
        self.poll_reset(&mut Context::from_waker(Waker::noop())) == Poll::Ready(true)
    }

    fn reset(&self, reason: Reason) {
        match &mut *self.state.borrow_mut() {
            State::Unanswered(respond) => respond.send_reset(reason),
            State::Streaming(stream) => stream.send_reset(reason),
            State::Gone => {}
        }
    }

    fn with_stream<T>(&self, act: impl FnOnce(&mut SendStream<Bytes>) -> T) -> Result<T, Closed> {
        match &mut *self.state.borrow_mut() {
            State::Streaming(stream) => Ok(act(stream)),
            State::Unanswered(_) | State::Gone => Err(Closed),
        }
    }
}

/// A message as it leaves.
pub struct Send<'a> {
    half: Rc<Half>,
    /// Small pieces of the body that wait for the next.
    waiting: Vec<u8>,
    /// The end was sent.
    ended: bool,
    /// Becomes true when the head was handed over.
    written: &'a Cell<bool>,
}

impl<'a> Send<'a> {
    pub(super) fn new(half: Rc<Half>, written: &'a Cell<bool>) -> Send<'a> {
        Send { half, waiting: Vec::new(), ended: false, written }
    }

    /// The head is on its way already, perhaps with the end of the message.
    pub(super) fn head_is_sent(&mut self, ends: bool) {
        self.ended = ends;
        self.written.set(true);
    }

    /// Sends an answer's head.
    pub fn head(&mut self, head: &ResponseHead) {
        let ends = matches!(head.framing().body, BodyLength::None | BodyLength::Length(0));
        if let Some(streams) = self.half.streams.as_ref().filter(|_| !head.framing().persistent) {
            streams.end_soon();
        }
        let mut state = self.half.state.borrow_mut();
        let next = match std::mem::replace(&mut *state, State::Gone) {
            State::Unanswered(mut respond) => {
                match respond.send_response(heads::write_response(head), ends) {
                    Ok(stream) => State::Streaming(stream),
                    Err(_) => State::Unanswered(respond),
                }
            }
            other => other,
        };
        *state = next;
        self.ended = ends;
        self.written.set(true);
    }

    /// Sends an interim (1xx) head.
    pub fn interim(&mut self, status: u16, fields: Option<&Fields>) -> Result<(), Closed> {
        let mut answer = http::Response::new(());
        *answer.status_mut() = http::StatusCode::from_u16(status).map_err(|_| Closed)?;
        if let Some(fields) = fields {
            *answer.headers_mut() = heads::write_trailers(fields);
        }
        match &mut *self.half.state.borrow_mut() {
            State::Unanswered(respond) => respond.send_informational(answer).map_err(|_| Closed),
            State::Streaming(_) | State::Gone => Err(Closed),
        }
    }

    /// Sends a piece of the body.
    pub async fn data(&mut self, data: &[u8]) -> Result<(), Closed> {
        if data.len() <= COPIED_BODY_BYTES_MAX {
            self.waiting.extend_from_slice(data);
            if self.waiting.len() > COPIED_BODY_BYTES_MAX {
                self.flush().await?;
            }
            return Ok(());
        }
        self.flush().await?;
        self.push(Bytes::copy_from_slice(data), false).await
    }

    /// Sends what waits. Returns whether there was something.
    pub async fn flush(&mut self) -> Result<bool, Closed> {
        if self.waiting.is_empty() {
            return Ok(false);
        }
        let waiting = Bytes::from(std::mem::take(&mut self.waiting));
        self.push(waiting, false).await.map(|()| true)
    }

    /// Ends the body.
    pub async fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Closed> {
        if self.ended {
            return Ok(());
        }
        let waiting = Bytes::from(std::mem::take(&mut self.waiting));
        match trailers {
            None => self.push(waiting, true).await?,
            Some(trailers) => {
                if !waiting.is_empty() {
                    self.push(waiting, false).await?;
                }
                let trailers = heads::write_trailers(trailers);
                self.half.with_stream(|stream| stream.send_trailers(trailers))?.map_err(|_| Closed)?;
            }
        }
        self.ended = true;
        Ok(())
    }

    /// Whether the receiver has reset the stream.
    pub fn was_reset(&self) -> bool {
        self.half.was_reset()
    }

    /// Ends the stream before its message is complete. What was sent before leaves first, as far as the peer lets it.
    pub async fn abort(&mut self, code: u32) {
        if !self.ended && self.written.get() {
            // A reset drops what the connection's task has not taken up yet, such as the answer's head.
            task::yield_now().await;
        }
        self.reset(code);
    }

    /// The same at once, whatever is still waiting.
    pub fn reset(&mut self, code: u32) {
        if !self.ended {
            self.half.reset(code.into());
            self.ended = true;
        }
    }

    /// Hands data over as the peer's window and our bound allow.
    async fn push(&mut self, mut data: Bytes, ends: bool) -> Result<(), Closed> {
        while !data.is_empty() {
            let room = poll_fn(|cx| self.poll_room(data.len(), cx)).await?;
            let part = data.split_to(room.min(data.len()));
            let ends = ends && data.is_empty();
            self.half.with_stream(|stream| stream.send_data(part, ends))?.map_err(|_| Closed)?;
            if ends {
                return Ok(());
            }
        }
        if ends {
            self.half.with_stream(|stream| stream.send_data(Bytes::new(), true))?.map_err(|_| Closed)?;
        }
        Ok(())
    }

    fn poll_room(&self, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, Closed>> {
        self.half
            .with_stream(|stream| {
                stream.reserve_capacity(wanted);
                loop {
                    let room = stream.capacity();
                    if room > 0 {
                        return Poll::Ready(Ok(room));
                    }
                    if !matches!(ready!(stream.poll_capacity(cx)), Some(Ok(_))) {
                        return Poll::Ready(Err(Closed));
                    }
                }
            })
            .unwrap_or(Poll::Ready(Err(Closed)))
    }
}

impl std::fmt::Debug for Send<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Send").field("waiting", &self.waiting.len()).field("ended", &self.ended).finish()
    }
}
