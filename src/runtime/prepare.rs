//! Before the first record: topics found or made, the application claimed, tables made or checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::commit::{Refusal, RefusalCode};
use millstream_core::model::TopicPartition;
use millstream_core::pipeline::{Plan, Source};

use crate::kafka::{Admin, KafkaError, TopicDescription};
use crate::postgres::{ClusterIdentity, Ddl};

use super::links::{ASK_TIMEOUT, Links};
use super::{Halt, RuntimeError};

/// What the cluster said at the start.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub cluster_id: String,
    /// By input topic.
    pub sources: BTreeMap<Arc<str>, SourceTopic>,
    /// Partition count by output topic.
    pub outputs: BTreeMap<Arc<str>, i32>,
}

#[derive(Clone, Debug)]
pub struct SourceTopic {
    pub topic_id: String,
    pub partitions: i32,
}

impl Prepared {
    /// Every input partition there is.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        let of = |(name, topic): (&Arc<str>, &SourceTopic)| {
            let name = name.clone();
            (0..topic.partitions).map(move |number| TopicPartition::new(name.clone(), number))
        };
        self.sources.iter().flat_map(of).collect()
    }
}

/// Finds or makes everything the plan names. Outages are waited for.
pub fn prepare(links: &mut Links, plan: &Plan, ddl: Ddl) -> Result<Prepared, Halt> {
    let kafka = links.settings().kafka.clone();
    links.ask_postgres(async |session| session.migrate(ddl).await)?;
    // Order: before anything is made in either server.
    let hash = plan.hash;
    if let Some(recorded) =
        links.ask_postgres(async |session| session.other_plan(&plan.application, hash).await)?
    {
        let detail = format!("the pipeline's hash is {hash:016x}, progress was made by {recorded:016x}");
        return Err(RuntimeError::from(Refusal::new(RefusalCode::PipelineChanged, detail)).into());
    }
    let admin = Admin::open(&kafka).map_err(RuntimeError::from)?;
    let limit = kafka.max_message_bytes().to_string();
    let cluster_id = links.retry(|_| admin.cluster_id(ASK_TIMEOUT))?;
    let mut sources = BTreeMap::new();
    let mut outputs = BTreeMap::new();
    for (index, source) in plan.sources.iter().enumerate() {
        let topic = links.retry(|_| find_source(&admin, source, &limit))?;
        if topic.cleanup_policy.contains("compact") {
            let detail = format!("topic {} has cleanup.policy={}", source.topic, topic.cleanup_policy);
            return Err(RuntimeError::from(Refusal::new(RefusalCode::CompactedInput, detail)).into());
        }
        let records = plan.records.iter().filter(|r| r.source.0 == index).map(|r| &r.topic);
        for name in records.chain(&source.dead_letter_topic).chain(&source.late_topic) {
            let found = links.retry(|_| find_or_create(&admin, name, topic.partitions, &limit))?;
            outputs.insert(name.clone(), found.partitions);
        }
        let known = SourceTopic { topic_id: topic.topic_id, partitions: topic.partitions };
        sources.insert(source.topic.clone(), known);
    }
    let identity = ClusterIdentity {
        cluster_id: cluster_id.clone(),
        partitions: sources.iter().map(|(name, topic)| (name.clone(), topic.partitions)).collect(),
    };
    links.ask_postgres(async |session| session.claim(plan, &identity, ddl).await)?;
    Ok(Prepared { cluster_id, sources, outputs })
}

fn find_source(admin: &Admin, source: &Source, limit: &str) -> Result<TopicDescription, KafkaError> {
    match source.create_partitions {
        Some(partitions) => find_or_create(admin, &source.topic, partitions, limit),
        None => admin.topic(&source.topic, ASK_TIMEOUT)?.ok_or_else(|| KafkaError::UnknownTopic {
            detail: format!(
                "{} (source {}); create it, or let the pipeline: topic: {{ name, create: {{ partitions }} }}",
                source.topic, source.name
            ),
        }),
    }
}

/// A topic that was just made may not be known to every broker yet: asked again, it will be. `limit` is its
/// `max.message.bytes`.
fn find_or_create(
    admin: &Admin,
    name: &str,
    partitions: i32,
    limit: &str,
) -> Result<TopicDescription, KafkaError> {
    if let Some(found) = admin.topic(name, ASK_TIMEOUT)? {
        return Ok(found);
    }
    admin.create_topic(name, partitions, &[("max.message.bytes", limit)], ASK_TIMEOUT)?;
    tracing::info!(topic = name, partitions, "made a topic");
    admin.topic(name, ASK_TIMEOUT)?.ok_or_else(|| KafkaError::NotReady {
        operation: "make a topic",
        detail: format!("{name} is not visible yet"),
    })
}
