//! `millstream generate`

mod arguments;
mod progress;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use crate::clock::{Clock, SystemClock};
use crate::generate::{
    Control, GenerateError, Generator, Kind, LinesTarget, Load, Outcome, Target, TopicTarget, run,
};
use crate::kafka::KafkaError;

use super::exit::Exit;
use super::logging::{self, LogFormat};
use super::output::{OutputFormat, answer, answer_json, grid, indented, number, text};

pub use arguments::GenerateArguments;

/// Makes the events, sends them, and tells how many there were.
pub fn generate(arguments: &GenerateArguments) -> Exit {
    if let Err(error) = logging::init(LogFormat::Auto) {
        eprintln!("{error}");
        return Exit::Usage;
    }
    let load = match arguments.load(SystemClock.now().millis()) {
        Ok(load) => load,
        Err(problem) => {
            eprintln!("{problem}");
            return Exit::Usage;
        }
    };
    match carry_out(arguments, load) {
        Ok(outcome) => summarise(arguments, &outcome),
        Err(Failure::Generate(error)) => {
            eprintln!("{error}");
            exit_of(&error)
        }
        Err(Failure::Open { path, problem }) => {
            eprintln!("{path}: cannot be written: {problem}");
            Exit::LocalDisk
        }
        Err(Failure::Panicked) => Exit::Internal,
    }
}

/// Why a load was not sent.
enum Failure {
    Generate(GenerateError),
    Open { path: String, problem: io::Error },
    Panicked,
}

fn carry_out(arguments: &GenerateArguments, load: Load) -> Result<Outcome, Failure> {
    let limits = (arguments.rate(), arguments.limit());
    let expected = load.events;
    let mut target = open(arguments)?;
    let control = Arc::new(Control::default());
    let working = {
        let control = control.clone();
        thread::Builder::new().name("generate".into()).spawn(move || {
            let mut generator = Generator::new(load);
            run(&mut generator, &mut target, &control, limits)
        })
    };
    let working = working.map_err(|_| Failure::Panicked)?;
    progress::watch(&working, &control, expected);
    working.join().map_err(|_| Failure::Panicked)?.map_err(Failure::Generate)
}

fn open(arguments: &GenerateArguments) -> Result<Target, Failure> {
    let Some(path) = &arguments.output else {
        let topic = TopicTarget::open(&arguments.topic_settings());
        let topic = topic.map_err(|error| Failure::Generate(error.into()))?;
        if arguments.partitions.is_some_and(|asked| asked != topic.partitions()) {
            eprintln!("the topic is there already, with {} partitions", topic.partitions());
        }
        return Ok(Target::Topic(Box::new(topic)));
    };
    let to: Box<dyn Write + Send> = if path == Path::new("-") {
        Box::new(io::stdout())
    } else {
        let opened = File::create(path);
        let failed = |problem| Failure::Open { path: path.display().to_string(), problem };
        Box::new(opened.map_err(failed)?)
    };
    Ok(Target::Lines(LinesTarget::new(to)))
}

fn summarise(arguments: &GenerateArguments, outcome: &Outcome) -> Exit {
    let seconds = outcome.elapsed.as_secs_f64();
    let events = outcome.tally.events();
    let rate = events as f64 / seconds.max(1e-9);
    let [sound, late, duplicates, bad] = Kind::ALL.map(|kind| outcome.tally.of(kind));
    if arguments.output.as_deref() == Some(Path::new("-")) {
        eprintln!("{events} events: {sound} sound, {late} late, {duplicates} duplicates, {bad} bad");
        return Exit::Ok;
    }
    match arguments.summary {
        OutputFormat::Json => {
            let summary = serde_json::json!({
                "target": arguments.target(), "events": events, "sound": sound, "late": late,
                "duplicates": duplicates, "bad": bad, "seconds": seconds, "events_per_second": rate,
            });
            answer_json(&summary, Exit::Ok)
        }
        OutputFormat::Table => {
            let mut table =
                grid(&["target", "events", "sound", "late", "duplicates", "bad", "seconds", "events/s"]);
            let counts = [events, sound, late, duplicates, bad].map(number);
            let times = [number(format!("{seconds:.2}")), number(format!("{rate:.0}"))];
            table.add_row([text(arguments.target())].into_iter().chain(counts).chain(times));
            answer(&indented(&table), Exit::Ok)
        }
    }
}

fn exit_of(error: &GenerateError) -> Exit {
    use millstream_core::model::Recovery;
    match error {
        GenerateError::Lines(_) => Exit::LocalDisk,
        GenerateError::Kafka(KafkaError::Config { .. }) => Exit::Usage,
        GenerateError::Kafka(error) => match error.recovery() {
            Recovery::Retry | Recovery::RestartTask => Exit::Unreachable,
            Recovery::Fenced | Recovery::Corrupt | Recovery::Invalid => Exit::RefusedByServer,
        },
    }
}
