//! Transactions, fences and refusals.

use std::slice::from_ref;
use std::time::Duration;

use millstream::kafka::{BatchItem, CommittedOffset, Consumer, GroupEvent, KafkaError, Message};
use millstream_core::model::{Offset, Partition, Recovery, TopicPartition};
use uuid::Uuid;

use super::{LIMIT, TURN, create, join, numbered, produce, producer, read, settings, unique, until, values};

#[test]
fn output_and_offsets_commit_in_one_transaction() {
    let (input, output, app) = (unique("in"), unique("out"), unique("app"));
    create(&input, 1, &[]);
    create(&output, 1, &[]);
    let mut out = producer(&settings(&unique("loader")));
    produce(&mut out, &input, &numbered(0, 0..10));

    let worker = settings(&app);
    let partition = TopicPartition::new(&*input, 0);
    let mut consumer = join(&worker, &input, Offset(0));
    let none = consumer.stable_offsets(from_ref(&partition), LIMIT).unwrap();
    assert_eq!((none[0].offset, none[0].metadata.as_str()), (None, ""));
    read(&mut consumer, 10);

    let mut out = producer(&worker);
    let target = out.topic(&output).unwrap();
    for epoch in 1..=20 {
        out.begin().unwrap();
        let value = format!("epoch {epoch}");
        out.produce_batch(target, Partition(0), &[(None, value.as_bytes())]).unwrap();
        out.drain(LIMIT).unwrap();
        let group = consumer.group_metadata().unwrap();
        let committed =
            CommittedOffset { partition: partition.clone(), offset: Offset(epoch), metadata: value.clone() };
        out.send_offsets(&[committed], &group, LIMIT).unwrap();
        out.commit(LIMIT).unwrap();
        assert!(!out.in_doubt());
        let stable = consumer.stable_offsets(from_ref(&partition), LIMIT).unwrap();
        assert_eq!((stable[0].offset, stable[0].metadata.as_str()), (Some(Offset(epoch)), value.as_str()));
    }
    let mut reader = join(&settings(&unique("reader")), &output, Offset(0));
    let expected: Vec<_> = (1..=20).map(|epoch| format!("epoch {epoch}")).collect();
    assert_eq!(values(&read(&mut reader, 20), &output, 0), expected);
}

#[test]
fn pending_transaction_makes_an_offset_unstable() {
    let (input, app) = (unique("in"), unique("app"));
    create(&input, 1, &[]);
    let partition = TopicPartition::new(&*input, 0);
    let worker = settings(&app);
    let consumer = join(&worker, &input, Offset(0));
    let committed =
        [CommittedOffset { partition: partition.clone(), offset: Offset(0), metadata: String::new() }];
    let brief = Duration::from_millis(500);
    until("an offset that is pending", || {
        // A producer a turn: the time of a transaction may be up before a slow machine has looked at it.
        let out = producer(&worker);
        out.begin().unwrap();
        let group = consumer.group_metadata().unwrap();
        out.send_offsets(&committed, &group, LIMIT).ok()?;
        let error = consumer.stable_offsets(from_ref(&partition), brief).err()?;
        if error != (KafkaError::Unstable { partition: partition.clone() }) {
            assert_eq!(error.recovery(), Recovery::Retry, "{error}");
            return None;
        }
        out.commit(LIMIT).ok()
    });
    let stable = consumer.stable_offsets(&[partition], LIMIT).unwrap();
    assert_eq!(stable[0].offset, Some(Offset(0)));
}

#[test]
fn older_producer_is_fenced_and_its_transaction_is_gone() {
    let (output, app) = (unique("out"), unique("app"));
    create(&output, 1, &[]);
    let worker = settings(&app);
    let mut older = producer(&worker);
    let target = older.topic(&output).unwrap();
    older.begin().unwrap();
    older.produce_batch(target, Partition(0), &[(None, b"older")]).unwrap();
    older.drain(LIMIT).unwrap();

    let mut newer = producer(&worker);
    let error = older.commit(LIMIT).unwrap_err();
    assert!(matches!(error, KafkaError::Fenced { .. }), "{error}");
    assert_eq!(error.recovery(), Recovery::Fenced);
    older.discard();

    produce(&mut newer, &output, &[(0, "newer".into())]);
    let mut reader = join(&settings(&unique("reader")), &output, Offset(0));
    assert_eq!(values(&read(&mut reader, 1), &output, 0), ["newer"]);
}

#[test]
fn offsets_of_a_stale_generation_are_refused() {
    let (input, app) = (unique("in"), unique("app"));
    create(&input, 2, &[]);
    let first = settings(&app);
    let mut consumer = join(&first, &input, Offset(0));
    let stale = consumer.group_metadata().unwrap();

    let mut second = Consumer::open(&settings(&app)).unwrap();
    second.subscribe(&[&input]).unwrap();
    let revoked = until("the partition that moves", || {
        second.poll_group().unwrap();
        let served = consumer.poll_group().unwrap();
        consumer.wait(TURN);
        served
    });
    let GroupEvent::Revoked { partitions, lost: false } = revoked else { panic!("{revoked:?}") };
    consumer.unassign(&partitions).unwrap();

    let out = producer(&first);
    out.begin().unwrap();
    let kept = consumer.assigned().remove(0);
    let committed = CommittedOffset { partition: kept, offset: Offset(0), metadata: String::new() };
    let error = out.send_offsets(&[committed], &stale, LIMIT).unwrap_err();
    assert!(matches!(error, KafkaError::IllegalGeneration { .. }), "{error}");
    assert_eq!(error.recovery(), Recovery::Retry);
}

#[test]
fn too_large_record_is_refused_by_name() {
    let output = unique("out");
    create(&output, 1, &[("max.message.bytes", "1000")]);
    let mut out = producer(&settings(&unique("app")));
    let target = out.topic(&output).unwrap();
    out.begin().unwrap();
    let huge = vec![b'x'; 3 << 20];
    let error = out.produce_batch(target, Partition(0), &[(Some(b"big"), &huge)]).unwrap_err();
    assert!(matches!(&error, KafkaError::Refused { key: Some(key), .. } if key == "big"), "{error}");

    let random: Vec<u8> = (0..64).flat_map(|_| *Uuid::new_v4().as_bytes()).collect();
    let records: Vec<_> = (0..3).map(|_| (Some(&b"noise"[..]), random.as_slice())).collect();
    out.produce_batch(target, Partition(0), &records).unwrap();
    let error = out.drain(LIMIT).unwrap_err();
    let KafkaError::Refused { topic, partition: 0, key: Some(key), .. } = &error else { panic!("{error}") };
    assert_eq!((topic.as_str(), key.as_str()), (output.as_str(), "noise"));
    assert_eq!(error.recovery(), Recovery::Invalid);
    assert!(out.commit(LIMIT).is_err(), "the transaction is spoilt");
}

#[test]
fn record_for_a_partition_that_is_not_there_is_refused() {
    let output = unique("out");
    create(&output, 1, &[]);
    let mut out = producer(&settings(&unique("app")));
    let target = out.topic(&output).unwrap();
    out.begin().unwrap();
    let queued = out.produce_batch(target, Partition(9), &[(None, b"v")]);
    let error = queued.and_then(|()| out.drain(LIMIT)).unwrap_err();
    assert!(matches!(&error, KafkaError::Refused { partition: 9, .. }), "{error}");
}

#[test]
fn headers_timestamp_and_null_parts_survive() {
    let output = unique("out");
    create(&output, 1, &[]);
    let mut out = producer(&settings(&unique("app")));
    let target = out.topic(&output).unwrap();
    out.begin().unwrap();
    let headers =
        [("reason", Some(&b"NOT_JSON"[..])), ("empty", Some(b"")), ("none", None), ("reason", Some(b"2"))];
    let full = Message {
        key: Some(b""),
        value: Some(b"v"),
        headers: &headers,
        timestamp_ms: Some(1_700_000_000_123),
    };
    out.produce_one(target, Partition(0), &full).unwrap();
    out.produce_one(target, Partition(0), &Message { key: Some(b"k"), ..Message::default() }).unwrap();
    out.produce_batch(target, Partition(0), &[(None, b""), (Some(b""), b"w")]).unwrap();
    out.drain(LIMIT).unwrap();
    out.commit(LIMIT).unwrap();

    let mut consumer = join(&settings(&unique("reader")), &output, Offset(0));
    let mut found = Vec::new();
    until("four records", || {
        consumer.poll_group().unwrap();
        for item in consumer.poll_batch(10).items() {
            let run = match item {
                BatchItem::Records(run) => run,
                BatchItem::Error { error, .. } => panic!("{error}"),
            };
            found.extend(run.iter().map(|r| {
                let headers: Vec<_> =
                    r.headers().into_iter().map(|(n, v)| (n.into_owned(), v.map(<[u8]>::to_vec))).collect();
                (r.key().map(<[u8]>::to_vec), r.value().map(<[u8]>::to_vec), headers, r.timestamp_ms())
            }));
        }
        consumer.wait(TURN);
        (found.len() == 4).then_some(())
    });
    let sent: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), v.map(<[u8]>::to_vec))).collect();
    assert_eq!(found[0], (Some(vec![]), Some(b"v".to_vec()), sent, Some(1_700_000_000_123)));
    assert_eq!((&found[1].0, &found[1].1, found[1].2.len()), (&Some(b"k".to_vec()), &None, 0));
    assert_eq!((&found[2].0, &found[2].1), (&None, &Some(vec![])));
    assert_eq!((&found[3].0, &found[3].1), (&Some(vec![]), &Some(b"w".to_vec())));
}
