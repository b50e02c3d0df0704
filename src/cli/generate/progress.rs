//! The main thread of `generate`: signals, and a bar on a terminal.

use std::io::IsTerminal;
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use crate::generate::Control;

use super::super::exit::Exit;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Returns when the generator has ended. The first SIGTERM or SIGINT lets it deliver what it has made; a second one
/// aborts the process.
pub fn watch<T>(working: &JoinHandle<T>, control: &Control, expected: Option<u64>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::warn!(%error, "no progress is shown, and a signal ends this process at once");
            return;
        }
    };
    let bar = bar(expected);
    runtime.block_on(async {
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::warn!("signals cannot be heard");
            return;
        };
        while !working.is_finished() {
            tokio::select! {
                _ = term.recv() => stop(control),
                _ = int.recv() => stop(control),
                () = tokio::time::sleep(LOOK_EVERY) => bar.set_position(control.sent()),
            }
        }
    });
    bar.finish_and_clear();
}

fn stop(control: &Control) {
    if control.is_stopped() {
        std::process::exit(Exit::TryAgain as i32);
    }
    control.stop();
}

/// Drawn on a terminal only.
fn bar(expected: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match expected {
        Some(events) => (
            ProgressBar::new(events),
            format!("{{bar:30}} {{percent}}% of {} events  {{per_sec}}  {{eta}} left", HumanCount(events)),
        ),
        None => (ProgressBar::no_length(), "{spinner} {human_pos} events  {per_sec}".to_owned()),
    };
    bar.with_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
