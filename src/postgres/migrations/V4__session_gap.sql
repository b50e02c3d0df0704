-- Finality of sessions: a row is final once its session_end_time and twice the gap are not after final_through.
ALTER TABLE millstream.aggregates ADD COLUMN session_gap interval;    -- null: windows

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
    SELECT q.partition, q.watermark,
           coalesce(q.caught_up_since <= now() - a.idle_after
                    AND q.updated_at >= now() - interval '30 seconds', false) AS idle
    FROM millstream.progress q
    WHERE q.application = a.application AND q.topic = a.topic
) p ON true
GROUP BY a.application, a.aggregate;
