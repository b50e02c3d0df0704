-- Questions about sessions, over the table user_sessions of user-activity.yaml, enriched-activity.yaml or user-sessions.yaml.
-- Once the pipeline has made its tables:
--   psql "$DATABASE_URL" -f pipelines/views/sessions.sql

BEGIN;

-- The newest sessions. A row that is final does not change any more. How far results are final is asked of the application
-- that owns this table: others may have one of the same name in another schema. Times are compared as seconds since 1970 in
-- UTC, whatever the reader's time zone, and in a table that was made with `timestamp` columns as well. `s.*` is every column
-- of the table: those that a session has of itself, and what the pipeline selects besides.
CREATE OR REPLACE VIEW latest_sessions AS
SELECT s.*,
       coalesce(extract(epoch FROM s.session_end_time) + 2 * extract(epoch FROM f.session_gap)
                    <= extract(epoch FROM f.final_through), false) AS final
FROM user_sessions s
LEFT JOIN (SELECT y.final_through, y.session_gap
           FROM pg_class c
           JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN millstream.outputs o ON o.kind = 'table' AND o.name = n.nspname || '.' || c.relname
           JOIN millstream.finality y ON y.application = o.application AND y.table_name = c.relname
           WHERE c.oid = 'user_sessions'::regclass) f ON true
ORDER BY s.session_start_time DESC, s.user_id
LIMIT 60;

-- How long sessions last, by the day they begin on (UTC, made of seconds as above). A session of one event lasts no time.
CREATE OR REPLACE VIEW session_durations AS
SELECT (to_timestamp(extract(epoch FROM session_start_time)) AT TIME ZONE 'UTC')::date AS day,
       count(*) AS sessions, count(DISTINCT user_id) AS users,
       count(*) FILTER (WHERE session_duration_seconds = 0) AS without_duration,
       round(avg(session_duration_seconds), 1) AS mean_seconds,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY session_duration_seconds) AS median_seconds,
       percentile_disc(0.95) WITHIN GROUP (ORDER BY session_duration_seconds) AS p95_seconds,
       max(session_duration_seconds) AS longest_seconds
FROM user_sessions
GROUP BY day
ORDER BY day DESC;

COMMIT;
