//! Listening sockets: one per listener address and shard, kept in step with the tables.
//!
//! A new version is compared with what is open: sockets of listeners that are still there stay, new ones are bound,
//! removed ones are closed after what waits in their backlog was taken. What a change means for connections is in
//! [`crate::serving`].

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use ringsail_runtime::local::Notify;
use ringsail_runtime::mailbox::{Mailbox, NotSent, OutboxSender};
use ringsail_runtime::net::{Address, Listener as Socket, ListenerOptions, Stream};
use ringsail_runtime::{Either, race, task, time};
use ringsail_tables::address::Address as Configured;
use ringsail_tables::ids::ListenerId;
use ringsail_tables::listener::Listener;
use ringsail_telemetry::ListenerCounter;

use crate::control::{Command, Event};
use crate::limits::{BIND_RETRY, EVENT_RETRY};
use crate::serve;
use crate::serving::ServingListener;
use crate::shard::{DrainOrder, Shard};

/// A listening socket and the settings for connections that come through it from here on.
struct Open {
    id: ListenerId,
    address: Configured,
    serving: Rc<ServingListener>,
    closed: Cell<bool>,
    close: Notify,
}

/// Runs the shard's listeners until the process ends.
pub async fn run(shard: Rc<Shard>, mut commands: Mailbox<Command>, events: OutboxSender<Event>) {
    let mut open: Vec<Rc<Open>> = Vec::new();
    // Listeners that were told not to listen any more; a change does not open them again.
    let mut stopped: Option<DrainOrder> = None;
    let mut failing: Vec<(ListenerId, Configured)> = Vec::new();
    loop {
        let tables = shard.current_tables();
        let (seen, version) = (tables.number(), tables.version);
        let wanted =
            tables.listeners().filter(|one| !stopped.is_some_and(|order| order.concerns(one.direction)));
        adopt(&shard, &mut open, &mut failing, wanted, &events);
        drop(tables);
        // The agent waits for this one: it goes when there is room.
        while let Err(NotSent::Full(_)) = events.try_send(Event::Adopted { shard: shard.number, version }) {
            time::sleep(EVENT_RETRY).await;
        }
        loop {
            let news = race(shard.tables.changed(seen), commands.recv());
            let news = if failing.is_empty() {
                news.await
            } else {
                match time::timeout(BIND_RETRY, news).await {
                    Ok(news) => news,
                    Err(_) => break,
                }
            };
            match news {
                Either::Left(_) => break,
                Either::Right(Some(command)) => {
                    let order = obey(&shard, &command, &open);
                    stopped =
                        order.filter(|_| stopped.is_none_or(|earlier| earlier.inbound_only)).or(stopped);
                }
                // Nobody is left to give commands: the process is ending.
                Either::Right(None) => return,
            }
        }
    }
}

/// Obeys, and says which listeners are not to listen any more.
fn obey(shard: &Shard, command: &Command, open: &[Rc<Open>]) -> Option<DrainOrder> {
    let order = match command {
        Command::Drain { inbound_only, graceful, keep_listening } => {
            let order = DrainOrder { inbound_only: *inbound_only };
            shard.begin_drain(order);
            (!graceful && !keep_listening).then_some(order)?
        }
        Command::StopListening => DrainOrder { inbound_only: false },
    };
    open.iter().filter(|open| order.concerns(open.serving.direction())).for_each(|open| open.shut());
    Some(order)
}

/// Brings the open sockets in step with `wanted`. `failing` are those that could not be bound and are to be tried again.
fn adopt<'t>(
    shard: &Rc<Shard>,
    open: &mut Vec<Rc<Open>>,
    failing: &mut Vec<(ListenerId, Configured)>,
    wanted: impl Iterator<Item = &'t Arc<Listener>>,
    events: &OutboxSender<Event>,
) {
    let wanted: Vec<&Arc<Listener>> = wanted.filter(|listener| listener.bind_to_port).collect();
    let is_wanted = |open: &Open| {
        wanted.iter().any(|listener| listener.id == open.id && listener.addresses.contains(&open.address))
    };
    open.retain(|listener| {
        if is_wanted(listener) && !listener.closed.get() {
            return true;
        }
        listener.shut();
        false
    });
    let failed_before = std::mem::take(failing);
    for listener in wanted {
        for address in &listener.addresses {
            if open.iter().any(|o| o.id == listener.id && o.address == *address) {
                continue;
            }
            match bind(listener, address) {
                Ok(socket) => {
                    let bound = socket.local_addr().clone();
                    // Nobody reading it is no reason not to serve.
                    let _ =
                        events.try_send(Event::Listening { name: listener.name.to_string(), address: bound });
                    let entry = Rc::new(Open {
                        id: listener.id,
                        address: address.clone(),
                        serving: shard.serving(listener),
                        closed: Cell::new(false),
                        close: Notify::new(),
                    });
                    open.push(entry.clone());
                    drop(task::spawn(accept(shard.clone(), entry, socket)));
                }
                Err(error) => {
                    let place = (listener.id, address.clone());
                    if !failed_before.contains(&place) {
                        tracing::error!(listener = %listener.name, %address, %error, "cannot listen; trying again");
                    }
                    failing.push(place);
                    let _ = events.try_send(Event::NotListening {
                        name: listener.name.to_string(),
                        address: address.to_string(),
                        error: error.to_string(),
                    });
                }
            }
        }
    }
}

fn bind(listener: &Listener, address: &Configured) -> std::io::Result<Socket> {
    let address = match address {
        Configured::Socket(address) => Address::Inet(*address),
        Configured::Pipe(path) => Address::Unix(path.as_str().into()),
    };
    let defaults = ListenerOptions::default();
    let backlog =
        listener.backlog.map_or(defaults.backlog, |backlog| i32::try_from(backlog).unwrap_or(i32::MAX));
    let options = ListenerOptions {
        transparent: listener.transparent,
        freebind: listener.freebind,
        backlog,
        ..defaults
    };
    Socket::bind(&address, options)
}

/// Accepts until told to stop, then takes what the kernel has queued already.
async fn accept(shard: Rc<Shard>, open: Rc<Open>, socket: Socket) {
    loop {
        match race(socket.accept(), open.closing()).await {
            Either::Left(Ok(stream)) => open.begin(&shard, stream),
            Either::Left(Err(error)) => {
                tracing::error!(address = %socket.local_addr(), %error, "listening socket failed");
                open.closed.set(true);
                return;
            }
            Either::Right(()) => {
                while let Ok(Some(stream)) = socket.try_accept() {
                    open.begin(&shard, stream);
                }
                return;
            }
        }
    }
}

impl Open {
    fn begin(&self, shard: &Rc<Shard>, stream: Stream) {
        let serving = self.serving.clone();
        let stats = &serving.version().stats;
        let Some(permit) = shard.downstream.take(shard.downstream_max) else {
            stats.add(ListenerCounter::DownstreamGlobalCxOverflow, 1);
            stream.reset();
            return;
        };
        stats.add(ListenerCounter::DownstreamCxTotal, 1);
        drop(task::spawn(serve::connection(shard.clone(), serving, stream, permit)));
    }

    fn shut(&self) {
        self.closed.set(true);
        self.close.notify_all();
    }

    async fn closing(&self) {
        while !self.closed.get() {
            self.close.notified().await;
        }
    }
}
