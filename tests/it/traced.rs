//! A checkpoint's way to the disk, as the kernel sees it: no test can take away the power. That needs Debian's `strace`, and
//! the right to trace a process; where they can't be had, standard error says so.

use std::{fs, io::Write, path::Path, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    deadline::deadline,
    process::Doorcast,
    scene::{Scene, swipe},
    servers,
};

#[tokio::test]
async fn a_checkpoint_is_on_the_disk_before_it_has_its_name_and_then_the_name_is() {
    let mut scene = Scene::start(servers::kinds()[0], &[], &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let Some(mut strace) = traced(&scene.doorcast, &trace).await else {
        let _ = writeln!(
            std::io::stderr(),
            "NOT TESTED: the order of a checkpoint's writes, for `strace` does not work here"
        );
        return;
    };
    scene.sql(&[&swipe(1)]).await;
    scene.read(1).await;
    assert!(scene.doorcast.stop().await.success());
    deadline(strace.wait()).await.unwrap();
    let calls = calls(&fs::read_to_string(&trace).unwrap(), scene.doorcast.folder());
    let save = [
        "open checkpoint.json.tmp",
        "write checkpoint.json.tmp",
        "fsync checkpoint.json.tmp",
        // There is a whole one under the name at any moment.
        "unlink checkpoint.json.prev",
        "link checkpoint.json checkpoint.json.prev",
        "rename checkpoint.json.tmp checkpoint.json",
        "open .",
        "fsync .",
    ];
    assert!(!calls.is_empty() && calls.len().is_multiple_of(save.len()), "{calls:#?}");
    for calls in calls.chunks(save.len()) {
        assert_eq!(calls, save);
    }
}

/// `strace` on the process, once it is; `None` where it can't.
async fn traced(doorcast: &Doorcast, trace: &Path) -> Option<Child> {
    const CALLS: &str =
        "trace=open,openat,write,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat";
    let mut strace = Command::new("strace")
        .args(["--follow-forks", "--decode-fds=path", "-e", CALLS, "-p", &doorcast.id().to_string(), "-o"])
        .arg(trace)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut says = BufReader::new(strace.stderr.take()?).lines();
    let attached = async {
        while let Some(line) = says.next_line().await.unwrap() {
            if line.contains(" attached") {
                return true;
            }
        }
        false
    };
    deadline(attached).await.then_some(strace)
}

/// The calls about files of a folder, with the names of these; the folder itself is `.`.
fn calls(trace: &str, folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let of_folder = trace.lines().filter(|line| line.contains(folder));
    of_folder
        .filter_map(|line| {
            let (_, call) = line.split_once(' ')?;
            let call = call.split(" = ").next()?.trim_start();
            let (name, arguments) = call.split_once('(')?;
            let name = name.trim_end_matches('2').trim_end_matches("at");
            let files = arguments.split(folder).skip(1).map(|rest| {
                let file = rest.split(['"', '>']).next().unwrap_or_default().trim_start_matches('/');
                if file.is_empty() { "." } else { file }
            });
            Some([name].into_iter().chain(files).collect::<Vec<_>>().join(" "))
        })
        .collect()
}
