//! The main thread of `run`: signals, and progress on a terminal.

use std::io::IsTerminal;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use crate::runtime::{Boards, StopFlag};
use crate::state::StateDir;

use super::exit::Exit;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Returns when the instance has ended. The first SIGTERM or SIGINT asks it to finish its epoch; a second one aborts the
/// process, which is safe. `millstream drain` asks for the same by the state directory, and to leave the group.
pub fn watch<T>(instance: &JoinHandle<T>, stop: &Arc<StopFlag>, (boards, state_dir): (&Boards, &StateDir)) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "signals cannot be heard; only SIGKILL will end this process");
            return;
        }
    };
    let bar = bar();
    runtime.block_on(async {
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::error!("signals cannot be heard; only SIGKILL will end this process");
            return;
        };
        let mut signalled = false;
        while !instance.is_finished() {
            tokio::select! {
                _ = term.recv() => ask_to_stop(stop, &mut signalled),
                _ = int.recv() => ask_to_stop(stop, &mut signalled),
                () = tokio::time::sleep(LOOK_EVERY) => {
                    show(&bar, boards);
                    if !stop.is_leaving() && state_dir.drain_requested() {
                        tracing::info!("asked to drain: finishing the epoch and leaving the group");
                        stop.set_leaving();
                    }
                }
            }
        }
    });
    bar.finish_and_clear();
}

fn ask_to_stop(stop: &StopFlag, signalled: &mut bool) {
    if std::mem::replace(signalled, true) {
        tracing::warn!("aborted by a second signal");
        std::process::exit(Exit::TryAgain as i32);
    }
    tracing::info!("finishing the epoch; a second signal aborts");
    stop.set();
}

/// Drawn on a terminal only; elsewhere the logs tell.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    // The number behind a rate is its decimals.
    let style =
        ProgressStyle::with_template("{spinner} {bar:30} {percent}% of the log  {per_sec:0}  {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

fn show(bar: &ProgressBar, boards: &Boards) {
    if bar.is_hidden() {
        return;
    }
    let state = boards.read();
    let (mut done, mut end) = (0, 0);
    for (_, report) in state.tasks.values() {
        done += report.next.0.unsigned_abs();
        end += report.high.unwrap_or(report.next).max(report.next).0.unsigned_abs();
    }
    bar.set_length(end);
    bar.set_position(done);
    let waiting: Vec<&str> = state.waiting_for.keys().copied().collect();
    bar.set_message(if waiting.is_empty() {
        format!("lag {}", end - done)
    } else {
        format!("waiting for {}", waiting.join(" and "))
    });
}
