//! Runs the checker on one variant and says what it came to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use stateright::report::{ReportData, ReportDiscovery, Reporter};
use stateright::{Checker, HasDiscoveries, Model};

use super::action::Action;
use super::rules::{Arm, Coverage, Protocol, Rules};
use super::world::World;

/// How often the checker is asked whether it has finished.
const ASK_EVERY: Duration = Duration::from_millis(20);

#[derive(Default)]
pub struct Outcome {
    pub states: usize,
    pub transitions: usize,
    pub depth: usize,
    pub seconds: f64,
    pub paths: BTreeMap<&'static str, Vec<(World, Option<Action>)>>,
    pub missing: Vec<Arm>,
}

/// Explores everything; or, with `until`, until a counterexample to each of these properties is found.
pub fn explore(rules: Rules, until: &[&'static str], arms: &[Arm]) -> Outcome {
    let protocol = Protocol { rules, coverage: Coverage::default(), violated: Mutex::default() };
    let mut checker = protocol.checker();
    if !until.is_empty() {
        checker = checker.finish_when(HasDiscoveries::AllOf(until.iter().copied().collect::<BTreeSet<_>>()));
    }
    let mut outcome = Outcome::default();
    let checker = checker.spawn_bfs().report(&mut outcome).join();
    outcome.missing = checker.model().coverage.missing(arms);
    outcome
}

impl Reporter<Protocol> for Outcome {
    fn report_checking(&mut self, data: ReportData) {
        self.states = data.unique_states;
        self.transitions = data.total_states;
        self.depth = data.max_depth;
        self.seconds = data.duration.as_secs_f64();
    }

    fn report_discoveries(
        &mut self,
        _model: &Protocol,
        discoveries: BTreeMap<&'static str, ReportDiscovery<Protocol>>,
    ) {
        self.paths = discoveries.into_iter().map(|(name, found)| (name, found.path.into_vec())).collect();
    }

    fn delay(&self) -> Duration {
        ASK_EVERY
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { states, transitions, depth, seconds, .. } = self;
        write!(f, "{states} states, {transitions} transitions, depth {depth}, {seconds:.1} s")
    }
}
