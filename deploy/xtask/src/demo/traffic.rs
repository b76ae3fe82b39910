//! Steady traffic at a fixed rate, whatever the answers do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::client::Client;
use super::observe::{Visitor, Window};

/// Most requests in flight: beyond it a request is not sent, so that a stuck mesh does not eat the machine.
const IN_FLIGHT_MAX: u32 = 1_000;

/// Running traffic and what it saw since the window was last opened.
#[derive(Clone)]
pub struct Traffic {
    window: Rc<RefCell<Window>>,
    rate: Rc<Cell<u32>>,
    in_flight: Rc<Cell<u32>>,
    epoch: Rc<Cell<u64>>,
}

impl Traffic {
    /// Starts sending `rate` requests per second. Must be called on a `LocalSet`; ends with it.
    pub fn start(client: Client, rate: u32) -> Self {
        let this = Self {
            window: Rc::new(RefCell::new(Window::open())),
            rate: Rc::new(Cell::new(rate)),
            in_flight: Rc::default(),
            epoch: Rc::default(),
        };
        tokio::task::spawn_local(this.clone().send(client));
        this
    }

    /// Forgets what was seen. Requests sent before do not count in the new window.
    pub fn open_window(&self) {
        self.epoch.set(self.epoch.get() + 1);
        *self.window.borrow_mut() = Window::open();
    }

    /// Looks at what was seen since.
    pub fn look<T>(&self, look: impl FnOnce(&Window) -> T) -> T {
        look(&self.window.borrow())
    }

    /// Changes the rate.
    pub fn set_rate(&self, rate: u32) {
        self.rate.set(rate);
    }

    async fn send(self, client: Client) {
        let mut turn = 0_usize;
        loop {
            let rate = self.rate.get();
            let pause = Duration::from_secs(1) / rate.max(1);
            let mut ticks = interval_at(Instant::now() + pause, pause);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while self.rate.get() == rate {
                ticks.tick().await;
                // Every other request is anybody's; the special visitors take turns.
                let special = Visitor::ALL[1 + turn / 2 % (Visitor::ALL.len() - 1)];
                let visitor = if turn.is_multiple_of(2) { Visitor::Anybody } else { special };
                turn += 1;
                if self.in_flight.get() < IN_FLIGHT_MAX {
                    tokio::task::spawn_local(self.clone().visit(client.clone(), visitor));
                }
            }
        }
    }

    async fn visit(self, client: Client, visitor: Visitor) {
        self.in_flight.set(self.in_flight.get() + 1);
        let epoch = self.epoch.get();
        let page = client.get(visitor.target(), visitor.fields()).await.ok();
        self.in_flight.set(self.in_flight.get() - 1);
        if epoch == self.epoch.get() {
            self.window.borrow_mut().add(visitor, page.as_ref());
        }
    }
}
