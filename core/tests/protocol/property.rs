//! What must hold in every world.

use stateright::{Model, Property};

use super::action::Action;
use super::postgres::Row;
use super::rules::{Protocol, Rules};
use super::worker::Phase;
use super::world::{Left, Part, Pos, World};

pub const ROWS: &str = "the rows hold every record below P once, and no other";
pub const OUTPUTS: &str = "a read-committed reader of the output topic sees every record once, in order";
pub const ORDER: &str = "R <= K <= P, and K is prev or next";
pub const REFUSAL: &str = "nothing is refused, since nothing was lost";
pub const SETTLED: &str = "a settled row means K = P";
pub const ENDS: &str = "once nothing more goes wrong, everything comes to its end";
/// An example must be found, or the bounds let nothing happen.
pub const FINISHED: &str = "everything is finished after as many mishaps as there may be";

/// No calm schedule is longer.
const CALM_STEPS: usize = 400;

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.rules.first_world()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.rules.actions(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        self.step(&mut next, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Protocol>> {
        vec![
            Property::always(ROWS, |p: &Protocol, w: &World| p.first(ROWS, rows_are_exact(&p.rules, w))),
            Property::always(OUTPUTS, |p: &Protocol, w: &World| p.first(OUTPUTS, w.kafka.flaw.is_none())),
            Property::always(ORDER, |p: &Protocol, w: &World| {
                p.first(ORDER, p.rules.parts().all(|part| in_order(&p.rules, w, part)))
            }),
            Property::always(REFUSAL, |p: &Protocol, w: &World| p.first(REFUSAL, w.refused.is_none())),
            Property::always(SETTLED, |p: &Protocol, w: &World| {
                p.first(SETTLED, settled_is_true(&p.rules, w))
            }),
            Property::always(ENDS, |p: &Protocol, w: &World| p.first(ENDS, comes_to_its_end(p, w))),
            Property::sometimes(FINISHED, |p: &Protocol, w: &World| {
                w.left == Left::NOTHING && is_finished(&p.rules, w)
            }),
        ]
    }
}

impl Protocol {
    /// Whether a state may pass. The first that violates a property may not; later ones would take the place of its
    /// path, which is the shortest.
    fn first(&self, property: &'static str, holds: bool) -> bool {
        holds || !self.violated.lock().expect("nobody panics with it").insert(property)
    }
}

fn rows_are_exact(rules: &Rules, world: &World) -> bool {
    let exact = |part: Part| world.postgres.rows[part].as_ref().is_none_or(|row| row.counted == row.next);
    world.postgres.flaw.is_none() && rules.parts().all(exact)
}

fn in_order(rules: &Rules, world: &World, part: Part) -> bool {
    let Some(row) = world.postgres.rows[part].as_ref().filter(|row| row.bootstrapped) else { return true };
    let group = group_of(rules, world, (part, row));
    let state = |state: Option<Pos>| state.is_none_or(|state| Some(state) <= group);
    group.is_some_and(|k| k == row.prev || k == row.next)
        && world.workers.0.iter().all(|worker| state(worker.state[part]))
}

/// K; P where there is no such witness.
fn group_of(rules: &Rules, world: &World, (part, row): (Part, &Row)) -> Option<Pos> {
    let forgotten = rules.left.forgotten > world.left.forgotten;
    match world.kafka.group[part] {
        None if !rules.kafka_outputs || (forgotten && row.settled) => Some(row.next),
        group => group,
    }
}

fn settled_is_true(rules: &Rules, world: &World) -> bool {
    let mut settled = world.postgres.rows.present().filter(|(_, row)| row.settled);
    settled.all(|(part, row)| group_of(rules, world, (part, row)) == Some(row.next))
}

pub fn is_finished(rules: &Rules, world: &World) -> bool {
    let at_end = |part: Part| {
        let Some(row) = &world.postgres.rows[part] else { return false };
        let output = &world.kafka.outputs[part];
        let seen = !rules.kafka_outputs || (output.visible == rules.end() && output.tail.is_empty());
        let owned = world.workers.0.iter().any(|worker| {
            let owner = worker.tasks[part].is_some_and(|task| task.mine == row.owner && task.at == row.next);
            owner && worker.state[part] == Some(rules.end())
        });
        let group = group_of(rules, world, (part, row));
        row.next == rules.end() && group == Some(rules.end()) && seen && owned
    };
    let idle = world.workers.0.iter().all(|worker| worker.phase == Phase::Idle);
    idle && rules.parts().all(at_end)
}

/// Follows one schedule without mishaps; time-outs come when nothing else can happen.
fn comes_to_its_end(protocol: &Protocol, world: &World) -> bool {
    let mut world = world.clone();
    let mut actions = Vec::new();
    for _ in 0..CALM_STEPS {
        if is_finished(&protocol.rules, &world) {
            return true;
        }
        actions.clear();
        protocol.rules.actions(&world, &mut actions);
        let Some(action) = actions.iter().find(|action| !action.is_mishap()) else { return false };
        protocol.step(&mut world, *action);
    }
    false
}
