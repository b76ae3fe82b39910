//! The thread that turns records into lines and writes them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use prost::Message as _;
use ringsail_xds::opentelemetry::proto::collector::trace::v1::ExportTraceServiceRequest;
use ringsail_xds::opentelemetry::proto::logs::v1::LogRecord;
use ringsail_xds::opentelemetry::proto::trace::v1::Span as OtlpSpan;

use super::declared::{Declaration, Known, Places};
use super::format::LogFormat;
use super::grpc::{Entries, GrpcLog};
use super::operator::Wanted;
use super::otlp::OtlpLog;
use super::record::Record;
use crate::export::{self, Batch, Batches, Content, Destination, Exports};
use crate::limits::{
    LOG_FLUSH_BYTES, LOG_FLUSH_INTERVAL_MILLIS, LOG_GATHER_MAX, LOG_GATHER_MILLIS, LOG_QUEUE_MAX,
    SPAN_FLUSH_INTERVAL_MILLIS,
};
use crate::trace::{self, OtlpTracer, Span, ZipkinTracer};

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogSink {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to and created when missing. `/dev/stdout` and `/dev/stderr` work as the
    /// two variants above, so that they need no permission to be reopened.
    File(PathBuf),
}

impl LogSink {
    /// The sink of a configured path.
    pub fn of_path(path: &str) -> Self {
        match path {
            "/dev/stdout" => Self::Stdout,
            "/dev/stderr" => Self::Stderr,
            _ => Self::File(path.into()),
        }
    }
}

/// One access log.
#[derive(Debug)]
pub enum LogSpec {
    /// Lines of text.
    Lines {
        /// Where lines go.
        sink: LogSink,
        /// How they look.
        format: LogFormat,
    },
    /// Entries for an access-log service.
    Grpc {
        /// The service.
        destination: Arc<Destination>,
        /// How they look.
        log: GrpcLog,
        /// How many are collected.
        buffering: Buffering,
    },
    /// Log records for an OpenTelemetry collector.
    OpenTelemetry {
        /// The collector.
        destination: Arc<Destination>,
        /// How they look.
        log: OtlpLog,
        /// How many are collected.
        buffering: Buffering,
    },
}

/// How much is collected before it is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffering {
    /// Bytes; 0 means that nothing waits.
    pub bytes: usize,
    /// Longest wait.
    pub interval: Duration,
}

impl LogSpec {
    /// What records must hold for it that they do not always do.
    pub fn wanted(&self) -> &Wanted {
        match self {
            Self::Lines { format, .. } => format.wanted(),
            Self::Grpc { log, .. } => log.wanted(),
            Self::OpenTelemetry { log, .. } => log.wanted(),
        }
    }
}

/// Where spans go.
#[derive(Debug)]
pub struct SpanSpec {
    /// The collector.
    pub destination: Arc<Destination>,
    /// What it understands.
    pub kind: TracerKind,
    /// Spans that are sent at once.
    pub batch_max: usize,
}

/// What a collector of spans understands.
#[derive(Debug)]
pub enum TracerKind {
    /// Zipkin's JSON.
    Zipkin(ZipkinTracer),
    /// OTLP.
    OpenTelemetry(OtlpTracer),
}

/// An access log that the writer knows.
pub type DeclaredLog = Declaration<LogSpec>;
/// A tracer that the writer knows.
pub type DeclaredTracer = Declaration<SpanSpec>;

#[derive(Debug)]
pub(super) enum Message {
    /// A record for the log at a place.
    Record(u32, Box<Record>),
    /// A span for the tracer at a place.
    Span(u32, Box<Span>),
    /// Look at [`Requests`], and for what was given back, now rather than at the next flush.
    Wake,
}

/// What the thread is asked to do besides writing. Flags, so that a full queue cannot lose them.
#[derive(Debug, Default)]
struct Requests {
    reopen: AtomicBool,
    stop: AtomicBool,
}

/// Everything that is declared.
#[derive(Debug)]
struct Declared {
    logs: Places<LogSpec>,
    tracers: Places<SpanSpec>,
}

/// The writer thread, and where logs are declared. Dropping it writes what is queued and ends it.
#[derive(Debug)]
pub struct LogWriter {
    messages: Sender<Message>,
    declared: Arc<Mutex<Declared>>,
    requests: Arc<Requests>,
    failures: Arc<AtomicU64>,
    /// What each queue end has dropped; see [`LogQueue::dropped`].
    dropped: Mutex<Vec<Arc<AtomicU64>>>,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    /// Starts the thread with the default bound of its queue.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start() -> io::Result<(Self, Batches)> {
        Self::start_with(LOG_QUEUE_MAX)
    }

    /// Starts the thread; `records_max` may wait for it. What is for collectors comes out of the [`Batches`].
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start_with(records_max: usize) -> io::Result<(Self, Batches)> {
        let (messages, received) = bounded(records_max);
        let (logs, logs_given_back) = Places::new(messages.clone());
        let (tracers, tracers_given_back) = Places::new(messages.clone());
        let declared = Arc::new(Mutex::new(Declared { logs, tracers }));
        let failures = Arc::<AtomicU64>::default();
        let requests = Arc::<Requests>::default();
        let (exports, batches) = export::queue();
        let output = Output {
            declared: Arc::clone(&declared),
            requests: Arc::clone(&requests),
            logs: Known::new(logs_given_back),
            tracers: Known::new(tracers_given_back),
            sinks: Vec::new(),
            seen: 0,
            exports,
            failures: Arc::clone(&failures),
        };
        let thread =
            std::thread::Builder::new().name("access-log".into()).spawn(move || output.run(&received))?;
        let dropped = Mutex::default();
        Ok((Self { messages, declared, requests, failures, dropped, thread: Some(thread) }, batches))
    }

    /// Declares a log. Call it when configuration is adopted, not per request, and keep the result with the
    /// configuration: its place is free again when it is dropped. `None` when there are
    /// [`LOGS_MAX`](crate::limits::LOGS_MAX) already.
    pub fn declare(&self, spec: LogSpec) -> Option<DeclaredLog> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).logs.take(spec)
    }

    /// The same for a tracer.
    pub fn declare_tracer(&self, spec: SpanSpec) -> Option<DeclaredTracer> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).tracers.take(spec)
    }

    /// A queue end for one more shard.
    pub fn queue(&self) -> LogQueue {
        let dropped = Arc::<AtomicU64>::default();
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&dropped));
        let writer = self.thread.as_ref().map(|thread| thread.thread().clone());
        LogQueue { messages: self.messages.clone(), writer, dropped }
    }

    /// Records dropped through all queue ends since start.
    pub fn dropped(&self) -> u64 {
        let dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        dropped.iter().map(|one| one.load(Relaxed)).sum()
    }

    /// Writes what is pending, closes all files and opens them again at their next line: for log
    /// rotation (SIGUSR1). Takes effect within a flush interval at most.
    pub fn reopen(&self) {
        self.requests.reopen.store(true, Relaxed);
        // When the queue is full the thread is awake anyway.
        let _ = self.messages.try_send(Message::Wake);
    }

    /// Writes that failed since start; their lines are lost.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.requests.stop.store(true, Relaxed);
        let _ = self.messages.try_send(Message::Wake);
        if let Some(thread) = self.thread.take() {
            // The thread does not panic on input; if it did, there is nothing left to write.
            let _ = thread.join();
        }
    }
}

/// A shard's end of the queue.
#[derive(Clone, Debug)]
pub struct LogQueue {
    messages: Sender<Message>,
    writer: Option<Thread>,
    dropped: Arc<AtomicU64>,
}

impl LogQueue {
    /// Hands a record over. False when the queue is full or the writer gone: the record is dropped
    /// and counted.
    pub fn send(&self, log: &DeclaredLog, record: Box<Record>) -> bool {
        self.put(Message::Record(log.slot(), record))
    }

    /// The same for a span.
    pub fn send_span(&self, tracer: &DeclaredTracer, span: Box<Span>) -> bool {
        self.put(Message::Span(tracer.slot(), span))
    }

    fn put(&self, message: Message) -> bool {
        match self.messages.try_send(message) {
            Ok(()) => {
                let gathered = self.messages.capacity().map_or(0, |most| most / 2).min(LOG_GATHER_MAX);
                if self.messages.len() >= gathered
                    && let Some(writer) = &self.writer
                {
                    writer.unpark();
                }
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                // The shard is the only writer of its counter.
                self.dropped.store(self.dropped.load(Relaxed).wrapping_add(1), Relaxed);
                false
            }
        }
    }

    /// Records dropped through this queue end since it was made.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

/// What the thread owns.
struct Output {
    requests: Arc<Requests>,
    declared: Arc<Mutex<Declared>>,
    /// Logs, as far as they were seen, with what waits to be sent.
    logs: Known<LogSpec, Pending>,
    /// The same of tracers.
    tracers: Known<SpanSpec, PendingSpans>,
    /// Several logs may write to one. A place is empty when none does any more.
    sinks: Vec<Option<(LogSink, Sink)>>,
    /// Messages received so far.
    seen: u64,
    exports: Exports,
    failures: Arc<AtomicU64>,
}

/// One sink with what was not written yet.
#[derive(Debug, Default)]
struct Sink {
    pending: Vec<u8>,
    file: Option<File>,
}

/// Entries of a log that wait.
#[derive(Debug, Default)]
struct Pending {
    /// The place of its sink, once it has one, where its lines wait.
    sink: Option<usize>,
    grpc: Entries,
    otlp: Vec<LogRecord>,
    items: u64,
    bytes: usize,
    since: Option<Instant>,
}

/// Spans that wait.
#[derive(Debug, Default)]
struct PendingSpans {
    zipkin: Vec<u8>,
    otlp: Vec<OtlpSpan>,
    items: usize,
    since: Option<Instant>,
}

impl Output {
    fn run(mut self, messages: &Receiver<Message>) {
        let interval = Duration::from_millis(LOG_FLUSH_INTERVAL_MILLIS);
        let mut flush_at = Instant::now() + interval;
        while !self.requests.stop.load(Relaxed) {
            match messages.recv_deadline(flush_at) {
                Ok(message) => {
                    self.take(message);
                    // At most as many as fit, so that what is below gets its turn.
                    messages
                        .try_iter()
                        .take(messages.capacity().unwrap_or(1))
                        .for_each(|next| self.take(next));
                    // More will come. Waking this thread costs a shard more than handing a record over, so it looks
                    // again after a while instead, or when it is told that many are there.
                    thread::park_timeout(Duration::from_millis(LOG_GATHER_MILLIS));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.requests.reopen.swap(false, Relaxed) {
                self.flush();
                self.sinks.iter_mut().flatten().for_each(|(_, sink)| sink.file = None);
            }
            self.let_go(messages);
            let now = Instant::now();
            if now >= flush_at {
                self.flush();
                self.send_due(now);
                flush_at = now + self.shortest_interval().min(interval);
            }
        }
        for message in messages.try_iter() {
            self.take(message);
        }
        self.flush();
        self.send_all();
    }

    fn take(&mut self, message: Message) {
        self.seen += 1;
        match message {
            Message::Record(log, record) => self.record(log, &record),
            Message::Span(tracer, span) => self.span(tracer, &span),
            Message::Wake => {}
        }
    }

    /// Forgets logs and tracers that were given back, after what was sent to them.
    fn let_go(&mut self, messages: &Receiver<Message>) {
        let logs = self.logs.left(self.seen, || messages.len());
        let tracers = self.tracers.left(self.seen, || messages.len());
        if logs.is_empty() && tracers.is_empty() {
            return;
        }
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        for (slot, known) in logs {
            if let Some((spec, mut pending)) = known {
                pending.send(&spec, &self.exports);
                let shared = |sink| self.logs.iter().any(|(_, other)| other.sink == Some(sink));
                if let Some(place) = pending.sink.filter(|sink| !shared(*sink))
                    && let Some((sink, mut output)) = self.sinks.get_mut(place).and_then(Option::take)
                    && output.flush(&sink).is_err()
                {
                    self.failures.fetch_add(1, Relaxed);
                }
            }
            declared.logs.free(slot);
        }
        for (slot, known) in tracers {
            if let Some((spec, mut pending)) = known {
                pending.send(&spec, &self.exports);
            }
            declared.tracers.free(slot);
        }
    }

    fn record(&mut self, slot: u32, record: &Record) {
        let declared = &self.declared;
        let learn = |slot| declared.lock().unwrap_or_else(PoisonError::into_inner).logs.at(slot);
        let Some((spec, pending)) = self.logs.at(slot, learn) else { return };
        match &**spec {
            LogSpec::Lines { sink, format } => {
                let place = *pending.sink.get_or_insert_with(|| place_of(&mut self.sinks, sink));
                let Some(Some((_, output))) = self.sinks.get_mut(place) else { return };
                format.write(record, &mut output.pending);
                if output.pending.len() >= LOG_FLUSH_BYTES && output.flush(sink).is_err() {
                    self.failures.fetch_add(1, Relaxed);
                }
            }
            LogSpec::Grpc { log, buffering, .. } => {
                pending.bytes += log.add(record, &mut pending.grpc);
                pending.note(*buffering, spec, &self.exports);
            }
            LogSpec::OpenTelemetry { log, buffering, .. } => {
                pending.bytes += log.add(record, &mut pending.otlp);
                pending.note(*buffering, spec, &self.exports);
            }
        }
    }

    fn span(&mut self, slot: u32, span: &Span) {
        let declared = &self.declared;
        let learn = |slot| declared.lock().unwrap_or_else(PoisonError::into_inner).tracers.at(slot);
        let Some((spec, pending)) = self.tracers.at(slot, learn) else { return };
        match &spec.kind {
            TracerKind::Zipkin(zipkin) => {
                pending.zipkin.push(if pending.items == 0 { b'[' } else { b',' });
                zipkin.write(span, &mut pending.zipkin);
            }
            TracerKind::OpenTelemetry(_) => pending.otlp.push(trace::otlp_span(span)),
        }
        pending.items += 1;
        pending.since.get_or_insert_with(Instant::now);
        if pending.items >= spec.batch_max {
            pending.send(spec, &self.exports);
        }
    }

    fn flush(&mut self) {
        for (target, sink) in self.sinks.iter_mut().flatten() {
            if sink.flush(target).is_err() {
                self.failures.fetch_add(1, Relaxed);
            }
        }
    }

    /// The shortest time that something may wait.
    fn shortest_interval(&self) -> Duration {
        let waiting = self.logs.iter().filter(|(_, pending)| pending.since.is_some());
        let interval =
            waiting.filter_map(|(spec, _)| spec.buffering()).map(|buffering| buffering.interval).min();
        interval.unwrap_or(Duration::MAX).max(MIN_INTERVAL)
    }

    /// Sends what has waited long enough.
    fn send_due(&mut self, now: Instant) {
        for (spec, pending) in self.logs.iter_mut() {
            let due =
                |buffering: Buffering| pending.since.is_some_and(|since| now >= since + buffering.interval);
            if spec.buffering().is_some_and(due) {
                pending.send(spec, &self.exports);
            }
        }
        let wait = Duration::from_millis(SPAN_FLUSH_INTERVAL_MILLIS);
        for (spec, pending) in self.tracers.iter_mut() {
            if pending.since.is_some_and(|since| now >= since + wait) {
                pending.send(spec, &self.exports);
            }
        }
    }

    fn send_all(&mut self) {
        for (spec, pending) in self.logs.iter_mut() {
            pending.send(spec, &self.exports);
        }
        for (spec, pending) in self.tracers.iter_mut() {
            pending.send(spec, &self.exports);
        }
    }
}

/// Where `wanted` is among the sinks; added where it is new.
fn place_of(sinks: &mut Vec<Option<(LogSink, Sink)>>, wanted: &LogSink) -> usize {
    let same = |place: &Option<(LogSink, Sink)>| place.as_ref().is_some_and(|(sink, _)| sink == wanted);
    if let Some(place) = sinks.iter().position(same) {
        return place;
    }
    let new = Some((wanted.clone(), Sink::default()));
    match sinks.iter().position(Option::is_none) {
        Some(place) => {
            if let Some(empty) = sinks.get_mut(place) {
                *empty = new;
            }
            place
        }
        None => {
            sinks.push(new);
            sinks.len() - 1
        }
    }
}

/// Shortest interval at which the thread looks for what has waited long enough.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

impl LogSpec {
    fn buffering(&self) -> Option<Buffering> {
        match self {
            Self::Lines { .. } => None,
            Self::Grpc { buffering, .. } | Self::OpenTelemetry { buffering, .. } => Some(*buffering),
        }
    }
}

impl Pending {
    /// One more entry waits, if it may.
    fn note(&mut self, buffering: Buffering, spec: &LogSpec, exports: &Exports) {
        self.items += 1;
        self.since.get_or_insert_with(Instant::now);
        if self.bytes >= buffering.bytes {
            self.send(spec, exports);
        }
    }

    fn send(&mut self, spec: &LogSpec, exports: &Exports) {
        if self.items == 0 {
            return;
        }
        let (destination, content, body) = match spec {
            LogSpec::Lines { .. } => return,
            LogSpec::Grpc { destination, .. } => (destination, Content::GrpcLogs, self.grpc.take_message()),
            LogSpec::OpenTelemetry { destination, log, .. } => {
                (destination, Content::OpenTelemetryLogs, log.take_message(&mut self.otlp))
            }
        };
        exports.send(Batch { destination: Arc::clone(destination), content, items: self.items, body });
        *self = Pending::default();
    }
}

impl PendingSpans {
    fn send(&mut self, spec: &SpanSpec, exports: &Exports) {
        if self.items == 0 {
            return;
        }
        let (content, body) = match &spec.kind {
            TracerKind::Zipkin(_) => {
                self.zipkin.push(b']');
                (Content::ZipkinSpans, std::mem::take(&mut self.zipkin))
            }
            TracerKind::OpenTelemetry(tracer) => {
                let spans = tracer.resource_spans(std::mem::take(&mut self.otlp));
                let message = ExportTraceServiceRequest { resource_spans: vec![spans] };
                (Content::OpenTelemetrySpans, message.encode_to_vec())
            }
        };
        let destination = Arc::clone(&spec.destination);
        exports.send(Batch { destination, content, items: self.items as u64, body });
        *self = PendingSpans::default();
    }
}

impl Sink {
    /// Writes what is pending. A failed write loses it, so that a full disk costs no memory.
    fn flush(&mut self, target: &LogSink) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let result = match target {
            LogSink::Stdout => {
                io::stdout().lock().write_all(&self.pending).and_then(|()| io::stdout().flush())
            }
            LogSink::Stderr => io::stderr().lock().write_all(&self.pending),
            LogSink::File(path) => self.write_file(path),
        };
        self.pending.clear();
        result
    }

    fn write_file(&mut self, path: &Path) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new().append(true).create(true).open(path)?,
        };
        file.write_all(&self.pending)?;
        self.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LOGS_MAX;
    use std::future::Future as _;

    use super::super::grpc::GrpcLogSettings;
    use crate::access_log::Context;
    use crate::export::Call;
    use crate::trace::{Kind, SpanContext, TraceId};

    fn spec(sink: LogSink, format: &str) -> LogSpec {
        LogSpec::Lines { sink, format: LogFormat::text(format, &Context::default()).expect("valid format") }
    }

    fn record(code: u16) -> Box<Record> {
        let mut record = Box::new(Record::new());
        record.response_code = code;
        record
    }

    #[test]
    fn lines_reach_their_file_in_order() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("access.log");
        let (writer, _batches) = LogWriter::start().expect("a thread");
        let log = writer.declare(spec(LogSink::File(path.clone()), "%RESPONSE_CODE%\n")).expect("room");
        let queue = writer.queue();
        for code in 200..300 {
            assert!(queue.send(&log, record(code)));
        }
        drop(writer);
        let expected: String = (200..300).map(|code| format!("{code}\n")).collect();
        assert_eq!(std::fs::read_to_string(path).expect("the log"), expected);
        assert!(!queue.send(&log, record(200)), "nobody writes any more");
        assert_eq!(queue.dropped(), 1);
    }

    #[test]
    fn reopen_follows_a_renamed_file() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (path, rotated) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let (writer, _batches) = LogWriter::start().expect("a thread");
        let log = writer.declare(spec(LogSink::File(path.clone()), "%RESPONSE_CODE%\n")).expect("room");
        let queue = writer.queue();
        queue.send(&log, record(200));
        writer.reopen();
        // The first line is in the file once it exists.
        while !path.exists() {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &rotated).expect("renamed");
        writer.reopen();
        // Lines go to the new file from some line on, at the latest after a flush interval.
        while !path.exists() {
            queue.send(&log, record(404));
            std::thread::yield_now();
        }
        drop(writer);
        assert!(std::fs::read_to_string(rotated).expect("the old log").starts_with("200\n"));
        assert!(std::fs::read_to_string(path).expect("the new log").starts_with("404\n"));
    }

    #[test]
    fn a_log_that_cannot_be_written_is_counted() {
        let (writer, _batches) = LogWriter::start().expect("a thread");
        let log = writer.declare(spec(LogSink::File("/nonexistent/x".into()), "x\n")).expect("room");
        writer.queue().send(&log, record(200));
        writer.reopen();
        while writer.failures() == 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        // The queue is built without its thread: nothing takes records out.
        let (messages, _received) = bounded(2);
        let (mut places, _given_back) = Places::new(messages.clone());
        let log = places.take(spec(LogSink::Stderr, "x")).expect("room");
        let queue = LogQueue { messages, writer: None, dropped: Arc::default() };
        let sent: Vec<bool> = (0..4).map(|_| queue.send(&log, record(200))).collect();
        assert_eq!(sent, [true, true, false, false]);
        assert_eq!(queue.dropped(), 2);
    }

    #[test]
    fn entries_and_spans_become_batches() {
        let (writer, mut batches) = LogWriter::start().expect("a thread");
        let call = Call::HttpPost { host: "z".into(), path: "/".into(), content_type: "application/json" };
        let destination = Arc::new(Destination { cluster: "z".into(), call, headers: vec![], timeout: None });
        let log = GrpcLog::new(&GrpcLogSettings::default(), &Context::default()).expect("valid");
        let buffering = Buffering { bytes: 0, interval: Duration::from_secs(3600) };
        let at_once = LogSpec::Grpc { destination: Arc::clone(&destination), log, buffering };
        let at_once = writer.declare(at_once).expect("room");
        let zipkin = ZipkinTracer { service_name: "s".into(), address: [127, 0, 0, 1].into() };
        let kind = TracerKind::Zipkin(zipkin);
        let tracer = writer.declare_tracer(SpanSpec { destination, kind, batch_max: 2 }).expect("room");
        let span = Span {
            context: SpanContext {
                trace: TraceId { high: None, low: 1 },
                span: 1,
                parent: None,
                sampled: true,
            },
            shared: false,
            kind: Kind::Client,
            name: "a".into(),
            start: std::time::UNIX_EPOCH,
            duration: Duration::ZERO,
            tags: vec![],
            events: vec![],
            failed: false,
            remote_parent: false,
            tracestate: String::new(),
        };
        let queue = writer.queue();
        queue.send(&at_once, record(200));
        queue.send(&at_once, record(200));
        for _ in 0..3 {
            queue.send_span(&tracer, Box::new(span.clone()));
        }
        // What waits is sent at the end.
        drop(writer);
        let mut found = Vec::new();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        while let std::task::Poll::Ready(Some(batch)) = std::pin::pin!(batches.next()).poll(&mut cx) {
            found.push((batch.content, batch.items, batch.body));
        }
        let counts: Vec<_> = found.iter().map(|(content, items, _)| (*content, *items)).collect();
        let (logs, spans) = (Content::GrpcLogs, Content::ZipkinSpans);
        assert_eq!(counts, [(logs, 1), (logs, 1), (spans, 2), (spans, 1)]);
        let list: serde_json::Value = serde_json::from_slice(&found[2].2).expect("JSON");
        assert_eq!(list.as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn the_number_of_logs_is_limited() {
        let (writer, _batches) = LogWriter::start().expect("a thread");
        let held: Vec<_> =
            (0..LOGS_MAX).map(|_| writer.declare(spec(LogSink::Stderr, "x")).expect("room")).collect();
        assert!(writer.declare(spec(LogSink::Stderr, "x")).is_none());
        drop(held);
    }

    #[test]
    fn a_log_that_nobody_holds_gives_its_place_to_another_after_its_last_line() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (writer, _batches) = LogWriter::start().expect("a thread");
        let queue = writer.queue();
        let changes = 3 * LOGS_MAX as u16;
        let mut previous = None;
        for change in 0..changes {
            let path = dir.path().join(format!("{change}.log"));
            let deadline = Instant::now() + Duration::from_secs(20);
            let log = loop {
                let format = format!("{change} %RESPONSE_CODE%\n");
                if let Some(log) = writer.declare(spec(LogSink::File(path.clone()), &format)) {
                    break log;
                }
                assert!(Instant::now() < deadline, "no place was given back");
                std::thread::yield_now();
            };
            while !queue.send(&log, record(change)) {
                std::thread::yield_now();
            }
            // The version before goes once the next serves.
            previous = Some(log);
        }
        drop(previous);
        drop(writer);
        for change in 0..changes {
            let line = std::fs::read_to_string(dir.path().join(format!("{change}.log"))).expect("the log");
            assert_eq!(line, format!("{change} {change}\n"));
        }
    }
}
