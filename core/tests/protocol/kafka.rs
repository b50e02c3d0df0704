//! The broker: one transaction per worker's transactional id, the group's offsets, the output topic as a
//! read-committed reader sees it, and requests that are still on their way.

use millstream_core::commit::CommitPermit;

use super::world::{Flaw, Part, PerPartition, PerWorker, Pos, Who};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kafka {
    /// K, as committed.
    pub group: PerPartition<Option<Pos>>,
    pub transactions: PerWorker<Transaction>,
    pub outputs: PerPartition<Output>,
    pub flaw: Option<Flaw>,
}

/// What the coordinator knows of the current incarnation of one transactional id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transaction {
    pub open: bool,
    /// Sent, not yet committed: the group's offset is unstable meanwhile.
    pub offsets: PerPartition<Option<Pos>>,
    /// An EndTxn (commit) is on its way.
    pub ending: bool,
    /// A copy of send_offsets is on its way.
    pub late_offsets: Option<PerPartition<Option<Pos>>>,
}

/// One task's part of the output topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Output {
    /// The reader has seen these once each, in order; `Kafka::flaw` says if it ever did not.
    pub visible: Pos,
    /// What stands behind the last stable offset, in the order of the log.
    pub tail: Vec<Batch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    pub producer: Who,
    pub from: Pos,
    pub to: Pos,
    pub committed: bool,
}

impl Kafka {
    pub fn produce(&mut self, producer: Who, part: Part, (from, to): (Pos, Pos)) {
        self.transactions[producer].open = true;
        self.outputs[part].tail.push(Batch { producer, from, to, committed: false });
    }

    pub fn add_offsets(&mut self, producer: Who, offsets: &PerPartition<Option<Pos>>) {
        let transaction = &mut self.transactions[producer];
        transaction.open = true;
        for (part, pos) in offsets.present() {
            transaction.offsets[part] = Some(*pos);
        }
    }

    /// Nobody asks for the end without a permit.
    pub fn send_end(&mut self, producer: Who, _permit: CommitPermit) {
        self.transactions[producer].ending = true;
    }

    pub fn is_stable(&self, part: Part) -> bool {
        self.transactions.0.iter().all(|transaction| transaction.offsets[part].is_none())
    }

    pub fn commit(&mut self, producer: Who) {
        let transaction = &mut self.transactions[producer];
        transaction.open = false;
        for (part, pos) in std::mem::take(&mut transaction.offsets).present() {
            self.group[part] = Some(*pos);
        }
        for output in &mut self.outputs.0 {
            output.tail.iter_mut().filter(|b| b.producer == producer).for_each(|b| b.committed = true);
        }
        self.read_on();
    }

    pub fn abort(&mut self, producer: Who) {
        let transaction = &mut self.transactions[producer];
        transaction.open = false;
        transaction.offsets = PerPartition::default();
        for output in &mut self.outputs.0 {
            output.tail.retain(|batch| batch.producer != producer || batch.committed);
        }
        self.read_on();
    }

    pub fn drop_requests(&mut self, producer: Who) {
        let transaction = &mut self.transactions[producer];
        transaction.ending = false;
        transaction.late_offsets = None;
    }

    /// The read-committed reader goes on to the last stable offset.
    fn read_on(&mut self) {
        for output in &mut self.outputs.0 {
            let stable = output.tail.iter().position(|b| !b.committed).unwrap_or(output.tail.len());
            for batch in output.tail.drain(..stable) {
                if batch.from != output.visible {
                    self.flaw = Some(if batch.from < output.visible { Flaw::Twice } else { Flaw::Skipped });
                }
                output.visible = output.visible.max(batch.to);
            }
        }
    }
}
