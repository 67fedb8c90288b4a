//! Folders and files that this user alone can read: what keeps a cluster found again holds its keys.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::cluster::ClusterError;

/// The folder of this user's clusters: gone with a restart of the machine, as labs are.
#[must_use]
pub fn base() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|folder| folder.is_dir());
    match runtime {
        Some(runtime) => runtime.join("inroads"),
        None => std::env::temp_dir().join(format!("inroads-{}", geteuid())),
    }
}

/// Makes `folder`, which is below [`base`]. Where somebody else has put the base there first, they could
/// read tokens, or hand us theirs.
///
/// # Errors
/// Where the base is not this user's alone, or a folder cannot be made.
pub fn make(folder: &Path) -> Result<(), ClusterError> {
    let base = base();
    make_one(&base)?;
    let found = fs::symlink_metadata(&base).map_err(using(&base))?;
    if found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0 {
        return make_one(folder);
    }
    Err(ClusterError::Missing {
        what: format!("`{}` is not this user's alone", base.display()),
        hint: "remove it, or set XDG_RUNTIME_DIR to a folder of your own".to_owned(),
    })
}

fn make_one(folder: &Path) -> Result<(), ClusterError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(using(folder))
}

/// Writes a file that only this user can read.
///
/// # Errors
/// Where it cannot be written; the message names it.
pub fn write(path: &Path, text: &[u8]) -> Result<(), ClusterError> {
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(using(path))?;
    file.write_all(text).map_err(using(path))
}

/// When a process started, in ticks since boot (proc_pid_stat(5), field 22): with its number, that is one
/// process for good. `None` where it is gone or only waits to be reaped.
#[must_use]
pub fn birth(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// For `map_err`: the file or folder that was being used.
pub fn using<E>(path: &Path) -> impl FnOnce(E) -> ClusterError + use<E>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    ClusterError::while_doing(format!("using `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_birth() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(birth(own).is_some_and(|ticks| ticks > 0));
        assert_eq!(birth(i32::MAX), None);
    }
}
