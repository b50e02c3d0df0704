//! The one table of keys: what a file may say, of which shape, and what it means.
//!
//! `check` opens every map through its block here and `schema` prints the same blocks, so the two cannot drift.
//!
//! | block | keys in the file |
//! |---|---|
//! | `FILE` | `version name commit_interval connections sources bad_data late aggregates records tests` |
//! | `CONNECTIONS` | `kafka postgres` |
//! | `SOURCE` | `topic fields event_time watermark keyed_by repartition_by start checks dedup max_record_bytes` |
//! | `AGGREGATE` | `from where window by select to allowed_lateness` |
//! | `RECORDS` | `from set to` |
//! | `TEST` | `name given expect` |

use super::names::Name;

/// A map whose keys are fixed.
#[derive(Debug)]
pub(super) struct Block {
    /// Of its definition in the schema.
    pub name: &'static str,
    pub doc: &'static str,
    pub keys: &'static [Key],
    /// Keys of the language that this version does not know how to run, with what to do instead.
    pub later: &'static [Later],
}

#[derive(Debug)]
pub(super) struct Key {
    pub name: &'static str,
    pub shape: Shape,
    pub required: bool,
    pub doc: &'static str,
}

#[derive(Debug)]
pub(super) struct Later {
    pub name: &'static str,
    /// What the key belongs to: one problem each, however many of its keys stand there.
    pub feature: &'static str,
    pub hint: &'static str,
}

/// What a value looks like.
#[derive(Debug)]
pub(super) enum Shape {
    /// Text that is a name of this kind.
    Text(Name),
    /// Any text.
    AnyText,
    /// One of these.
    Word(&'static [&'static str]),
    /// One of these, or a timestamp.
    WordOrTime(&'static [&'static str]),
    /// A whole number and one of `ms s m h d`.
    Duration,
    /// A whole number of bytes and one of `B KiB MiB GiB`.
    Size,
    /// A whole number within these bounds.
    Integer(i64, i64),
    /// A type, with `!` where the field is required.
    FieldType,
    /// An SQL expression.
    Expression,
    /// Text, number or boolean.
    Setting,
    /// Text, number, boolean or null.
    Value,
    /// A map of anything, written as a JSON object; `repeat` says how often.
    Event,
    Block(&'static Block),
    /// A map whose keys are chosen by the writer.
    Named(Name, &'static Shape),
    List(&'static Shape),
    OneOf(&'static [Shape]),
}

const fn must(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: true, doc }
}

const fn may(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: false, doc }
}

const fn later(name: &'static str, feature: &'static str, hint: &'static str) -> Later {
    Later { name, feature, hint }
}

/// The words of `start`, `on_fail` and `timestamp`; the first is the default.
pub(super) const STARTS: &[&str] = &["earliest", "latest"];
pub(super) const ON_FAIL: &[&str] = &["dead_letter", "count"];
pub(super) const TIMESTAMPS: &[&str] = &["produced", "input"];
/// Bounds, both inclusive.
pub(super) const PARTITIONS: (i64, i64) = (1, 10_000);
pub(super) const ROWS: (i64, i64) = (0, 10_000_000);
pub(super) const REPEATS: (i64, i64) = (1, 1_000_000);

pub(super) static FILE: Block = Block {
    name: "pipeline",
    doc: "A millstream pipeline: sources, aggregates and record outputs.",
    keys: &[
        must("version", Shape::Integer(1, 1), "Version of the file format: 1."),
        must(
            "name",
            Shape::Text(Name::Application),
            "Names the consumer group, transactional ids, progress rows and the state directory.",
        ),
        may(
            "commit_interval",
            Shape::Duration,
            "How often results become visible while live, 10ms to 60s. Default 100ms.",
        ),
        must("connections", Shape::Block(&CONNECTIONS), "Where Kafka and PostgreSQL are."),
        must("sources", Shape::Named(Name::Plain, &Shape::Block(&SOURCE)), "Input topics, by name."),
        may("bad_data", Shape::Block(&BAD_DATA), "Where dead letters go. Default: the table dead_letters."),
        may("late", Shape::Block(&LATE), "What happens to late records."),
        may(
            "aggregates",
            Shape::Named(Name::Identifier, &Shape::Block(&AGGREGATE)),
            "Windowed result tables, by name. The name is the identity of the state.",
        ),
        may(
            "records",
            Shape::Named(Name::Plain, &Shape::Block(&RECORDS)),
            "Outputs of every accepted record, by name.",
        ),
        may("tests", Shape::List(&Shape::Block(&TEST)), "Cases that `millstream test` runs without servers."),
    ],
    later: &[],
};

pub(super) static CONNECTIONS: Block = Block {
    name: "connections",
    doc: "Where Kafka and PostgreSQL are.",
    keys: &[
        must(
            "kafka",
            Shape::Named(Name::Setting, &Shape::Setting),
            "Any librdkafka setting but those millstream owns; bootstrap.servers is required.",
        ),
        may("postgres", Shape::Block(&POSTGRES), "PostgreSQL; by default PG* or DB_* of the environment."),
    ],
    later: &[
        later("lake", "a lake", "outputs are PostgreSQL tables and Kafka topics"),
        later("checkpoints", "checkpoints", "state is rebuilt from the input topics"),
    ],
};

pub(super) static POSTGRES: Block = Block {
    name: "postgres",
    doc: "The PostgreSQL server that holds results and progress.",
    keys: &[may(
        "url",
        Shape::AnyText,
        "postgres://user:password@host:port/database. Empty: PG* or DB_HOST DB_PORT DB_USER DB_PASSWORD DB_NAME.",
    )],
    later: &[],
};

pub(super) static SOURCE: Block = Block {
    name: "source",
    doc: "An input topic of JSON objects.",
    keys: &[
        must(
            "topic",
            Shape::OneOf(&[Shape::Text(Name::Topic), Shape::Block(&TOPIC)]),
            "The topic, or its name and how to create it where it is missing.",
        ),
        must(
            "fields",
            Shape::Named(Name::Field, &Shape::FieldType),
            "Declared fields and their types; `!` means present and not null. Others pass through untouched.",
        ),
        must("event_time", Shape::Text(Name::Field), "The field with the event time: a timestamp with `!`."),
        may("watermark", Shape::Block(&WATERMARK), "How far event time has come."),
        may("keyed_by", Shape::Text(Name::Field), "A promise: the topic is partitioned by this field."),
        may(
            "repartition_by",
            Shape::OneOf(&[Shape::Text(Name::Field), Shape::Block(&REPARTITION)]),
            "Instead of keyed_by, where producers send no key: copy the records through a topic of the pipeline's own, \
             partitioned by this field.",
        ),
        may(
            "start",
            Shape::WordOrTime(STARTS),
            "Where partitions never seen before begin: earliest (default), latest or a time.",
        ),
        may("checks", Shape::List(&Shape::Block(&CHECK)), "Conditions on every record."),
        may("dedup", Shape::Block(&DEDUP), "Count only the first of several records with one key."),
        may("max_record_bytes", Shape::Size, "Larger values are dead letters. Default 1MiB."),
    ],
    later: &[],
};

pub(super) static REPARTITION: Block = Block {
    name: "repartition",
    doc: "The field that records are spread by anew, and over how many partitions.",
    keys: &[
        must("field", Shape::Text(Name::Field), "The field, declared with `!`, of any type but json."),
        may(
            "partitions",
            Shape::Integer(PARTITIONS.0, PARTITIONS.1),
            "How many partitions the internal topic is made with. Default: as many as the source's topic has.",
        ),
    ],
    later: &[],
};

pub(super) static TOPIC: Block = Block {
    name: "topic",
    doc: "A topic and how to create it.",
    keys: &[
        must("name", Shape::Text(Name::Topic), "The topic's name."),
        may("create", Shape::Block(&CREATE), "Create it where it is missing."),
    ],
    later: &[],
};

pub(super) static CREATE: Block = Block {
    name: "create",
    doc: "How to create a missing topic.",
    keys: &[must("partitions", Shape::Integer(PARTITIONS.0, PARTITIONS.1), "How many partitions it gets.")],
    later: &[],
};

pub(super) static WATERMARK: Block = Block {
    name: "watermark",
    doc: "The watermark of a partition is its largest event time less the delay.",
    keys: &[
        may("delay", Shape::Duration, "How far records may be out of order without being late. Default 0s."),
        may(
            "max_future",
            Shape::Duration,
            "Event times this far after the Kafka timestamp are dead letters. Default 5m.",
        ),
        may(
            "idle_after",
            Shape::Duration,
            "A quiet partition holds finality back no longer than this. Default 30s.",
        ),
    ],
    later: &[],
};

pub(super) static CHECK: Block = Block {
    name: "check",
    doc: "A condition on every record.",
    keys: &[
        must("name", Shape::Text(Name::Identifier), "Appears in the reason CHECK_FAILED:<name>."),
        must("expect", Shape::Expression, "A condition. False fails the check; null passes."),
        may("on_fail", Shape::Word(ON_FAIL), "Make the record a dead letter (default), or only count it."),
    ],
    later: &[],
};

pub(super) static DEDUP: Block = Block {
    name: "dedup",
    doc: "A record whose key was accepted before, in the same partition, is a duplicate and feeds nothing.",
    keys: &[
        must(
            "key",
            Shape::List(&Shape::Expression),
            "Fields, or expressions, that tell records apart; none of them may be null.",
        ),
        must("within", Shape::Duration, "How far event time goes on before a key is forgotten."),
    ],
    later: &[],
};

pub(super) static BAD_DATA: Block = Block {
    name: "bad_data",
    doc: "Where dead letters go.",
    keys: &[
        may(
            "topic",
            Shape::Text(Name::TopicOfSource),
            "A Kafka topic; {source} stands for the source's name.",
        ),
        may("table", Shape::Text(Name::Identifier), "A table in the PostgreSQL schema millstream."),
    ],
    later: &[],
};

pub(super) static LATE: Block = Block {
    name: "late",
    doc: "What happens to late records.",
    keys: &[
        may(
            "allowed_lateness",
            Shape::Duration,
            "How long after a window's end it still takes records. Default 0s.",
        ),
        may(
            "topic",
            Shape::Text(Name::TopicOfSource),
            "A Kafka topic for records that are too late; {source} stands for the source's name.",
        ),
    ],
    later: &[],
};

pub(super) static AGGREGATE: Block = Block {
    name: "aggregate",
    doc: "A table of one row per window and key, or per session of a key.",
    keys: &[
        must("from", Shape::Text(Name::Plain), "A source."),
        may("where", Shape::Expression, "Only records for which this is true."),
        must(
            "window",
            Shape::OneOf(&[Shape::Block(&TUMBLING), Shape::Block(&SLIDING), Shape::Block(&SESSION)]),
            "The windows records fall into, or the sessions they make.",
        ),
        may(
            "by",
            Shape::List(&Shape::OneOf(&[
                Shape::Text(Name::Identifier),
                Shape::Named(Name::Identifier, &Shape::Expression),
            ])),
            "Fields, or {column: expression}; one row per window and values of these. Of sessions, the field the source is \
             keyed or repartitioned by must be one of them.",
        ),
        may(
            "select",
            Shape::Named(Name::Identifier, &Shape::Expression),
            "Result columns: count(*), count(x), count(distinct x), sum(x), min(x), max(x), avg(x), \
             approx_distinct(x), approx_percentile(x, q), late_rows(), each with filter (where ...). Only sessions can do \
             without.",
        ),
        must("to", Shape::Block(&RESULT), "The table the rows go to."),
        may("allowed_lateness", Shape::Duration, "Instead of late.allowed_lateness."),
    ],
    later: &[later("emit", "when rows are written", "rows are written as they change")],
};

/// The kinds of windows. A map with nothing that tells them apart is taken for the first.
pub(super) static WINDOWS: [&Block; 3] = [&TUMBLING, &SLIDING, &SESSION];

pub(super) static TUMBLING: Block = Block {
    name: "tumbling_window",
    doc: "Windows one after the other, aligned to 1970-01-01T00:00Z.",
    keys: &[must("tumble", Shape::Duration, "The length of each window.")],
    later: &[],
};

pub(super) static SLIDING: Block = Block {
    name: "sliding_window",
    doc: "Windows that overlap, aligned to 1970-01-01T00:00Z.",
    keys: &[
        must("slide", Shape::Duration, "How often a window starts; not longer than size."),
        must("size", Shape::Duration, "The length of each window."),
    ],
    later: &[],
};

pub(super) static SESSION: Block = Block {
    name: "session_window",
    doc: "Runs of a key's records with no longer pause between them than the gap.",
    keys: &[
        must("session", Shape::Duration, "The gap: the longest pause within a session, included."),
        may("max_duration", Shape::Duration, "No session becomes longer than this. Default: no limit."),
    ],
    later: &[],
};

pub(super) const KINDS_OF_WINDOW: &str =
    "a window is { tumble: 1m }, { slide: 1m, size: 5m } or { session: 30m }";

pub(super) static RESULT: Block = Block {
    name: "result",
    doc: "A table in PostgreSQL that this aggregate alone writes.",
    keys: &[
        must("table", Shape::Text(Name::Identifier), "The table's name."),
        must(
            "key",
            Shape::List(&Shape::Text(Name::Identifier)),
            "The primary key: window_start (of sessions session_start_time) and the columns of `by`; window_end may be \
             added.",
        ),
        may(
            "latest",
            Shape::List(&Shape::Text(Name::Identifier)),
            "Columns of `by`: adds the view <table>_latest, of rows that agree in these the one with the latest start.",
        ),
    ],
    later: &[
        later("emit", "when rows are written", "rows are written as they change"),
        later("parquet", "files", "results go to a table"),
        later("jsonl", "files", "results go to a table"),
        later("partition", "files", "results go to a table"),
        later("roll", "files", "results go to a table"),
    ],
};

pub(super) static RECORDS: Block = Block {
    name: "records",
    doc: "Every accepted record of a source, enriched.",
    keys: &[
        must("from", Shape::Text(Name::Plain), "A source."),
        may(
            "set",
            Shape::Named(Name::Field, &Shape::Expression),
            "Fields to add or replace: expressions, or commit_time().",
        ),
        must(
            "to",
            Shape::OneOf(&[Shape::Block(&OUTPUT), Shape::Block(&RECORD_TABLE)]),
            "The topic or the table the records go to.",
        ),
    ],
    later: &[],
};

pub(super) static OUTPUT: Block = Block {
    name: "output",
    doc: "A Kafka topic that this output alone writes.",
    keys: &[
        must("topic", Shape::Text(Name::Topic), "The topic; created where it is missing."),
        may(
            "key",
            Shape::Text(Name::Field),
            "A text field with `!` to key messages by. Default: the input's key.",
        ),
        may(
            "timestamp",
            Shape::Word(TIMESTAMPS),
            "The messages' timestamp: of producing (default), or the input's (slower).",
        ),
    ],
    later: &[
        later("parquet", "files", "records go to a topic or a table"),
        later("jsonl", "files", "records go to a topic or a table"),
        later("partition", "files", "records go to a topic or a table"),
        later("roll", "files", "records go to a topic or a table"),
        later("emit", "when rows are written", "records are written as they come"),
    ],
};

/// Where records go. A map with nothing that tells them apart is taken for the first.
pub(super) static DESTINATIONS: [&Block; 2] = [&OUTPUT, &RECORD_TABLE];

pub(super) static RECORD_TABLE: Block = Block {
    name: "record_table",
    doc: "A table in PostgreSQL that this output alone writes: a column per declared field and per field of `set`.",
    keys: &[
        must("table", Shape::Text(Name::Identifier), "The table's name."),
        may(
            "key",
            Shape::List(&Shape::Text(Name::Identifier)),
            "The primary key: of records with equal values the first is kept. Default: none, every record is.",
        ),
    ],
    later: &[],
};

pub(super) static TEST: Block = Block {
    name: "test",
    doc: "A case that `millstream test` runs without servers.",
    keys: &[
        must("name", Shape::AnyText, "What the case shows."),
        must(
            "given",
            Shape::Named(Name::Plain, &Shape::List(&Shape::Event)),
            "Events of each source. `repeat: n` writes an event n times; {i} in its texts counts from 0.",
        ),
        must(
            "expect",
            Shape::Named(
                Name::Plain,
                &Shape::OneOf(&[
                    Shape::Block(&ROW_COUNT),
                    Shape::List(&Shape::Named(Name::Identifier, &Shape::Value)),
                ]),
            ),
            "Rows of aggregates and of record tables, in the columns named, or how many there are.",
        ),
    ],
    later: &[],
};

pub(super) static ROW_COUNT: Block = Block {
    name: "row_count",
    doc: "How many rows there are.",
    keys: &[must("rows", Shape::Integer(ROWS.0, ROWS.1), "The number of rows.")],
    later: &[],
};
