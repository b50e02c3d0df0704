//! An instance: one process, some workers, and who looks after them.
//!
//! Workers share nothing, so that the trouble of one is its own: one that panicked or lost a neighbour for good is
//! started again, one that needs a person leaves its partitions to the others. Only what concerns the whole identity
//! ends them all.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use millstream_core::commit::Refusal;
use millstream_core::model::Recovery;
use millstream_core::pipeline::Plan;

use crate::clock::Clock;
use crate::postgres::Ddl;
use crate::state::StateDir;

use super::board::{Board, Stage, Waiter};
use super::boards::Boards;
use super::ending::Ending;
use super::links::{LinkSettings, Links};
use super::prepare::{Prepared, prepare};
use super::taking::Taker;
use super::worker::Worker;
use super::{Halt, RuntimeError, StopFlag};

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often the neighbours are asked whether the end is reached.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Why: the longest rest is well below the session time-out, so that the partitions of a worker that cannot process
/// them do not travel from one to the next.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(10);
/// A worker that ran for so long rests for a short while again.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// How an instance runs.
#[derive(Clone, Debug)]
pub struct InstanceOptions {
    /// Threads that share the partitions.
    pub workers: NonZeroUsize,
    /// End once everything that the topics hold at the start is processed, by whomever.
    pub until_end: bool,
    /// Bounds the clean windows kept in memory, per task.
    pub window_bytes: usize,
    /// Bounds what memory keeps of the ids of a source with `dedup`, per task.
    pub id_bytes: usize,
    pub ddl: Ddl,
}

/// How a run ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// A signal.
    Stopped,
    /// A request to leave the group.
    Left,
    /// `--until-end`.
    AtEnd,
}

pub struct Instance {
    pub plan: Arc<Plan>,
    /// Of worker 0; the others differ by their number.
    pub links: LinkSettings,
    pub state_dir: Arc<StateDir>,
    pub clock: Arc<dyn Clock>,
    pub boards: Arc<Boards>,
    pub stop: Arc<StopFlag>,
    pub options: InstanceOptions,
}

/// A worker as its supervisor sees it.
struct Member {
    number: usize,
    board: Arc<Board>,
    stage: MemberStage,
    started: Instant,
    rest: Duration,
}

enum MemberStage {
    Working(Working),
    Resting { until: Instant },
    Ended(Result<(), Halt>),
}

type Working = JoinHandle<Result<(), Halt>>;

/// What becomes of a worker that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Restart,
    /// The others go on.
    End,
    EndAll,
}

/// Looks out for the end of `--until-end`, with connections of its own.
struct EndWatch {
    ending: Ending,
    links: Links,
    asked: Instant,
    reached: bool,
}

impl Instance {
    /// Runs until a signal, the end, or something that no waiting mends.
    pub fn run(self) -> Result<Finished, Halt> {
        let own = self.boards.own();
        let mut links = self.open_links(Waiter::Supervisor, 0, own.clone())?;
        let prepared = Arc::new(prepare(&mut links, &self.plan, self.options.ddl)?);
        let mut watch = match self.options.until_end {
            true => Some(EndWatch::start(links, &prepared, self.clock.monotonic())?),
            false => None,
        };
        let mut crew = self.start_all(&prepared);
        own.update(self.clock.now(), |board| board.joined = true);
        let mut failure = None;
        while crew.iter().any(|member| !matches!(member.stage, MemberStage::Ended(_))) {
            thread::park_timeout(LOOK_EVERY);
            let now = self.clock.monotonic();
            own.update(self.clock.now(), |board| board.beat = now);
            crew.iter_mut().for_each(|member| self.tend(member, &prepared));
            if let Some(watch) = watch.as_mut().filter(|_| !self.stop.is_set())
                && let Err(halt) = watch.look(now, &self.boards)
            {
                self.stop.set();
                failure = Some(halt);
            } else if watch.as_ref().is_some_and(|watch| watch.reached) {
                self.stop.set_leaving();
            }
        }
        let reached = watch.is_some_and(|watch| watch.reached);
        match failure.into_iter().chain(failures(crew)).min_by_key(weight) {
            Some(halt) => Err(halt),
            None if reached => self.refused().map_or(Ok(Finished::AtEnd), |r| Err(Halt::AllStopped(r))),
            None if self.stop.is_leaving() => Ok(Finished::Left),
            None => Ok(Finished::Stopped),
        }
    }

    fn start_all(&self, prepared: &Arc<Prepared>) -> Vec<Member> {
        let count = self.options.workers.get();
        tracing::info!(workers = count, instance = %self.links.kafka.instance, "instance started");
        metrics::gauge!("millstream_workers").set(u32::try_from(count).unwrap_or(u32::MAX));
        let started = self.clock.monotonic();
        let member = |number| Member {
            number,
            board: self.boards.add(started, self.clock.now()),
            stage: MemberStage::Resting { until: started },
            started,
            rest: FIRST_REST,
        };
        let mut crew: Vec<Member> = (0..count).map(member).collect();
        crew.iter_mut().for_each(|member| self.tend(member, prepared));
        crew
    }

    fn tend(&self, member: &mut Member, prepared: &Arc<Prepared>) {
        let now = self.clock.monotonic();
        member.stage = match std::mem::replace(&mut member.stage, MemberStage::Ended(Ok(()))) {
            MemberStage::Working(thread) if thread.is_finished() => {
                let ended = thread.join().unwrap_or(Err(Halt::Panicked { worker: member.number }));
                self.ended(member, ended)
            }
            MemberStage::Resting { .. } if self.stop.is_set() => MemberStage::Ended(Ok(())),
            MemberStage::Resting { until } if until <= now => {
                member.started = now;
                match self.start(member, prepared) {
                    Ok(thread) => MemberStage::Working(thread),
                    Err(error) => self.ended(member, Err(error.into())),
                }
            }
            other => other,
        };
        if !matches!(member.stage, MemberStage::Working(_)) {
            member.board.update(self.clock.now(), |board| board.beat = now);
        }
    }

    fn start(&self, member: &Member, prepared: &Arc<Prepared>) -> Result<Working, RuntimeError> {
        let links = self.open_links(Waiter::Worker, member.number, member.board.clone())?;
        let taker = Taker {
            prepared: prepared.clone(),
            state_dir: self.state_dir.clone(),
            window_bytes: self.options.window_bytes,
            id_bytes: self.options.id_bytes,
        };
        member.board.update(self.clock.now(), |board| board.waiting_for.clear());
        let name = format!("worker-{}", member.number);
        let worker = Worker::open(&name, self.plan.clone(), links, taker, self.stop.clone())?;
        let started = thread::Builder::new().name(name).spawn(move || worker.run());
        started.map_err(|error| RuntimeError::NoThread(error.to_string()))
    }

    fn open_links(&self, waiter: Waiter, worker: usize, board: Arc<Board>) -> Result<Links, RuntimeError> {
        let mut settings = self.links.clone();
        settings.kafka.worker = worker;
        Links::open(settings, waiter, self.clock.clone(), board, self.stop.clone())
    }

    /// What a worker leaves on its board is no more; why it does not work is told instead.
    fn ended(&self, member: &mut Member, ended: Result<(), Halt>) -> MemberStage {
        let Err(halt) = ended else { return MemberStage::Ended(Ok(())) };
        let fate = if self.stop.is_set() { Fate::End } else { fate(&halt) };
        let now = self.clock.monotonic();
        if now - member.started >= WELL_AFTER {
            member.rest = FIRST_REST;
        }
        tracing::error!(worker = member.number, ?fate, "{halt}");
        member.board.update(self.clock.now(), |board| {
            board.joined = false;
            board.ended = fate != Fate::Restart;
            board.tasks.clear();
            board.waiting_for.clear();
            board.waiting_for.insert((Waiter::Supervisor, "worker"), format!("{}: {halt}", member.number));
        });
        match fate {
            Fate::Restart => {
                metrics::counter!("millstream_worker_restarts_total").increment(1);
                let until = now + member.rest;
                member.rest = (member.rest * 2).min(LONGEST_REST);
                return MemberStage::Resting { until };
            }
            Fate::EndAll => self.stop.set(),
            Fate::End => {}
        }
        MemberStage::Ended(Err(halt))
    }

    /// A task that stopped for a reason a person must see to, if there is any.
    fn refused(&self) -> Option<Refusal> {
        self.boards.read().tasks.into_values().find_map(|(_, report)| match report.stage {
            Stage::Stopped(refusal) => Some(refusal),
            Stage::Taking(_) | Stage::Replaying | Stage::Running => None,
        })
    }
}

impl EndWatch {
    fn start(mut links: Links, prepared: &Prepared, now: Instant) -> Result<EndWatch, Halt> {
        let ending = Ending::record(&mut links, prepared)?;
        Ok(EndWatch { ending, links, asked: now, reached: false })
    }

    fn look(&mut self, now: Instant, boards: &Boards) -> Result<(), Halt> {
        if now - self.asked < ASK_EVERY {
            return Ok(());
        }
        self.asked = now;
        self.reached = match self.ending.is_reached(&mut self.links, &boards.read()) {
            Err(Halt::Interrupted(_)) => false,
            reached => reached?,
        };
        Ok(())
    }
}

/// Only the supervisor matches on this, and only on `recovery`.
fn fate(halt: &Halt) -> Fate {
    match halt {
        Halt::Panicked { .. } => Fate::Restart,
        Halt::Failed(error) => match error.recovery() {
            Recovery::Retry | Recovery::RestartTask | Recovery::Fenced => Fate::Restart,
            Recovery::Corrupt | Recovery::Invalid => Fate::End,
        },
        Halt::Interrupted(_) => Fate::End,
        // Why: a duplicate has the identity of all workers, and a bound on waiting is that of the whole run.
        Halt::Duplicate(_) | Halt::GaveUp { .. } | Halt::AllStopped(_) => Fate::EndAll,
    }
}

fn failures(crew: Vec<Member>) -> impl Iterator<Item = Halt> {
    crew.into_iter().filter_map(|member| match member.stage {
        MemberStage::Ended(Err(halt)) => Some(halt),
        _ => None,
    })
}

/// Which of several failures is told, and sets the exit code: the least.
fn weight(halt: &Halt) -> u8 {
    match halt {
        Halt::Duplicate(_) => 0,
        Halt::GaveUp { .. } => 1,
        Halt::Failed(_) | Halt::AllStopped(_) => 2,
        Halt::Panicked { .. } => 3,
        Halt::Interrupted(_) => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::KafkaError;

    fn check(halt: impl Into<Halt>, expect: Fate) {
        let halt = halt.into();
        assert_eq!(fate(&halt), expect, "{halt}");
    }

    #[test]
    fn trouble_of_one_worker_is_its_own() {
        let kafka = |error: KafkaError| RuntimeError::from(error);
        check(Halt::Panicked { worker: 1 }, Fate::Restart);
        check(kafka(KafkaError::Fatal { operation: "commit", detail: "d".into() }), Fate::Restart);
        check(kafka(KafkaError::Fenced { detail: "d".into() }), Fate::Restart);
        check(kafka(KafkaError::UnknownTopic { detail: "d".into() }), Fate::End);
    }

    #[test]
    fn what_concerns_the_identity_ends_all_workers() {
        check(Halt::Duplicate(KafkaError::FencedInstance { detail: "d".into() }), Fate::EndAll);
        check(Halt::GaveUp { waiting_for: "kafka".into(), seconds: 1 }, Fate::EndAll);
    }

    #[test]
    fn duplicate_is_told_before_what_follows_from_it() {
        let interrupted = Halt::Interrupted("kafka".into());
        let duplicate = Halt::Duplicate(KafkaError::FencedInstance { detail: "d".into() });
        let told = [interrupted, duplicate].into_iter().min_by_key(weight);
        assert!(matches!(told, Some(Halt::Duplicate(_))));
    }
}
