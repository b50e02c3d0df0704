//! What happens at a point in a build with the feature `fault`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{Break, Point, Reply};

/// Bytes of a worker's line in the phase file, padded with spaces and replaced by a single write.
const PHASE_BYTES: usize = 64;
/// Lines of a phase file. Workers beyond share them.
const PHASE_LINES: usize = 64;

/// Reads the environment; a name nobody knows ends the program with exit code 2. To be called first of all.
pub fn arm() {
    plan();
}

/// Says that this process has arrived at a point. May not return.
pub fn reached(point: Point) {
    let plan = plan();
    let arrival = plan.arrivals[point as usize].fetch_add(1, Ordering::SeqCst) + 1;
    let here = Arrival { point, number: arrival };
    let pause = plan.dwell.and_then(|(at, pause)| (at == here).then_some(pause));
    let worker = worker_of_thread();
    let dwelling = &plan.dwelling[worker];
    // Why: a worker's taker goes on while the worker stays, and must not cover up where it stands; and the other way.
    let covered = dwelling.load(Ordering::SeqCst);
    if pause.is_some() {
        dwelling.store(true, Ordering::SeqCst);
    }
    if let Some(file) = plan.phase_file.as_ref().filter(|_| !covered) {
        // Order: reported before it dies or dwells, so that whoever watches knows where.
        let place = (worker * PHASE_BYTES) as u64;
        if let Err(error) = file.write_all_at(phase_line(point, arrival).as_bytes(), place) {
            stop(&format!("phase file: cannot write: {error}"));
        }
    }
    if plan.crash == Some(here) {
        kill_self();
    }
    assert!(plan.panic != Some(here), "a panic at {} {arrival}, as asked for", point.name());
    if let Some(pause) = pause {
        dwell(pause);
        dwelling.store(false, Ordering::SeqCst);
    }
}

/// Whether this reply, which has come, is to be taken for lost.
pub fn lost(reply: Reply) -> bool {
    let plan = plan();
    let counted = plan.lose.filter(|(wanted, _)| *wanted == reply);
    counted.is_some_and(|(_, every)| (plan.replies.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(every))
}

/// Whether a deliberate fault is switched on.
pub fn broken(fault: Break) -> bool {
    plan().faults.contains(&fault)
}

/// The n-th time, from 1, that a process passes a point.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Arrival {
    point: Point,
    number: u64,
}

/// What the environment asked for.
struct Plan {
    phase_file: Option<File>,
    crash: Option<Arrival>,
    panic: Option<Arrival>,
    dwell: Option<(Arrival, Duration)>,
    lose: Option<(Reply, u64)>,
    faults: Vec<Break>,
    arrivals: Vec<AtomicU64>,
    /// Per worker: a thread of its stays at its point; the phase file tells which.
    dwelling: Vec<AtomicBool>,
    replies: AtomicU64,
}

impl Plan {
    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Plan, String> {
        let asked = |name: &str| variable(name).filter(|value| !value.is_empty());
        Ok(Plan {
            phase_file: asked("MILLSTREAM_PHASE_FILE").map(create_phase_file).transpose()?,
            crash: parse_arrival(asked, "MILLSTREAM_CRASH")?,
            panic: parse_arrival(asked, "MILLSTREAM_PANIC")?,
            dwell: asked("MILLSTREAM_DWELL").map(|text| parse_dwell(&text)).transpose()?,
            lose: asked("MILLSTREAM_LOSE").map(|text| parse_lose(&text)).transpose()?,
            faults: asked("MILLSTREAM_BREAK")
                .map(|text| parse_breaks(&text))
                .transpose()?
                .unwrap_or_default(),
            arrivals: Point::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            dwelling: (0..PHASE_LINES).map(|_| AtomicBool::new(false)).collect(),
            replies: AtomicU64::new(0),
        })
    }
}

fn plan() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| {
        let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Plan::read(variable).unwrap_or_else(|problem| stop(&problem))
    })
}

fn create_phase_file(path: String) -> Result<File, String> {
    let path = PathBuf::from(path);
    File::create(&path).map_err(|error| format!("MILLSTREAM_PHASE_FILE: {}: {error}", path.display()))
}

fn parse_arrival(asked: impl Fn(&str) -> Option<String>, variable: &str) -> Result<Option<Arrival>, String> {
    let Some(text) = asked(variable) else { return Ok(None) };
    let shape = || format!("{variable}: '{text}' is not <point>:<arrival>");
    let (point, number) = text.split_once(':').ok_or_else(shape)?;
    let point = parse_point(variable, point)?;
    Ok(Some(Arrival { point, number: parse_number(number).ok_or_else(shape)? }))
}

fn parse_dwell(text: &str) -> Result<(Arrival, Duration), String> {
    let shape = || format!("MILLSTREAM_DWELL: '{text}' is not <point>:<arrival>:<milliseconds>");
    let mut parts = text.split(':');
    let (Some(point), Some(number), Some(pause), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(shape());
    };
    let at = Arrival {
        point: parse_point("MILLSTREAM_DWELL", point)?,
        number: parse_number(number).ok_or_else(shape)?,
    };
    Ok((at, Duration::from_millis(parse_number(pause).ok_or_else(shape)?)))
}

fn parse_lose(text: &str) -> Result<(Reply, u64), String> {
    let names: Vec<_> = Reply::ALL.iter().map(|reply| reply.name()).collect();
    let shape = || format!("MILLSTREAM_LOSE: '{text}' is not <reply>:<n>; replies: {}", names.join(" "));
    let (reply, every) = text.split_once(':').ok_or_else(shape)?;
    let reply = Reply::ALL.iter().copied().find(|known| known.name() == reply).ok_or_else(shape)?;
    Ok((reply, parse_number(every).ok_or_else(shape)?))
}

fn parse_breaks(text: &str) -> Result<Vec<Break>, String> {
    let one = |text: &str| {
        Break::ALL.iter().copied().find(|fault| fault.name() == text).ok_or_else(|| {
            let names: Vec<_> = Break::ALL.iter().map(|fault| fault.name()).collect();
            format!("MILLSTREAM_BREAK: no fault '{text}'; faults: {}", names.join(" "))
        })
    };
    text.split(',').map(one).collect()
}

fn parse_point(variable: &str, text: &str) -> Result<Point, String> {
    Point::ALL.iter().copied().find(|point| point.name() == text).ok_or_else(|| {
        let names: Vec<_> = Point::ALL.iter().map(|point| point.name()).collect();
        format!("{variable}: no point '{text}'; points: {}", names.join(" "))
    })
}

/// A whole number from 1.
fn parse_number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number >= 1)
}

/// The line of the thread's worker: threads are named `worker-<N>` and `worker-<N>-taker`. Any other has the first.
fn worker_of_thread() -> usize {
    let thread = std::thread::current();
    let number = thread.name().and_then(|name| name.strip_prefix("worker-")).map(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit);
        digits.fold(0, |number, digit| (number * 10 + usize::from(digit - b'0')) % PHASE_LINES)
    });
    number.unwrap_or_default()
}

fn phase_line(point: Point, arrival: u64) -> String {
    format!("{:<PHASE_BYTES$}", format!("{} {arrival}\n", point.name()))
}

/// Dies as `kill -9` would have it: no destructor, no flush, no handler.
fn kill_self() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}

#[expect(clippy::disallowed_methods, reason = "dwelling is what a test asked for")]
fn dwell(pause: Duration) {
    std::thread::sleep(pause);
}

fn stop(problem: &str) -> ! {
    eprintln!("{problem}");
    std::process::exit(2)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Output};

    use super::*;

    /// Runs `passes_points` in a process of its own, under one more variable.
    fn passes_points_with(variables: &[(&str, &str)]) -> Output {
        let program = std::env::current_exe().expect("the test program has a path");
        Command::new(program)
            .args(["--exact", "fault::armed::tests::passes_points", "--nocapture"])
            .envs(variables.iter().copied())
            .output()
            .expect("the test program runs")
    }

    #[test]
    fn passes_points() {
        arm();
        reached(Point::StateWriting);
        for _ in 0..3 {
            reached(Point::StateWritten);
        }
        assert!(!broken(Break::StateFirst));
    }

    #[test]
    fn dies_by_sigkill_at_the_named_arrival() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let phase = dir.path().join("phase");
        let path = phase.to_str().expect("a path in UTF-8");
        let died =
            passes_points_with(&[("MILLSTREAM_CRASH", "state-written:2"), ("MILLSTREAM_PHASE_FILE", path)]);
        assert_eq!(died.status.signal(), Some(9));
        let line = std::fs::read_to_string(&phase).expect("the phase file");
        assert_eq!(line.len(), PHASE_BYTES);
        assert_eq!(line.trim_end(), "state-written 2");
    }

    #[test]
    fn workers_pass_points() {
        arm();
        for (name, point) in [("worker-0", Point::StateWritten), ("worker-2-taker", Point::TakeDecided)] {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || reached(point));
            thread.expect("a thread starts").join().expect("it ends well");
        }
    }

    #[test]
    fn every_worker_has_a_line_of_its_own() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let phase = dir.path().join("phase");
        let program = std::env::current_exe().expect("the test program has a path");
        let ended = Command::new(program)
            .args(["--exact", "fault::armed::tests::workers_pass_points"])
            .env("MILLSTREAM_PHASE_FILE", &phase)
            .status();
        assert!(ended.is_ok_and(|status| status.success()));
        let lines = std::fs::read(&phase).expect("the phase file");
        let line = |worker: usize| {
            let line = &lines[worker * PHASE_BYTES..][..PHASE_BYTES];
            String::from_utf8_lossy(line).trim_end().trim_matches('\0').to_owned()
        };
        assert_eq!([line(0), line(1), line(2)], ["state-written 1", "", "take-decided 1"]);
    }

    #[test]
    fn arrival_that_never_comes_kills_nobody() {
        assert!(passes_points_with(&[("MILLSTREAM_CRASH", "state-written:4")]).status.success());
    }

    #[test]
    fn dwells_and_goes_on() {
        assert!(passes_points_with(&[("MILLSTREAM_DWELL", "state-written:3:1")]).status.success());
    }

    #[test]
    fn unknown_names_stop_the_program_and_list_the_valid_ones() {
        for (variable, value, listed) in [
            ("MILLSTREAM_CRASH", "state-writen:1", "outputs-only-committed"),
            ("MILLSTREAM_CRASH", "state-written", "<point>:<arrival>"),
            ("MILLSTREAM_CRASH", "state-written:0", "<point>:<arrival>"),
            ("MILLSTREAM_PANIC", "state-written", "<point>:<arrival>"),
            ("MILLSTREAM_DWELL", "nowhere:1:5", "bootstrap-row-inserted"),
            ("MILLSTREAM_DWELL", "state-written:1", "<milliseconds>"),
            ("MILLSTREAM_BREAK", "everything", "dead-letters-outside"),
            ("MILLSTREAM_BREAK", "state-first,everything", "dead-letters-outside"),
            ("MILLSTREAM_LOSE", "kafka-commit", "postgres-commit"),
            ("MILLSTREAM_LOSE", "letters:3", "kafka-commit"),
            ("MILLSTREAM_PHASE_FILE", "/nowhere/at/all", "/nowhere/at/all"),
        ] {
            let stopped = passes_points_with(&[(variable, value)]);
            assert_eq!(stopped.status.code(), Some(2), "{variable}={value}");
            let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
            assert!(said.contains(variable) && said.contains(listed), "{said}");
        }
    }

    #[test]
    fn break_switches_on_the_named_faults_alone() {
        for (text, faults) in [
            ("outputs-again", &[Break::OutputsAgain][..]),
            ("state-first,no-next-compare", &[Break::StateFirst, Break::NoNextCompare]),
        ] {
            let asked = |name: &str| (name == "MILLSTREAM_BREAK").then(|| text.to_string());
            let plan = Plan::read(asked).map_err(|problem| panic!("{problem}")).ok();
            assert!(plan.is_some_and(|plan| plan.faults == faults), "{text}");
        }
    }

    #[test]
    fn every_point_has_a_line_that_fits_the_phase_file() {
        for point in Point::ALL {
            assert_eq!(phase_line(*point, u64::MAX).len(), PHASE_BYTES, "{}", point.name());
        }
    }
}
