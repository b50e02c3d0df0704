//! An administrator's client: what a cluster and its topics are, and topics that are not there yet.

use std::ffi::CString;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::config::KafkaSettings;
use super::context::Journal;
use super::error::KafkaError;
use super::ffi;

/// As many replicas as the broker's own default.
const DEFAULT_REPLICATION: TopicReplication<'static> = TopicReplication::Fixed(-1);

/// Asks and creates. Meant to be opened, used and dropped; dropping takes up to 0.1 s.
pub struct Admin(AdminClient<Journal>);

/// What tells one incarnation of a topic from another, and what its records may rely on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// The topic's UUID (KIP-516) in base64; a recreated topic has another.
    pub topic_id: String,
    pub partitions: i32,
    /// `delete`, `compact` or `compact,delete`.
    pub cleanup_policy: String,
    /// How long a record is kept, in milliseconds; none: without end.
    pub retention_ms: Option<i64>,
}

impl Admin {
    pub fn open(settings: &KafkaSettings) -> Result<Admin, KafkaError> {
        let client = settings.admin()?.create_with_context(Journal::default());
        client.map(Admin).map_err(|error| KafkaError::of_client("make the admin client", error))
    }

    pub fn cluster_id(&self, timeout: Duration) -> Result<String, KafkaError> {
        let id = self.0.inner().fetch_cluster_id(timeout);
        id.ok_or(KafkaError::TimedOut { operation: "ask for the cluster's id" })
    }

    /// None where there is no such topic.
    pub fn topic(&self, name: &str, timeout: Duration) -> Result<Option<TopicDescription>, KafkaError> {
        const OPERATION: &str = "describe a topic";
        let c_name = CString::new(name)
            .map_err(|_| KafkaError::Config { detail: format!("topic name {name:?} has a zero byte") })?;
        let (topic_id, partitions) =
            match ffi::describe_topic(self.0.inner().native_client(), &c_name, timeout) {
                Ok(described) => described,
                Err(failure) if failure.code == Code::UnknownTopicOrPartition => return Ok(None),
                Err(failure) => return Err(KafkaError::of_failure(OPERATION, failure)),
            };
        let options = AdminOptions::new().request_timeout(Some(timeout));
        let described = block_on(self.0.describe_configs(&[ResourceSpecifier::Topic(name)], &options))
            .map_err(|error| KafkaError::of_client(OPERATION, error))?;
        let config = match described.into_iter().next() {
            Some(Ok(config)) => config,
            Some(Err(Code::UnknownTopicOrPartition)) | None => return Ok(None),
            Some(Err(code)) => return Err(KafkaError::of_code(OPERATION, code, format!("{name}: {code}"))),
        };
        let policy = config.get("cleanup.policy").and_then(|entry| entry.value.clone());
        let retention = config.get("retention.ms").and_then(|entry| entry.value.as_deref()?.parse().ok());
        Ok(Some(TopicDescription {
            topic_id,
            partitions,
            cleanup_policy: policy.unwrap_or_default(),
            retention_ms: retention.filter(|ms| *ms >= 0),
        }))
    }

    /// False where the topic is there already, whatever it looks like.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        config: &[(&str, &str)],
        timeout: Duration,
    ) -> Result<bool, KafkaError> {
        const OPERATION: &str = "create a topic";
        let topic = config
            .iter()
            .fold(NewTopic::new(name, partitions, DEFAULT_REPLICATION), |topic, (k, v)| topic.set(k, v));
        let options = AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
        let created = block_on(self.0.create_topics([&topic], &options))
            .map_err(|error| KafkaError::of_client(OPERATION, error))?;
        match created.into_iter().next() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => {
                Err(KafkaError::of_code(OPERATION, code, format!("topic {name}: {code}")))
            }
            None => Err(KafkaError::NotReady { operation: OPERATION, detail: "no answer".into() }),
        }
    }
}

/// Waits for an answer on this thread, whatever runs on it: the admin client has a thread of its own, and needs no
/// executor.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}
