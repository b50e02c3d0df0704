use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use millstream_core::engine::{Change, Family, MemoryStore, StateStore, StoreError};
use proptest::prelude::*;

use super::options::MEMORY;
use super::{Drain, DrainRequest, StateDir, StateError, TaskStore};

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn put(family: Family, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Change {
    Change::Put { family, key: key.into(), value: value.into() }
}

fn delete(family: Family, from: &[u8], to: &[u8]) -> Change {
    Change::DeleteRange { family, from: from.into(), to: to.into() }
}

fn scan(store: &dyn StateStore, family: Family, prefix: &[u8]) -> Entries {
    let mut found = Vec::new();
    store
        .scan(family, prefix, &mut |key, value| found.push((key.to_vec(), value.to_vec())))
        .expect("the store can be read");
    found
}

/// The first so many entries of a range.
fn first(store: &dyn StateStore, family: Family, range: (&[u8], &[u8]), most: usize) -> Entries {
    let mut found = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        found.push((key.to_vec(), value.to_vec()));
        if found.len() > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.scan_range(family, range, &mut visit).expect("the store can be read");
    found
}

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let dir = parent.path().join("tasks/clicks/page-views/0");
    (parent, dir)
}

fn open(dir: &Path) -> TaskStore {
    TaskStore::open(dir).expect("the store opens")
}

/// The files of a store's database whose names end in `ext`.
fn files(dir: &Path, ext: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("db")).expect("a database");
    let mut found: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.extension().is_some_and(|found| found == ext));
    found.sort();
    found
}

#[test]
fn entries_outlive_the_store_and_families_are_apart() {
    let (_parent, dir) = fresh();
    let mut store = open(&dir);
    assert_eq!(store.get(Family::Meta, b"k").expect("readable"), None);
    store
        .write(vec![put(Family::Meta, "k", "meta"), put(Family::Windows, "k", "windows")])
        .expect("writable");
    drop(store);
    let store = open(&dir);
    assert_eq!(store.get(Family::Meta, b"k").expect("readable"), Some(b"meta".to_vec()));
    assert_eq!(store.get(Family::Windows, b"k").expect("readable"), Some(b"windows".to_vec()));
    assert_eq!(scan(&store, Family::Meta, b""), [(b"k".to_vec(), b"meta".to_vec())]);
}

#[test]
fn scan_visits_exactly_the_prefix_in_order() {
    let (_parent, dir) = fresh();
    let mut store = open(&dir);
    let keys: [&[u8]; 6] = [b"a", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff"];
    store.write(keys.iter().rev().map(|key| put(Family::Windows, *key, "v")).collect()).expect("writable");
    let check = |prefix: &[u8], expect: &[&[u8]]| {
        let found: Vec<_> = scan(&store, Family::Windows, prefix).into_iter().map(|(key, _)| key).collect();
        assert_eq!(found, expect, "{prefix:?}");
    };
    check(b"", &keys);
    check(b"a", &keys[..3]);
    check(b"a\xff", &keys[1..3]);
    check(b"\xff", &keys[4..]);
    check(b"c", &[]);
}

#[test]
fn changes_of_one_batch_apply_in_their_order() {
    let (_parent, dir) = fresh();
    let mut store = open(&dir);
    store
        .write(vec![
            put(Family::Windows, "b", "first"),
            put(Family::Windows, "a", "first"),
            put(Family::Windows, "b", "second"),
            delete(Family::Windows, b"a", b"b"),
            put(Family::Windows, "aa", "third"),
            delete(Family::Windows, b"z", b"a"),
            delete(Family::Meta, b"", b"z"),
        ])
        .expect("writable");
    let expect: Entries = vec![(b"aa".into(), b"third".into()), (b"b".into(), b"second".into())];
    assert_eq!(scan(&store, Family::Windows, b""), expect);
}

#[test]
fn destroyed_store_begins_anew() {
    let (_parent, dir) = fresh();
    let mut store = open(&dir);
    store.write(vec![put(Family::Meta, "k", "v")]).expect("writable");
    drop(store);
    std::fs::create_dir_all(dir.with_extension("removed")).expect("a leftover of a destruction that crashed");
    TaskStore::destroy(&dir).expect("it is closed");
    assert!(!dir.exists() && !dir.with_extension("removed").exists());
    TaskStore::destroy(&dir).expect("nothing is there");
    assert_eq!(open(&dir).get(Family::Meta, b"k").expect("readable"), None);
}

#[test]
fn open_store_is_not_opened_twice() {
    let (_parent, dir) = fresh();
    let _store = open(&dir);
    assert!(matches!(TaskStore::open(&dir), Err(StateError::Busy { .. })));
}

#[test]
fn store_of_another_format_or_with_unknown_families_is_refused() {
    let (_parent, dir) = fresh();
    drop(open(&dir));
    let check = |expect: &str| {
        let refused = TaskStore::open(&dir).expect_err("not ours");
        assert!(matches!(refused, StateError::Foreign { .. }), "{refused}");
        assert!(refused.to_string().contains(expect), "{refused}");
    };
    std::fs::write(dir.join("FORMAT"), "millstream state 9\n").expect("a file");
    check("millstream state 9");
    std::fs::remove_file(dir.join("FORMAT")).expect("a file");
    check("it has db but no FORMAT");
    let (_parent, other) = fresh();
    drop(open(&other));
    let families = ["default", "meta", "windows", "sessions", "dedup", "sessions_v7"];
    let mut options = rocksdb::Options::default();
    options.create_missing_column_families(true);
    drop(
        rocksdb::DB::open_cf(&options, other.join("db"), families).expect("a database with one family more"),
    );
    let refused = TaskStore::open(&other).expect_err("not ours");
    assert!(refused.to_string().contains("unknown family 'sessions_v7'"), "{refused}");
}

#[test]
fn damaged_store_is_refused_with_the_remedy() {
    let damage = |hurt: &dyn Fn(&Path)| {
        let (_parent, dir) = fresh();
        open(&dir).write(vec![put(Family::Windows, "k", "v")]).expect("writable");
        // Opening moves what the log holds into a table.
        drop(open(&dir));
        hurt(&dir);
        let refused = TaskStore::open(&dir).expect_err("damaged");
        assert!(matches!(refused, StateError::Corrupt { .. }), "{refused}");
        let text = refused.to_string();
        assert!(
            text.contains(&dir.display().to_string()) && text.contains("the task replays its input"),
            "{text}"
        );
    };
    damage(&|dir| std::fs::write(dir.join("db/CURRENT"), "rubbish").expect("a file"));
    damage(&|dir| std::fs::write(dir.join("db/CURRENT"), "MANIFEST-999999\n").expect("a file"));
    damage(&|dir| std::fs::remove_file(&files(dir, "sst")[0]).expect("a table"));
    damage(&|dir| std::fs::write(&files(dir, "sst")[0], "short").expect("a table"));
}

#[test]
fn damaged_block_is_an_error_not_a_value() {
    let (_parent, dir) = fresh();
    open(&dir).write(vec![put(Family::Windows, "k", vec![7; 4_000])]).expect("writable");
    drop(open(&dir));
    for table in files(&dir, "sst") {
        let mut bytes = std::fs::read(&table).expect("a table");
        bytes[10] ^= 0x55;
        std::fs::write(&table, bytes).expect("a table");
    }
    let store = open(&dir);
    let read = store.get(Family::Windows, b"k");
    assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
    let scanned = store.scan(Family::Windows, b"", &mut |_, _| {});
    assert!(matches!(scanned, Err(StoreError::Corrupt(_))), "{scanned:?}");
}

/// Keys of one numbered batch; every value is the number.
fn numbered(number: u64) -> Vec<Change> {
    let value = number.to_be_bytes();
    let windows =
        (0..200_u64).map(|key| put(Family::Windows, key.wrapping_mul(0x9e37_79b9).to_be_bytes(), value));
    windows.chain([put(Family::Meta, "number", value)]).collect()
}

/// The number of the batch at which a store stands; fails if it stands at more than one.
fn standing_at(store: &TaskStore) -> Option<u64> {
    let meta = store.get(Family::Meta, b"number").expect("readable");
    let entries = scan(store, Family::Windows, b"");
    let Some(number) = meta else {
        assert!(entries.is_empty(), "windows of a batch whose meta is missing");
        return None;
    };
    assert_eq!(entries.len(), 200);
    assert!(entries.iter().all(|(_, value)| *value == number), "a batch came back in part");
    Some(u64::from_be_bytes(number.try_into().expect("eight bytes")))
}

const ENDLESS_DIR: &str = "MILLSTREAM_TEST_ENDLESS_DIR";

/// Does nothing unless it is the child of `killed_process_loses_no_batch_and_tears_none`.
#[test]
fn writes_until_killed() {
    let Some(dir) = std::env::var_os(ENDLESS_DIR) else { return };
    let mut store = open(Path::new(&dir));
    for number in standing_at(&store).unwrap_or(0) + 1.. {
        store.write(numbered(number)).expect("writable");
        println!("\nwritten {number}");
    }
}

#[test]
fn killed_process_loses_no_batch_and_tears_none() {
    let (_parent, dir) = fresh();
    let mut standing = 0;
    for round in 1..=5_u64 {
        let mut child = Command::new(std::env::current_exe().expect("the test program has a path"))
            .args(["--exact", "state::tests::writes_until_killed", "--nocapture"])
            .env(ENDLESS_DIR, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test program runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let numbers = lines.filter_map(|line| line.ok()?.strip_prefix("written ")?.parse::<u64>().ok());
        let acknowledged = numbers.take_while(|number| *number <= standing + 20 * round).last();
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        let found = standing_at(&open(&dir)).expect("a batch was acknowledged");
        assert!(Some(found) >= acknowledged, "{found} < {acknowledged:?}");
        standing = found;
    }
}

#[test]
fn torn_log_falls_back_to_the_batch_before() {
    for torn in [1, 7, 100, 3_000] {
        let (_parent, dir) = fresh();
        let mut store = open(&dir);
        for number in 1..=3 {
            store.write(numbered(number)).expect("writable");
        }
        drop(store);
        let log = files(&dir, "log").pop().expect("a log");
        let file = std::fs::File::options().write(true).open(&log).expect("a log");
        let length = file.metadata().expect("a length").len();
        file.set_len(length - torn).expect("a shorter log");
        assert_eq!(standing_at(&open(&dir)), Some(2), "{torn} bytes torn off");
    }
}

#[test]
fn many_tasks_share_the_memory_and_do_not_flush_without_need() {
    let (_parent, dir) = fresh();
    let mut stores: Vec<_> = (0..40).map(|task| open(&dir.join(task.to_string()))).collect();
    for number in 1..=20 {
        for store in &mut stores {
            store.write(numbered(number)).expect("writable");
        }
    }
    assert!(MEMORY.memtables.get_usage() < 32 << 20, "{} bytes", MEMORY.memtables.get_usage());
    let tables: usize = (0..40).map(|task| files(&dir.join(task.to_string()), "sst").len()).sum();
    assert_eq!(tables, 0, "small states stay in memory and in the log");
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Change>),
    Reopen,
}

fn any_family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Meta), Just(Family::Windows), Just(Family::Sessions)]
}

/// Short keys over few bytes, so that prefixes, ranges and overwrites meet.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0x61), Just(0xff)], 0..4)
}

fn any_change() -> impl Strategy<Value = Change> {
    let value = prop::collection::vec(any::<u8>(), 0..6);
    prop_oneof![
        4 => (any_family(), any_key(), value).prop_map(|(family, key, value)| Change::Put { family, key, value }),
        1 => (any_family(), any_key()).prop_map(|(family, key)| Change::Delete { family, key }),
        1 => (any_family(), any_key(), any_key()).prop_map(|(family, a, b)| {
            let (from, to) = if a <= b { (a, b) } else { (b, a) };
            Change::DeleteRange { family, from, to }
        }),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(any_change(), 0..12).prop_map(Step::Write),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn store_on_disk_equals_its_twin_in_memory(
        steps in prop::collection::vec(any_step(), 1..16),
        probes in prop::collection::vec(any_key(), 1..8),
    ) {
        let (_parent, dir) = fresh();
        let mut store = Some(open(&dir));
        let mut twin = MemoryStore::default();
        for step in steps {
            match step {
                Step::Write(changes) => {
                    twin.write(changes.clone()).expect("memory");
                    store.as_mut().expect("an open store").write(changes).expect("writable");
                }
                Step::Reopen => {
                    drop(store.take());
                    store = Some(open(&dir));
                }
            }
            let store = store.as_ref().expect("an open store");
            for family in [Family::Meta, Family::Windows, Family::Sessions] {
                for probe in &probes {
                    prop_assert_eq!(
                        store.get(family, probe).expect("readable"),
                        twin.get(family, probe).expect("memory")
                    );
                    prop_assert_eq!(scan(store, family, probe), scan(&twin, family, probe));
                    for most in [0, 2, 100] {
                        let range = (&probe[..], &[0xff, 0xff, 0xff, 0xff][..]);
                        prop_assert_eq!(first(store, family, range, most), first(&twin, family, range, most));
                    }
                }
                prop_assert_eq!(scan(store, family, b""), scan(&twin, family, b""));
            }
        }
    }
}

#[test]
fn request_to_drain_is_made_again_where_a_starting_instance_took_it_away() {
    let (_parent, root) = fresh();
    assert!(DrainRequest::make(&root).unwrap().is_none(), "nobody runs");
    let dir = StateDir::open(&root).unwrap();
    let request = DrainRequest::make(&root).unwrap().expect("it runs");
    std::fs::remove_file(root.join("DRAIN")).unwrap();
    assert_eq!(request.look().unwrap(), Drain::Asked);
    assert!(dir.drain_requested(), "asked again");
    dir.drained().unwrap();
    assert_eq!(request.look().unwrap(), Drain::Done);
    assert!(!dir.drain_requested());
}

#[test]
fn instance_that_ends_without_an_answer_was_not_drained() {
    let (_parent, root) = fresh();
    let dir = StateDir::open(&root).unwrap();
    let request = DrainRequest::make(&root).unwrap().expect("it runs");
    drop(dir);
    assert_eq!(request.look().unwrap(), Drain::Gone);
}
