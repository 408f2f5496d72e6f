//! How fast rows go into the feed, one transaction each, with nobody waiting and with many.
//!
//! `cargo bench --bench feed`

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::{sync::Arc, time::Instant};

use doorcast::{
    feed::{Feed, Limits, Next, Start, history::History},
    id::EventId,
    row::EncodedRow,
};
use tokio::task::JoinSet;

/// Readers, and rows for each of them.
const RUNS: [(usize, i128); 4] = [(0, 2_000_000), (1, 1_000_000), (100, 100_000), (5_000, 10_000)];

fn rows(columns: &Arc<[Box<str>]>, count: i128) -> Vec<EncodedRow> {
    let row = |key| {
        let json = format!(
            r#"{{"vid":{key},"doorno":3,"rfsim":"00A1B2C3D4E5F607","optime":"20261120 071500","ynopen":"Y"}}"#
        );
        let values = Box::new([(7, 13), (23, 24), (33, 51), (61, 78), (88, 91)]);
        EncodedRow { key, json: json.into_bytes(), values, columns: columns.clone(), replaced: 0 }
    };
    (1_000_000..1_000_000 + count).map(row).collect()
}

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let columns: Arc<[Box<str>]> = ["vid", "doorno", "rfsim", "optime", "ynopen"].map(Box::from).into();
    for (readers, count) in RUNS {
        let (history, _requests) = History::channel();
        // Readers of a ring that holds all can't fall behind it: there is no table here.
        let rows_kept = if readers == 0 { Limits::default().rows } else { count as usize };
        let feed = Feed::new(Limits { rows: rows_kept, bytes: usize::MAX, ..Limits::default() }, history);
        feed.set_ready();
        let rows = rows(&columns, count);
        let last = EventId { epoch: 1, key: rows.last().unwrap().key };
        let mut tasks = JoinSet::new();
        for _ in 0..readers {
            let mut subscriber = feed.subscribe(Start::Now, |_| true).await;
            tasks.spawn(async move {
                while !subscriber.cursor().unwrap().names(last) {
                    assert!(matches!(subscriber.next(250).await, Ok(Next::Rows(_))));
                }
            });
        }
        let begun = Instant::now();
        let publishing = tokio::task::spawn_blocking(move || {
            for row in rows {
                feed.publish(1, Some(1), vec![row]);
            }
        });
        publishing.await.unwrap();
        let published = begun.elapsed();
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        println!(
            "{readers:>5} readers: {:>8.0} transactions/s, {:>9.0} rows/s given",
            count as f64 / published.as_secs_f64(),
            (count * readers as i128) as f64 / begun.elapsed().as_secs_f64(),
        );
    }
}
