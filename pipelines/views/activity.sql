-- The dashboards' questions, over the tables of user-activity.yaml or enriched-activity.yaml. Once the pipeline has made
-- its tables:
--   psql "$DATABASE_URL" -f pipelines/views/activity.sql

BEGIN;

-- The ten busiest minutes of a page.
CREATE OR REPLACE VIEW top_windows AS
SELECT window_start, window_end, page_url, view_count
FROM page_view_counts
ORDER BY view_count DESC, window_start DESC, page_url
LIMIT 10;

-- Users active in five minutes, the newest windows first. A row that is final does not change any more. How far results
-- are final is asked of the application that owns this table: others may have one of the same name in another schema.
-- Times are compared as seconds since 1970 in UTC, whatever the reader's time zone, and in a table that was made with
-- `timestamp` columns as well.
CREATE OR REPLACE VIEW latest_active_users AS
SELECT a.window_start, a.window_end, a.active_user_count,
       coalesce(extract(epoch FROM a.window_end) <= extract(epoch FROM f.final_through), false) AS final
FROM active_users a
LEFT JOIN (SELECT y.final_through
           FROM pg_class c
           JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN millstream.outputs o ON o.kind = 'table' AND o.name = n.nspname || '.' || c.relname
           JOIN millstream.finality y ON y.application = o.application AND y.table_name = c.relname
           WHERE c.oid = 'active_users'::regclass) f ON true
ORDER BY a.window_start DESC
LIMIT 60;

-- Everything in one row. Windows of active users overlap: their peak says something, their sum does not.
CREATE OR REPLACE VIEW executive_summary AS
SELECT views.page_views, views.pages, views.first_view, views.last_view,
       top.page_url AS top_page, top.page_views AS top_page_views,
       peak.active_user_count AS peak_active_users, peak.window_start AS peak_start
FROM (SELECT coalesce(sum(view_count), 0)::bigint AS page_views, count(DISTINCT page_url) AS pages,
             min(window_start) AS first_view, max(window_end) AS last_view
      FROM page_view_counts) views
LEFT JOIN (SELECT page_url, sum(view_count)::bigint AS page_views
           FROM page_view_counts GROUP BY page_url ORDER BY page_views DESC, page_url LIMIT 1) top ON true
LEFT JOIN (SELECT active_user_count, window_start
           FROM active_users ORDER BY active_user_count DESC, window_start LIMIT 1) peak ON true;

-- Whether the numbers are to be trusted: nothing is lost between read and judged, how much was dead or too late, how far
-- the results have come, and when they last moved.
--   partitions   of the source's topic, and where it is repartitioned those of the internal topic besides
--   too_late     per aggregate, since a record that is too late for one may still count in another
--   watermark    none while a partition has none
--   caught_up    every partition is at its log's end, and its owner said so within half a minute
--   last_commit  when results last moved; last_seen, when anybody last looked after the partitions
DROP VIEW IF EXISTS pipeline_health;
CREATE VIEW pipeline_health AS
SELECT s.application, count(*) AS partitions, sum(s.read)::bigint AS read, sum(s.accepted)::bigint AS accepted,
       sum(s.duplicate)::bigint AS duplicate, sum(s.dead)::bigint AS dead,
       coalesce((SELECT jsonb_object_agg(l.aggregate, l.too_late)
                 FROM (SELECT a.key AS aggregate, sum((a.value ->> 'too_late')::bigint) AS too_late
                       FROM millstream.status p CROSS JOIN LATERAL jsonb_each(p.aggregates) a
                       WHERE p.application = s.application
                       GROUP BY a.key) l), '{}') AS too_late,
       bool_and(s.read = s.accepted + s.duplicate + s.dead) AS balanced,
       CASE WHEN count(s.watermark) = count(*) THEN min(s.watermark) END AS watermark,
       bool_and(s.caught_up_since IS NOT NULL AND s.updated_at >= now() - interval '30 seconds') AS caught_up,
       max(s.commit_time) AS last_commit,
       extract(epoch FROM now() - max(s.commit_time))::bigint AS seconds_since_commit,
       max(s.updated_at) AS last_seen
FROM millstream.status s
GROUP BY s.application;

COMMIT;
