//! One run: a pacer that lets requests go when they are due, and connections that carry them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::exchange::{Connection, Exchange};
use crate::options::Options;
use crate::outcome::Outcome;
use crate::schedule::Schedule;

/// Requests that are due and not yet sent, in order; a permit of `ready` for each.
struct Due {
    queue: RefCell<VecDeque<Instant>>,
    ready: Semaphore,
}

/// What the connections of a run share.
struct Shared {
    exchange: Exchange,
    new_connections: bool,
    /// Exchanges that began before this are warm-up.
    measured_from: Instant,
    end: Instant,
    outcome: RefCell<Outcome>,
}

/// Runs as `options` say.
///
/// # Errors
/// When not a single connection can be opened.
pub async fn run(options: &Options) -> Result<Outcome> {
    let exchange = Exchange::new(options)?;
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        let opened = exchange.connect(options.streams()).await;
        connections.extend(opened.with_context(|| format!("connecting to {}", options.target))?);
    }
    let start = Instant::now();
    let measured_from = start + options.warmup;
    let shared = Rc::new(Shared {
        exchange,
        new_connections: options.new_connections,
        measured_from,
        end: measured_from + options.duration,
        outcome: RefCell::new(Outcome::new()),
    });

    let mut tasks = JoinSet::new();
    match options.rate {
        None => {
            for connection in connections {
                tasks.spawn_local(Rc::clone(&shared).closed_loop(connection));
            }
        }
        Some(rate) => {
            let due = Rc::new(Due { queue: RefCell::new(VecDeque::new()), ready: Semaphore::new(0) });
            for connection in connections {
                tasks.spawn_local(Rc::clone(&shared).open_loop(connection, Rc::clone(&due)));
            }
            pace(Schedule::new(rate), start, options.warmup + options.duration, &due).await;
            // Connections end once what was due has been answered.
            due.ready.close();
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a connection's task failed")?;
    }
    let mut outcome = shared.outcome.replace(Outcome::new());
    outcome.elapsed = Instant::now().saturating_duration_since(measured_from);
    if outcome.successes + outcome.failures == 0 {
        bail!("nothing was answered by {}", options.target);
    }
    Ok(outcome)
}

/// Hands every request to the connections at the moment it is due.
///
/// A thread of its own keeps the time: it sleeps with the kernel's precision, Tokio's timers with a millisecond's.
async fn pace(schedule: Schedule, start: Instant, length: Duration, due: &Due) {
    let (release, mut released) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for index in 0..schedule.due_within(length) {
            let moment = start + schedule.due(index);
            thread::sleep(moment.saturating_duration_since(Instant::now()));
            // The receiver is gone when the run was given up.
            if release.send(moment).is_err() {
                return;
            }
        }
    });
    while let Some(moment) = released.recv().await {
        due.queue.borrow_mut().push_back(moment);
        due.ready.add_permits(1);
    }
}

impl Shared {
    async fn closed_loop(self: Rc<Self>, connection: Connection) {
        let mut connection = Some(connection);
        while Instant::now() < self.end {
            self.exchange(&mut connection, Instant::now()).await;
        }
    }

    async fn open_loop(self: Rc<Self>, connection: Connection, due: Rc<Due>) {
        let mut connection = Some(connection);
        loop {
            // A closed semaphore still hands out nothing, so the queue is emptied without it at the end.
            if let Ok(permit) = due.ready.acquire().await {
                permit.forget();
            }
            let Some(moment) = due.queue.borrow_mut().pop_front() else { return };
            self.exchange(&mut connection, moment).await;
        }
    }

    /// One exchange that counts from `from`; a failed connection is replaced by the next exchange.
    async fn exchange(&self, connection: &mut Option<Connection>, from: Instant) {
        let success = self.attempt(connection).await.unwrap_or(false);
        if !success || self.new_connections {
            *connection = None;
        }
        if from >= self.measured_from {
            self.outcome.borrow_mut().record(success, from.elapsed());
        }
    }

    async fn attempt(&self, connection: &mut Option<Connection>) -> std::io::Result<bool> {
        if connection.is_none() {
            *connection = self.exchange.connect(1).await?.pop();
        }
        match connection {
            Some(connection) => self.exchange.run(connection).await,
            None => Ok(false),
        }
    }
}
