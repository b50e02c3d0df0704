//! The Kafka neighbour against a real broker. Every test has topics and a group of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millstream::kafka::{
    Admin, BatchItem, CommittedOffset, Consumer, GroupEvent, KafkaError, KafkaSettings, Message, Probe,
    Producer,
};
use millstream_core::model::{EventTime, Fingerprint, Offset, Partition, Recovery, TopicPartition};
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(30);
const TURN: Duration = Duration::from_millis(20);

/// What a test sees of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    offset: Offset,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    fingerprint: Fingerprint,
}

type Log = BTreeMap<TopicPartition, Vec<Seen>>;

fn unique(name: &str) -> String {
    format!("{name}-{}", Uuid::new_v4().simple())
}

fn settings(application: &str) -> KafkaSettings {
    let servers = std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_| "127.0.0.1:29092".into());
    KafkaSettings {
        client: BTreeMap::from([("bootstrap.servers".to_owned(), servers)]),
        application: application.to_owned(),
        instance: Uuid::new_v4().to_string(),
        worker: 0,
    }
}

fn create(topic: &str, partitions: i32, config: &[(&str, &str)]) {
    let admin = Admin::open(&settings("admin")).unwrap();
    assert!(admin.create_topic(topic, partitions, config, LIMIT).unwrap());
}

fn producer(settings: &KafkaSettings) -> Producer {
    let producer = Producer::open(settings).unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer
}

/// One transaction with `values` in order, each on the partition it names.
fn produce(producer: &mut Producer, topic: &str, values: &[(i32, String)]) {
    let output = producer.topic(topic).unwrap();
    producer.begin().unwrap();
    for (partition, value) in values {
        let record = (Some(&b"k"[..]), value.as_bytes());
        producer.produce_batch(output, Partition(*partition), &[record]).unwrap();
    }
    producer.drain(LIMIT).unwrap();
    producer.commit(LIMIT).unwrap();
}

/// Calls `turn` until it answers.
fn until<T>(what: &str, mut turn: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = turn() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {LIMIT:?} for {what}");
    }
}

/// The next group event; a topic that has just been created may still be unknown for a moment.
fn event(consumer: &mut Consumer) -> GroupEvent {
    until("a group event", || match consumer.poll_group() {
        Ok(Some(event)) => Some(event),
        Ok(None) | Err(KafkaError::UnknownTopic { .. }) => {
            consumer.wait(TURN);
            None
        }
        Err(error) => panic!("{error}"),
    })
}

/// Joins the group and takes every partition, reading from `at`.
fn join(settings: &KafkaSettings, topic: &str, at: Offset) -> Consumer {
    let mut consumer = Consumer::open(settings).unwrap();
    consumer.subscribe(&[topic]).unwrap();
    take(&mut consumer, at);
    consumer
}

fn take(consumer: &mut Consumer, at: Offset) {
    loop {
        let GroupEvent::Assigned(partitions) = event(consumer) else { panic!("nothing was assigned") };
        let positions: Vec<_> = partitions.iter().map(|p| (p.clone(), Offset(0))).collect();
        consumer.assign(&positions).unwrap();
        for partition in &partitions {
            consumer.seek_and_resume(partition, at).unwrap();
        }
        if !partitions.is_empty() {
            return;
        }
    }
}

/// Adds what one batch holds to `log`.
fn poll_into(consumer: &mut Consumer, log: &mut Log) -> usize {
    let idle = consumer.poll_group().unwrap().is_none();
    let batch = consumer.poll_batch(1_000);
    for item in batch.items() {
        match item {
            BatchItem::Records(run) => {
                log.entry(run.partition().clone()).or_default().extend(run.iter().map(|r| Seen {
                    offset: r.offset(),
                    key: r.key().map(<[u8]>::to_vec),
                    value: r.value().map(<[u8]>::to_vec),
                    fingerprint: r.fingerprint(),
                }))
            }
            BatchItem::Error { partition, error } => panic!("{partition:?}: {error}"),
        }
    }
    let found = batch.len();
    drop(batch);
    if idle && found == 0 {
        consumer.wait(TURN);
    }
    found
}

fn read(consumer: &mut Consumer, records: usize) -> Log {
    let mut log = Log::new();
    until("records", || {
        poll_into(consumer, &mut log);
        (log.values().map(Vec::len).sum::<usize>() >= records).then_some(())
    });
    log
}

fn values(log: &Log, topic: &str, partition: i32) -> Vec<String> {
    let found = log.get(&TopicPartition::new(topic, partition)).cloned().unwrap_or_default();
    found.into_iter().map(|seen| String::from_utf8(seen.value.unwrap()).unwrap()).collect()
}

fn numbered(partition: i32, range: std::ops::Range<usize>) -> Vec<(i32, String)> {
    range.map(|n| (partition, format!("{partition}/{n}"))).collect()
}

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
fn output_and_offsets_commit_in_one_transaction() {
    let (input, output, app) = (unique("in"), unique("out"), unique("app"));
    create(&input, 1, &[]);
    create(&output, 1, &[]);
    let mut out = producer(&settings(&unique("loader")));
    produce(&mut out, &input, &numbered(0, 0..10));

    let worker = settings(&app);
    let partition = TopicPartition::new(&*input, 0);
    let mut consumer = join(&worker, &input, Offset(0));
    let none = consumer.stable_offsets(&[partition.clone()], LIMIT).unwrap();
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
        let stable = consumer.stable_offsets(&[partition.clone()], LIMIT).unwrap();
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
    let out = producer(&worker);
    out.begin().unwrap();
    let group = consumer.group_metadata().unwrap();
    let committed =
        CommittedOffset { partition: partition.clone(), offset: Offset(0), metadata: String::new() };
    out.send_offsets(&[committed], &group, LIMIT).unwrap();
    let pending = consumer.stable_offsets(&[partition.clone()], Duration::from_millis(500)).unwrap_err();
    assert_eq!(pending, KafkaError::Unstable { partition: partition.clone() });
    out.commit(LIMIT).unwrap();
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
    let started = Instant::now();
    leaving.close(true);
    let staying = join(&settings(&app), &input, Offset(0));
    assert_eq!(staying.assigned().len(), 2);
    assert!(started.elapsed() < Duration::from_secs(20), "well within the session time-out");
}

#[test]
fn static_member_that_comes_back_finds_its_partitions() {
    let (input, app) = (unique("in"), unique("app"));
    create(&input, 2, &[]);
    let worker = settings(&app);
    let consumer = join(&worker, &input, Offset(0));
    let generation = consumer.assigned();
    drop(consumer);
    let again = join(&worker, &input, Offset(0));
    assert_eq!(again.assigned(), generation);
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
            let BatchItem::Records(run) = item else { panic!("an error") };
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

#[test]
fn log_range_times_and_fingerprints_agree_with_the_log() {
    let (input, app) = (unique("in"), unique("app"));
    create(&input, 1, &[]);
    let partition = TopicPartition::new(&*input, 0);
    let mut out = producer(&settings(&unique("loader")));
    let target = out.topic(&input).unwrap();
    out.begin().unwrap();
    for n in 0..5i64 {
        let value = n.to_string();
        let message = Message {
            value: Some(value.as_bytes()),
            timestamp_ms: Some(1_000 + n * 100),
            ..Message::default()
        };
        out.produce_one(target, Partition(0), &message).unwrap();
    }
    out.drain(LIMIT).unwrap();

    let mut consumer = join(&settings(&app), &input, Offset(0));
    let open = consumer.log_range(&partition, LIMIT).unwrap();
    assert_eq!(open, (Offset(0), Offset(0)), "an open transaction holds the last stable offset");
    out.commit(LIMIT).unwrap();
    assert_eq!(consumer.log_range(&partition, LIMIT).unwrap(), (Offset(0), Offset(6)));
    let at = |ms| consumer.offset_at(&partition, EventTime::from_millis(ms), LIMIT).unwrap();
    assert_eq!((at(0), at(1_150), at(1_200), at(9_000)), (Offset(0), Offset(2), Offset(2), Offset(6)));

    let log = read(&mut consumer, 5);
    let mut probe = Probe::open(&settings(&app)).unwrap();
    for seen in &log[&partition] {
        assert_eq!(probe.read_one(&partition, seen.offset, LIMIT).unwrap(), Some(seen.fingerprint));
    }
    assert_eq!(probe.read_one(&partition, Offset(5), LIMIT).unwrap(), None, "only a control record is left");
    assert_eq!(probe.read_one(&partition, Offset(6), LIMIT).unwrap(), None);
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
        let found = consumer.poll_batch(10).items().find_map(|item| match item {
            BatchItem::Error { error, .. } => Some(error.clone()),
            BatchItem::Records(run) => panic!("{} records of {}", run.len(), run.partition()),
        });
        consumer.wait(TURN);
        found
    });
    assert!(matches!(error, KafkaError::OffsetOutOfRange { .. }), "{error}");
}

#[test]
fn recreated_topic_has_another_id() {
    let topic = unique("in");
    let admin = Admin::open(&settings("admin")).unwrap();
    assert!(!admin.cluster_id(LIMIT).unwrap().is_empty());
    assert_eq!(admin.topic(&topic, LIMIT).unwrap(), None);
    assert!(admin.create_topic(&topic, 3, &[("cleanup.policy", "compact")], LIMIT).unwrap());
    assert!(!admin.create_topic(&topic, 3, &[], LIMIT).unwrap(), "it is there already");
    let first = until("the topic", || admin.topic(&topic, LIMIT).unwrap());
    assert_eq!((first.partitions, first.cleanup_policy.as_str()), (3, "compact"));
    delete(&topic);
    until("its end", || admin.topic(&topic, LIMIT).unwrap().is_none().then_some(()));
    until("its return", || admin.create_topic(&topic, 1, &[], LIMIT).ok());
    let second = until("the topic", || admin.topic(&topic, LIMIT).unwrap());
    assert_eq!((second.partitions, second.cleanup_policy.as_str()), (1, "delete"));
    assert_ne!(first.topic_id, second.topic_id);
}

fn delete(topic: &str) {
    use rdkafka::admin::{AdminClient, AdminOptions};
    let mut config = rdkafka::ClientConfig::new();
    config.extend(settings("admin").client);
    let admin: AdminClient<_> = config.create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let deleted = runtime.block_on(admin.delete_topics(&[topic], &AdminOptions::new())).unwrap();
    assert_eq!(deleted, [Ok(topic.to_owned())]);
}
