//! The permit to make an epoch visible.

/// Exists only after a statement that compared the owner epoch of every task of the epoch matched them all.
///
/// Invariant: nothing of an epoch becomes visible anywhere without it.
#[derive(Debug)]
pub struct CommitPermit(());

impl CommitPermit {
    /// Mints a permit if the compare-and-set matched as many rows as there are tasks.
    pub fn after_compare(tasks: usize, matched: usize) -> Option<CommitPermit> {
        assert!(matched <= tasks, "{matched} rows matched for {tasks} tasks");
        (tasks == matched).then_some(CommitPermit(()))
    }
}
