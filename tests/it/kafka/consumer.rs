//! Membership, assignment, and records in their order.

use std::time::Instant;

use millstream::kafka::{BatchItem, Consumer, GroupEvent, KafkaError};
use millstream_core::model::{Offset, TopicPartition};

use crate::instances::arena::members;

use super::{
    LIMIT, Log, TURN, create, event, join, numbered, poll_batch_into, poll_into, produce, producer, read,
    settings, unique, until, values,
};

#[test]
fn three_partitions_come_in_order_and_exactly() {
    let (topic, app) = (unique("in"), unique("app"));
    create(&topic, 3, &[]);
    let mut out = producer(&settings(&unique("loader")));
    for transaction in 0..5 {
        let range = transaction * 400..(transaction + 1) * 400;
        let rows: Vec<_> = (0..3).flat_map(|p| numbered(p, range.clone())).collect();
        produce(&mut out, &topic, &rows);
    }
    let mut consumer = join(&settings(&app), &topic, Offset(0));
    assert_eq!(consumer.assigned().len(), 3);
    let log = read(&mut consumer, 6_000);
    for partition in 0..3 {
        let expected: Vec<_> = numbered(partition, 0..2_000).into_iter().map(|(_, value)| value).collect();
        assert_eq!(values(&log, &topic, partition), expected, "partition {partition}");
        let offsets = &log[&TopicPartition::new(&*topic, partition)];
        assert!(offsets.is_sorted_by(|a, b| a.offset < b.offset));
        assert_eq!(offsets.last().unwrap().offset, Offset(2_003), "four control records lie in between");
    }
    let mut log = Log::new();
    assert_eq!(poll_into(&mut consumer, &mut log), 0, "nothing comes twice");
    consumer.close(true);
}

#[test]
fn end_of_a_log_lies_beyond_the_control_record_of_its_last_transaction() {
    let (topic, app) = (unique("in"), unique("app"));
    create(&topic, 1, &[]);
    let mut out = producer(&settings(&unique("loader")));
    produce(&mut out, &topic, &numbered(0, 0..3));
    let mut consumer = join(&settings(&app), &topic, Offset(0));
    let partition = TopicPartition::new(&*topic, 0);
    // The marker may come into the log later than the commit is answered.
    let ends = |consumer: &mut Consumer, at: Offset| {
        until("the end", || {
            poll_into(consumer, &mut Log::new());
            let (_, high) = consumer.log_range(&partition, LIMIT).unwrap();
            let positions = consumer.positions();
            assert!(high <= at && positions.iter().all(|(_, position)| *position <= at), "{positions:?}");
            (high == at && positions == [(partition.clone(), at)]).then_some(())
        });
    };
    // Three records and one marker.
    ends(&mut consumer, Offset(4));
    produce(&mut out, &topic, &numbered(0, 3..4));
    ends(&mut consumer, Offset(6));
    consumer.seek_and_resume(&partition, Offset(3)).unwrap();
    assert_eq!(consumer.positions(), [], "it is unknown after a seek");
    ends(&mut consumer, Offset(6));
}

/// Takes what comes, and leaves it paused; answers what is to be given back.
fn answer(consumer: &mut Consumer) -> Option<Vec<TopicPartition>> {
    match consumer.poll_group().unwrap()? {
        GroupEvent::Assigned(partitions) => {
            let positions: Vec<_> = partitions.into_iter().map(|p| (p, Offset(0))).collect();
            consumer.assign(&positions).unwrap();
            None
        }
        GroupEvent::Revoked { partitions, .. } => Some(partitions),
        GroupEvent::Failed(error) => panic!("{error}"),
    }
}

#[test]
fn partition_that_was_read_to_its_end_loses_nothing_in_a_rebalance() {
    let (topic, app) = (unique("in"), unique("app"));
    create(&topic, 2, &[]);
    let mut out = producer(&settings(&unique("loader")));
    produce(&mut out, &topic, &[numbered(0, 0..3), numbered(1, 0..3)].concat());
    let mut first = join(&settings(&app), &topic, Offset(0));
    let mut log = read(&mut first, 6);
    let mut second = Consumer::open(&settings(&app)).unwrap();
    second.subscribe(&[&topic]).unwrap();
    let given = until("a partition given back", || {
        answer(&mut second);
        answer(&mut first)
    });
    first.unassign(&given).unwrap();
    produce(&mut out, &topic, &[numbered(0, 3..6), numbered(1, 3..6)].concat());
    let kept = 1 - given[0].partition.0;
    let expected: Vec<_> = numbered(kept, 0..6).into_iter().map(|(_, value)| value).collect();
    until("what came later", || {
        answer(&mut second);
        answer(&mut first);
        poll_batch_into(&mut first, &mut log);
        (values(&log, &topic, kept).len() >= 6).then_some(())
    });
    assert_eq!(values(&log, &topic, kept), expected);
}

#[test]
fn paused_partition_gives_nothing_until_it_is_sought() {
    let (topic, app) = (unique("in"), unique("app"));
    create(&topic, 2, &[]);
    let mut out = producer(&settings(&unique("loader")));
    let mut consumer = join(&settings(&app), &topic, Offset(0));
    produce(&mut out, &topic, &[numbered(0, 0..3), numbered(1, 0..3)].concat());
    read(&mut consumer, 6);

    let paused = TopicPartition::new(&*topic, 0);
    consumer.pause(&paused).unwrap();
    produce(&mut out, &topic, &[numbered(0, 3..5), numbered(1, 3..5)].concat());
    let log = read(&mut consumer, 2);
    assert_eq!(values(&log, &topic, 1), ["1/3", "1/4"]);
    assert_eq!(values(&log, &topic, 0), Vec::<String>::new());

    consumer.seek_and_resume(&paused, Offset(1)).unwrap();
    let log = read(&mut consumer, 4);
    assert_eq!(values(&log, &topic, 0), ["0/1", "0/2", "0/3", "0/4"]);
    assert_eq!(values(&log, &topic, 1), Vec::<String>::new());
}

#[test]
fn consumer_that_has_not_joined_gives_no_group_metadata() {
    let consumer = Consumer::open(&settings(&unique("app"))).unwrap();
    assert_eq!(consumer.group_metadata().err(), Some(KafkaError::NotAMember));
}

#[test]
fn second_process_with_the_same_identity_fences_the_first() {
    let (input, app) = (unique("in"), unique("app"));
    create(&input, 1, &[]);
    let worker = settings(&app);
    let mut first = join(&worker, &input, Offset(0));
    let _second = join(&worker, &input, Offset(0));
    let GroupEvent::Failed(error) = event(&mut first) else { panic!("not fenced") };
    assert!(matches!(error, KafkaError::FencedInstance { .. }), "{error}");
}

#[test]
fn leaving_member_hands_its_partitions_over_at_once() {
    let (input, app) = (unique("in"), unique("app"));
    create(&input, 2, &[]);
    let leaving = join(&settings(&app), &input, Offset(0));
    assert_eq!(members(&app), 1);
    leaving.close(true);
    assert_eq!(members(&app), 0, "nobody waits for its session to end");
    let staying = join(&settings(&app), &input, Offset(0));
    assert_eq!(staying.assigned().len(), 2);
}

#[test]
fn static_member_that_comes_back_finds_its_partitions() {
    let (input, app) = (unique("in"), unique("app"));
    create(&input, 2, &[]);
    let worker = settings(&app);
    let consumer = join(&worker, &input, Offset(0));
    let generation = consumer.group_metadata().unwrap().generation();
    drop(consumer);
    let again = join(&worker, &input, Offset(0));
    assert_eq!(again.assigned().len(), 2);
    assert_eq!(again.group_metadata().unwrap().generation(), generation, "the group was not disturbed");
}

#[test]
fn offset_outside_of_the_log_is_an_error_and_no_reset() {
    let (input, app) = (unique("in"), unique("app"));
    create(&input, 1, &[]);
    let mut out = producer(&settings(&unique("loader")));
    produce(&mut out, &input, &numbered(0, 0..3));
    let mut consumer = join(&settings(&app), &input, Offset(1_000));
    let error = until("the error", || {
        consumer.poll_group().unwrap();
        let found = consumer.poll_batch(10).items().next().map(|item| match item {
            BatchItem::Error { error, .. } => error.clone(),
            BatchItem::Records(run) => panic!("{} records of {}", run.len(), run.partition()),
        });
        consumer.wait(TURN);
        found
    });
    assert!(matches!(error, KafkaError::OffsetOutOfRange { .. }), "{error}");
}

#[test]
fn partition_that_was_given_back_is_not_sought() {
    let (topic, app) = (unique("in"), unique("app"));
    create(&topic, 1, &[]);
    let mut consumer = join(&settings(&app), &topic, Offset(0));
    let only = TopicPartition::new(&*topic, 0);
    consumer.unassign(std::slice::from_ref(&only)).unwrap();
    let before = Instant::now();
    consumer.seek_and_resume(&only, Offset(0)).unwrap();
    assert!(before.elapsed() < LIMIT, "a client would refuse it for as long as it is asked");
    assert_eq!(consumer.assigned(), []);
}
