//! What the broker knows of logs and topics, and a broker that is not there.

use std::slice::from_ref;
use std::time::{Duration, Instant};

use millstream::kafka::{Admin, Consumer, Message, Producer};
use millstream_core::model::{EventTime, Offset, Partition, Recovery, TopicPartition};

use super::{LIMIT, create, join, producer, read, settings, unique, until};

#[test]
fn log_range_and_times_agree_with_the_log() {
    let (input, app) = (unique("in"), unique("app"));
    create(&input, 1, &[]);
    let partition = TopicPartition::new(&*input, 0);
    // Before the transaction begins, whose time is limited.
    let mut consumer = join(&settings(&app), &input, Offset(0));
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
    let open = consumer.log_range(&partition, LIMIT).unwrap();
    assert_eq!(open, (Offset(0), Offset(0)), "an open transaction holds the last stable offset");
    out.commit(LIMIT).unwrap();
    // Why: the end moves once the transaction's marker is in the log, which a commit does not wait for.
    until("its end", || {
        (consumer.log_range(&partition, LIMIT).unwrap() == (Offset(0), Offset(6))).then_some(())
    });
    let at = |ms| consumer.offset_at(&partition, EventTime::from_millis(ms), LIMIT).unwrap();
    assert_eq!(
        (at(0), at(1_150), at(1_200), at(4_102_444_800_000)),
        (Offset(0), Offset(2), Offset(2), Offset(6))
    );

    read(&mut consumer, 5);
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

#[test]
fn broker_out_of_reach_is_tried_again_and_hangs_nothing() {
    let mut nowhere = settings(&unique("app"));
    nowhere.client.insert("bootstrap.servers".into(), "127.0.0.1:1".into());
    let before = Instant::now();
    let brief = Duration::from_millis(200);
    let partition = TopicPartition::new("in", 0);
    let mut consumer = Consumer::open(&nowhere).unwrap();
    consumer.subscribe(&["in"]).unwrap();
    assert_eq!(consumer.poll_group().unwrap(), None);
    let out = Producer::open(&nowhere).unwrap();
    let admin = Admin::open(&nowhere).unwrap();
    let errors = [
        consumer.stable_offsets(from_ref(&partition), brief).err(),
        consumer.log_range(&partition, brief).err(),
        consumer.offset_at(&partition, EventTime(0), brief).err(),
        out.init_transactions(brief).err(),
        admin.topic("in", brief).err(),
        admin.cluster_id(brief).err(),
        admin.create_topic("in", 1, &[], brief).err(),
    ];
    for error in errors {
        let error = error.expect("nobody answers there");
        assert_eq!(error.recovery(), Recovery::Retry, "{error}");
    }
    consumer.close(true);
    drop((out, admin));
    assert!(before.elapsed() < LIMIT, "{:?}", before.elapsed());
}
