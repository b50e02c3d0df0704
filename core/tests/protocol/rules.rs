//! What a variant of the model explores: bounds, mishaps, and one deliberate fault at most.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fault::Fault;
use super::kafka::{Kafka, Output, Transaction};
use super::postgres::{Postgres, Row};
use super::worker::Worker;
use super::world::{Left, Owner, Part, PerPartition, PerWorker, Pos, World};

/// The bounds of a variant.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub partitions: u8,
    /// Records in each partition.
    pub records: u8,
    pub kafka_outputs: bool,
    /// Whether the tasks were never seen before; else they are bootstrapped, and nobody has taken them.
    pub fresh: bool,
    pub left: Left,
    pub fault: Option<Fault>,
}

pub struct Protocol {
    pub rules: Rules,
    pub coverage: Coverage,
    /// Properties that a state was found to violate.
    pub violated: Mutex<BTreeSet<&'static str>>,
}

/// Arms of the decisions under test that a run has come to.
#[derive(Default)]
pub struct Coverage([AtomicBool; Arm::ALL.len()]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    Bootstrap,
    FinishBootstrap,
    StartLevel,
    StartWithoutState,
    StartBehindOutputs,
    StartWithOutputsMissing,
    GroupRestored,
    StaleTake,
    Fenced,
    WholeEpoch,
    OutputsOnly,
    Done,
    StaleResume,
    PermitRefused,
}

impl Arm {
    pub const ALL: [Arm; 14] = [
        Arm::Bootstrap,
        Arm::FinishBootstrap,
        Arm::StartLevel,
        Arm::StartWithoutState,
        Arm::StartBehindOutputs,
        Arm::StartWithOutputsMissing,
        Arm::GroupRestored,
        Arm::StaleTake,
        Arm::Fenced,
        Arm::WholeEpoch,
        Arm::OutputsOnly,
        Arm::Done,
        Arm::StaleResume,
        Arm::PermitRefused,
    ];
}

impl Coverage {
    pub fn note(&self, arm: Arm) {
        self.0[arm as usize].store(true, Ordering::Relaxed);
    }

    pub fn missing(&self, expected: &[Arm]) -> Vec<Arm> {
        expected.iter().copied().filter(|arm| !self.0[*arm as usize].load(Ordering::Relaxed)).collect()
    }
}

impl Rules {
    /// The bounds that the environment gives instead: `MILLSTREAM_MODEL_RECORDS`, `_INCIDENTS` and `_MESSAGES`.
    pub fn scaled(mut self) -> Rules {
        let given = |name: &str, bound: &mut u8| {
            if let Ok(text) = std::env::var(format!("MILLSTREAM_MODEL_{name}")) {
                *bound = text.parse().unwrap_or_else(|e| panic!("MILLSTREAM_MODEL_{name}={text}: {e}"));
            }
        };
        given("RECORDS", &mut self.records);
        given("INCIDENTS", &mut self.left.incidents);
        given("MESSAGES", &mut self.left.messages);
        self
    }

    pub fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        (0..self.partitions).map(Part)
    }

    pub fn end(&self) -> Pos {
        Pos(self.records)
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Whether an epoch's rows say that K = P when they are committed.
    pub fn settled(&self) -> bool {
        !self.kafka_outputs || self.has(Fault::SettledEarly)
    }

    pub fn first_world(&self) -> World {
        let mut rows = PerPartition::default();
        let mut group = PerPartition::default();
        if !self.fresh {
            for part in self.parts() {
                rows[part] = Some(Row {
                    bootstrapped: true,
                    owner: Owner(0),
                    prev: Pos(0),
                    next: Pos(0),
                    settled: false,
                    counted: Pos(0),
                });
                group[part] = self.kafka_outputs.then_some(Pos(0));
            }
        }
        World {
            postgres: Postgres { rows, ..Postgres::default() },
            kafka: Kafka {
                group,
                transactions: PerWorker([Transaction::default(), Transaction::default()]),
                outputs: PerPartition([Output::default(), Output::default()]),
                flaw: None,
            },
            workers: PerWorker([Worker::new(), Worker::new()]),
            left: self.left,
            refused: None,
        }
    }
}
