//! Every subscriber sees every row once, in order, or is told of a gap: checked against a model that
//! knows the order of all commits, with a table that answers whenever it likes.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::future::FutureExt;
use proptest::{prelude::*, sample::Index};
use tokio::sync::mpsc;

use super::{id, row};
use crate::feed::{history::HistoryRequest, *};

const CLIENTS: usize = 3;

#[derive(Debug, Clone)]
enum Op {
    /// A transaction takes the next key, and stays open.
    Open {
        hole: i128,
    },
    /// Some open transactions are committed as one, in the order given.
    Commit {
        which: Vec<Index>,
    },
    /// An open transaction's row can be read from the table before it is published.
    Land {
        which: Index,
    },
    /// A row's key is inserted once more, as by a REPLACE.
    Again {
        which: Index,
    },
    /// A row is deleted from the table.
    Delete {
        which: Index,
    },
    Gap,
    NewEpoch,
    /// The table answers the oldest question, or says that it can't.
    Answer {
        works: bool,
    },
    /// A client takes a step.
    Read {
        client: usize,
        max_rows: usize,
    },
    /// A client comes back with the id that it has.
    Return {
        client: usize,
    },
    /// A client forgets what it had, and begins somewhere.
    Begin {
        client: usize,
        start: Place,
    },
}

#[derive(Debug, Clone)]
enum Place {
    Now,
    Earliest,
    AfterAny(Index),
    AfterOpen(Index),
    AfterBareKey(Index),
    Ahead,
}

#[derive(Debug, Clone, Copy)]
enum Special {
    None,
    Landing,
    Again,
}

fn op(special: Special) -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    let special = any::<Index>().prop_map(move |which| match special {
        Special::None => Op::Commit { which: vec![which] },
        Special::Landing => Op::Land { which },
        Special::Again => Op::Again { which },
    });
    let start = prop_oneof![
        Just(Place::Now),
        Just(Place::Earliest),
        any::<Index>().prop_map(Place::AfterAny),
        any::<Index>().prop_map(Place::AfterOpen),
        any::<Index>().prop_map(Place::AfterBareKey),
        Just(Place::Ahead),
    ];
    prop_oneof![
        20 => prop_oneof![9 => Just(0), 1 => 1..50i128].prop_map(|hole| Op::Open { hole }),
        20 => prop::collection::vec(any::<Index>(), 1..4).prop_map(|which| Op::Commit { which }),
        8 => special,
        2 => any::<Index>().prop_map(|which| Op::Delete { which }),
        1 => Just(Op::Gap),
        1 => Just(Op::NewEpoch),
        20 => prop::bool::weighted(0.9).prop_map(|works| Op::Answer { works }),
        20 => (client.clone(), 1..6usize).prop_map(|(client, max_rows)| Op::Read { client, max_rows }),
        5 => client.clone().prop_map(|client| Op::Return { client }),
        3 => (client, start).prop_map(|(client, start)| Op::Begin { client, start }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Row(EventId),
    Gap,
    Epoch,
}

struct Client {
    subscriber: Option<Subscriber>,
    /// Where it is in the log: everything before was given, or a gap was told.
    at: usize,
    /// A gap was told since the last row.
    told: bool,
    /// The id that it began with, if there was no such row then.
    unseen: Option<EventId>,
    /// Rows given since it began or came back.
    given: usize,
}

struct World {
    feed: Feed,
    limits: Limits,
    requests: mpsc::Receiver<HistoryRequest>,
    log: Vec<Item>,
    places: HashMap<EventId, usize>,
    epoch: Epoch,
    next_key: Key,
    open: Vec<Key>,
    table: BTreeSet<Key>,
    deleted: HashSet<EventId>,
    /// Rows that could be read from the table before they were published.
    landed: HashSet<EventId>,
    /// Rows that came more than once.
    again: HashSet<EventId>,
    clients: Vec<Client>,
}

impl World {
    fn new(limits: Limits, older: Key, seed: Key) -> Self {
        let (history, requests) = History::channel();
        let feed = Feed::new(limits, history);
        let mut world = World {
            feed,
            limits,
            requests,
            log: Vec::new(),
            places: HashMap::new(),
            epoch: 1,
            next_key: older + seed + 1,
            open: Vec::new(),
            table: BTreeSet::new(),
            deleted: HashSet::new(),
            landed: HashSet::new(),
            again: HashSet::new(),
            clients: Vec::new(),
        };
        (1..=older).for_each(|key| world.log_row(key));
        if older > 0 {
            world.feed.mark_older(older);
        }
        (older + 1..=older + seed).for_each(|key| world.log_row(key));
        world.feed.publish(1, None, (older + 1..=older + seed).map(row).collect());
        world.feed.set_ready();
        for _ in 0..CLIENTS {
            let subscriber = Some(world.subscribe(Start::Now));
            world.clients.push(Client {
                subscriber,
                at: world.log.len(),
                told: false,
                unseen: None,
                given: 0,
            });
        }
        world
    }

    fn log_row(&mut self, key: Key) {
        let id = id(self.epoch, key);
        assert!(self.places.insert(id, self.log.len()).is_none());
        self.log.push(Item::Row(id));
        self.table.insert(key);
        // A client that began with this id before it was seen had the rows before it elsewhere.
        for client in self.clients.iter_mut().filter(|client| client.unseen == Some(id)) {
            client.told = true;
        }
    }

    fn subscribe(&self, start: Start) -> Subscriber {
        self.feed.subscribe(start, |_| true).now_or_never().expect("the feed is ready")
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Open { hole } => {
                self.next_key += hole;
                self.open.push(self.next_key);
                self.next_key += 1;
            }
            Op::Commit { which } => {
                let mut rows = Vec::new();
                for which in which.iter().take(self.open.len()) {
                    let key = self.open.remove(which.index(self.open.len()));
                    self.log_row(key);
                    rows.push(row(key));
                }
                self.feed.publish(self.epoch, Some(1), rows);
            }
            Op::Land { which } if !self.open.is_empty() => {
                let key = *which.get(&self.open);
                self.table.insert(key);
                self.landed.insert(id(self.epoch, key));
            }
            Op::Again { which } if !self.table.is_empty() => {
                let key = *which.get(&self.table.iter().copied().collect::<Vec<_>>());
                let id = id(self.epoch, key);
                if self.places.contains_key(&id) {
                    self.again.insert(id);
                    self.feed.publish_some_again(self.epoch, Some(1), vec![row(key)], |_| true);
                }
            }
            Op::Delete { which } if !self.table.is_empty() => {
                let key = *which.get(&self.table.iter().copied().collect::<Vec<_>>());
                self.table.remove(&key);
                self.deleted.insert(id(self.epoch, key));
            }
            Op::Gap => {
                self.log.push(Item::Gap);
                self.feed.mark_gap("marked".into());
            }
            Op::NewEpoch => {
                self.epoch += 1;
                self.log.push(Item::Epoch);
                self.open.clear();
                self.table.clear();
                self.next_key = 1;
                self.feed.begin_epoch(self.epoch);
            }
            Op::Answer { works } => self.answer(works),
            Op::Read { client, max_rows } => {
                self.read(client, max_rows);
            }
            Op::Return { client } => self.come_back(client),
            Op::Begin { client, start } => self.begin(client, start),
            Op::Land { .. } | Op::Again { .. } | Op::Delete { .. } => {}
        }
    }

    fn answer(&mut self, works: bool) {
        let Ok(HistoryRequest { after, through, limit, reply, .. }) = self.requests.try_recv() else {
            return;
        };
        let rows = self.table.range(after + 1..).take_while(|key| **key <= through);
        let rows = rows.take(limit).map(|&key| row(key)).collect();
        let _ = reply.send(if works { Ok(rows) } else { Err(HistoryUnavailable) });
    }

    fn come_back(&mut self, client: usize) {
        let cursor = self.clients[client].subscriber.take().expect("it is here").cursor();
        match cursor {
            Some(cursor) => {
                self.clients[client].given = 0;
                // As text, as a client has it.
                let cursor = cursor.to_string().parse().unwrap();
                self.clients[client].subscriber = Some(self.subscribe(Start::After(cursor)));
                self.read(client, 1);
            }
            // It had begun with the oldest row and never got one.
            None => self.begin(client, Place::Earliest),
        }
    }

    fn begin(&mut self, client: usize, place: Place) {
        let rows = self.log.iter().filter_map(|item| match item {
            Item::Row(id) => Some(*id),
            _ => None,
        });
        let rows: Vec<EventId> = rows.collect();
        let of_epoch: Vec<EventId> = rows.iter().copied().filter(|id| id.epoch == self.epoch).collect();
        let (start, at) = match place {
            Place::Earliest => {
                let oldest = self.feed.state().oldest.map_or(self.log.len(), |id| self.places[&id]);
                // Gaps that the ring holds before its oldest row.
                (Start::Earliest, oldest)
            }
            Place::AfterAny(which) if !rows.is_empty() => {
                let id = *which.get(&rows);
                (Start::After(Cursor::Id(id)), self.places[&id] + 1)
            }
            Place::AfterBareKey(which) if !of_epoch.is_empty() => {
                let id = *which.get(&of_epoch);
                (Start::After(Cursor::Key(id.key)), self.places[&id] + 1)
            }
            Place::AfterOpen(which) if !self.open.is_empty() => {
                // An id never seen stands where the first greater key was committed.
                let key = *which.get(&self.open);
                let later = of_epoch.iter().find(|id| id.key > key);
                let mut at = later.map_or(self.log.len(), |id| self.places[id]);
                while at > 0 && self.log[at - 1] == Item::Gap {
                    at -= 1;
                }
                (Start::After(Cursor::Key(key)), at)
            }
            Place::Ahead => (Start::After(Cursor::Id(id(self.epoch, self.next_key + 1_000))), self.log.len()),
            _ => (Start::Now, self.log.len()),
        };
        let ahead = matches!(start, Start::After(cursor) if match cursor {
            Cursor::Id(id) => !self.places.contains_key(&id),
            Cursor::Key(key) => of_epoch.iter().all(|id| id.key < key),
            Cursor::Again(..) => false,
        });
        self.clients[client] =
            Client { subscriber: Some(self.subscribe(start)), at, told: false, unseen: None, given: 0 };
        // The ring may begin between two places of one id, and an id never seen stands before or after one.
        let unsure = start == Start::Earliest || matches!(place, Place::AfterOpen(_));
        self.clients[client].told = unsure && !self.again.is_empty();
        let asked = self.clients[client].subscriber.as_ref().and_then(Subscriber::cursor);
        self.clients[client].unseen = asked.and_then(|cursor| match cursor {
            Cursor::Id(id) if !self.places.contains_key(&id) => Some(id),
            _ => None,
        });
        if ahead {
            let next = self.step(client, 1);
            assert!(
                matches!(&next, Some(Ok(Next::Gap(gap))) if gap.resumes_at == self.feed.head()),
                "an id that is ahead is told so: {next:?}"
            );
            self.clients[client].told = true;
        } else {
            self.read(client, 1);
        }
    }

    fn step(&mut self, client: usize, max_rows: usize) -> Option<Result<Next, HistoryUnavailable>> {
        self.clients[client].subscriber.as_mut().expect("it is here").next(max_rows).now_or_never()
    }

    /// Lets a client take one step, and checks what it is given. Says whether anything came.
    fn read(&mut self, client: usize, max_rows: usize) -> bool {
        let next = self.step(client, max_rows);
        let came = next.is_some();
        match next {
            None | Some(Err(HistoryUnavailable)) => {}
            Some(Ok(Next::Gap(gap))) => {
                self.check_gap(client, &gap);
                self.clients[client].told = true;
            }
            Some(Ok(Next::Rows(rows))) => {
                assert!((1..=max_rows).contains(&rows.len()));
                rows.iter().for_each(|row| self.check_row(client, row.id()));
            }
        }
        came
    }

    fn check_gap(&self, client: usize, gap: &Gap) {
        let rest = &self.log[self.clients[client].at..];
        // A client's id may stand on either side of a mark, see `before_a_mark`.
        let marked = &*gap.reason == "marked" && gap.after.is_some_and(|id| self.before_a_mark(id));
        let broken = rest.iter().any(|item| matches!(item, Item::Gap | Item::Epoch));
        // A client that stays slower than the table is filled counts what the table gave it, too.
        let rows =
            rest.iter().filter(|item| matches!(item, Item::Row(_))).count() + self.clients[client].given;
        let landed = gap.after.is_some_and(|id| self.landed.contains(&id));
        let early = self.landed.iter().filter(|id| id.epoch == self.epoch).count();
        assert!(
            broken
                || marked
                || rows + early > self.limits.resume_limit
                || landed
                || !self.again.is_empty()
                || self.clients[client].told,
            "a gap needs a reason: {gap:?}"
        );
        let oldest = self.feed.state().oldest;
        assert!(
            gap.resumes_at == self.feed.head()
                || !self.again.is_empty()
                || self.places[&gap.resumes_at] >= self.places[&oldest.unwrap()]
        );
    }

    /// Whether an id may stand before a mark. Ids are told apart by the greatest key published up to
    /// them, so one right after a mark may be taken for one before it.
    fn before_a_mark(&self, id: EventId) -> bool {
        if id.epoch != self.epoch {
            return false;
        }
        let begins = self.log.iter().rposition(|item| *item == Item::Epoch).map_or(0, |at| at + 1);
        let highest = |items: &[Item]| {
            items
                .iter()
                .filter_map(|item| match item {
                    Item::Row(row) => Some(row.key),
                    _ => None,
                })
                .max()
                .unwrap_or(0)
        };
        let base = self.places.get(&id).map_or(id.key, |place| highest(&self.log[begins..=*place]));
        (begins..self.log.len()).filter(|&at| self.log[at] == Item::Gap).any(|at| {
            let next = self.log[at..].iter().position(|item| matches!(item, Item::Row(_)));
            let next = next.map_or(0, |next| highest(&self.log[begins..=at + next]) - 1);
            base <= next.max(highest(&self.log[begins..at]))
        })
    }

    fn check_row(&mut self, number: usize, id: EventId) {
        let client = &mut self.clients[number];
        let landed = self.landed.contains(&id);
        let Some(&place) = self.places.get(&id) else {
            assert!(landed, "{id} was never committed");
            return;
        };
        if client.told && self.again.contains(&id) {
            return; // which of its places this is, nobody can tell
        }
        if place < client.at {
            // From an invented id of a past epoch it goes on with more, rather than less.
            let invented = client.told && client.unseen.is_some() && id.epoch < self.epoch;
            // After a row that came again, and left the ring, it goes on from its first place.
            let again = !self.again.is_empty();
            assert!(landed || invented || again, "{id} came twice, or out of order");
            return;
        }
        for item in &self.log[client.at..place] {
            // One that came again may come at its later place alone.
            let is_excused = |id| self.deleted.contains(id) || self.again.contains(id);
            let excused = matches!(item, Item::Row(id) if is_excused(id)) || *item == Item::Epoch;
            if landed && !excused && !client.told {
                // It was read before its turn. What it overtook must still come.
                return;
            }
            assert!(excused || client.told, "{item:?} was skipped before {id}");
        }
        client.at = place + 1;
        client.told = false;
        client.given += 1;
    }

    /// Everything quiet: every client must come to the end.
    fn drain(&mut self) {
        for client in 0..CLIENTS {
            for _ in 0..10_000 {
                let came = self.read(client, 3);
                let asks = !self.requests.is_empty();
                self.answer(true);
                if !came && !asks {
                    break;
                }
            }
            let head = self.feed.head();
            let Client { subscriber, at, told, .. } = &self.clients[client];
            let cursor = subscriber.as_ref().and_then(Subscriber::cursor);
            assert!(cursor.is_some_and(|cursor| cursor.names(head)), "{cursor:?} is not {head}");
            for item in &self.log[*at..] {
                let excused = matches!(item, Item::Row(id) if self.deleted.contains(id));
                assert!(excused || *item == Item::Epoch || *told, "{item:?} never came");
            }
        }
    }
}

fn run(rows: usize, resume_limit: usize, older: Key, seed: Key, ops: Vec<Op>) {
    let limits = Limits { rows, bytes: usize::MAX, resume_limit };
    let mut world = World::new(limits, older, seed);
    ops.into_iter().for_each(|op| world.apply(op));
    world.drain();
}

proptest! {
    #[test]
    fn every_row_comes_once_in_order_or_a_gap_is_told(
        rows in 1..8usize,
        resume_limit in prop_oneof![0..12usize, Just(1_000)],
        older in 0..15i128,
        seed in 0..6i128,
        ops in prop::collection::vec(op(Special::None), 1..150),
    ) {
        run(rows, resume_limit, older, seed, ops);
    }

    #[test]
    fn a_row_read_from_the_table_before_its_turn_hides_no_other(
        rows in 1..8usize,
        resume_limit in prop_oneof![0..12usize, Just(1_000)],
        older in 0..15i128,
        seed in 0..6i128,
        ops in prop::collection::vec(op(Special::Landing), 1..150),
    ) {
        run(rows, resume_limit, older, seed, ops);
    }

    #[test]
    fn a_key_that_comes_again_hides_no_other(
        rows in 1..8usize,
        resume_limit in prop_oneof![0..12usize, Just(1_000)],
        older in 0..15i128,
        seed in 0..6i128,
        ops in prop::collection::vec(op(Special::Again), 1..150),
    ) {
        run(rows, resume_limit, older, seed, ops);
    }
}
