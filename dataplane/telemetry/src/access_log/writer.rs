//! The thread that turns records into lines and writes them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::format::LogFormat;
use super::record::Record;
use crate::limits::{LOG_FLUSH_BYTES, LOG_FLUSH_INTERVAL_MILLIS, LOG_QUEUE_MAX, LOGS_MAX};

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
pub struct LogSpec {
    /// Where lines go.
    pub sink: LogSink,
    /// How they look.
    pub format: LogFormat,
}

/// Names an access log on the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId(u32);

enum Message {
    Record(LogId, Box<Record>),
    /// Look at [`Requests`] now rather than at the next flush.
    Wake,
}

/// What the thread is asked to do besides writing. Flags, so that a full queue cannot lose them.
#[derive(Debug, Default)]
struct Requests {
    reopen: AtomicBool,
    stop: AtomicBool,
}

/// The writer thread, and where logs are declared. Dropping it writes what is queued and ends it.
#[derive(Debug)]
pub struct LogWriter {
    messages: Sender<Message>,
    logs: Arc<Mutex<Vec<Arc<LogSpec>>>>,
    requests: Arc<Requests>,
    failures: Arc<AtomicU64>,
    /// What each queue end has dropped; see [`LogQueue::dropped`].
    dropped: Mutex<Vec<Arc<AtomicU64>>>,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    /// Starts the thread with the default bound of its queue.
    pub fn start() -> io::Result<Self> {
        Self::start_with(LOG_QUEUE_MAX)
    }

    /// Starts the thread; `records_max` may wait for it.
    pub fn start_with(records_max: usize) -> io::Result<Self> {
        let (messages, received) = bounded(records_max);
        let logs = Arc::<Mutex<Vec<Arc<LogSpec>>>>::default();
        let failures = Arc::<AtomicU64>::default();
        let requests = Arc::<Requests>::default();
        let output = Output {
            logs: Arc::clone(&logs),
            requests: Arc::clone(&requests),
            known: Vec::new(),
            sinks: BTreeMap::new(),
            failures: Arc::clone(&failures),
        };
        let thread =
            std::thread::Builder::new().name("access-log".into()).spawn(move || output.run(&received))?;
        Ok(Self { messages, logs, requests, failures, dropped: Mutex::default(), thread: Some(thread) })
    }

    /// Declares a log. Call it when configuration is adopted, not per request; keep the id with the
    /// configuration. `None` when there are [`LOGS_MAX`] already.
    pub fn declare(&self, spec: LogSpec) -> Option<LogId> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if logs.len() >= LOGS_MAX {
            return None;
        }
        logs.push(Arc::new(spec));
        u32::try_from(logs.len() - 1).ok().map(LogId)
    }

    /// A queue end for one more shard.
    pub fn queue(&self) -> LogQueue {
        let dropped = Arc::<AtomicU64>::default();
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&dropped));
        LogQueue { messages: self.messages.clone(), dropped }
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
    dropped: Arc<AtomicU64>,
}

impl LogQueue {
    /// Hands a record over. False when the queue is full or the writer gone: the record is dropped
    /// and counted.
    pub fn send(&self, log: LogId, record: Box<Record>) -> bool {
        match self.messages.try_send(Message::Record(log, record)) {
            Ok(()) => true,
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
    logs: Arc<Mutex<Vec<Arc<LogSpec>>>>,
    /// Logs by id, as far as they were seen.
    known: Vec<Arc<LogSpec>>,
    sinks: BTreeMap<LogSink, Sink>,
    failures: Arc<AtomicU64>,
}

/// One sink with what was not written yet.
#[derive(Default)]
struct Sink {
    pending: Vec<u8>,
    file: Option<File>,
}

impl Output {
    fn run(mut self, messages: &Receiver<Message>) {
        let interval = Duration::from_millis(LOG_FLUSH_INTERVAL_MILLIS);
        let mut flush_at = Instant::now() + interval;
        while !self.requests.stop.load(Relaxed) {
            match messages.recv_deadline(flush_at) {
                Ok(Message::Record(log, record)) => self.line(log, &record),
                Ok(Message::Wake) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.requests.reopen.swap(false, Relaxed) {
                self.flush();
                self.sinks.values_mut().for_each(|sink| sink.file = None);
            }
            if Instant::now() >= flush_at {
                self.flush();
                flush_at = Instant::now() + interval;
            }
        }
        for message in messages.try_iter() {
            if let Message::Record(log, record) = message {
                self.line(log, &record);
            }
        }
        self.flush();
    }

    fn line(&mut self, log: LogId, record: &Record) {
        let index = log.0 as usize;
        if index >= self.known.len() {
            self.known.clone_from(&self.logs.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let Some(spec) = self.known.get(index) else { return };
        if !self.sinks.contains_key(&spec.sink) {
            self.sinks.insert(spec.sink.clone(), Sink::default());
        }
        let Some(sink) = self.sinks.get_mut(&spec.sink) else { return };
        spec.format.write(record, &mut sink.pending);
        if sink.pending.len() >= LOG_FLUSH_BYTES && sink.flush(&spec.sink).is_err() {
            self.failures.fetch_add(1, Relaxed);
        }
    }

    fn flush(&mut self) {
        for (target, sink) in &mut self.sinks {
            if sink.flush(target).is_err() {
                self.failures.fetch_add(1, Relaxed);
            }
        }
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
    use crate::access_log::Context;

    fn spec(sink: LogSink, format: &str) -> LogSpec {
        LogSpec { sink, format: LogFormat::text(format, &Context::default()).expect("valid format") }
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
        let writer = LogWriter::start().expect("a thread");
        let log = writer.declare(spec(LogSink::File(path.clone()), "%RESPONSE_CODE%\n")).expect("room");
        let queue = writer.queue();
        for code in 200..300 {
            assert!(queue.send(log, record(code)));
        }
        drop(writer);
        let expected: String = (200..300).map(|code| format!("{code}\n")).collect();
        assert_eq!(std::fs::read_to_string(path).expect("the log"), expected);
        assert!(!queue.send(log, record(200)), "nobody writes any more");
        assert_eq!(queue.dropped(), 1);
    }

    #[test]
    fn reopen_follows_a_renamed_file() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (path, rotated) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let writer = LogWriter::start().expect("a thread");
        let log = writer.declare(spec(LogSink::File(path.clone()), "%RESPONSE_CODE%\n")).expect("room");
        let queue = writer.queue();
        queue.send(log, record(200));
        writer.reopen();
        // The first line is in the file once it exists.
        while !path.exists() {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &rotated).expect("renamed");
        writer.reopen();
        // Lines go to the new file from some line on, at the latest after a flush interval.
        while !path.exists() {
            queue.send(log, record(404));
            std::thread::yield_now();
        }
        drop(writer);
        assert!(std::fs::read_to_string(rotated).expect("the old log").starts_with("200\n"));
        assert!(std::fs::read_to_string(path).expect("the new log").starts_with("404\n"));
    }

    #[test]
    fn a_log_that_cannot_be_written_is_counted() {
        let writer = LogWriter::start().expect("a thread");
        let log = writer.declare(spec(LogSink::File("/nonexistent/x".into()), "x\n")).expect("room");
        writer.queue().send(log, record(200));
        writer.reopen();
        while writer.failures() == 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        // The queue is built without its thread: nothing takes records out.
        let (messages, _received) = bounded(2);
        let queue = LogQueue { messages, dropped: Arc::default() };
        let sent: Vec<bool> = (0..4).map(|_| queue.send(LogId(0), record(200))).collect();
        assert_eq!(sent, [true, true, false, false]);
        assert_eq!(queue.dropped(), 2);
    }

    #[test]
    fn the_number_of_logs_is_limited() {
        let writer = LogWriter::start().expect("a thread");
        for _ in 0..LOGS_MAX {
            assert!(writer.declare(spec(LogSink::Stderr, "x")).is_some());
        }
        assert!(writer.declare(spec(LogSink::Stderr, "x")).is_none());
    }
}
