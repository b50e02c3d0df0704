//! Small files that must be whole or absent, and the mark of the format.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::StateError;

const FORMAT_FILE: &str = "FORMAT";
/// The layout of directories and families. The values in them carry versions of their own.
const FORMAT: &str = "millstream state 1\n";

/// Checks the mark of a directory, or makes one where nothing that needs it, `guarded`, is there yet.
pub(super) fn check_format(dir: &Path, guarded: &[&str]) -> Result<(), StateError> {
    let path = dir.join(FORMAT_FILE);
    let foreign = |detail: String| StateError::Foreign { dir: dir.into(), detail };
    match std::fs::read(&path) {
        Ok(found) if found == FORMAT.as_bytes() => Ok(()),
        Ok(found) => {
            let shown = String::from_utf8_lossy(&found[..found.len().min(64)]).trim().to_string();
            Err(foreign(format!("its {FORMAT_FILE} is '{shown}', expected '{}'", FORMAT.trim())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            match guarded.iter().find(|name| dir.join(name).exists()) {
                Some(name) => Err(foreign(format!("it has {name} but no {FORMAT_FILE}"))),
                None => write_whole(&path, FORMAT.as_bytes()),
            }
        }
        Err(error) => Err(StateError::io(&path, &error)),
    }
}

/// Makes a file that is there with all its bytes, or not at all, whatever crashes.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let temporary = path.with_extension("tmp");
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // Order: bytes before name before directory; a machine that loses power shows the old or the new file.
        std::fs::rename(&temporary, path)?;
        sync_parent(path)
    })();
    written.map_err(|error| StateError::io(path, &error))
}

/// Makes the names in the directory that holds `path` durable.
pub(super) fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
