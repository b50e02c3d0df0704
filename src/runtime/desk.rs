//! Where a worker orders tasks to be taken, and a thread of its own that takes them.
//!
//! Why a thread: the group's offset may stay unstable for seconds, a store may have a long log to read; neither may
//! stop the epochs of the worker's other tasks, or its membership. It has connections of its own while there is
//! something to take. What it made is handed over whole, over a channel, and belongs to the worker from then on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use millstream_core::model::TopicPartition;

use crate::clock::{Clock, Deadline};

use super::board::{Board, Waiter};
use super::links::{LinkSettings, Links};
use super::taking::{Taken, Taker, Untaken, Work};
use super::{Halt, RuntimeError, StopFlag};

/// Connections are kept for so long after the last order.
const KEEP_LINKS: Duration = Duration::from_secs(5);
/// A taker that is told to end is waited for: it may have a store open, and the process may be about to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// One order, known to both sides.
#[derive(Debug)]
pub struct Ticket {
    withdrawn: AtomicBool,
    step: Mutex<&'static str>,
}

/// What came of an order.
pub struct Served {
    pub tp: TopicPartition,
    pub ticket: Arc<Ticket>,
    pub result: Result<Taken, Untaken>,
}

/// The worker's side.
pub struct Desk {
    orders: Option<Sender<(TopicPartition, Arc<Ticket>)>>,
    served: Receiver<Served>,
    ending: Arc<StopFlag>,
}

/// What the thread needs.
pub struct DeskSettings {
    pub links: LinkSettings,
    pub clock: Arc<dyn Clock>,
    pub board: Arc<Board>,
    pub works: BTreeMap<Arc<str>, Work>,
    pub taker: Taker,
}

impl Ticket {
    fn new() -> Ticket {
        Ticket { withdrawn: AtomicBool::new(false), step: Mutex::new("its turn") }
    }

    /// The partition is gone: nothing may be fenced for it any more.
    pub fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Relaxed);
    }

    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Relaxed)
    }

    /// What the task waits for at present.
    pub fn step(&self) -> &'static str {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn enter(&self, step: &'static str) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }
}

impl Desk {
    /// Starts the thread; `name` is the worker's.
    pub fn open(name: &str, settings: DeskSettings) -> Result<Desk, RuntimeError> {
        let (orders, ordered) = channel();
        let (serve, served) = channel();
        let ending = Arc::new(StopFlag::default());
        let stop = ending.clone();
        thread::Builder::new()
            .name(format!("{name}-taker"))
            .spawn(move || work(&settings, &ordered, &serve, &stop))
            .map_err(|error| RuntimeError::NoThread(error.to_string()))?;
        Ok(Desk { orders: Some(orders), served, ending })
    }

    /// Orders a task.
    pub fn order(&self, tp: &TopicPartition) -> Arc<Ticket> {
        let ticket = Arc::new(Ticket::new());
        if let Some(orders) = &self.orders {
            // Why: a thread that has ended is found out by `next`.
            let _ = orders.send((tp.clone(), ticket.clone()));
        }
        ticket
    }

    /// The next order that was served, if there is one.
    pub fn next(&self) -> Option<Served> {
        match self.served.try_recv() {
            Ok(served) => Some(served),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the thread that takes tasks has ended by a fault"),
        }
    }
}

impl Drop for Desk {
    /// What was taken in vain is closed here.
    fn drop(&mut self) {
        self.ending.set();
        self.orders = None;
        let deadline = Deadline::after(END_TIMEOUT);
        while !deadline.passed() {
            match self.served.recv_timeout(Duration::from_millis(50)) {
                Ok(served) => drop(served),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        tracing::warn!("the thread that takes tasks did not end in time and is left behind");
    }
}

fn work(
    settings: &DeskSettings,
    orders: &Receiver<(TopicPartition, Arc<Ticket>)>,
    serve: &Sender<Served>,
    stop: &Arc<StopFlag>,
) {
    let mut links: Option<Links> = None;
    loop {
        let ordered = match orders.recv_timeout(KEEP_LINKS) {
            Ok(ordered) => ordered,
            Err(RecvTimeoutError::Timeout) => {
                links = None;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let (tp, ticket) = ordered;
        let result = opened(&mut links, settings, stop).map_err(Untaken::from).and_then(|links| {
            let work = &settings.works[&tp.topic];
            settings.taker.take(links, (&tp, work), &ticket)
        });
        if serve.send(Served { tp, ticket, result }).is_err() {
            return;
        }
    }
}

fn opened<'l>(
    links: &'l mut Option<Links>,
    settings: &DeskSettings,
    stop: &Arc<StopFlag>,
) -> Result<&'l mut Links, Halt> {
    if links.is_none() {
        let DeskSettings { links: settings, clock, board, .. } = settings;
        let opened =
            Links::open(settings.clone(), Waiter::Taker, clock.clone(), board.clone(), stop.clone())?;
        *links = Some(opened);
    }
    Ok(links.as_mut().expect("opened above"))
}
