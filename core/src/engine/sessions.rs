//! The sessions of one task: a write-back cache over local state.
//!
//! A key's sessions are one entry. It is read when a record of the key comes and it is not in memory, changed there, and
//! leaves with all other entries that changed as one sorted run per epoch. Clean entries are evicted by age once the budget
//! is exceeded: state may exceed memory, the keys that one epoch touches may not. Beside each entry stands a mark under the
//! slot of time in which its last session is over; slots that the watermark has passed are emptied after the epoch is
//! written, so what is forgotten costs what it once cost to be kept, and no more.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;

use crate::codec::{session_prefix, session_slot_prefix};
use crate::model::EventTime;
use crate::pipeline::{Aggregate, AggregateId, Plan};
use crate::window::SessionRules;

use super::session::{KeySessions, SessionColumns, SessionRecord};
use super::{Change, Family, SessionChange, StateStore, StoreError};

/// What a key costs in memory beside its bytes and its sessions.
const KEY_BYTES: usize = 160;
/// Keys that are forgotten after one epoch, per aggregate; the rest waits for the next.
const FORGOTTEN_KEYS: usize = 50_000;

/// All sessions of one task.
#[derive(Debug)]
pub struct Sessions {
    aggregates: Vec<AggregateSessions>,
    budget_bytes: usize,
    bytes: usize,
    clock: u64,
    /// At the end of the last epoch that was sealed.
    watermark: Option<EventTime>,
}

#[derive(Debug)]
struct AggregateSessions {
    id: AggregateId,
    name: Arc<str>,
    rules: SessionRules,
    columns: SessionColumns,
    /// The common head of its entries.
    prefix: Vec<u8>,
    keys: HashMap<Arc<[u8]>, Kept>,
    /// Keys that changed since the last `seal`.
    dirty: Vec<Arc<[u8]>>,
    /// Slots before this are empty in local state.
    emptied_before: i64,
}

#[derive(Debug)]
struct Kept {
    sessions: KeySessions,
    /// Under which slot local state has its mark.
    slot: Option<i64>,
    dirty: bool,
    /// The epoch of its last use.
    touched: u64,
    bytes: usize,
}

impl Sessions {
    /// `budget_bytes` bounds what clean entries may take.
    pub fn new(plan: &Plan, aggregates: &[AggregateId], budget_bytes: usize) -> Sessions {
        let of = |id: &AggregateId| AggregateSessions::of(*id, &plan.aggregates[id.0]);
        let aggregates = aggregates.iter().filter_map(of).collect();
        Sessions { aggregates, budget_bytes, bytes: 0, clock: 1, watermark: None }
    }

    /// Adds one record that is not too late to the sessions of its key.
    pub fn add(
        &mut self,
        store: &dyn StateStore,
        id: AggregateId,
        record: &SessionRecord<'_>,
    ) -> Result<(), StoreError> {
        let found = self.aggregates.iter_mut().find(|aggregate| aggregate.id == id);
        let aggregate = found.expect("an aggregate that matched is one of this source's");
        let AggregateSessions { rules, columns, prefix, keys, dirty, .. } = aggregate;
        let mut entry = match keys.entry_ref(record.key) {
            EntryRef::Occupied(found) => found,
            EntryRef::Vacant(free) => {
                let kept = Kept::load(store, (prefix, record.key), *rules, columns)?;
                self.bytes += kept.bytes;
                free.insert_entry_with_key(record.key.into(), kept)
            }
        };
        if !entry.get().dirty {
            dirty.push(entry.key().clone());
        }
        let kept = entry.get_mut();
        (kept.dirty, kept.touched) = (true, self.clock);
        kept.sessions.add(*rules, columns, record);
        Ok(())
    }

    /// Takes what changed since the last call: changes of local state and of result rows, the rows by key and start.
    pub fn seal(
        &mut self,
        watermark: Option<EventTime>,
        changes: &mut Vec<Change>,
    ) -> BTreeMap<AggregateId, Vec<SessionChange>> {
        self.clock += 1;
        self.watermark = watermark;
        let (mut rows, mut moved) = (BTreeMap::new(), Vec::new());
        for aggregate in &mut self.aggregates {
            let mut of_aggregate = Vec::new();
            aggregate.seal(&mut of_aggregate, (changes, &mut moved), &mut self.bytes);
            if !of_aggregate.is_empty() {
                rows.insert(aggregate.id, of_aggregate);
            }
        }
        changes.append(&mut moved);
        rows
    }

    /// Forgets keys whose sessions are all out of reach.
    ///
    /// Order: after the sealed epoch was written, which its watermark belongs to. A crash before this leaves entries that
    /// no record in time can reach; they are found again.
    pub fn expire(&mut self, store: &mut dyn StateStore) -> Result<(), StoreError> {
        let Some(watermark) = self.watermark else { return Ok(()) };
        for aggregate in &mut self.aggregates {
            self.bytes -= aggregate.expire(watermark, store)?;
        }
        Ok(())
    }

    /// Evicts entries that were touched longest ago until three quarters of the budget hold.
    ///
    /// Order: only after the changes of every sealed epoch were written, or an evicted entry would be read back old.
    pub fn evict(&mut self) {
        if self.bytes <= self.budget_bytes {
            return;
        }
        let clean = self.aggregates.iter().flat_map(|a| a.keys.values()).filter(|kept| !kept.dirty);
        let mut ages: Vec<(u64, usize)> = clean.map(|kept| (kept.touched, kept.bytes)).collect();
        ages.sort_unstable();
        let mut excess = self.bytes - self.budget_bytes / 4 * 3;
        let last = ages.iter().find(|(_, bytes)| {
            excess = excess.saturating_sub(*bytes);
            excess == 0
        });
        let youngest = last.or(ages.last()).map_or(0, |(touched, _)| *touched);
        for aggregate in &mut self.aggregates {
            aggregate.keys.retain(|_, kept| kept.dirty || kept.touched > youngest);
        }
        self.bytes = self.aggregates.iter().flat_map(|a| a.keys.values()).map(|kept| kept.bytes).sum();
    }
}

impl AggregateSessions {
    fn of(id: AggregateId, aggregate: &Aggregate) -> Option<AggregateSessions> {
        Some(AggregateSessions {
            id,
            name: aggregate.name.clone(),
            rules: SessionRules::of(aggregate)?,
            columns: SessionColumns::of(&aggregate.select),
            prefix: session_prefix(&aggregate.name),
            keys: HashMap::new(),
            dirty: Vec::new(),
            emptied_before: i64::MIN,
        })
    }

    /// Deletions of marks go to `moved`, so that puts stay one run. Keeps the sum of all entries' bytes.
    fn seal(
        &mut self,
        rows: &mut Vec<SessionChange>,
        (changes, moved): (&mut Vec<Change>, &mut Vec<Change>),
        bytes: &mut usize,
    ) {
        let family = Family::Sessions;
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        for key in &dirty {
            let kept = self.keys.get_mut(key).expect("what is dirty is not evicted");
            kept.dirty = false;
            kept.sessions.take_changes(key, &self.columns, rows);
            let value = kept.sessions.encode();
            changes.push(Change::Put { family, key: [&self.prefix, &key[..]].concat(), value });
            let mark = |slot: i64| [&session_slot_prefix(&self.name, slot), &key[..]].concat();
            let slot = slot_of(&kept.sessions, self.rules);
            if slot != kept.slot {
                moved.extend(kept.slot.map(|before| Change::Delete { family, key: mark(before) }));
                changes.extend(slot.map(|now| Change::Put { family, key: mark(now), value: Vec::new() }));
                kept.slot = slot;
            }
            let size = size_of_entry(key, &kept.sessions);
            *bytes = *bytes + size - std::mem::replace(&mut kept.bytes, size);
        }
    }

    /// Empties the slots before the watermark; answers how many bytes of memory that gave back.
    fn expire(&mut self, watermark: EventTime, store: &mut dyn StateStore) -> Result<usize, StoreError> {
        let live = slot(watermark, self.rules);
        if live <= self.emptied_before {
            return Ok(0);
        }
        let from = session_slot_prefix(&self.name, self.emptied_before);
        let to = session_slot_prefix(&self.name, live);
        let (mut over, mut stopped) = (Vec::new(), None);
        store.scan_range(Family::Sessions, (&from, &to), &mut |mark, _| {
            if over.len() == FORGOTTEN_KEYS {
                stopped = Some(mark.to_vec());
                return ControlFlow::Break(());
            }
            over.push(mark[to.len()..].to_vec());
            ControlFlow::Continue(())
        })?;
        if stopped.is_none() {
            self.emptied_before = live;
        }
        if over.is_empty() {
            return Ok(0);
        }
        let (to, mut freed) = (stopped.unwrap_or(to), 0);
        over.sort_unstable();
        let mut changes = Vec::with_capacity(over.len() + 1);
        for key in over {
            match self.keys.get(&key[..]) {
                Some(kept) if kept.dirty => continue,
                Some(kept) => freed += kept.bytes,
                None => {}
            }
            self.keys.remove(&key[..]);
            changes.push(Change::Delete { family: Family::Sessions, key: [&self.prefix, &key[..]].concat() });
        }
        changes.push(Change::DeleteRange { family: Family::Sessions, from, to });
        store.write(changes)?;
        Ok(freed)
    }
}

impl Kept {
    fn load(
        store: &dyn StateStore,
        (prefix, key): (&[u8], &[u8]),
        rules: SessionRules,
        columns: &SessionColumns,
    ) -> Result<Kept, StoreError> {
        let stored = store.get(Family::Sessions, &[prefix, key].concat())?;
        let sessions = match &stored {
            Some(bytes) => KeySessions::decode(bytes, columns.empty.len())?,
            None => KeySessions::default(),
        };
        let (slot, bytes) = (slot_of(&sessions, rules), size_of_entry(key, &sessions));
        Ok(Kept { sessions, slot, dirty: false, touched: 0, bytes })
    }
}

/// In which slot the last of them is over; slots are as long as the gap, so a session passes through as many as it lasts
/// gaps.
fn slot_of(sessions: &KeySessions, rules: SessionRules) -> Option<i64> {
    sessions.end().map(|end| slot(rules.over_at(end), rules))
}

fn slot(at: EventTime, rules: SessionRules) -> i64 {
    at.0.div_euclid(rules.gap.0)
}

fn size_of_entry(key: &[u8], sessions: &KeySessions) -> usize {
    KEY_BYTES + 2 * key.len() + sessions.bytes()
}
