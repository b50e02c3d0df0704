//! Which members of the group have which partitions, as the broker that coordinates the group has them on record.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_core::model::TopicPartition;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::context::GroupNotes;
use super::error::KafkaError;

const OPERATION: &str = "describe the group";
/// The state of a group whose members all have what the last round gave them.
const STABLE: &str = "Stable";

/// Whether every partition has an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// A round is under way: nothing can be said.
    Rebalancing,
    Complete,
    /// No member has these.
    Missing(Vec<TopicPartition>),
}

pub(super) fn coverage(
    client: &BaseConsumer<GroupNotes>,
    group: &str,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> Result<Coverage, KafkaError> {
    let list = client
        .fetch_group_list(Some(group), timeout)
        .map_err(|error| KafkaError::of_client(OPERATION, error))?;
    let Some(described) = list.groups().iter().find(|described| described.name() == group) else {
        let detail = format!("no broker told of group {group}");
        return Err(KafkaError::NotReady { operation: OPERATION, detail });
    };
    if described.state() != STABLE {
        return Ok(Coverage::Rebalancing);
    }
    let mut owned = BTreeSet::new();
    for member in described.members() {
        owned.extend(assigned(member.assignment().unwrap_or_default()).ok_or_else(|| {
            let detail = format!("the assignment of member {} cannot be read", member.id());
            KafkaError::NotReady { operation: OPERATION, detail }
        })?);
    }
    let missing: Vec<TopicPartition> =
        partitions.iter().filter(|partition| !owned.contains(partition)).cloned().collect();
    Ok(if missing.is_empty() { Coverage::Complete } else { Coverage::Missing(missing) })
}

/// Reads an assignment of the consumer protocol (ConsumerProtocolAssignment.json of Kafka): a version, then by topic a
/// name and its partitions, then what the assignor adds for itself. None where it is cut short.
fn assigned(bytes: &[u8]) -> Option<Vec<TopicPartition>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let mut rest = bytes;
    let mut take = |length: usize| {
        let (taken, left) = rest.split_at_checked(length)?;
        rest = left;
        Some(taken)
    };
    let short = |bytes: &[u8]| bytes.try_into().map(i16::from_be_bytes).ok();
    let long = |bytes: &[u8]| bytes.try_into().map(i32::from_be_bytes).ok();
    let mut found = Vec::new();
    let _version = short(take(2)?)?;
    for _ in 0..long(take(4)?)? {
        let length = usize::try_from(short(take(2)?)?).ok()?;
        let topic = str::from_utf8(take(length)?).ok()?;
        for _ in 0..long(take(4)?)? {
            found.push(TopicPartition::new(topic, long(take(4)?)?));
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_TOPICS: &[u8] =
        b"\0\x01\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x03\0\x02bc\0\0\0\x01\0\0\0\x01\
                                \xff\xff\xff\xff";

    #[test]
    fn assignment_is_read_as_the_protocol_lays_it_out() {
        let expect =
            [("a", 0), ("a", 3), ("bc", 1)].map(|(topic, number)| TopicPartition::new(topic, number));
        assert_eq!(assigned(TWO_TOPICS).unwrap(), expect);
        assert_eq!(assigned(b"").unwrap(), [], "a member that has nothing yet");
    }

    #[test]
    fn assignment_that_is_cut_short_is_no_assignment() {
        let content = TWO_TOPICS.len() - 4;
        for length in 1..content {
            assert_eq!(assigned(&TWO_TOPICS[..length]), None, "{length} bytes");
        }
    }
}
