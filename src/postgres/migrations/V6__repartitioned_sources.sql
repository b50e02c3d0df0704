-- Records that a router copied to the internal topic of a repartitioned source. It gives a verdict to dead records alone, and
-- has "read" only these; the others are read where they arrive.
ALTER TABLE millstream.progress ADD COLUMN routed bigint NOT NULL DEFAULT 0;

CREATE OR REPLACE VIEW millstream.status AS
SELECT application, topic, partition, next, start_offset, epoch, owner, owner_epoch, bootstrapped, settled,
       commit_time, watermark, max_event_time, read, accepted, duplicate, dead, dead_by_reason, checks, aggregates,
       caught_up_since, updated_at, routed
FROM millstream.progress;

-- Of a repartitioned source "topic" and "partitions" are those of the internal topic, and these the source's own.
ALTER TABLE millstream.aggregates ADD COLUMN routed_from text, ADD COLUMN routed_partitions integer;

-- As before, and a partition of an internal topic is idle only while all its routers are: one that is behind has records for
-- it still.
CREATE OR REPLACE VIEW millstream.finality AS
SELECT a.application, a.aggregate, a.table_name,
       CASE
           WHEN count(p.partition) < a.partitions THEN NULL
           WHEN bool_and(p.idle) THEN max(p.watermark)
           WHEN bool_or(p.watermark IS NULL AND NOT p.idle) THEN NULL
           ELSE min(p.watermark) FILTER (WHERE NOT p.idle)
       END - a.allowed_lateness AS final_through,
       count(p.partition) FILTER (WHERE p.idle) AS idle_partitions,
       a.partitions,
       a.session_gap
FROM millstream.aggregates a
LEFT JOIN LATERAL (
    SELECT count(*) >= a.routed_partitions AS idle
    FROM millstream.progress q
    WHERE q.application = a.application AND q.topic = a.routed_from
        AND q.caught_up_since <= now() - a.idle_after AND q.updated_at >= now() - interval '30 seconds'
) routers ON true
LEFT JOIN LATERAL (
    SELECT q.partition, q.watermark,
           coalesce(q.caught_up_since <= now() - a.idle_after
                    AND q.updated_at >= now() - interval '30 seconds', false)
               AND (a.routed_from IS NULL OR routers.idle) AS idle
    FROM millstream.progress q
    WHERE q.application = a.application AND q.topic = a.topic
) p ON true
GROUP BY a.application, a.aggregate;
