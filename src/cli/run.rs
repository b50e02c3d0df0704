//! `millstream run`

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Args;
use millstream_core::pipeline::Plan;

use crate::clock::{Clock, SystemClock};
use crate::http::{self, HttpServer, Metrics};
use crate::kafka::KafkaSettings;
use crate::postgres::{Ddl, Target, ddl_sql};
use crate::runtime::{
    Boards, Finished, Halt, Instance, InstanceOptions, LinkSettings, RuntimeError, StopFlag,
};
use crate::state::StateDir;

use super::exit::Exit;
use super::file::FileArgument;
use super::heap;
use super::logging::{self, LogFormat};
use super::progress::watch;
use super::report::BoardHealth;
use super::state_dir::StateDirArgument;

/// Windows kept in memory per task beyond what changed; the rest is read back on demand.
const WINDOW_BYTES: usize = 64 << 20;
/// What memory keeps of the ids of a source with `dedup`, per task.
const ID_BYTES: usize = 64 << 20;

#[derive(Debug, Args)]
pub struct RunArguments {
    #[command(flatten)]
    file: FileArgument,
    /// Process what the topics hold now, then end
    #[arg(long)]
    until_end: bool,
    #[command(flatten)]
    state: StateDirArgument,
    /// How many workers share this instance's partitions; one per core unless said
    #[arg(long, value_name = "N", env = "MILLSTREAM_WORKERS")]
    workers: Option<NonZeroUsize>,
    /// Make no tables: print the SQL that a DBA must run if something is missing
    #[arg(long)]
    no_ddl: bool,
    /// Where /livez, /readyz, /metrics and /status are served; `off` for nowhere
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4040", env = "MILLSTREAM_HTTP")]
    http: String,
    /// End with code 69 if a neighbour stays away for so many seconds; without it, wait for ever
    #[arg(long, value_name = "SECONDS")]
    give_up_after: Option<u64>,
    /// How log lines look: text on a terminal, JSON elsewhere, unless said
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    log: LogFormat,
}

/// Runs the pipeline until a signal, its end, or a fault that no waiting mends.
pub fn run(arguments: &RunArguments) -> Exit {
    if let Err(error) = logging::init(arguments.log) {
        eprintln!("{error}");
        return Exit::Usage;
    }
    let plan = match arguments.file.load() {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    let workers = arguments.workers.unwrap_or_else(one_per_core);
    heap::share(workers);
    match start(arguments, &plan, workers) {
        Ok(Finished::AtEnd) => {
            tracing::info!("everything that the topics held is processed");
            Exit::Ok
        }
        Ok(Finished::Left) => {
            tracing::info!("left the group; the last epoch is complete");
            Exit::Ok
        }
        Ok(Finished::Stopped) => {
            tracing::info!("stopped; the last epoch is complete");
            Exit::Ok
        }
        Err(failure) => {
            let exit = failure.exit();
            tracing::error!(code = exit as u8, "{failure}");
            if arguments.no_ddl && failure.is_about_tables() {
                println!("{}", ddl_sql(&plan));
            }
            exit
        }
    }
}

/// Why a run ended badly.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Halt(#[from] Halt),
    #[error(transparent)]
    Http(#[from] http::HttpError),
    #[error("the instance ended by a fault of the program; please report it with the lines above")]
    Panicked,
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Failure::Halt(halt) => Exit::of_halt(halt),
            Failure::Http(http::HttpError::PortTaken { .. }) => Exit::TryAgain,
            Failure::Http(_) => Exit::Usage,
            Failure::Panicked => Exit::Internal,
        }
    }

    fn is_about_tables(&self) -> bool {
        use crate::postgres::PostgresError;
        matches!(
            self,
            Failure::Halt(Halt::Failed(RuntimeError::Postgres(
                PostgresError::SchemaMissing { .. } | PostgresError::Tables { .. }
            )))
        )
    }
}

fn start(arguments: &RunArguments, plan: &Arc<Plan>, workers: NonZeroUsize) -> Result<Finished, Failure> {
    let fail = |error: RuntimeError| Failure::Halt(Halt::Failed(error));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let state_dir = Arc::new(StateDir::open(&arguments.state.state_dir).map_err(|e| fail(e.into()))?);
    let kafka = KafkaSettings {
        client: plan.connections.kafka.clone(),
        application: plan.application.to_string(),
        instance: state_dir.instance().to_string(),
        worker: 0,
        max_record_bytes: plan.largest_record(),
    };
    let postgres =
        Target::from_environment(plan.connections.postgres_url.as_deref()).map_err(|e| fail(e.into()))?;
    let boards = Arc::new(Boards::new(kafka.instance.clone(), clock.monotonic(), clock.now()));
    let _http = serve(arguments, &boards, &clock)?;
    let stop = Arc::new(StopFlag::default());
    let instance = Instance {
        plan: plan.clone(),
        links: LinkSettings {
            kafka,
            postgres,
            kafka_outputs: plan.has_kafka_outputs(),
            give_up_after: arguments.give_up_after.map(Duration::from_secs),
        },
        state_dir: state_dir.clone(),
        clock,
        boards: boards.clone(),
        stop: stop.clone(),
        options: InstanceOptions {
            workers,
            until_end: arguments.until_end,
            window_bytes: WINDOW_BYTES,
            id_bytes: ID_BYTES,
            ddl: if arguments.no_ddl { Ddl::CheckOnly } else { Ddl::Apply },
        },
    };
    let supervisor = thread::Builder::new().name("instance".into()).spawn(move || instance.run());
    let supervisor = supervisor.map_err(|_| Failure::Panicked)?;
    watch(&supervisor, &stop, (&boards, &state_dir));
    let finished = supervisor.join().map_err(|_| Failure::Panicked)?.map_err(Failure::Halt)?;
    if stop.is_leaving() {
        state_dir.drained().map_err(|e| fail(e.into()))?;
    }
    Ok(finished)
}

fn serve(
    arguments: &RunArguments,
    boards: &Arc<Boards>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<HttpServer>, Failure> {
    if arguments.http == "off" {
        return Ok(None);
    }
    let metrics = Metrics::install()?;
    let health = BoardHealth::new(boards.clone(), clock.clone());
    Ok(Some(http::serve(&arguments.http, Arc::new(health), metrics)?))
}

fn one_per_core() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
