//! Routers and what comes out of the internal topic, in any interleaving, against one pass over each source.

mod world;

use proptest::prelude::*;

use super::disk::Disk;
use super::sliding_tests::{Manner, manner};
use super::*;
use crate::codec::Routed;
use crate::commit::RefusalCode;
use crate::model::{DataType, EventTime, Offset, Value};
use world::*;

fn whole() -> Manner {
    Manner { epochs: vec![usize::MAX], window_bytes: usize::MAX, restart: false }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_interleaving_gives_the_tables_of_the_contract(story in story(), manner in manner(), delay in 0i64..40) {
        let plan = plan(delay, "");
        let routers = route(&plan, &story);
        let records: i64 = story.0.iter().map(|clicks| clicks.len() as i64).sum();
        prop_assert_eq!((routers.read, routers.routed), (0, records), "none is dead, all are passed on");
        let arrived = arrive(&plan, &routers.log, &manner);
        prop_assert_eq!((arrived.accepted, arrived.duplicate), (records, 0));
        let mut expected = naive(&story.0, delay);
        if records > 0 {
            prop_assert_eq!(&arrived.tables.counts, &expected.counts);
        }
        expected.counts = arrived.tables.counts.clone();
        prop_assert_eq!(arrived.tables, expected);
    }

    #[test]
    fn no_manner_changes_hash_or_watermark(story in story(), manner in manner()) {
        let plan = plan(10, "");
        let routers = route(&plan, &story);
        let (one, other) = (arrive(&plan, &routers.log, &whole()), arrive(&plan, &routers.log, &manner));
        prop_assert_eq!(one.hashes, other.hashes);
        let last = |arrived: &[SealedEpoch]| arrived.last().map(|epoch| epoch.watermark);
        prop_assert_eq!(last(&one.epochs), last(&other.epochs));
    }

    #[test]
    fn ticks_and_epochs_are_no_part_of_a_routers_hash(story in story()) {
        let plan = plan(10, "");
        let at_once = route(&plan, &(story.0.clone(), Vec::new()));
        prop_assert_eq!(at_once.hashes(), route(&plan, &story).hashes());
    }

    #[test]
    fn copies_are_found_whichever_router_was_first(story in story(), manner in manner()) {
        // Every click once more in the source behind its own, and nothing is ever late.
        let plan = plan(10_000, "dedup: { key: [who, id], within: 1h }");
        let clicks: Vec<Click> = story.0.concat().into_iter().enumerate()
            .map(|(id, click)| Click { id, ..click }).collect();
        let mut sources = vec![Vec::new(); story.0.len() + 1];
        for click in &clicks {
            for twice in [0, 1] {
                sources[(click.id + twice) % story.0.len().max(2)].push(click.clone());
            }
        }
        let routers = route(&plan, &(sources, story.1.clone()));
        let arrived = arrive(&plan, &routers.log, &manner);
        let count = clicks.len() as i64;
        prop_assert_eq!((arrived.accepted, arrived.duplicate), (count, count));
        let expected = naive(&[clicks], 10_000);
        prop_assert_eq!(arrived.tables.visits, expected.visits);
        prop_assert_eq!(arrived.tables.views, expected.views);
    }
}

fn clicks(user: u8, seconds: &[i64]) -> Vec<Vec<u8>> {
    seconds.iter().map(|second| Click { second: *second, user, id: 0 }.json()).collect()
}

fn kept(disk: &Disk, family: Family) -> usize {
    let mut kept = 0;
    disk.scan(family, &[], &mut |_, _| kept += 1).expect("memory");
    kept
}

#[test]
fn idle_source_does_not_stall_what_is_forgotten() {
    let plan = plan(0, "");
    for (second_says, forgotten) in [(None, false), (Some(false), false), (Some(true), true)] {
        let mut routers = Routers::open(&plan, 2);
        routers.epoch(0, &clicks(1, &[100]), Some(false));
        routers.epoch(1, &clicks(1, &[90]), second_says);
        routers.epoch(0, &clicks(2, &[5_000]), Some(false));
        let manner = Manner { epochs: vec![1], ..whole() };
        let arrived = arrive(&plan, &routers.log, &manner);
        let watermark = arrived.epochs.iter().map(|epoch| epoch.watermark.map(|at| at.0 / SECOND)).max();
        assert_eq!(watermark.flatten(), Some(if forgotten { 5_000 } else { 90 }), "{second_says:?}");
        let sessions: usize = arrived.disks.iter().map(|disk| kept(disk, Family::Sessions)).sum();
        assert_eq!(sessions, if forgotten { 2 } else { 4 }, "a user's sessions and their mark");
    }
}

#[test]
fn source_that_speaks_again_is_judged_by_what_the_others_have_come_to() {
    let plan = plan(0, "");
    let mut routers = Routers::open(&plan, 2);
    routers.epoch(0, &clicks(1, &[100]), Some(false));
    routers.epoch(1, &clicks(1, &[100]), Some(true));
    routers.epoch(0, &clicks(1, &[500]), Some(false));
    // By its own watermark of 100 it is in time; what it belongs to is forgotten.
    routers.epoch(1, &clicks(1, &[101]), Some(false));
    routers.epoch(1, &clicks(1, &[490]), Some(false));
    let tables = arrive(&plan, &routers.log, &Manner { epochs: vec![1], ..whole() }).tables;
    assert_eq!(tables.counts["visits"].too_late, 1);
    let expected = [(("u1".to_owned(), 100), (100, 2, 0)), (("u1".to_owned(), 490), (500, 2, 0))];
    assert_eq!(tables.visits, expected.into());
}

#[test]
fn what_arrives_has_its_own_key_headers_timestamp_and_place() {
    let plan = plan(0, "");
    let mut router = open(&plan, &Disk::default(), (Role::Router { partitions: 9 }, 7), 0);
    let headers = || vec![("trace".to_owned(), Some(b"t".to_vec()))];
    let value = clicks(1, &[1_000]).remove(0);
    let old = clicks(1, &[100]).remove(0);
    for (offset, value) in [(40, &value), (41, &old)] {
        let plain = record(offset, Some(b"own key"), value, &headers);
        router.process(&Record { timestamp_ms: Some(2_000_000), ..plain }, Effects::LIVE).expect("memory");
    }
    let sealed = router.seal();
    let mut task = open(&plan, &Disk::default(), (Role::Internal, 0), 0);
    for (offset, copy) in sealed.outputs.routed.iter().enumerate() {
        assert_eq!(sealed.outputs.bytes[copy.key.clone()], *b"u1");
        let (value, headers) = (&sealed.outputs.bytes[copy.value.clone()], || copy.headers.clone());
        let Ok(Routed::Record { timestamp_ms, .. }) = Routed::decode(value) else { panic!("a copy") };
        assert_eq!(timestamp_ms, Some(2_000_000), "the input's");
        let plain = record(offset as i64, Some(b"u1"), value, &headers);
        task.process(&Record { timestamp_ms: Some(9), ..plain }, Effects::LIVE).expect("memory");
    }
    let outputs = task.seal().outputs;
    let enriched = &outputs.records[0];
    assert_eq!(outputs.bytes[enriched.key.clone().expect("the input's")], *b"own key");
    assert_eq!(outputs.bytes[enriched.value.clone()], *value);
    let late = &outputs.side[0];
    assert_eq!((late.key.as_deref(), late.value.as_deref()), (Some(&b"own key"[..]), Some(&old[..])));
    let header =
        |name: &str| late.headers.iter().find(|(n, _)| n == name).and_then(|(_, value)| value.clone());
    for (name, expect) in
        [("trace", "t"), ("source_topic", "clicks"), ("source_partition", "7"), ("source_offset", "41")]
    {
        assert_eq!(header(name).as_deref(), Some(expect.as_bytes()), "{name}");
    }
}

#[test]
fn dead_records_end_at_the_router() {
    let plan = plan(0, "");
    let mut routers = Routers::open(&plan, 1);
    let bad: &[u8] = b"{\"at\":1}";
    let values = [clicks(1, &[10]).remove(0), bad.to_vec(), clicks(2, &[11]).remove(0)];
    let sealed = routers.epoch(0, &values, None);
    let TaskCounts { read, accepted, dead, routed, .. } = sealed.counts;
    assert_eq!((read, accepted, dead, routed), (1, 0, 1, 2));
    assert!(sealed.counts.conserved());
    assert_eq!((sealed.outputs.dead_letters.len(), sealed.outputs.side.len()), (1, 1));
    assert_eq!(sealed.outputs.dead_letters[0].offset, Offset(1));
    assert!(sealed.outputs.records.is_empty() && sealed.deltas.is_empty() && sealed.sessions.is_empty());
    assert!(sealed.counts.aggregates.is_empty());
    let arrived = arrive(&plan, &routers.log, &whole());
    assert_eq!((arrived.accepted, arrived.tables.counts["visits"].matched), (2, 2));
}

#[test]
fn muted_router_copies_nothing_and_comes_to_the_same_hash() {
    let plan = plan(0, "");
    let role = (Role::Router { partitions: 1 }, 0);
    let values = [clicks(1, &[10]), clicks(2, &[11])].concat();
    let run = |effects: &[Effects]| {
        let mut task = open(&plan, &Disk::default(), role, 0);
        for (offset, (value, effects)) in values.iter().zip(effects).enumerate() {
            task.process(&record(offset as i64, None, value, &Vec::new), *effects).expect("memory");
        }
        let sealed = task.seal();
        (sealed.hash, sealed.outputs.routed.len(), sealed.counts.routed)
    };
    let live = run(&[Effects::LIVE; 2]);
    let muted = Effects { outputs: false, rows: false };
    let outputs_only = Effects { outputs: true, rows: false };
    assert_eq!(live, (live.0, 2, 2));
    assert_eq!(run(&[muted, muted]), (live.0, 0, 0));
    assert_eq!(run(&[muted, outputs_only]), (live.0, 1, 0));
}

#[test]
fn hash_of_a_router_is_that_of_every_byte_of_the_copy() {
    let plan = plan(0, "");
    let hash = |value: &[u8], timestamp_ms| {
        let mut task = open(&plan, &Disk::default(), (Role::Router { partitions: 1 }, 0), 0);
        let plain = record(0, None, value, &Vec::new);
        task.process(&Record { timestamp_ms, ..plain }, Effects::LIVE).expect("memory");
        task.seal().hash
    };
    let value = clicks(1, &[10]).remove(0);
    let same_fields = [&value[..], b" "].concat();
    assert_eq!(hash(&value, None), hash(&value, None));
    assert_ne!(hash(&value, None), hash(&same_fields, None), "the value");
    assert_ne!(hash(&value, None), hash(&value, Some(1)), "the timestamp");
}

#[test]
fn a_source_may_grow_while_its_routers_run_and_before_they_replay() {
    let plan = plan(0, "");
    let run = |partitions, number, tick| {
        let mut task = open(&plan, &Disk::default(), (Role::Router { partitions }, number), 0);
        let value = clicks(1, &[10]).remove(0);
        task.process(&record(0, None, &value, &Vec::new), Effects::LIVE).expect("memory");
        if tick {
            task.tick(false);
        }
        task.seal()
    };
    assert_eq!(run(3, 2, false).hash, run(4, 2, false).hash);
    let added = run(3, 5, true).outputs;
    for value in [&added.bytes[added.routed[0].value.clone()], added.tick.as_deref().expect("asked for")] {
        let Ok(Routed::Record { head, .. } | Routed::Tick { head, .. }) = Routed::decode(value) else {
            panic!("no value of a router: {value:?}")
        };
        assert_eq!((head.partition.0, head.partitions), (5, 6));
    }
}

#[test]
fn what_no_router_wrote_is_refused() {
    let plan = plan(0, "");
    let check = |value: Option<&[u8]>, expect: &str| {
        let mut task = open(&plan, &Disk::default(), (Role::Internal, 0), 0);
        let plain = record(0, None, &[], &Vec::new);
        let refused = task.process(&Record { value, ..plain }, Effects::LIVE);
        let Err(ProcessError::Refused(refusal)) = refused else { panic!("{value:?} was taken") };
        assert_eq!(refusal.code, RefusalCode::InternalTopicForeign);
        assert!(refusal.detail.contains(expect), "{}", refusal.detail);
        assert_eq!(task.next(), Offset(0));
    };
    check(None, "no value");
    check(Some(&clicks(1, &[10])[0]), "is not known here");
    let mut routers = Routers::open(&plan, 1);
    routers.epoch(0, &clicks(1, &[10]), None);
    let written = routers.log.iter().flatten().next().expect("a copy");
    let mut copy = written.value.clone();
    *copy.last_mut().expect("a value") = b']';
    check(Some(&copy), "dead, NOT_JSON");
}

#[test]
fn a_bigint_is_spread_by_its_digits_and_both_zeros_of_a_double_go_together() {
    let text = |value: Value<'_>, data_type| {
        crate::expr::spreading_text(&value, data_type).map(std::borrow::Cow::into_owned).expect("a text")
    };
    assert_eq!(text(Value::Bigint(-7), DataType::Bigint), "-7");
    assert_eq!(text(Value::Double(-0.0), DataType::Double), text(Value::Double(0.0), DataType::Double));
    assert_eq!(text(Value::Boolean(true), DataType::Boolean), "true");
    assert_eq!(text(Value::Timestamp(EventTime(0)), DataType::Timestamp), "1970-01-01 00:00:00+00");
}
