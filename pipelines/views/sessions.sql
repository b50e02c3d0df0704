-- Questions about sessions, over the tables of user-sessions.yaml. Once the pipeline has made its tables:
--   psql "$DATABASE_URL" -f pipelines/views/sessions.sql

BEGIN;

-- The newest sessions. A row that is final does not change any more. How far results are final is asked of the application
-- that owns this table: others may have one of the same name in another schema.
CREATE OR REPLACE VIEW latest_sessions AS
SELECT s.user_id, s.session_start_time, s.session_end_time, s.session_duration_seconds, s.events, s.page_views, s.pages,
       coalesce(s.session_end_time + 2 * f.session_gap <= f.final_through, false) AS final
FROM user_sessions s
LEFT JOIN (SELECT y.final_through, y.session_gap
           FROM pg_class c
           JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN millstream.outputs o ON o.kind = 'table' AND o.name = n.nspname || '.' || c.relname
           JOIN millstream.finality y ON y.application = o.application AND y.table_name = c.relname
           WHERE c.oid = 'user_sessions'::regclass) f ON true
ORDER BY s.session_start_time DESC, s.user_id
LIMIT 60;

-- How long sessions last, by the day they begin on (UTC). A session of one event lasts no time.
CREATE OR REPLACE VIEW session_durations AS
SELECT (session_start_time AT TIME ZONE 'UTC')::date AS day, count(*) AS sessions, count(DISTINCT user_id) AS users,
       count(*) FILTER (WHERE session_duration_seconds = 0) AS without_duration,
       round(avg(session_duration_seconds), 1) AS mean_seconds,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY session_duration_seconds) AS median_seconds,
       percentile_disc(0.95) WITHIN GROUP (ORDER BY session_duration_seconds) AS p95_seconds,
       max(session_duration_seconds) AS longest_seconds
FROM user_sessions
GROUP BY day
ORDER BY day DESC;

-- How much happens in a session. A bounce is a session with at most one page view.
CREATE OR REPLACE VIEW session_engagement AS
SELECT (session_start_time AT TIME ZONE 'UTC')::date AS day, count(*) AS sessions,
       sum(events)::bigint AS events, sum(page_views)::bigint AS page_views,
       round(avg(page_views), 2) AS page_views_per_session, round(avg(pages), 2) AS pages_per_session,
       count(*) FILTER (WHERE page_views <= 1) AS bounces,
       round(100.0 * count(*) FILTER (WHERE page_views <= 1) / count(*), 1) AS bounce_percent
FROM user_sessions
GROUP BY day
ORDER BY day DESC;

-- Each user in one row, those with the most sessions first.
CREATE OR REPLACE VIEW user_engagement AS
SELECT s.user_id, count(*) AS sessions, sum(s.page_views)::bigint AS page_views,
       sum(s.session_duration_seconds)::bigint AS seconds,
       round(avg(s.session_duration_seconds), 1) AS mean_seconds, l.session_end_time AS last_seen
FROM user_sessions s
JOIN user_sessions_latest l USING (user_id)
GROUP BY s.user_id, l.session_end_time
ORDER BY sessions DESC, s.user_id;

COMMIT;
