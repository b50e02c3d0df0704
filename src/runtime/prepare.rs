//! Before the first record: topics found or made, the application claimed, tables made or checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_core::commit::{Refusal, RefusalCode};
use millstream_core::engine::{MAX_HOP_PARTITIONS, Role};
use millstream_core::model::TopicPartition;
use millstream_core::pipeline::{Plan, Repartition, Source};

use crate::kafka::{Admin, KafkaError, TopicDescription};
use crate::postgres::{ClusterIdentity, Ddl};

use super::links::{ASK_TIMEOUT, Links};
use super::{Halt, RuntimeError};

/// An internal topic keeps what it has for twice as long as its source does, and at least for two weeks: state that is lost
/// is built again from it.
const LEAST_RETENTION_MS: i64 = 14 * 86_400_000;

/// What the cluster said at the start.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub cluster_id: String,
    /// By input topic, be it a source's or an internal one.
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
    /// What the tasks of a topic do that is one of this source's.
    pub fn role(&self, source: &Source, topic: &str) -> Role {
        match &source.repartition {
            None => Role::Whole,
            Some(hop) if *hop.topic == *topic => Role::Internal,
            Some(_) => Role::Router { partitions: self.sources[&source.topic].partitions },
        }
    }

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
    links.ask_postgres(async |session| session.migrate(ddl).await)?;
    // Order: before anything is made in either server.
    let hash = plan.hash;
    if let Some(recorded) =
        links.ask_postgres(async |session| session.other_plan(&plan.application, hash).await)?
    {
        let detail = format!("the pipeline's hash is {hash:016x}, progress was made by {recorded:016x}");
        return Err(RuntimeError::from(Refusal::new(RefusalCode::PipelineChanged, detail)).into());
    }
    let mut topics = Topics::open(links)?;
    for (index, source) in plan.sources.iter().enumerate() {
        let topic = links.retry(|_| topics.find_source(source))?;
        refuse_compacted(&source.topic, &topic)?;
        let records = plan.records.iter().filter(|r| r.source.0 == index).map(|r| &r.topic);
        for name in records.chain(&source.dead_letter_topic).chain(&source.late_topic) {
            let found = links.retry(|_| topics.find_or_create(name, topic.partitions, &[]))?;
            topics.outputs.insert(name.clone(), found.partitions);
        }
        if let Some(hop) = &source.repartition {
            topics.prepare_hop(links, hop, &topic)?;
        }
        topics.sources.insert(source.topic.clone(), SourceTopic::of(&topic));
    }
    let Topics { cluster_id, sources, outputs, written, .. } = topics;
    let identity = ClusterIdentity {
        cluster_id: cluster_id.clone(),
        partitions: sources.iter().map(|(name, topic)| (name.clone(), topic.partitions)).collect(),
        written,
    };
    links.ask_postgres(async |session| session.claim(plan, &identity, ddl).await)?;
    for hop in plan.sources.iter().filter_map(|source| source.repartition.as_ref()) {
        refuse_other_spread(links, plan, &identity, &hop.topic)?;
    }
    Ok(Prepared { cluster_id, sources, outputs })
}

/// Which partition a key belongs to depends on how many there are: with others than before, its sessions and ids would stand
/// in one that it is not sent to any more.
fn refuse_other_spread(
    links: &mut Links,
    plan: &Plan,
    identity: &ClusterIdentity,
    topic: &Arc<str>,
) -> Result<(), Halt> {
    let spread = links.ask_postgres(async |session| session.spread_over(plan, identity, topic).await)?;
    let found = identity.partitions[topic];
    if found == spread {
        return Ok(());
    }
    let detail = format!("topic {topic} has {found} partitions, its keys are spread over {spread}");
    Err(RuntimeError::from(Refusal::new(RefusalCode::PartitionCountChanged, detail)).into())
}

/// The topics as they are found or made.
struct Topics {
    admin: Admin,
    /// Their `max.message.bytes`.
    limit: String,
    cluster_id: String,
    sources: BTreeMap<Arc<str>, SourceTopic>,
    outputs: BTreeMap<Arc<str>, i32>,
    /// Internal topics that hold records.
    written: BTreeSet<Arc<str>>,
}

impl Topics {
    fn open(links: &mut Links) -> Result<Topics, Halt> {
        let kafka = links.settings().kafka.clone();
        let admin = Admin::open(&kafka).map_err(RuntimeError::from)?;
        let cluster_id = links.retry(|_| admin.cluster_id(ASK_TIMEOUT))?;
        Ok(Topics {
            admin,
            limit: kafka.max_message_bytes().to_string(),
            cluster_id,
            sources: BTreeMap::new(),
            outputs: BTreeMap::new(),
            written: BTreeSet::new(),
        })
    }

    fn find_source(&self, source: &Source) -> Result<TopicDescription, KafkaError> {
        match source.create_partitions {
            Some(partitions) => self.find_or_create(&source.topic, partitions, &[]),
            None => self.admin.topic(&source.topic, ASK_TIMEOUT)?.ok_or_else(|| KafkaError::UnknownTopic {
                detail: format!(
                    "{} (source {}); create it, or let the pipeline: topic: {{ name, create: {{ partitions }} }}",
                    source.topic, source.name
                ),
            }),
        }
    }

    /// A topic that was just made may not be known to every broker yet: asked again, it will be.
    fn find_or_create(
        &self,
        name: &str,
        partitions: i32,
        config: &[(&str, &str)],
    ) -> Result<TopicDescription, KafkaError> {
        if let Some(found) = self.admin.topic(name, ASK_TIMEOUT)? {
            return Ok(found);
        }
        let config = [config, &[("max.message.bytes", &self.limit)]].concat();
        self.admin.create_topic(name, partitions, &config, ASK_TIMEOUT)?;
        tracing::info!(topic = name, partitions, "made a topic");
        self.admin.topic(name, ASK_TIMEOUT)?.ok_or_else(|| KafkaError::NotReady {
            operation: "make a topic",
            detail: format!("{name} is not visible yet"),
        })
    }

    /// An internal topic is both read and written.
    fn prepare_hop(
        &mut self,
        links: &mut Links,
        hop: &Repartition,
        source: &TopicDescription,
    ) -> Result<(), Halt> {
        let partitions = hop.partitions.unwrap_or(source.partitions);
        let retention = source.retention_ms.map_or(-1, |ms| ms.saturating_mul(2).max(LEAST_RETENTION_MS));
        let retention = retention.to_string();
        let config = [("cleanup.policy", "delete"), ("retention.ms", &*retention), ("retention.bytes", "-1")];
        let topic = links.retry(|_| self.find_or_create(&hop.topic, partitions, &config))?;
        refuse_compacted(&hop.topic, &topic)?;
        if topic.partitions > MAX_HOP_PARTITIONS || source.partitions > MAX_HOP_PARTITIONS {
            let detail = format!("{}: a hop takes at most {MAX_HOP_PARTITIONS} partitions", hop.topic);
            return Err(RuntimeError::from(KafkaError::Config { detail }).into());
        }
        for number in 0..topic.partitions {
            let (low, high) = links.log_range(&TopicPartition::new(hop.topic.clone(), number))?;
            if low < high {
                self.written.insert(hop.topic.clone());
            }
        }
        self.outputs.insert(hop.topic.clone(), topic.partitions);
        self.sources.insert(hop.topic.clone(), SourceTopic::of(&topic));
        Ok(())
    }
}

impl SourceTopic {
    fn of(topic: &TopicDescription) -> SourceTopic {
        SourceTopic { topic_id: topic.topic_id.clone(), partitions: topic.partitions }
    }
}

fn refuse_compacted(name: &str, topic: &TopicDescription) -> Result<(), Halt> {
    if !topic.cleanup_policy.contains("compact") {
        return Ok(());
    }
    let detail = format!("topic {name} has cleanup.policy={}", topic.cleanup_policy);
    Err(RuntimeError::from(Refusal::new(RefusalCode::CompactedInput, detail)).into())
}
