//! How RocksDB is set up.

use std::sync::LazyLock;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel, Options,
    WriteBufferManager,
};

use super::store::{DEDUP, META, SESSIONS, WINDOWS};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Blocks, indexes and filters of all tasks of the process together.
const BLOCK_CACHE_BYTES: usize = 24 * MIB;
/// Memtables of all tasks of the process together; the task that writes beyond it flushes.
const MEMTABLES_BYTES: usize = 32 * MIB;
/// Small ones are faster for random keys.
const WINDOWS_MEMTABLE_BYTES: usize = 16 * MIB;
const DEDUP_MEMTABLE_BYTES: usize = 16 * MIB;
const META_MEMTABLE_BYTES: usize = MIB;
const UNUSED_MEMTABLE_BYTES: usize = 64 * KIB;
/// Why: an arena takes whole blocks. With the default of 1 MiB, thirty idle tasks would fill `MEMTABLES_BYTES`, and
/// every epoch would flush.
const ARENA_BLOCK_BYTES: usize = 32 * KIB;
/// A restart reads at most so much of the log again, per task.
const WAL_BYTES: u64 = 32 * MIB as u64;
const OPEN_FILES: i32 = 64;
const MANIFEST_BYTES: usize = 4 * MIB;
const LEVEL_BASE_BYTES: u64 = 64 * MIB as u64;
const FILE_BYTES: u64 = 16 * MIB as u64;
const BLOCK_BYTES: usize = 8 * KIB;
/// About one false positive in a hundred.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
const INFO_LOG_BYTES: usize = MIB;
const INFO_LOGS: usize = 2;

/// The memory that all stores of the process share, however many tasks it has.
pub(super) struct Memory {
    cache: Cache,
    pub(super) memtables: WriteBufferManager,
}

/// Why: a process-wide limit has to be one value per process.
pub(super) static MEMORY: LazyLock<Memory> = LazyLock::new(|| Memory {
    cache: Cache::new_lru_cache(BLOCK_CACHE_BYTES),
    memtables: WriteBufferManager::new_write_buffer_manager(MEMTABLES_BYTES, false),
});

/// Options of a task's database.
pub(super) fn database() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // Invariant: whatever is lost of the log when a machine loses power, all families stand at the same epoch. Each
    // epoch is one batch, the log is read up to its first torn record, and families reach the tables together.
    options.set_atomic_flush(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_total_wal_size(WAL_BYTES);
    options.set_write_buffer_manager(&MEMORY.memtables);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_background_jobs(2);
    options.set_max_manifest_file_size(MANIFEST_BYTES);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_keep_log_file_num(INFO_LOGS);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_skip_stats_update_on_db_open(true);
    options
}

/// Every family with its options. RocksDB insists on `default`, which holds nothing.
pub(super) fn families() -> Vec<ColumnFamilyDescriptor> {
    vec![
        ColumnFamilyDescriptor::new("default", family(UNUSED_MEMTABLE_BYTES)),
        ColumnFamilyDescriptor::new(META, family(META_MEMTABLE_BYTES)),
        ColumnFamilyDescriptor::new(WINDOWS, family(WINDOWS_MEMTABLE_BYTES)),
        ColumnFamilyDescriptor::new(SESSIONS, family(WINDOWS_MEMTABLE_BYTES)),
        ColumnFamilyDescriptor::new(DEDUP, family(DEDUP_MEMTABLE_BYTES)),
    ]
}

fn family(memtable_bytes: usize) -> Options {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(&MEMORY.cache);
    tables.set_block_size(BLOCK_BYTES);
    tables.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&tables);
    options.set_write_buffer_size(memtable_bytes);
    options.set_arena_block_size(ARENA_BLOCK_BYTES.min(memtable_bytes / 8));
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_max_bytes_for_level_base(LEVEL_BASE_BYTES);
    options.set_target_file_size_base(FILE_BYTES);
    options
}
