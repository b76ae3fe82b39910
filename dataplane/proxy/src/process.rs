//! The process as the agent's admin endpoint sees it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use ringsail_agent::options::LogLevel;
use ringsail_agent::process::{Drain, Engine, Process};
use ringsail_engine::control::{Command, Event};
use ringsail_runtime::engine::EngineReport;
use ringsail_runtime::mailbox::{MailboxSender, Outbox};
use ringsail_telemetry::access_log::LogWriter;

use crate::logging::Levels;
use crate::signals;

/// Handles to the running threads.
pub struct RunningProcess {
    engine: Engine,
    shard_count: NonZeroUsize,
    commands: Arc<[MailboxSender<Command>]>,
    access_logs: Arc<LogWriter>,
    log_levels: Levels,
    drain_time: Duration,
}

impl RunningProcess {
    /// Takes the handles, and a thread of its own to report what the shards tell.
    pub fn new(
        report: Option<EngineReport>,
        shard_count: NonZeroUsize,
        commands: Vec<MailboxSender<Command>>,
        news: Outbox<Event>,
        access_logs: Arc<LogWriter>,
        log_levels: Levels,
        drain_time: Duration,
    ) -> RunningProcess {
        let engine = match report {
            Some(report) => Engine { name: report.engine.to_string(), reason: report.reason },
            None => Engine { name: String::new(), reason: String::new() },
        };
        drop(std::thread::Builder::new().name("shard-news".into()).spawn(move || report_news(&news)));
        RunningProcess { engine, shard_count, commands: commands.into(), access_logs, log_levels, drain_time }
    }

    /// Closes all listening sockets.
    pub fn stop_listening(&self) {
        send(&self.commands, &Command::StopListening);
    }
}

fn report_news(news: &Outbox<Event>) {
    while let Some(event) = news.recv() {
        match event {
            Event::Listening { name, address } => tracing::info!(%name, %address, "listening"),
            // The shard has logged it.
            Event::NotListening { .. } => {}
        }
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
        self.shard_count.get() as u32
    }

    fn drain_listeners(&self, drain: Drain) {
        let Drain { inbound_only, graceful, skip_exit } = drain;
        let command = Command::Drain { inbound_only, graceful, keep_listening: skip_exit };
        send(&self.commands, &command);
        if graceful && !skip_exit {
            // The sockets close when the drain time is over.
            let (commands, drain_time) = (self.commands.clone(), self.drain_time);
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
