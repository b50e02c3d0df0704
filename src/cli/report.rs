//! What a running instance says of itself over HTTP.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::http::{Health, Readiness, TaskReadiness};
use crate::runtime::{Boards, Stage, TaskReport};

/// A loop that has not come round for so long is dead. Longer than any single call on a neighbour may take.
const BEAT_LIMIT: Duration = Duration::from_secs(90);

/// Answers from the boards of the instance's workers.
pub struct BoardHealth {
    boards: Arc<Boards>,
    clock: Arc<dyn Clock>,
}

impl BoardHealth {
    pub fn new(boards: Arc<Boards>, clock: Arc<dyn Clock>) -> BoardHealth {
        BoardHealth { boards, clock }
    }
}

impl Health for BoardHealth {
    fn alive(&self) -> bool {
        let now = self.clock.monotonic();
        self.boards.read().beats.iter().all(|beat| now.saturating_duration_since(*beat) < BEAT_LIMIT)
    }

    fn readiness(&self) -> Readiness {
        let state = self.boards.read();
        let mut waiting_for: Vec<String> =
            state.waiting_for.iter().map(|(neighbour, what)| format!("{neighbour}: {what}")).collect();
        let joined = !state.joined.is_empty() && state.joined.iter().all(|joined| *joined);
        if waiting_for.is_empty() && !joined {
            waiting_for.push("kafka: no partition is assigned yet".to_owned());
        }
        let tasks = state
            .tasks
            .iter()
            .map(|(tp, (_, report))| TaskReadiness {
                task: tp.clone(),
                state: report.stage.name().to_owned(),
                reason: report.reason(),
            })
            .collect();
        Readiness { ready: state.ready, waiting_for, since: state.since, tasks }
    }

    fn status(&self) -> Value {
        let state = self.boards.read();
        let tasks: Vec<Value> =
            state.tasks.iter().map(|(tp, (worker, report))| task(&tp.to_string(), *worker, report)).collect();
        json!({
            "instance": state.instance,
            "workers": state.joined.len(),
            "ready": state.ready,
            "since": state.since.to_string(),
            "waiting_for": state.waiting_for,
            "tasks": tasks,
        })
    }
}

/// What is not known of a task that does not run is null.
fn task(name: &str, worker: usize, report: &TaskReport) -> Value {
    let runs = matches!(report.stage, Stage::Running | Stage::Replaying);
    json!({
        "task": name,
        "worker": worker,
        "state": report.stage.name(),
        "reason": report.reason(),
        "owner_epoch": runs.then_some(report.owner_epoch.0),
        "rows_next": runs.then_some(report.next.0),
        "outputs_next": runs.then_some(report.outputs.0),
        "state_next": runs.then_some(report.state.0),
        "log_end": report.high.map(|high| high.0),
        "lag": report.lag(),
        "watermark": report.watermark.map(|w| w.to_string()),
    })
}
