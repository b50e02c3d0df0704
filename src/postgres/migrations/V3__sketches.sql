-- The distinct values behind each approx_distinct, a sketch per result row, column and input partition (Apache
-- DataSketches HLL, lgK 12, HLL_8). Only the owner of a partition writes its sketch; the result row holds the estimate
-- of all of them together. Removed once no record can reach the row's window any more.
CREATE TABLE millstream.sketches (
    application text NOT NULL,
    aggregate   text NOT NULL,
    row_key     bytea NOT NULL,     -- window start in microseconds, 8 bytes big endian; the group key
    column_name text NOT NULL,
    partition   integer NOT NULL,
    sketch      bytea NOT NULL,
    PRIMARY KEY (application, aggregate, row_key, column_name, partition)
) WITH (fillfactor = 70);

-- Registers of a hash do not compress.
ALTER TABLE millstream.sketches ALTER COLUMN sketch SET STORAGE EXTERNAL;
