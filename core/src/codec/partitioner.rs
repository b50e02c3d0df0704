//! Which partition of an output topic a key belongs to: what the Java client's default partitioner answers.

use crate::model::Partition;

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;

/// The partition of `key` among `count`; without a key, that of the source partition modulo `count`. An empty key
/// is a key.
pub fn partition_for(key: Option<&[u8]>, source: Partition, count: i32) -> Partition {
    assert!(count > 0, "a topic has at least one partition, not {count}");
    let hash = match key {
        Some(key) => (murmur2(key) & 0x7fff_ffff) as i32,
        None => source.0,
    };
    Partition(hash % count)
}

/// MurmurHash2, 32 bits, with the seed of `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(MULTIPLIER);
        k ^= k >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ k.wrapping_mul(MULTIPLIER);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (at, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taken from `Utils.murmur2` of kafka-clients 4.1; the third column is the partition among 12.
    const VECTORS: &[(&str, i32, i32)] = &[
        ("", 275646681, 9),
        ("a", -1563381124, 4),
        ("ab", 316155434, 2),
        ("abc", 479470107, 3),
        ("21", -973932308, 0),
        ("foobar", -790332482, 6),
        ("a-little-bit-long-string", -985981536, 8),
        ("a-little-bit-longer-string", -1486304829, 11),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971, 5),
        ("user-42", 1459644460, 4),
        ("ключ", 2122343024, 8),
    ];

    #[test]
    fn murmur2_agrees_with_the_java_client() {
        for (key, hash, partition) in VECTORS {
            assert_eq!(murmur2(key.as_bytes()) as i32, *hash, "{key:?}");
            assert_eq!(
                partition_for(Some(key.as_bytes()), Partition(7), 12),
                Partition(*partition),
                "{key:?}"
            );
        }
    }

    #[test]
    fn null_key_keeps_the_source_partition_modulo_the_count() {
        assert_eq!(partition_for(None, Partition(7), 12), Partition(7));
        assert_eq!(partition_for(None, Partition(7), 3), Partition(1));
    }
}
