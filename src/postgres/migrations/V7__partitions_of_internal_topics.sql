-- How many partitions a source's keys are spread over, of its internal topic; null of other outputs. Recorded once: a key that
-- moves leaves its sessions and ids behind, so any other number of partitions is PARTITION_COUNT_CHANGED.
ALTER TABLE millstream.outputs ADD COLUMN partitions integer;
