//! The commit protocol, explored state by state: two workers, PostgreSQL, Kafka, a short log, and mishaps.
//!
//! Owns a world in which everything that can happen does happen, and drives `commit::take`, `commit::resume` and
//! `CommitPermit` in it. Must never decide by itself what those decide. `rules` bound a variant, `action` says what can
//! happen next, `step` carries it out by way of `taking` and `epoch`, `property` judges every state, `fault` breaks one
//! rule at a time to show that the properties see it, `story` tells a path in words. `docs/protocol-model.md` says what
//! is left out, and how to run it at larger bounds; `--nocapture` shows figures and paths.

mod action;
mod epoch;
mod fault;
mod kafka;
mod postgres;
mod property;
mod rules;
mod run;
mod step;
mod story;
mod taking;
mod worker;
mod world;

use fault::Fault;
use property::FINISHED;
use rules::{Arm, Rules};
use run::explore;
use story::story;
use world::Left;

/// One partition in every depth; the other variants differ from it.
const ONE_PARTITION: Rules = Rules {
    partitions: 1,
    records: 2,
    kafka_outputs: true,
    fresh: false,
    left: Left { incidents: 2, messages: 1, forgotten: 0 },
    fault: None,
};

/// Every arm of a task that was bootstrapped long ago.
const KNOWN_TASK: [Arm; 10] = [
    Arm::StartLevel,
    Arm::StartBehindOutputs,
    Arm::StartWithOutputsMissing,
    Arm::StaleTake,
    Arm::Fenced,
    Arm::WholeEpoch,
    Arm::OutputsOnly,
    Arm::Done,
    Arm::StaleResume,
    Arm::PermitRefused,
];

#[test]
fn one_partition_holds() {
    holds("one partition", ONE_PARTITION, &KNOWN_TASK);
}

#[test]
fn one_partition_with_more_incidents_holds() {
    let left = Left { incidents: 3, ..ONE_PARTITION.left };
    holds("one partition, more incidents", Rules { left, ..ONE_PARTITION }, &[Arm::StartWithoutState]);
}

#[test]
fn two_partitions_in_one_epoch_hold() {
    holds("two partitions", Rules { partitions: 2, records: 1, ..ONE_PARTITION }, &KNOWN_TASK);
}

#[test]
fn bootstrap_holds() {
    let arms = [Arm::Bootstrap, Arm::FinishBootstrap, Arm::StartLevel, Arm::PermitRefused];
    holds("bootstrap", Rules { fresh: true, ..ONE_PARTITION }, &arms);
}

#[test]
fn a_group_forgotten_by_the_broker_holds() {
    let left = Left { forgotten: 1, ..ONE_PARTITION.left };
    holds("group forgotten", Rules { left, ..ONE_PARTITION }, &[Arm::GroupRestored]);
}

#[test]
fn rows_without_kafka_outputs_hold() {
    let rules = Rules { kafka_outputs: false, partitions: 2, records: 1, fresh: true, ..ONE_PARTITION };
    let arms = [Arm::Bootstrap, Arm::FinishBootstrap, Arm::Fenced, Arm::WholeEpoch, Arm::Done];
    holds("rows alone", rules, &arms);
}

/// Each within bounds in which the protocol without it holds.
#[test]
fn each_deliberate_fault_is_found() {
    let mut missed = Vec::new();
    for fault in Fault::ALL {
        let records = ONE_PARTITION.records / fault.partitions();
        let rules = Rules {
            partitions: fault.partitions(),
            records,
            left: fault.needs(),
            fault: Some(fault),
            ..ONE_PARTITION
        };
        let outcome = explore(rules, fault.breaks(), &[]);
        println!("fault: {}: {outcome}", fault.words());
        for property in fault.breaks() {
            match outcome.paths.get(property) {
                Some(path) => println!("  not so any more: {property}\n{}", story(path)),
                None => missed.push((fault, *property)),
            }
        }
    }
    assert!(missed.is_empty(), "no counterexample for {missed:?}");
}

/// Explores a variant to its end: nothing is violated, everything can be finished, and the arms were come to.
fn holds(name: &str, rules: Rules, arms: &[Arm]) {
    let outcome = explore(rules.scaled(), &[], arms);
    println!("{name}: {outcome}");
    let violated = outcome.paths.iter().filter(|(property, _)| **property != FINISHED);
    let told: Vec<String> = violated.map(|(property, path)| format!("{property}\n{}", story(path))).collect();
    assert!(told.is_empty(), "{name}: violated: {}", told.join("\nviolated: "));
    assert!(outcome.paths.contains_key(FINISHED), "{name}: nothing was ever finished");
    assert!(outcome.missing.is_empty(), "{name}: never came to {:?}", outcome.missing);
}
