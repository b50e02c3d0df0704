-- What happens in sessions, over the table of user-sessions.yaml, which counts it; days are made as in sessions.sql. Once the
-- pipeline has made its tables:
--   psql "$DATABASE_URL" -f pipelines/views/engagement.sql

BEGIN;

-- How much happens in a session. A bounce is a session with at most one page view.
CREATE OR REPLACE VIEW session_engagement AS
SELECT (to_timestamp(extract(epoch FROM session_start_time)) AT TIME ZONE 'UTC')::date AS day, count(*) AS sessions,
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
