//! What others do with their tables, and what is large.

use std::time::Duration;

use anyhow::Result;
use mysql_async::{Conn, prelude::Queryable};
use tokio::time::sleep;

use super::table::BY_HAND;
use crate::{
    stage::Stage,
    swipes::{Card, insert_through, new_card},
};

/// Values that decoders stumble over. The statement's text is not UTF-8.
const ODD: [&[u8]; 6] = [
    b"INSERT INTO odd (span) VALUES ('-838:59:59.000000'), ('-00:00:00.000001'), ('-12:34:56.5')",
    b"INSERT INTO odd (chinese, western) VALUES (0xC4E3BAC3, 0xE9)",
    b"UPDATE odd SET chinese = 0xB0A1, western = 0xFF",
    b"DELETE FROM odd WHERE span < 0",
    b"INSERT INTO odd (western, raw) VALUES ('\xE9', '\xFF\xFE')",
    b"INSERT INTO odd (bits, large, day) VALUES (b'101', 18446744073709551615, '0000-00-00')",
];

/// Together they make one event of over 16 MB.
const LARGE_ROW: &str = "INSERT INTO large_rows VALUES (REPEAT('a', 3000000), REPEAT('b', 3000000), \
                         REPEAT('c', 3000000), REPEAT('d', 3000000), REPEAT('e', 3000000), REPEAT('f', 3000000))";

/// Two other tables, one with odd values and one with large ones, change while rows come.
pub(super) async fn other_tables(
    stage: &mut Stage,
    a_while: Duration,
    random: &mut fastrand::Rng,
) -> Result<()> {
    let mut conn = stage.admin().await?;
    conn.query_drop(
        "CREATE TABLE IF NOT EXISTS odd (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, span TIME(6), \
         chinese VARCHAR(20) CHARACTER SET gbk, western CHAR(5) CHARACTER SET latin1, raw VARBINARY(9), bits BIT(9), \
         large BIGINT UNSIGNED, day DATE)",
    )
    .await?;
    conn.query_drop("SET NAMES latin1").await?;
    conn.query_drop("SET sql_mode = ''").await?;
    for sql in ODD {
        let format = random.choice(["ROW", "STATEMENT", "MIXED"]).unwrap_or_default();
        conn.query_drop(format!("SET SESSION binlog_format = {format}")).await?;
        conn.query_drop("BEGIN").await?;
        conn.query_drop(sql).await?;
        let card = random.bool().then(|| new_card(random));
        if let Some(card) = card {
            insert_through(&mut conn, BY_HAND, card).await?;
        }
        conn.query_drop("COMMIT").await?;
        card.into_iter().for_each(|card| stage.swipes.acknowledged(card));
        sleep(a_while / 6).await;
    }
    if random.u8(0..3) == 0 {
        large_event(&mut conn).await?;
    }
    conn.disconnect().await?;
    Ok(())
}

/// MySQL 5.6 takes no such row in an InnoDB table.
pub(super) async fn large_event(conn: &mut Conn) -> Result<()> {
    conn.query_drop("SET SESSION binlog_format = ROW").await?;
    conn.query_drop(
        "CREATE TABLE IF NOT EXISTS large_rows (a LONGTEXT, b LONGTEXT, c LONGTEXT, d LONGTEXT, e LONGTEXT, f LONGTEXT) \
         ENGINE=MyISAM CHARACTER SET latin1",
    )
    .await?;
    conn.query_drop(LARGE_ROW).await?;
    conn.query_drop("TRUNCATE TABLE large_rows").await?;
    Ok(())
}

/// 20,000 rows in one transaction, and others commit meanwhile. As many of them as doorcast keeps, and as many again, are in
/// the table: clients get those from there.
pub(super) async fn large_transaction(stage: &mut Stage, a_while: Duration) -> Result<()> {
    let mut conn = stage.admin().await?;
    conn.query_drop("CREATE TABLE IF NOT EXISTS many (n INT NOT NULL)").await?;
    conn.query_drop("BEGIN").await?;
    let mut cards = insert_many(&mut conn, 500).await?;
    conn.query_drop(
        "INSERT INTO many SELECT a.n FROM numbers a, numbers b, numbers c, numbers d, numbers e, numbers f LIMIT 19000",
    )
    .await?;
    sleep(a_while / 2).await;
    cards.extend(insert_many(&mut conn, 500).await?);
    conn.query_drop("COMMIT").await?;
    conn.disconnect().await?;
    cards.iter().for_each(|card| stage.swipes.acknowledged(*card));
    stage.all_have(&cards).await
}

/// In one statement. The cards follow each other.
pub(super) async fn insert_many(conn: &mut Conn, rows: u64) -> Result<Vec<Card>> {
    let first = new_card(&mut fastrand::Rng::new());
    conn.query_drop(format!(
        "INSERT INTO vdooropen (doorno, rfsim, optime, ynopen) SELECT {BY_HAND}, LPAD(HEX({first} + a.n + 6 * b.n + \
         36 * c.n + 216 * d.n + 1296 * e.n + 7776 * f.n), 16, '0'), '20261120 071500', 'N' \
         FROM numbers a, numbers b, numbers c, numbers d, numbers e, numbers f \
         WHERE a.n + 6 * b.n + 36 * c.n + 216 * d.n + 1296 * e.n + 7776 * f.n < {rows}"
    ))
    .await?;
    Ok((first..first + rows).collect())
}
