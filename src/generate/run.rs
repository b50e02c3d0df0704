//! The loop: what is due is made and sent, until the end or a stop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Stopwatch;

use super::GenerateError;
use super::generator::{Batch, Generator, Tally};
use super::pace::{Due, Pace};
use super::target::Target;

/// Events made and sent in one go.
const BATCH_EVENTS: u64 = 5_000;

/// What another thread sees and says.
#[derive(Debug, Default)]
pub struct Control {
    sent: AtomicU64,
    stopped: Mutex<bool>,
    changed: Condvar,
}

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub tally: Tally,
    /// Until everything was delivered.
    pub elapsed: Duration,
}

impl Control {
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// What was made is still delivered.
    pub fn stop(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    pub fn is_stopped(&self) -> bool {
        *self.lock()
    }

    /// Until the time is up, or somebody stops it.
    fn wait(&self, timeout: Duration) {
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, |stopped| !*stopped);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends events at the rate, or as fast as the target takes them, for at most `limit`. A reader of lines that has gone
/// away has seen enough.
pub fn run(
    generator: &mut Generator,
    target: &mut Target,
    control: &Control,
    (rate, limit): (Option<u32>, Option<Duration>),
) -> Result<Outcome, GenerateError> {
    let (pace, watch) = (Pace::new(rate), Stopwatch::start());
    let mut batch = Batch::default();
    let sent_all = loop {
        let elapsed = watch.elapsed();
        if control.is_stopped() || limit.is_some_and(|limit| elapsed >= limit) {
            break Ok(());
        }
        match pace.due(elapsed, control.sent()) {
            Due::After(wait) => control.wait(wait),
            Due::Now(due) => {
                batch.clear();
                generator.fill(&mut batch, due.min(BATCH_EVENTS) as usize);
                if batch.is_empty() {
                    break Ok(());
                }
                if let Err(error) = target.send(&batch) {
                    break Err(error);
                }
                control.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
            }
        }
    };
    match sent_all.and_then(|()| target.finish()) {
        Err(GenerateError::Lines(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    Ok(Outcome { tally: generator.tally(), elapsed: watch.elapsed() })
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;
    use std::thread;

    use super::super::generator::Load;
    use super::super::kind::{Kinds, Share};
    use super::super::profile::Profile;
    use super::super::target::LinesTarget;
    use super::super::timeline::Timeline;
    use super::*;

    fn generator(events: Option<u64>) -> Generator {
        Generator::new(Load {
            profile: Profile::UserActivity,
            seed: 1,
            events,
            timeline: Timeline { start_ms: 0, step_ns: 1_000_000 },
            jitter_ms: 0,
            users: Some(10),
            user_skew: 0.0,
            pages: 10,
            page_skew: 0.9,
            kinds: Kinds::new(Share::NONE, Share::NONE, Share::NONE).expect("nothing is not too much"),
            late_by_ms: (0, 0),
        })
    }

    fn lines(to: impl Write + Send + 'static) -> Target {
        Target::Lines(LinesTarget::new(Box::new(to)))
    }

    /// A pipe whose reader is gone.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn number_of_events_ends_a_run_and_a_rate_takes_its_time() {
        let control = Control::default();
        let done = run(&mut generator(Some(201)), &mut lines(io::sink()), &control, (Some(1_000), None));
        let done = done.expect("a sink takes everything");
        assert_eq!((done.tally.events(), control.sent()), (201, 201));
        assert!(done.elapsed >= Duration::from_millis(200), "{:?}", done.elapsed);
    }

    #[test]
    fn time_ends_a_run() {
        let limit = Some(Duration::from_millis(20));
        let done = run(&mut generator(None), &mut lines(io::sink()), &Control::default(), (None, limit));
        assert!(done.expect("a sink takes everything").tally.events() > 0);
    }

    #[test]
    fn stop_ends_a_long_wait() {
        let control = Arc::new(Control::default());
        let running = {
            let control = control.clone();
            thread::spawn(move || {
                run(&mut generator(None), &mut lines(io::sink()), &control, (Some(1), None))
            })
        };
        while control.sent() == 0 {
            thread::yield_now();
        }
        control.stop();
        let done = running.join().expect("no panic").expect("a sink takes everything");
        assert_eq!(done.tally.events(), control.sent());
    }

    #[test]
    fn reader_that_goes_away_is_no_fault() {
        let done = run(&mut generator(None), &mut lines(Closed), &Control::default(), (None, None));
        assert!(done.is_ok());
    }
}
