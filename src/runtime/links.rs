//! The connections of one thread, and waiting for a neighbour that does not answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use millstream_core::model::{Offset, Recovery, TopicPartition};

use crate::clock::Clock;
use crate::kafka::{Consumer, GroupEvent, GroupOffset, KafkaError, KafkaSettings, Producer};
use crate::postgres::{ProgressRow, Session, Target};

use super::board::{Board, Waiter};
use super::{Halt, RuntimeError, StopFlag};

/// How long one question to the broker may take.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Initialising ends the previous producer's transaction first.
const INIT_TIMEOUT: Duration = Duration::from_secs(20);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a worker needs to reach its neighbours.
#[derive(Clone)]
pub struct LinkSettings {
    pub kafka: KafkaSettings,
    pub postgres: Target,
    /// Whether anything is produced; without it there is no producer.
    pub kafka_outputs: bool,
    pub give_up_after: Option<Duration>,
}

/// A consumer, a producer and a session of one thread; nobody else uses them.
pub struct Links {
    pub consumer: Consumer,
    pub runtime: tokio::runtime::Runtime,
    pub clock: Arc<dyn Clock>,
    pub board: Arc<Board>,
    /// Group events that came while the worker waited for a neighbour.
    pub events: VecDeque<GroupEvent>,
    waiter: Waiter,
    settings: LinkSettings,
    stop: Arc<StopFlag>,
    producer: Option<Producer>,
    session: Option<Session>,
    /// What the epoch under way still waits for; its pauses grow from attempt to attempt.
    unfinished: Option<Outage>,
}

/// One wait for one neighbour: growing pauses, a bound, and a line on the board.
struct Outage {
    neighbour: &'static str,
    since: Instant,
    pauses: backon::ExponentialBackoff,
}

impl Links {
    pub fn open(
        settings: LinkSettings,
        waiter: Waiter,
        clock: Arc<dyn Clock>,
        board: Arc<Board>,
        stop: Arc<StopFlag>,
    ) -> Result<Links, RuntimeError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| KafkaError::Config { detail: format!("no event loop for the worker: {e}") })?;
        let consumer = Consumer::open(&settings.kafka)?;
        Ok(Links {
            consumer,
            runtime,
            clock,
            board,
            events: VecDeque::new(),
            waiter,
            settings,
            stop,
            producer: None,
            session: None,
            unfinished: None,
        })
    }

    /// A new consumer, which has joined nothing yet. With `leave` the old one's partitions go to other members at once;
    /// one that its group has fenced has nothing to leave.
    pub fn reopen_consumer(&mut self, leave: bool) -> Result<(), RuntimeError> {
        let mut old = std::mem::replace(&mut self.consumer, Consumer::open(&self.settings.kafka)?);
        self.events.drain(..).for_each(|event| old.decline(event));
        old.close(leave);
        Ok(())
    }

    /// The producer, initialised; made first if there is none.
    pub fn producer(&mut self) -> Result<&mut Producer, Halt> {
        if self.producer.is_none() {
            let producer = self.retry(|links| {
                let producer = Producer::open(&links.settings.kafka)?;
                match producer.init_transactions(INIT_TIMEOUT) {
                    Ok(()) => Ok(producer),
                    Err(error) => {
                        producer.discard();
                        Err(error)
                    }
                }
            })?;
            self.producer = Some(producer);
        }
        Ok(self.producer.as_mut().expect("made above"))
    }

    /// Drops the producer: whatever it has under way is ended by the next one of the same name.
    pub fn discard_producer(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.discard();
        }
    }

    /// What a careless program does instead: it ends the transaction by itself and keeps the producer. False where that
    /// did not work.
    #[cfg(feature = "fault")]
    pub fn abort(&mut self) -> bool {
        self.producer.as_ref().is_some_and(|producer| producer.abort(INIT_TIMEOUT).is_ok())
    }

    #[cfg(not(feature = "fault"))]
    pub fn abort(&mut self) -> bool {
        false
    }

    /// Whether a request of the last transaction may still be on its way.
    pub fn producer_in_doubt(&self) -> bool {
        self.producer.as_ref().is_some_and(Producer::in_doubt)
    }

    /// The database session; connected first if there is none that works.
    pub fn session(&mut self) -> Result<&mut Session, Halt> {
        if self.session.as_ref().is_none_or(Session::is_broken) {
            self.session = None;
            let session = self.retry(|links| {
                let name = format!("millstream {}", links.settings.kafka.identity());
                let connecting = Session::connect(&links.settings.postgres, &name);
                links.runtime.block_on(connecting)
            })?;
            self.session = Some(session);
        }
        Ok(self.session.as_mut().expect("connected above"))
    }

    /// One call on the session, again and again while it is an outage or a conflict.
    pub fn ask_postgres<T>(
        &mut self,
        ask: impl AsyncFn(&mut Session) -> Result<T, crate::postgres::PostgresError>,
    ) -> Result<T, Halt> {
        self.retry(|links| {
            links.session().map_err(Interruption::Halt)?;
            let Links { runtime, session, .. } = links;
            let session = session.as_mut().expect("connected above");
            runtime.block_on(ask(session)).map_err(|e| Interruption::Error(e.into()))
        })
    }

    /// The progress rows once no commit on them is in flight.
    pub fn lock_progress(&mut self, tasks: &[TopicPartition]) -> Result<Vec<ProgressRow>, Halt> {
        let application = self.settings.kafka.application.clone();
        self.ask_postgres(async |session| session.lock_progress(&application, tasks).await)
    }

    /// The group's offsets once no transaction holds them; none are read without Kafka outputs.
    pub fn stable_offsets(&mut self, tasks: &[TopicPartition]) -> Result<Vec<GroupOffset>, Halt> {
        if !self.settings.kafka_outputs {
            return Ok(Vec::new());
        }
        self.retry(|links| links.consumer.stable_offsets(tasks, ASK_TIMEOUT))
    }

    pub fn log_range(&mut self, task: &TopicPartition) -> Result<(Offset, Offset), Halt> {
        self.retry(|links| {
            links.consumer.log_range(task, ASK_TIMEOUT).map_err(|error| match error {
                // Why: an assigned partition exists; a broker that has just come back may not know it for a moment.
                KafkaError::UnknownTopic { detail } => {
                    KafkaError::NotReady { operation: "read the log's range", detail }
                }
                other => other,
            })
        })
    }

    pub fn application(&self) -> &str {
        &self.settings.kafka.application
    }

    pub fn owner(&self) -> String {
        self.settings.kafka.identity()
    }

    pub fn kafka_outputs(&self) -> bool {
        self.settings.kafka_outputs
    }

    /// With which another thread opens its own.
    pub fn settings(&self) -> &LinkSettings {
        &self.settings
    }

    /// Parts for an attempt that uses producer, consumer and session side by side. Both exist by now.
    pub fn parts(&mut self) -> Result<Parts<'_>, Halt> {
        self.session()?;
        if self.settings.kafka_outputs {
            self.producer()?;
        }
        let Links { consumer, producer, session, runtime, settings, .. } = self;
        let session = session.as_mut().expect("connected above");
        Ok(Parts {
            consumer,
            producer: producer.as_mut(),
            session,
            runtime,
            application: &settings.kafka.application,
        })
    }

    /// Repeats `attempt` while it fails for an outage, serving the group in between.
    pub fn retry<T, E: Into<Interruption>>(
        &mut self,
        mut attempt: impl FnMut(&mut Links) -> Result<T, E>,
    ) -> Result<T, Halt> {
        let mut outage: Option<Outage> = None;
        loop {
            let error = match attempt(self).map_err(Into::into) {
                Ok(done) => {
                    if let Some(outage) = outage {
                        self.recovered(&outage);
                    }
                    return Ok(done);
                }
                Err(Interruption::Halt(halt)) => return Err(halt),
                Err(Interruption::Error(error)) => error,
            };
            if error.recovery() != Recovery::Retry {
                return Err(error.into());
            }
            let neighbour = error.neighbour();
            if outage.as_ref().is_none_or(|o| o.neighbour != neighbour) {
                outage = Some(Outage::begin(neighbour, self.clock.monotonic()));
                tracing::warn!(%error, "waiting for {neighbour}");
            }
            self.wait_out(outage.as_mut().expect("set above"), &error)?;
        }
    }

    /// After an attempt that cannot be repeated as it is: waits a bit, longer from one to the next, so that the caller
    /// can look at everything anew. It stays an outage until `attempt_ended`.
    pub fn retry_once_after(&mut self, error: &RuntimeError) -> Result<(), Halt> {
        tracing::warn!(%error, "{} did not do its part; looking at everything anew", error.neighbour());
        let neighbour = error.neighbour();
        if self.unfinished.as_ref().is_none_or(|outage| outage.neighbour != neighbour) {
            self.attempt_ended();
        }
        let now = self.clock.monotonic();
        let mut outage = self.unfinished.take().unwrap_or_else(|| Outage::begin(neighbour, now));
        let waited = self.wait_out(&mut outage, error);
        self.unfinished = Some(outage);
        waited
    }

    /// An attempt succeeded, or nothing is left to attempt: what was waited for is back.
    pub fn attempt_ended(&mut self) {
        if let Some(outage) = self.unfinished.take() {
            self.recovered(&outage);
        }
    }

    /// Sleeps for a bit, and serves the group meanwhile.
    pub fn pause(&mut self, pause: Duration) -> Result<(), Halt> {
        let until = self.clock.monotonic() + pause;
        loop {
            self.beat();
            match self.consumer.poll_group() {
                Ok(Some(GroupEvent::Failed(error)))
                    if error.recovery() == Recovery::Fenced && !self.consumer.fenced_itself() =>
                {
                    return Err(Halt::Duplicate(error));
                }
                Ok(Some(event)) => {
                    if let GroupEvent::Revoked { partitions, lost: true } = &event {
                        // Order: answered at once, since the client goes on as a member without an id until it is; the
                        // tasks follow when the worker serves the event.
                        self.consumer.unassign(partitions).map_err(RuntimeError::from)?;
                    }
                    self.events.push_back(event);
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "the group is not served at present"),
            }
            let now = self.clock.monotonic();
            if now >= until || self.stop.is_set() {
                return Ok(());
            }
            let nap = (until - now).min(Duration::from_millis(100));
            self.runtime.block_on(async { tokio::time::sleep(nap).await });
        }
    }

    /// A taker that waits does not beat for the worker.
    fn beat(&self) {
        if self.waiter != Waiter::Taker {
            let beat = self.clock.monotonic();
            self.board.update(self.clock.now(), |b| b.beat = beat);
        }
    }

    fn wait_out(&mut self, outage: &mut Outage, error: &RuntimeError) -> Result<(), Halt> {
        let text = error.to_string();
        self.board.update(self.clock.now(), |b| {
            b.waiting_for.insert((self.waiter, outage.neighbour), text.clone());
        });
        count_retry_of(outage.neighbour);
        let waiting_for = format!("{}: {text}", outage.neighbour);
        if self.stop.is_set() {
            return Err(Halt::Interrupted(waiting_for));
        }
        if let Some(bound) = self.settings.give_up_after
            && self.clock.monotonic() - outage.since >= bound
        {
            return Err(Halt::GaveUp { waiting_for, seconds: bound.as_secs() });
        }
        self.pause(outage.pauses.next().unwrap_or(LONGEST_PAUSE))
    }

    /// Why: while an epoch waits for a neighbour, one answer from it does not mean that it is back.
    fn recovered(&self, outage: &Outage) {
        if self.unfinished.as_ref().is_some_and(|waiting| waiting.neighbour == outage.neighbour) {
            return;
        }
        let seconds = (self.clock.monotonic() - outage.since).as_secs_f64();
        tracing::info!("{} is back after {seconds:.1} s", outage.neighbour);
        self.board.update(self.clock.now(), |b| {
            b.waiting_for.remove(&(self.waiter, outage.neighbour));
        });
    }
}

/// One more try of something that waits for a neighbour, if this is an error that waiting mends.
pub fn count_retry(error: &RuntimeError) {
    if error.recovery() == Recovery::Retry {
        count_retry_of(error.neighbour());
    }
}

fn count_retry_of(neighbour: &'static str) {
    metrics::counter!("millstream_outage_retries_total", "neighbour" => neighbour).increment(1);
}

/// Borrowed side by side for one attempt.
pub struct Parts<'l> {
    pub consumer: &'l Consumer,
    pub producer: Option<&'l mut Producer>,
    pub session: &'l mut Session,
    pub runtime: &'l tokio::runtime::Runtime,
    pub application: &'l str,
}

/// What can come out of one try.
pub enum Interruption {
    Error(RuntimeError),
    Halt(Halt),
}

impl<E: Into<RuntimeError>> From<E> for Interruption {
    fn from(error: E) -> Interruption {
        Interruption::Error(error.into())
    }
}

impl Outage {
    fn begin(neighbour: &'static str, since: Instant) -> Outage {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_factor(2.0)
            .without_max_times()
            .build();
        Outage { neighbour, since, pauses }
    }
}
