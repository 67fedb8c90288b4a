//! What a process of the lab finds as its files: a host sees the machine's own, with another `/etc` and
//! `/run`; a container sees programs and libraries, read-only, and nothing else.
//!
//! All of it happens in the mount namespace of the process that is being prepared.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};
use serde::{Deserialize, Serialize};

/// Where the lab keeps its files, on a tmpfs of its own that goes with it.
pub(crate) const LAB_DIR: &str = "/run/inroads";

/// Where a container finds this very program.
pub(crate) const PROGRAM: &str = "/inroads";

/// The largest file of `/etc` that hosts get a copy of.
const LARGEST_CONFIG: u64 = 1 << 20;

/// A file system step failed, with the path.
#[derive(Debug, thiserror::Error)]
#[error("{doing} `{}`: {source}", path.display())]
pub(crate) struct FileError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What a host's resolver reads.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Resolver {
    /// `resolv.conf`.
    pub(crate) resolv_conf: String,
    /// `hosts`.
    pub(crate) hosts: String,
    /// `hostname`.
    pub(crate) hostname: String,
}

impl Resolver {
    /// A resolver that asks `nameserver`, with the usual names of `hostname` itself.
    pub(crate) fn new(
        hostname: &str,
        nameserver: impl std::fmt::Display,
        search: &[String],
        ndots: Option<u8>,
    ) -> Self {
        let mut resolv_conf = String::new();
        if !search.is_empty() {
            resolv_conf += &format!("search {}\n", search.join(" "));
        }
        resolv_conf += &format!("nameserver {nameserver}\n");
        if let Some(ndots) = ndots {
            resolv_conf += &format!("options ndots:{ndots}\n");
        }
        Self {
            resolv_conf,
            hosts: format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {hostname}\n"),
            hostname: format!("{hostname}\n"),
        }
    }

    /// Writes the files into `folder`.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), FileError> {
        create_dir(folder)?;
        for (name, text) in [
            ("resolv.conf", &self.resolv_conf),
            ("hosts", &self.hosts),
            ("hostname", &self.hostname),
        ] {
            write(&folder.join(name), text)?;
        }
        Ok(())
    }
}

/// Copies `/etc` to the lab's folder, once: what hosts have as theirs. Files that this user cannot read
/// stay away. The resolver's files are plain files in it, whatever they are on this machine.
pub(crate) fn prepare_etc() -> Result<PathBuf, FileError> {
    let copy = Path::new(LAB_DIR).join("etc");
    copy_tree(Path::new("/etc"), &copy)?;
    for name in ["resolv.conf", "hosts", "hostname", "nsswitch.conf"] {
        let file = copy.join(name);
        drop(fs::remove_file(&file));
        // Only files and DNS: other sources of names would ask this machine's services.
        let text = if name == "nsswitch.conf" {
            "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"
        } else {
            ""
        };
        write(&file, text)?;
    }
    Ok(copy)
}

/// Gives this process, in a mount namespace of its own, the files of a host: this machine's, but for
/// `/etc`, with the resolver's files from `folder`, and `/run`, where this machine's services listen.
pub(crate) fn become_host(folder: &Path) -> Result<(), FileError> {
    become_node(folder)?;
    mount_fresh(
        "tmpfs",
        Path::new("/run"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=755"),
    )
}

/// The same for a node, which keeps the lab's `/run`: its pods' files are there.
pub(crate) fn become_node(folder: &Path) -> Result<(), FileError> {
    bind(&Path::new(LAB_DIR).join("etc"), Path::new("/etc"))?;
    for name in ["resolv.conf", "hosts", "hostname"] {
        bind(&folder.join(name), &Path::new("/etc").join(name))?;
    }
    show_own_links();
    Ok(())
}

/// What a container finds at a path of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    /// The folder or file outside.
    pub(crate) source: PathBuf,
    /// Where the container finds it.
    pub(crate) target: PathBuf,
    /// Whether it cannot be written.
    pub(crate) read_only: bool,
}

/// Gives this process, in mount and PID namespaces of its own, the files of a container.
pub(crate) fn become_container(
    program: &Path,
    resolver: &Path,
    volumes: &[Volume],
) -> Result<(), FileError> {
    let root = Path::new(LAB_DIR).join("root");
    create_dir(&root)?;
    mount_fresh("tmpfs", &root, MsFlags::MS_NOSUID, Some("mode=755"))?;
    bind_programs(&root)?;
    populate_etc(&root.join("etc"), resolver)?;
    populate_dev(&root.join("dev"))?;
    for folder in ["proc", "sys", "tmp", "var", "root", "run"] {
        create_dir(&root.join(folder))?;
    }
    touch(&root.join(PROGRAM.trim_start_matches('/')))?;
    bind(program, &root.join(PROGRAM.trim_start_matches('/')))?;
    for volume in volumes {
        let target = root.join(volume.target.strip_prefix("/").unwrap_or(&volume.target));
        if volume.source.is_dir() {
            create_dir(&target)?;
        } else {
            touch(&target)?;
        }
        bind(&volume.source, &target)?;
        if volume.read_only {
            make_read_only(&target)?;
        }
    }
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_fresh("proc", &root.join("proc"), plain, None)?;
    pivot(&root)?;
    show_own_links();
    Ok(())
}

/// Binds the folders of this machine that hold programs and libraries, read-only.
fn bind_programs(root: &Path) -> Result<(), FileError> {
    const PROGRAM_FOLDERS: [&str; 8] = [
        "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt",
    ];
    for name in PROGRAM_FOLDERS {
        let (source, target) = (Path::new("/").join(name), root.join(name));
        match fs::read_link(&source) {
            Ok(link) => symlink(&link, &target).map_err(failed("linking", &target))?,
            Err(_) if source.is_dir() => {
                create_dir(&target)?;
                bind(&source, &target)?;
                make_read_only(&target)?;
            }
            Err(_) => {}
        }
    }
    Ok(())
}

/// The few files of `/etc` that programs need, and the resolver's.
fn populate_etc(etc: &Path, resolver: &Path) -> Result<(), FileError> {
    const NEEDED: [&str; 11] = [
        "alternatives",
        "group",
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "localtime",
        "nsswitch.conf",
        "passwd",
        "protocols",
        "services",
        "ssl",
    ];
    create_dir(etc)?;
    for name in NEEDED {
        copy_tree(&Path::new(LAB_DIR).join("etc").join(name), &etc.join(name))?;
    }
    for name in ["resolv.conf", "hosts", "hostname"] {
        touch(&etc.join(name))?;
        bind(&resolver.join(name), &etc.join(name))?;
    }
    Ok(())
}

/// The devices that every container has, and `/dev/net/tun` where this user may open it.
fn populate_dev(dev: &Path) -> Result<(), FileError> {
    const DEVICES: [&str; 7] = [
        "null", "zero", "full", "random", "urandom", "tty", "net/tun",
    ];
    create_dir(&dev.join("net"))?;
    create_dir(&dev.join("shm"))?;
    for name in DEVICES {
        let source = Path::new("/dev").join(name);
        let openable = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&source)
            .is_ok();
        if source.exists() && (openable || name != "net/tun") {
            touch(&dev.join(name))?;
            bind(&source, &dev.join(name))?;
        }
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        symlink(to, dev.join(name)).map_err(failed("linking", &dev.join(name)))?;
    }
    Ok(())
}

/// Makes `root` the root, and takes the old one away.
fn pivot(root: &Path) -> Result<(), FileError> {
    let error = |source: nix::Error| failed("changing the root to", root)(source.into());
    nix::unistd::chdir(root).map_err(error)?;
    // With both arguments the same, the old root ends up over the new one: pivot_root(2), notes.
    nix::unistd::pivot_root(".", ".").map_err(error)?;
    umount2(".", MntFlags::MNT_DETACH).map_err(error)?;
    nix::unistd::chdir("/").map_err(error)
}

/// Lets `/sys/class/net` show the links of this network namespace. The kernel refuses where parts of
/// this machine's `/sys` are hidden from us; only tools that look there miss it.
fn show_own_links() {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    drop(mount_fresh("sysfs", Path::new("/sys"), plain, None));
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), FileError> {
    let Ok(metadata) = fs::symlink_metadata(from) else {
        return Ok(());
    };
    if metadata.is_symlink() {
        let link = fs::read_link(from).map_err(failed("reading the link", from))?;
        symlink(link, to).map_err(failed("linking", to))?;
    } else if metadata.is_dir() {
        create_dir(to)?;
        let Ok(entries) = fs::read_dir(from) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else if metadata.is_file() && metadata.len() <= LARGEST_CONFIG {
        // What this user cannot read, this user's programs do not need.
        if let Ok(content) = fs::read(from) {
            fs::write(to, content).map_err(failed("writing", to))?;
            let mode = fs::Permissions::from_mode(metadata.permissions().mode() & 0o777 | 0o200);
            fs::set_permissions(to, mode).map_err(failed("writing", to))?;
        }
    }
    Ok(())
}

fn create_dir(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(failed("creating", path))
}

fn touch(path: &Path) -> Result<(), FileError> {
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map(drop)
        .map_err(failed("creating", path))
}

fn write(path: &Path, text: &str) -> Result<(), FileError> {
    fs::write(path, text).map_err(failed("writing", path))
}

fn bind(source: &Path, target: &Path) -> Result<(), FileError> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&OsStr>, flags, None::<&OsStr>)
        .map_err(|error| failed("binding", source)(error.into()))
}

fn mount_fresh(
    kind: &str,
    target: &Path,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<(), FileError> {
    mount(Some(kind), target, Some(kind), flags, data)
        .map_err(|error| failed("mounting", target)(error.into()))
}

/// Makes a bind mount read-only. A user namespace may add that flag but must keep those that it got.
fn make_read_only(target: &Path) -> Result<(), FileError> {
    let has = statvfs(target)
        .map_err(|error| failed("reading", target)(error.into()))?
        .flags();
    let kept = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ]
    .into_iter()
    .filter(|(fs, _)| has.contains(*fs))
    .fold(
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
        |flags, (_, ms)| flags | ms,
    );
    mount(None::<&OsStr>, target, None::<&OsStr>, kept, None::<&OsStr>)
        .map_err(|error| failed("making read-only", target)(error.into()))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError + use<> {
    let path = path.to_owned();
    move |source| FileError {
        doing,
        path,
        source,
    }
}
