-- The distinct values behind each count(distinct): one row a value, so that a value that came before, from whatever
-- partition, adds nothing. value: xxh3-128 of its encoding. Removed once no record can reach the row's window any more.
CREATE TABLE millstream.distinct_values (
    application text NOT NULL,
    aggregate   text NOT NULL,
    row_key     bytea NOT NULL,     -- as in millstream.sketches
    column_name text NOT NULL,
    value       bytea NOT NULL,
    PRIMARY KEY (application, aggregate, row_key, column_name, value)
);

-- The values behind each approx_percentile, by bins: a sketch per result row and column, to which every epoch adds.
-- Removed as above.
CREATE TABLE millstream.quantiles (
    application text NOT NULL,
    aggregate   text NOT NULL,
    row_key     bytea NOT NULL,     -- as in millstream.sketches
    column_name text NOT NULL,
    sketch      bytea NOT NULL,
    PRIMARY KEY (application, aggregate, row_key, column_name)
) WITH (fillfactor = 70);
