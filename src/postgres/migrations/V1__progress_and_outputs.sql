-- One row per application that ever ran here. Another Kafka cluster under the same name is LOG_IDENTITY_CHANGED.
CREATE TABLE millstream.application (
    application text PRIMARY KEY,
    created_at  timestamptz NOT NULL DEFAULT now(),
    cluster_id  text NOT NULL,
    plan_hash   bigint NOT NULL
);

-- Who writes which table or topic. Another application is APP_ID_CONFLICT.
CREATE TABLE millstream.outputs (
    kind        text NOT NULL,      -- 'table' (name: schema.table), 'topic' (name: cluster id/topic)
    name        text NOT NULL,
    application text NOT NULL,
    PRIMARY KEY (kind, name)
);

-- The decision: one row per input partition. Offsets mean "next offset to read". A commit compares owner_epoch and
-- next and moves both offsets in the transaction that holds the epoch's rows.
CREATE TABLE millstream.progress (
    application   text NOT NULL,
    topic         text NOT NULL,
    partition     integer NOT NULL,
    topic_id      text NOT NULL,
    bootstrapped  boolean NOT NULL,             -- the group offset of the start is committed too
    start_offset  bigint NOT NULL,
    prev          bigint NOT NULL,
    next          bigint NOT NULL,
    owner_epoch   bigint NOT NULL,              -- the fence: taking the task adds one
    owner         text,
    backend_pid   integer,                      -- the session of the last take or commit
    backend_start timestamptz,
    epoch         bigint NOT NULL,
    commit_time   timestamptz,                  -- wall time at which the epoch was first decided
    hash          bigint NOT NULL,              -- rolling hash up to next
    watermark     timestamptz,                  -- largest event time - delay; null before the first record
    max_event_time timestamptz,
    settled       boolean NOT NULL,             -- the group offset is known to equal next
    fingerprint_offset       bigint,            -- the last record below next
    fingerprint_timestamp_ms bigint,
    fingerprint_hash         bigint,
    plan_hash     bigint NOT NULL,
    read          bigint NOT NULL DEFAULT 0,    -- totals since start_offset; read = accepted + duplicate + dead
    accepted      bigint NOT NULL DEFAULT 0,
    duplicate     bigint NOT NULL DEFAULT 0,
    dead          bigint NOT NULL DEFAULT 0,
    dead_by_reason jsonb NOT NULL DEFAULT '{}', -- {"NOT_JSON": n}
    checks        jsonb NOT NULL DEFAULT '{}',  -- {"check": n failed}
    aggregates    jsonb NOT NULL DEFAULT '{}',  -- {"aggregate": {"matched", "counted", "too_late", "partly_late"}}
    caught_up_since timestamptz,                -- since when it is at the log's end with no record; null: it is not
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (application, topic, partition),
    CHECK (start_offset <= prev AND prev <= next)
) WITH (fillfactor = 50);

-- What finality needs of the pipeline file and of the topic.
CREATE TABLE millstream.aggregates (
    application      text NOT NULL,
    aggregate        text NOT NULL,
    table_name       text NOT NULL,
    topic            text NOT NULL,
    partitions       integer NOT NULL,
    allowed_lateness interval NOT NULL,
    idle_after       interval NOT NULL,
    PRIMARY KEY (application, aggregate)
);

-- Sum and count behind each avg; the result row holds the quotient.
CREATE TABLE millstream.partials (
    application text NOT NULL,
    aggregate   text NOT NULL,
    row_key     bytea NOT NULL,
    column_name text NOT NULL,
    sum_numeric numeric,
    sum_double  double precision,
    count       bigint NOT NULL,
    PRIMARY KEY (application, aggregate, row_key, column_name)
) WITH (fillfactor = 70);

-- Dead records as they came. headers: array of [name, base64 of the value or null].
CREATE TABLE millstream.dead_letters (
    application      text NOT NULL,
    topic            text NOT NULL,
    partition        integer NOT NULL,
    "offset"         bigint NOT NULL,
    reason           text NOT NULL,
    detail           text NOT NULL,
    key              bytea,
    value            bytea,                     -- a prefix where value_bytes says more
    value_bytes      bigint,                    -- null: the record has no value
    headers          jsonb NOT NULL,
    record_timestamp timestamptz,
    commit_time      timestamptz NOT NULL,
    PRIMARY KEY (application, topic, partition, "offset")
);

CREATE VIEW millstream.status AS
SELECT application, topic, partition, next, start_offset, epoch, owner, owner_epoch, bootstrapped, settled,
       commit_time, watermark, max_event_time, read, accepted, duplicate, dead, dead_by_reason, checks, aggregates,
       caught_up_since, updated_at
FROM millstream.progress;

-- Per aggregate, the time through which no row can change: a row is final once its window's end is not after
-- final_through. That is the smallest watermark of the topic's partitions less the allowed lateness; null while a
-- partition has no watermark or no row yet. A partition at the log's end and quiet for idle_after is left out; if
-- all are, the largest watermark counts. Being idle never changes a value, it only shows here.
CREATE VIEW millstream.finality AS
SELECT a.application, a.aggregate, a.table_name,
       CASE
           WHEN count(p.partition) < a.partitions THEN NULL
           WHEN bool_and(p.idle) THEN max(p.watermark)
           WHEN bool_or(p.watermark IS NULL AND NOT p.idle) THEN NULL
           ELSE min(p.watermark) FILTER (WHERE NOT p.idle)
       END - a.allowed_lateness AS final_through,
       count(p.partition) FILTER (WHERE p.idle) AS idle_partitions,
       a.partitions
FROM millstream.aggregates a
LEFT JOIN LATERAL (
    SELECT q.partition, q.watermark,
           coalesce(q.caught_up_since <= now() - a.idle_after, false) AS idle
    FROM millstream.progress q
    WHERE q.application = a.application AND q.topic = a.topic
) p ON true
GROUP BY a.application, a.aggregate;
