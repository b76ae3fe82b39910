//! The process as the agent's admin endpoint sees it.

use std::sync::Arc;
use std::time::Duration;

use ringsail_agent::news::{News, NewsSender};
use ringsail_agent::options::LogLevel;
use ringsail_agent::process::{Drain, Engine, Process, ShardTotals};
use ringsail_engine::control::{Command, Event};
use ringsail_engine::upstream::Report;
use ringsail_runtime::engine::EngineReport;
use ringsail_runtime::mailbox::{MailboxSender, Outbox, OutboxSender};
use ringsail_runtime::stats::ShardStats;
use ringsail_telemetry::access_log::LogWriter;

use crate::logging::Levels;
use crate::signals;

/// The queues between the shards and the rest of the process.
pub struct Queues {
    /// To each shard.
    pub commands: Arc<[MailboxSender<Command>]>,
    /// From all of them.
    pub events: OutboxSender<Event>,
    /// To the shard that judges endpoints.
    pub reports: MailboxSender<Report>,
}

/// Handles to the running threads.
pub struct RunningProcess {
    engine: Engine,
    shards: Vec<Arc<ShardStats>>,
    queues: Queues,
    access_logs: Arc<LogWriter>,
    log_levels: Levels,
    drain_time: Duration,
}

impl RunningProcess {
    /// Takes the handles.
    pub fn new(
        report: Option<EngineReport>,
        shards: Vec<Arc<ShardStats>>,
        queues: Queues,
        access_logs: Arc<LogWriter>,
        log_levels: Levels,
        drain_time: Duration,
    ) -> RunningProcess {
        let engine = match report {
            Some(report) => Engine { name: report.engine.to_string(), reason: report.reason },
            None => Engine { name: String::new(), reason: String::new() },
        };
        RunningProcess { engine, shards, queues, access_logs, log_levels, drain_time }
    }

    /// Closes all listening sockets.
    pub fn stop_listening(&self) {
        send(&self.queues.commands, &Command::StopListening);
    }
}

/// Passes on what the shards tell, on a thread of its own that ends with them.
///
/// # Errors
/// The thread cannot be started.
pub fn pass_on(news: Outbox<Event>, agent: NewsSender) -> std::io::Result<()> {
    std::thread::Builder::new().name("shard-news".into()).spawn(move || report_news(&news, &agent)).map(drop)
}

fn report_news(news: &Outbox<Event>, agent: &NewsSender) {
    while let Some(event) = news.recv() {
        let news = match event {
            Event::Listening { name, address } => {
                tracing::info!(%name, %address, "listening");
                News::Listening { name }
            }
            // The shard has logged it.
            Event::NotListening { name, address, error } => News::NotListening { name, address, error },
            Event::Adopted { shard, version } => News::Adopted { shard, version },
        };
        // An agent that has stopped needs no news.
        let _ = agent.send(news);
    }
}

/// A full mailbox means that a shard is stuck, and is worth an error.
fn send(commands: &[MailboxSender<Command>], command: &Command) {
    for shard in commands {
        if shard.try_send(command.clone()).is_err() {
            tracing::error!(?command, "a shard takes no commands");
        }
    }
}

impl Process for RunningProcess {
    fn engine(&self) -> Engine {
        self.engine.clone()
    }

    fn concurrency(&self) -> u32 {
        self.shards.len() as u32
    }

    fn totals(&self) -> ShardTotals {
        let mut totals = ShardTotals {
            commands_refused: self.queues.commands.iter().map(MailboxSender::refused).sum(),
            events_refused: self.queues.events.refused(),
            reports_refused: self.queues.reports.refused(),
            access_log_dropped: self.access_logs.dropped(),
            ..ShardTotals::default()
        };
        for shard in &self.shards {
            totals.connections_open += shard.connections_open.get();
            totals.connections_refused += shard.connections_refused.get();
            totals.accept_rests += shard.accept_rests.get();
            totals.buffers_lent += shard.blocks_lent.get();
            totals.buffers_refused += shard.blocks_refused.get();
            totals.tasks += shard.tasks.get();
            totals.tasks_refused += shard.tasks_refused.get();
            totals.task_panics += shard.task_panics.get();
        }
        totals
    }

    fn drain_listeners(&self, drain: Drain) {
        let Drain { inbound_only, graceful, skip_exit } = drain;
        let command = Command::Drain { inbound_only, graceful, keep_listening: skip_exit };
        send(&self.queues.commands, &command);
        if graceful && !skip_exit {
            // The sockets close when the drain time is over.
            let (commands, drain_time) = (self.queues.commands.clone(), self.drain_time);
            let close = Command::Drain { inbound_only, graceful: false, keep_listening: false };
            drop(std::thread::Builder::new().name("drain".into()).spawn(move || {
                std::thread::sleep(drain_time);
                send(&commands, &close);
            }));
        }
    }

    fn quit(&self) {
        signals::terminate_self();
    }

    fn log_levels(&self) -> Vec<(String, LogLevel)> {
        self.log_levels.all()
    }

    fn set_log_level(&self, component: Option<&str>, level: LogLevel) -> bool {
        self.log_levels.set(component, level)
    }

    fn reopen_logs(&self) {
        self.access_logs.reopen();
    }

    fn fail_health_checks(&self, _fail: bool) {
        // No health-check filter runs on the shards; the admin endpoint shows the state.
    }
}
