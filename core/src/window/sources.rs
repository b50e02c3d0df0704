//! How far the partitions of a repartitioned source have come, as one partition of its internal topic has heard.
//!
//! A record is judged by the watermark it carries, so in which order routers wrote does not matter. What is kept for all
//! sources together (sessions, ids) is dropped by the least of their watermarks. A partition that said it is idle is left
//! out of it until it speaks again; from then its records are judged by the larger of their own watermark and that least
//! one, which never goes back.

use crate::model::{EventTime, Partition};

/// The watermarks of all partitions of one source. Which there are, every value of the internal topic says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceWatermarks {
    marks: Vec<SourceMark>,
    least: Option<EventTime>,
}

/// One partition of the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceMark {
    pub watermark: Option<EventTime>,
    pub idle: bool,
}

/// What one record is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Whether it is late, and which ids have expired for it.
    pub watermark: Option<EventTime>,
    /// What no record to come is judged by less than: state that it has passed is forgotten.
    pub least: Option<EventTime>,
}

impl Marks {
    /// Of a partition whose watermark is its own.
    pub fn of(watermark: Option<EventTime>) -> Marks {
        Marks { watermark, least: watermark }
    }
}

impl SourceWatermarks {
    /// What was kept of a task's watermarks.
    pub fn restored(marks: Vec<SourceMark>, least: Option<EventTime>) -> SourceWatermarks {
        SourceWatermarks { marks, least }
    }

    pub fn marks(&self) -> &[SourceMark] {
        &self.marks
    }

    /// The least over all sources; none while one of them has none.
    pub fn least(&self) -> Option<EventTime> {
        self.least
    }

    /// What a record is judged by that carries this watermark.
    pub fn marks_of(&self, carried: Option<EventTime>) -> Marks {
        Marks { watermark: carried.max(self.least), least: self.least }
    }

    /// What the next record of a source partition is judged by at least.
    pub fn watermark_of(&self, partition: Partition) -> Option<EventTime> {
        let mark = usize::try_from(partition.0).ok().and_then(|at| self.marks.get(at));
        mark.and_then(|mark| mark.watermark).max(self.least)
    }

    /// A source partition, one of `partitions`, has come to `watermark`.
    pub fn hear(
        &mut self,
        (partition, partitions): (Partition, i32),
        watermark: Option<EventTime>,
        idle: bool,
    ) {
        let count = usize::try_from(partitions).expect("checked when it was decoded");
        let at = usize::try_from(partition.0).expect("checked when it was decoded");
        let known = self.marks.len();
        if count > known {
            self.marks.resize(count, SourceMark::default());
        }
        let before = self.marks[at];
        let mark = SourceMark { watermark: before.watermark.max(watermark), idle };
        if mark == before && count <= known {
            return;
        }
        self.marks[at] = mark;
        // Why: only the one that holds the others back can let them go.
        if before.watermark <= self.least || mark.idle != before.idle || count > known {
            self.least = self.least.max(least(&self.marks));
        }
    }
}

/// Of those that are not idle; if all are, the largest counts.
fn least(marks: &[SourceMark]) -> Option<EventTime> {
    let awake = marks.iter().filter(|mark| !mark.idle);
    match awake.map(|mark| mark.watermark).min() {
        Some(least) => least,
        None => marks.iter().filter_map(|mark| mark.watermark).max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: i64) -> Option<EventTime> {
        Some(EventTime(time))
    }

    #[test]
    fn least_waits_for_every_source_and_never_goes_back() {
        let mut sources = SourceWatermarks::default();
        let mut heard = |number: i32, watermark: Option<EventTime>, idle: bool| {
            sources.hear((Partition(number), 3), watermark, idle);
            sources.least()
        };
        assert_eq!(heard(0, at(10), false), None);
        assert_eq!(heard(1, at(7), false), None, "nobody has heard of the third");
        assert_eq!(heard(2, None, false), None, "it has no watermark yet");
        assert_eq!(heard(2, at(9), false), at(7));
        assert_eq!(heard(1, at(20), false), at(9));
        assert_eq!(heard(2, None, true), at(10), "idle: left out");
        assert_eq!(heard(0, at(30), false), at(20));
        assert_eq!(heard(2, at(12), false), at(20), "it speaks again, and the others have gone on");
        assert_eq!(heard(1, at(40), false), at(20), "held back by it");
        assert_eq!(heard(2, at(25), false), at(25));
    }

    #[test]
    fn a_record_is_judged_by_what_it_carries_unless_its_source_was_left_behind() {
        let mut sources = SourceWatermarks::default();
        sources.hear((Partition(0), 2), at(10), false);
        assert_eq!(sources.marks_of(at(3)), Marks { watermark: at(3), least: None });
        sources.hear((Partition(1), 2), at(5), false);
        assert_eq!(sources.marks_of(at(10)), Marks { watermark: at(10), least: at(5) });
        sources.hear((Partition(1), 2), at(5), true);
        assert_eq!(sources.marks_of(at(5)), Marks { watermark: at(10), least: at(10) });
        assert_eq!(sources.watermark_of(Partition(1)), at(10));
        assert_eq!(sources.watermark_of(Partition(7)), at(10), "one nobody has heard of");
    }

    #[test]
    fn if_all_are_idle_the_largest_counts_whoever_fell_idle_first() {
        for order in [[0, 1], [1, 0]] {
            let mut sources = SourceWatermarks::default();
            for number in order {
                sources.hear((Partition(number), 2), at(10 * i64::from(number)), false);
            }
            assert_eq!(sources.least(), at(0));
            for number in order {
                sources.hear((Partition(number), 2), None, true);
            }
            assert_eq!(sources.least(), at(10));
        }
    }

    #[test]
    fn a_partition_that_is_added_holds_the_least_back() {
        let mut sources = SourceWatermarks::default();
        sources.hear((Partition(0), 1), at(10), false);
        assert_eq!(sources.least(), at(10));
        sources.hear((Partition(0), 2), at(20), false);
        assert_eq!(sources.least(), at(10));
    }
}
