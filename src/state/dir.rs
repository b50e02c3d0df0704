//! The directory of an instance.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use millstream_core::model::TopicPartition;
use uuid::Uuid;

use super::StateError;
use super::disk::{check_format, write_whole};

const LOCK_FILE: &str = "LOCK";
pub(super) const INSTANCE_FILE: &str = "INSTANCE";
const TASKS_DIR: &str = "tasks";
const DRAIN_FILE: &str = "DRAIN";
const DRAINED_FILE: &str = "DRAINED";

/// An instance's directory, locked as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    instance: Uuid,
    _lock: File,
}

impl StateDir {
    /// Makes the directory where it is missing, locks it, and reads the identity in it or takes a new one.
    pub fn open(root: impl Into<PathBuf>) -> Result<StateDir, StateError> {
        let root = root.into();
        std::fs::create_dir_all(&root).map_err(|error| StateError::io(&root, &error))?;
        let lock = lock(&root)?;
        check_format(&root, &[INSTANCE_FILE, TASKS_DIR])?;
        let instance = read_or_take_identity(&root.join(INSTANCE_FILE))?;
        // Why: a request that an earlier instance did not live to see is none for this one.
        withdraw_drain(&root)?;
        Ok(StateDir { root, instance, _lock: lock })
    }

    /// Who this instance is, across restarts.
    pub fn instance(&self) -> Uuid {
        self.instance
    }

    /// Whether somebody has asked this instance to leave its group.
    pub fn drain_requested(&self) -> bool {
        self.root.join(DRAIN_FILE).exists()
    }

    /// Answers that it has left, if somebody has asked.
    pub fn drained(&self) -> Result<(), StateError> {
        let (asked, answer) = (self.root.join(DRAIN_FILE), self.root.join(DRAINED_FILE));
        match std::fs::rename(&asked, &answer) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StateError::io(&asked, &error)),
            _ => Ok(()),
        }
    }

    /// Where a task's store stands.
    pub fn task_dir(&self, application: &str, task: &TopicPartition) -> PathBuf {
        let application = encode(application);
        let topic = encode(&task.topic);
        self.root.join(TASKS_DIR).join(application).join(topic).join(task.partition.to_string())
    }
}

/// A request to the instance that runs with a state directory, made by another process.
#[derive(Debug)]
pub struct DrainRequest {
    root: PathBuf,
}

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    Asked,
    Done,
    /// The instance ended without an answer.
    Gone,
}

impl DrainRequest {
    /// Asks the instance that runs with `root` to leave its group and end. None where none runs.
    pub fn make(root: impl Into<PathBuf>) -> Result<Option<DrainRequest>, StateError> {
        let request = DrainRequest { root: root.into() };
        if !request.instance_runs()? {
            return Ok(None);
        }
        // Order: an answer that is there already is one to somebody else.
        request.withdraw()?;
        request.ask()?;
        Ok(Some(request))
    }

    fn ask(&self) -> Result<(), StateError> {
        let path = self.root.join(DRAIN_FILE);
        std::fs::write(&path, b"").map_err(|error| StateError::io(&path, &error))
    }

    pub fn look(&self) -> Result<Drain, StateError> {
        // Order: whether it runs is asked before its answer is looked for; it may answer and end between the two.
        let runs = self.instance_runs()?;
        if self.root.join(DRAINED_FILE).exists() {
            self.withdraw()?;
            return Ok(Drain::Done);
        }
        if !runs {
            self.withdraw()?;
            return Ok(Drain::Gone);
        }
        if !self.root.join(DRAIN_FILE).exists() {
            // An instance that was just starting took the request for one of an earlier time.
            self.ask()?;
        }
        Ok(Drain::Asked)
    }

    /// Takes the request back.
    pub fn withdraw(&self) -> Result<(), StateError> {
        withdraw_drain(&self.root)
    }

    fn instance_runs(&self) -> Result<bool, StateError> {
        let path = self.root.join(LOCK_FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(StateError::io(&path, &error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(StateError::io(&path, &error)),
        }
    }
}

/// Removes request and answer.
fn withdraw_drain(root: &Path) -> Result<(), StateError> {
    for name in [DRAIN_FILE, DRAINED_FILE] {
        let path = root.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StateError::io(&path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn lock(root: &Path) -> Result<File, StateError> {
    let path = root.join(LOCK_FILE);
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|error| StateError::io(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StateError::InUse { dir: root.into() }),
        Err(TryLockError::Error(error)) => Err(StateError::io(&path, &error)),
    }
}

fn read_or_take_identity(path: &Path) -> Result<Uuid, StateError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Uuid::parse_str(text.trim())
            .map_err(|_| StateError::Corrupt { path: path.into(), detail: "it holds no UUID".to_string() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => take_identity(path),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(StateError::Corrupt { path: path.into(), detail: "it holds no text".to_string() })
        }
        Err(error) => Err(StateError::io(path, &error)),
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where an identity is made")]
fn take_identity(path: &Path) -> Result<Uuid, StateError> {
    let instance = Uuid::new_v4();
    write_whole(path, format!("{instance}\n").as_bytes())?;
    Ok(instance)
}

/// A name as one path component: letters, digits, `-`, `_` and inner dots stay, any other byte becomes `%XX`.
fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => encoded.push(char::from(byte)),
            b'.' if at > 0 => encoded.push('.'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let root = parent.path().join("deep/state");
        (parent, root)
    }

    #[test]
    fn identity_survives_a_restart_and_differs_between_directories() {
        let (_parent, root) = fresh();
        let first = StateDir::open(&root).expect("a new directory").instance();
        assert_eq!(StateDir::open(&root).expect("the same again").instance(), first);
        let (_other, elsewhere) = fresh();
        assert_ne!(StateDir::open(&elsewhere).expect("another directory").instance(), first);
    }

    #[test]
    fn second_instance_is_refused_until_the_first_is_gone() {
        let (_parent, root) = fresh();
        let first = StateDir::open(&root).expect("a new directory");
        let refused = StateDir::open(&root).expect_err("the directory is locked");
        assert!(matches!(refused, StateError::InUse { .. }), "{refused}");
        assert!(refused.to_string().contains(&root.display().to_string()), "{refused}");
        drop(first);
        StateDir::open(&root).expect("the lock is free");
    }

    #[test]
    fn directory_of_another_format_is_refused_and_left_alone() {
        let (_parent, root) = fresh();
        drop(StateDir::open(&root).expect("a new directory"));
        std::fs::write(root.join("FORMAT"), "millstream state 2\n").expect("a file");
        let refused = StateDir::open(&root).expect_err("another format");
        assert!(matches!(refused, StateError::Foreign { .. }), "{refused}");
        assert!(refused.to_string().contains("millstream state 2"), "{refused}");
        std::fs::remove_file(root.join("FORMAT")).expect("a file");
        let refused = StateDir::open(&root).expect_err("an identity without a format");
        assert!(refused.to_string().contains("it has INSTANCE but no FORMAT"), "{refused}");
    }

    #[test]
    fn mounted_volume_with_other_files_is_welcome() {
        let (_parent, root) = fresh();
        std::fs::create_dir_all(root.join("lost+found")).expect("a directory");
        StateDir::open(&root).expect("nothing of ours is there");
    }

    #[test]
    fn damaged_identity_is_named_not_replaced() {
        let (_parent, root) = fresh();
        drop(StateDir::open(&root).expect("a new directory"));
        for damage in [&b""[..], b"not a uuid\n", b"\xff\xfe"] {
            std::fs::write(root.join(INSTANCE_FILE), damage).expect("a file");
            let refused = StateDir::open(&root).expect_err("no identity");
            assert!(matches!(refused, StateError::Corrupt { .. }), "{refused}");
            assert!(refused.to_string().contains("new identity"), "{refused}");
        }
    }

    #[test]
    fn interrupted_creation_is_completed() {
        let (_parent, root) = fresh();
        std::fs::create_dir_all(&root).expect("a directory");
        std::fs::write(root.join("FORMAT.tmp"), "mill").expect("a file");
        std::fs::write(root.join("INSTANCE.tmp"), "").expect("a file");
        StateDir::open(&root).expect("nothing was named yet");
    }

    #[test]
    fn instance_that_runs_is_asked_to_drain_and_answers() {
        let (_parent, root) = fresh();
        assert!(DrainRequest::make(&root).expect("no directory").is_none());
        let running = StateDir::open(&root).expect("a new directory");
        assert!(!running.drain_requested());
        let request = DrainRequest::make(&root).expect("a directory").expect("an instance runs");
        assert!(running.drain_requested());
        assert_eq!(request.look().expect("a directory"), Drain::Asked);
        running.drained().expect("answered");
        assert_eq!(request.look().expect("a directory"), Drain::Done);
        drop(running);
        assert!(DrainRequest::make(&root).expect("a directory").is_none(), "nobody runs there");
    }

    #[test]
    fn request_to_an_instance_that_died_is_no_request_to_the_next() {
        let (_parent, root) = fresh();
        let dying = StateDir::open(&root).expect("a new directory");
        let request = DrainRequest::make(&root).expect("a directory").expect("an instance runs");
        drop(dying);
        assert_eq!(request.look().expect("a directory"), Drain::Gone);
        let dying = StateDir::open(&root).expect("the same again");
        DrainRequest::make(&root).expect("a directory").expect("an instance runs");
        drop(dying);
        assert!(!StateDir::open(&root).expect("the same again").drain_requested());
    }

    #[test]
    fn task_directories_stay_inside_and_apart() {
        let (_parent, root) = fresh();
        let state = StateDir::open(&root).expect("a new directory");
        let check = |application: &str, topic: &str, expect: &str| {
            let dir = state.task_dir(application, &TopicPartition::new(topic, 7));
            assert_eq!(dir, root.join("tasks").join(expect));
        };
        check("clicks", "page-views.v1", "clicks/page-views.v1/7");
        check("..", "a/b", "%2E./a%2Fb/7");
        check("a b%", ".hidden", "a%20b%25/%2Ehidden/7");
        check("k\u{e4}se\0", "A_b", "k%C3%A4se%00/A_b/7");
    }
}
