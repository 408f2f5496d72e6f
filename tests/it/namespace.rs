//! Packets that really get lost, in a network namespace of the test's own: beside the tests with a proxy,
//! which can only stop to read. And a file system that really is read-only, in a mount namespace.
//!
//! The test runs itself once more inside the namespace, where `lo` is another one, and a firewall rule or a mount
//! harms nobody. That needs root and Debian's `nftables`; where they can't be had, standard error says so.

use std::{
    env,
    ffi::OsStr,
    io::{ErrorKind, Write},
    process::{Command, Output, Stdio},
};

use crate::{
    link::checkpoint_trouble,
    process::Doorcast,
    scene::{Scene, swipe},
    servers,
};

const INSIDE: &str = "DOORCAST_TEST_IN_NAMESPACE";

#[tokio::test]
async fn a_link_whose_packets_are_dropped_is_made_again_and_clients_stay_connected() {
    let name = "namespace::a_link_whose_packets_are_dropped_is_made_again_and_clients_stay_connected";
    if !is_inside() {
        return run_inside("--net", &[("nft", &["list", "tables"])], name);
    }
    run("ip", &["link", "set", "lo", "up"]);
    nft("add table inet cut; add chain inet cut input { type filter hook input priority 0; }");
    servers::each_kind(async |kind| {
        let mut scene = Scene::start(kind, &[], &["--db-heartbeat", "0.2"]).await;
        scene.sql(&[&swipe(1)]).await;
        scene.read(1).await;
        // Both ways, and without a reset. The test itself comes by the server's socket.
        let port = scene.server.port();
        nft(&format!(
            "add rule inet cut input tcp dport {port} drop; add rule inet cut input tcp sport {port} drop"
        ));
        scene.sql(&[&swipe(2)]).await;
        let line = scene.doorcast.logged("the link to the server is down").await;
        assert_eq!(line["error"], "no event and no heartbeat for 0.6 s", "{kind}");
        scene.doorcast.answers("/readyz", 503).await;
        // The attempts to connect are dropped, too.
        scene.doorcast.logged_error("no answer within 10 s").await;
        scene.sql(&[&swipe(3)]).await;
        for handle in rules(port) {
            nft(&format!("delete rule inet cut input handle {handle}"));
        }
        // The reader of the event stream does not connect again unless doorcast was started again.
        let (rows, _scene) = scene.every_row_of_the_table_came_once().await;
        assert_eq!(rows.len(), 4, "{kind}");
    })
    .await;
}

#[tokio::test]
async fn rows_are_pushed_while_the_checkpoint_is_on_a_read_only_file_system() {
    let name = "namespace::rows_are_pushed_while_the_checkpoint_is_on_a_read_only_file_system";
    if !is_inside() {
        return run_inside("--mount", &[], name);
    }
    let path = |doorcast: &Doorcast| doorcast.folder().to_str().unwrap().to_owned();
    let block = |doorcast: &Doorcast| {
        // A mount of its own above: one on which a file is open for writing can't be made read-only.
        run("mount", &["--bind", &path(doorcast), &path(doorcast)]);
        run("mount", &["-o", "remount,bind,ro", &path(doorcast)]);
        let err = std::fs::write(doorcast.checkpoint(), "").unwrap_err();
        assert_eq!(err.kind(), ErrorKind::ReadOnlyFilesystem);
    };
    checkpoint_trouble(block, |doorcast| drop(run("umount", &[&path(doorcast)]))).await;
}

fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs one test of this binary in a namespace of its own, of a kind that `unshare` has, if it and what else the test
/// needs work.
fn run_inside(kind: &str, needs: &[(&str, &[&str])], test: &str) {
    let unshare: (&str, &[&str]) = ("unshare", &[kind, "true"]);
    for &(what, arguments) in [unshare].iter().chain(needs) {
        let tried = Command::new(what).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !tried.is_ok_and(|status| status.success()) {
            let _ = writeln!(
                std::io::stderr(),
                "NOT TESTED: {test}, for `{what}` does not work here: it needs root, and for a network the package nftables"
            );
            return;
        }
    }
    let Output { status, stdout, stderr } = Command::new("unshare")
        .args([OsStr::new(kind), env::current_exe().unwrap().as_os_str()])
        .args(["--exact", "--nocapture", test])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && stdout.contains("1 passed"), "{stdout}\n{stderr}");
}

fn nft(rules: &str) {
    run("nft", &[rules]);
}

/// The handles of the rules about a port.
fn rules(port: u16) -> Vec<String> {
    let list = run("nft", &["-a", "list chain inet cut input"]);
    let about = format!("port {port} ");
    list.lines()
        .filter(|line| line.contains(&about))
        .filter_map(|line| line.rsplit_once("# handle ").map(|(_, handle)| handle.to_owned()))
        .collect()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = Command::new(program).args(arguments).output().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}
