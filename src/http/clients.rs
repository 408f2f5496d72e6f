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
}

/// Clients at one moment.
#[derive(Debug, Serialize)]
pub(super) struct Count {
    pub(super) events: usize,
    pub(super) poll: usize,
    pub(super) old_page: usize,
    pub(super) connections: usize,
}

impl Clients {
    fn of(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Events => &self.events,
            Kind::Poll => &self.poll,
            Kind::OldPage => &self.old_page,
        }
    }

    pub(super) fn count(&self) -> Count {
        let get = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        Count {
            events: get(&self.events),
            poll: get(&self.poll),
            old_page: get(&self.old_page),
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
