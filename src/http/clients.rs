//! How many clients of which kind there are.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde::Serialize;

use super::App;
use crate::status::Counter;

#[derive(Debug, Default)]
pub(super) struct Clients {
    events: AtomicUsize,
    poll: AtomicUsize,
    old_page: AtomicUsize,
    screen_events: AtomicUsize,
    screen_poll: AtomicUsize,
    /// Open connections, idle ones too.
    pub(super) connections: AtomicUsize,
    /// Connections that came beyond the limit.
    pub(super) turned_away: Counter,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Events,
    Poll,
    OldPage,
    ScreenEvents,
    ScreenPoll,
}

/// Clients at one moment.
#[derive(Debug, Serialize)]
pub(super) struct Count {
    pub(super) events: usize,
    pub(super) poll: usize,
    pub(super) old_page: usize,
    pub(super) screen_events: usize,
    pub(super) screen_poll: usize,
    pub(super) connections: usize,
}

impl Clients {
    fn of(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Events => &self.events,
            Kind::Poll => &self.poll,
            Kind::OldPage => &self.old_page,
            Kind::ScreenEvents => &self.screen_events,
            Kind::ScreenPoll => &self.screen_poll,
        }
    }

    pub(super) fn count(&self) -> Count {
        let get = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        Count {
            events: get(&self.events),
            poll: get(&self.poll),
            old_page: get(&self.old_page),
            screen_events: get(&self.screen_events),
            screen_poll: get(&self.screen_poll),
            connections: get(&self.connections),
        }
    }
}

/// A client that is being served; dropping it counts it out.
pub(super) struct Client {
    app: Arc<App>,
    kind: Kind,
}

impl Client {
    pub(super) fn count_in(app: &Arc<App>, kind: Kind) -> Self {
        app.clients.of(kind).fetch_add(1, Ordering::Relaxed);
        Client { app: app.clone(), kind }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.app.clients.of(self.kind).fetch_sub(1, Ordering::Relaxed);
    }
}
