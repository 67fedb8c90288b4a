//! The folder of the cache in which packages are unpacked: made whole and then renamed, so that it is there
//! or it is not.
//!
//! Besides the packages' own tree it has `inroads-bin`, with a script for each program that starts it with
//! the libraries beside it, wherever the folder is bound.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::{Software, apt};
use crate::cluster::{ClusterError, Steps};
use crate::private::{self, using};

/// Where the scripts are in the folder.
pub(super) const BIN: &str = "inroads-bin";

/// Where packages have programs.
const PROGRAM_FOLDERS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];

/// How the folders begin that are being made; whoever holds the lock may remove those of others.
const UNFINISHED: &str = ".new-";

/// The folder of `software`: what is unpacked for one release of a distribution is of no use on the next.
pub(super) fn of(software: &Software) -> PathBuf {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    base().join(format!(
        "{}-{}-{}",
        software.image,
        release_of(&release),
        std::env::consts::ARCH
    ))
}

/// Whether the server in it can be started.
pub(super) fn is_whole(folder: &Path, software: &Software) -> bool {
    folder.join(BIN).join(software.server).is_file()
}

/// Fetches the packages of `software` and returns its folder. Only one process does so at a time; another
/// waits, and finds what the first has made.
pub(super) async fn fetch(
    software: &'static Software,
    progress: Steps<'_>,
) -> Result<PathBuf, ClusterError> {
    let base = base();
    fs::create_dir_all(&base).map_err(using(&base))?;
    let lock = base.join("lock");
    let waiting = tokio::task::spawn_blocking(move || locked(&lock));
    let _lock = waiting
        .await
        .map_err(ClusterError::while_doing("waiting for another fetch"))??;
    let folder = of(software);
    if is_whole(&folder, software) {
        return Ok(folder);
    }
    remove_unfinished(&base);
    let new = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(&base);
    let new = new.map_err(using(&base))?;
    let tree = new.path().join("tree");
    fs::create_dir(&tree).map_err(using(&tree))?;
    apt::unpack(software, new.path(), &tree, progress).await?;
    write_scripts(software, &tree)?;
    fs::rename(&tree, &folder).map_err(using(&folder))?;
    Ok(folder)
}

/// Removes a folder whose programs do not run any more.
pub(super) fn discard(folder: &Path) -> Result<(), ClusterError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(using(folder)(error)),
        _ => Ok(()),
    }
}

/// The program `name` in the packages' tree.
pub(super) fn program(folder: &Path, name: &str) -> Option<PathBuf> {
    relative_program(folder, name).map(|path| folder.join(path))
}

fn relative_program(folder: &Path, name: &str) -> Option<PathBuf> {
    PROGRAM_FOLDERS
        .iter()
        .map(|place| Path::new(place).join(name))
        .find(|path| folder.join(path).is_file())
}

/// The folders of the tree that have libraries in them.
pub(super) fn libraries(folder: &Path) -> Vec<PathBuf> {
    relative_libraries(folder)
        .into_iter()
        .map(|path| folder.join(path))
        .collect()
}

fn relative_libraries(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in ["usr/lib", "lib"] {
        let top = PathBuf::from(top);
        let below = entries(&folder.join(&top))
            .into_iter()
            .filter(|entry| entry.path().is_dir())
            .map(|entry| top.join(entry.file_name()));
        for candidate in std::iter::once(top.clone()).chain(below) {
            let is_library = |name: String| name.contains(".so");
            let has_some = entries(&folder.join(&candidate))
                .into_iter()
                .any(|entry| is_library(entry.file_name().to_string_lossy().into_owned()));
            if has_some {
                found.push(candidate);
            }
        }
    }
    found
}

fn entries(folder: &Path) -> Vec<fs::DirEntry> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    entries
}

fn write_scripts(software: &Software, tree: &Path) -> Result<(), ClusterError> {
    let bin = tree.join(BIN);
    fs::create_dir(&bin).map_err(using(&bin))?;
    let libraries = relative_libraries(tree);
    for name in software.programs {
        let program = relative_program(tree, name).ok_or_else(|| ClusterError::Missing {
            what: format!(
                "the packages {} have no `{name}`",
                software.packages.join(", ")
            ),
            hint: format!("install {}, so that it is on the PATH", software.server),
        })?;
        let file = bin.join(name);
        let mut script = File::create(&file).map_err(using(&file))?;
        script
            .write_all(script_of(&program, &libraries).as_bytes())
            .map_err(using(&file))?;
        let mode = fs::Permissions::from_mode(0o755);
        script.set_permissions(mode).map_err(using(&file))?;
    }
    Ok(())
}

fn script_of(program: &Path, libraries: &[PathBuf]) -> String {
    let mut text = "#!/bin/sh\n# Made by inroads: starts a program with the libraries of the packages beside it.\n\
                    at=${0%/*}/..\n"
        .to_owned();
    if !libraries.is_empty() {
        let paths: Vec<String> = libraries
            .iter()
            .map(|path| format!("$at/{}", path.display()))
            .collect();
        text += &format!(
            "LD_LIBRARY_PATH={}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\nexport LD_LIBRARY_PATH\n",
            paths.join(":")
        );
    }
    text + &format!("exec \"$at/{}\" \"$@\"\n", program.display())
}

/// What whoever was killed while making it has left.
fn remove_unfinished(base: &Path) {
    for entry in entries(base) {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// Takes the lock, which the kernel gives back with the file.
fn locked(path: &Path) -> Result<Flock<OwnedFd>, ClusterError> {
    let file = File::create(path).map_err(using(path))?;
    Flock::lock(OwnedFd::from(file), FlockArg::LockExclusive)
        .map_err(|(_file, error)| using(path)(error))
}

/// Where folders of software are: in the user's cache, which is there after a restart too, or where
/// `INROADS_CACHE` says.
fn base() -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|folder| folder.is_absolute())
    };
    let cache = set("INROADS_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("inroads")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/inroads")));
    cache.unwrap_or_else(private::base).join("software")
}

/// `debian-12` of an os-release file (os-release(5)).
fn release_of(text: &str) -> String {
    let value = |wanted: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key == wanted).then(|| value.trim_matches('"').to_owned())
        })
    };
    let id = value("ID").unwrap_or_else(|| "linux".to_owned());
    match value("VERSION_ID") {
        Some(version) => format!("{id}-{version}"),
        None => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOFTWARE: Software = Software {
        image: "greeter",
        server: "greet",
        programs: &["greet"],
        packages: &["greeter"],
    };

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for folder in ["usr/bin", "usr/lib/x86_64-linux-gnu", "usr/lib/empty"] {
            fs::create_dir_all(tree.path().join(folder)).unwrap();
        }
        let program = tree.path().join("usr/bin/greet");
        fs::write(&program, "#!/bin/sh\necho \"$1 $LD_LIBRARY_PATH\"\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(
            tree.path().join("usr/lib/x86_64-linux-gnu/libgreet.so.1"),
            "",
        )
        .unwrap();
        tree
    }

    #[test]
    fn a_script_starts_the_program_with_its_libraries_wherever_the_folder_is() {
        let tree = tree();
        write_scripts(&SOFTWARE, tree.path()).unwrap();
        assert!(is_whole(tree.path(), &SOFTWARE));
        let elsewhere = tempfile::tempdir().unwrap();
        let link = elsewhere.path().join("moved");
        std::os::unix::fs::symlink(tree.path(), &link).unwrap();
        let script = link.join(BIN).join("greet");
        let output = std::process::Command::new(&script)
            .arg("hello")
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let expected = format!(
            "hello {}/{BIN}/../usr/lib/x86_64-linux-gnu\n",
            link.display()
        );
        assert_eq!(said, expected);
    }

    #[test]
    fn packages_without_the_program_are_an_error_that_names_it() {
        let tree = tempfile::tempdir().unwrap();
        let error = write_scripts(&SOFTWARE, tree.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("no `greet`"), "{error}");
    }

    #[test]
    fn a_release_is_told_from_the_next() {
        let debian =
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";
        assert_eq!(release_of(debian), "debian-12");
        assert_eq!(release_of("ID=arch\n"), "arch");
    }
}
