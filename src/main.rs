//! The `doorcast` command.

mod memory;

use std::{io::IsTerminal, pin::Pin, process::ExitCode};

use doorcast::{
    RunError,
    demo::Followed,
    options::{Cli, Command, LogFormat, RunOptions},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, error};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    memory::hand_back();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(err) => err.exit(),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(err) => {
            eprintln!("doorcast: {err}");
            return ExitCode::from(1);
        }
    };
    let outcome = runtime.block_on(execute(cli.command));
    // What still waits on the disk or on a client does not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            error!("{err}");
            ExitCode::from(err.exit_status())
        }
    }
}

async fn execute(command: Command) -> Result<(), RunError> {
    match command {
        Command::Run(options) => {
            log_to_stderr(options.log_format, "info");
            let listener = doorcast::listen(options.listen, options.allow_anonymous).await?;
            doorcast::run(*options, listener, asked_to_stop()).await
        }
        Command::Demo(options) => {
            log_to_stderr(LogFormat::Text, "warn");
            let outcome = doorcast::demo::run(options, asked_to_stop(), follow_demo).await;
            outcome.map_err(|err| RunError::Unexpected(format!("{err:#}")))
        }
    }
}

/// What the demo starts beside its server: what any operator would.
async fn follow_demo(followed: Followed, shutdown: Pin<&mut impl Future<Output = ()>>) -> anyhow::Result<()> {
    let mut options = RunOptions::new(&followed.db_url, followed.table, &followed.checkpoint)?;
    options.www_dir = Some(followed.www_dir);
    options.screen.people = Some(followed.people);
    options.screen.reception = true;
    Ok(doorcast::run(options, followed.listener, shutdown).await?)
}

fn log_to_stderr(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let colour = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    let log = log.with_target(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    log_panics();
}

/// A panic is a line of the log like any other; one that becomes an error is told as that.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if doorcast::tail::is_catching() {
            debug!(%panic, "the binlog decoder panicked");
        } else {
            error!(%panic, "a panic");
        }
    }));
}

/// Completes at SIGTERM or SIGINT.
async fn asked_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
