-- Questions about clicks, over the tables of clickstream-10m.yaml. Once the pipeline has made its tables:
--   psql "$DATABASE_URL" -f pipelines/views/clicks.sql
-- Windows of five minutes begin every minute and overlap; those that begin at a minute divisible by five do not, and
-- together hold every event once. Sums are over these. Hours and days are made of seconds since 1970, which are UTC in a table
-- that was made with `timestamp` columns as well, whatever the reader's time zone.

BEGIN;

-- The ten most visited URLs.
CREATE OR REPLACE VIEW top_urls AS
SELECT url, sum(hits)::bigint AS hits, sum(views)::bigint AS views
FROM url_counts
WHERE extract(epoch FROM window_start)::bigint % 300 = 0
GROUP BY url
ORDER BY hits DESC, url
LIMIT 10;

-- The busiest five minutes, and each hour's share of the day (UTC).
CREATE OR REPLACE VIEW peaks AS
SELECT window_start, window_end, sum(hits)::bigint AS hits
FROM url_counts
GROUP BY window_start, window_end
ORDER BY hits DESC, window_start
LIMIT 10;

CREATE OR REPLACE VIEW hours_of_day AS
SELECT extract(hour FROM to_timestamp(extract(epoch FROM window_start)) AT TIME ZONE 'UTC')::int AS hour,
       sum(hits)::bigint AS hits,
       round(100.0 * sum(hits) / sum(sum(hits)) OVER (), 1) AS percent
FROM url_counts
WHERE extract(epoch FROM window_start)::bigint % 300 = 0
GROUP BY hour
ORDER BY hour;

-- Events by device and by browser, and how the share of a device changes from hour to hour.
CREATE OR REPLACE VIEW device_split AS
SELECT device, sum(events)::bigint AS events, round(100.0 * sum(events) / sum(sum(events)) OVER (), 1) AS percent
FROM device_counts
WHERE extract(epoch FROM window_start)::bigint % 300 = 0
GROUP BY device
ORDER BY events DESC, device;

CREATE OR REPLACE VIEW browser_split AS
SELECT browser, sum(events)::bigint AS events, round(100.0 * sum(events) / sum(sum(events)) OVER (), 1) AS percent
FROM device_counts
WHERE extract(epoch FROM window_start)::bigint % 300 = 0
GROUP BY browser
ORDER BY events DESC, browser;

CREATE OR REPLACE VIEW device_trend AS
SELECT date_trunc('hour', start, 'UTC') AS hour, device, sum(events)::bigint AS events,
       round(100.0 * sum(events) / sum(sum(events)) OVER (PARTITION BY date_trunc('hour', start, 'UTC')), 1) AS percent
FROM (SELECT to_timestamp(extract(epoch FROM window_start)) AS start, window_start, device, events FROM device_counts) d
WHERE extract(epoch FROM window_start)::bigint % 300 = 0
GROUP BY hour, device
ORDER BY hour, device;

-- Users who were active, in each window, and the most active ones.
CREATE OR REPLACE VIEW active_users_by_window AS
SELECT window_start, window_end, count(*) AS users, sum(events)::bigint AS events
FROM user_activity
GROUP BY window_start, window_end
ORDER BY window_start DESC;

CREATE OR REPLACE VIEW most_active_users AS
SELECT user_id, sum(events)::bigint AS events, sum(clicks)::bigint AS clicks
FROM user_activity
WHERE extract(epoch FROM window_start)::bigint % 300 = 0
GROUP BY user_id
ORDER BY events DESC, user_id
LIMIT 10;

-- How long visits last and how much happens in one, by the day they begin on (UTC).
CREATE OR REPLACE VIEW visit_engagement AS
SELECT (to_timestamp(extract(epoch FROM session_start_time)) AT TIME ZONE 'UTC')::date AS day,
       count(*) AS visits, count(DISTINCT user_id) AS users,
       round(avg(session_duration_seconds), 1) AS mean_seconds,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY session_duration_seconds) AS median_seconds,
       round(avg(events), 2) AS events_per_visit, round(avg(pages), 2) AS pages_per_visit,
       round(100.0 * count(*) FILTER (WHERE pages = 1) / count(*), 1) AS bounce_percent
FROM click_sessions
GROUP BY day
ORDER BY day DESC;

-- How much came late: per aggregate, what was too late for all of its windows, and what for some of them.
CREATE OR REPLACE VIEW late_arrivals AS
SELECT s.application, a.key AS aggregate, sum((a.value ->> 'matched')::bigint)::bigint AS matched,
       sum((a.value ->> 'too_late')::bigint)::bigint AS too_late,
       sum((a.value ->> 'partly_late')::bigint)::bigint AS partly_late
FROM millstream.status s CROSS JOIN LATERAL jsonb_each(s.aggregates) a
GROUP BY s.application, a.key
ORDER BY s.application, a.key;

COMMIT;
