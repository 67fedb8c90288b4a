//! An image of this very program, made of its file and the libraries it links to: the same build is on
//! both ends of every wire, no base image is needed, and nothing is compiled for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use futures_util::future::try_join_all;
use inroads_harness::cluster::ClusterError;
use inroads_harness::role::this_program;
use inroads_harness::software::{Provided, Software};
use tar::{Builder, EntryType, Header};
use tokio::process::Command;

use crate::docker::Docker;
use crate::tool::Tool;

/// Where the program is in the image, and so on container laptops.
pub(crate) const PROGRAM: &str = "/inroads";

/// The repository of the image; its tag is the run's id.
const REPOSITORY: &str = "inroads-agent";

/// What glibc looks names up with; programs of the laptop's user read it too.
const FILES: &[(&str, &str)] = &[
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
];

/// Older C libraries load these by name when a host is looked up, so that nothing links to them.
const LOADED_LATER: &[&str] = &["libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"];

/// The name of the image of a run.
pub(crate) fn image_of(run: &str) -> String {
    format!("{REPOSITORY}:{run}")
}

/// The name of the image of `software`, for a run.
pub(crate) fn image_of_software(software: &Software, run: &str) -> String {
    format!("inroads-{}:{run}", software.image)
}

/// Makes an image of this program in the engine.
///
/// # Errors
/// Where the program's own files cannot be read, or the engine does not take the image.
pub async fn build(docker: &Docker, image: &str, label: &str) -> Result<(), ClusterError> {
    const DOING: &str = "making an image of this program";
    let program = this_program();
    let libraries = libraries(&program, &[]).await?;
    let slim = stripped(docker, &program).await;
    let content = slim.as_ref().map_or(program.as_path(), |file| file.path());
    let files = std::iter::once((PathBuf::from(PROGRAM), content.to_path_buf()));
    let files = files.chain(libraries.into_iter().map(|file| (file.clone(), file)));
    let archive = archive(files).map_err(ClusterError::while_doing(DOING))?;
    let entrypoint = format!("ENTRYPOINT [\"{PROGRAM}\"]");
    import(docker, archive, image, label, &entrypoint, DOING).await
}

/// Makes an image of another maker's software in the engine: its programs, with the libraries that they link to.
///
/// # Errors
/// Where its files cannot be read, or the engine does not take the image.
pub(crate) async fn build_software(
    docker: &Docker,
    provided: &Provided,
    image: &str,
    label: &str,
) -> Result<(), ClusterError> {
    let doing = format!("making an image of {}", provided.software.server);
    let (place, own) = (&provided.place, provided.place.libraries());
    let mut files = BTreeMap::new();
    for name in provided.software.programs {
        let Some(program) = place.program(name) else {
            continue;
        };
        for library in libraries(&program, &own).await? {
            let within = place
                .folder()
                .and_then(|top| library.strip_prefix(top).ok());
            let path = within.map_or_else(|| library.clone(), |path| Path::new("/").join(path));
            files.insert(path, library);
        }
        files.insert(Path::new("/usr/local/bin").join(name), program);
    }
    let archive = archive(files.into_iter()).map_err(ClusterError::while_doing(&doing))?;
    let command = format!("CMD [\"{}\"]", provided.software.server);
    import(docker, archive, image, label, &command, &doing).await
}

async fn import(
    docker: &Docker,
    archive: File,
    image: &str,
    label: &str,
    start: &str,
    doing: &str,
) -> Result<(), ClusterError> {
    let label = format!("LABEL {label}");
    let path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let changes = [start, &label, path];
    let changes = changes.iter().flat_map(|change| ["--change", change]);
    docker
        .command(["import"])
        .args(changes)
        .args(["-", image])
        .input_file(archive)
        .run(doing)
        .await
        .map(drop)
}

/// Puts an image of this engine into nodes that are containers of it.
pub(crate) async fn load(
    docker: &Docker,
    image: &str,
    nodes: &[String],
) -> Result<(), ClusterError> {
    let failed = || ClusterError::while_doing(format!("saving the image `{image}`"));
    let saved = tempfile::NamedTempFile::new().map_err(failed())?;
    docker
        .command(["save", "--output"])
        .args([saved.path()])
        .args([image])
        .run(&format!("saving the image `{image}`"))
        .await?;
    let path = saved.path();
    let loading = nodes.iter().map(|node| async move {
        let file = File::open(path).map_err(failed())?;
        let import = [
            "ctr",
            "--namespace=k8s.io",
            "images",
            "import",
            "--all-platforms",
            "-",
        ];
        docker
            .command(["exec", "--interactive", node])
            .args(import)
            .input_file(file)
            .run(&format!("loading the image `{image}` into node `{node}`"))
            .await
    });
    try_join_all(loading).await.map(drop)
}

/// Takes it out of them again.
pub(crate) async fn unload(docker: &Docker, image: &str, nodes: &[String]) {
    let name = format!("docker.io/library/{image}");
    for node in nodes {
        let remove = [
            "exec",
            node,
            "ctr",
            "--namespace=k8s.io",
            "images",
            "rm",
            &name,
        ];
        if let Err(error) = docker.command(remove).run("removing an image").await {
            tracing::warn!(%error, node, image, "the image may be left there");
        }
    }
}

/// The libraries that `program` links to, as the loader finds them (ld.so(8), `LD_TRACE_LOADED_OBJECTS`): those in
/// `folders` first.
async fn libraries(program: &Path, folders: &[PathBuf]) -> Result<Vec<PathBuf>, ClusterError> {
    let doing = format!("finding the libraries of `{}`", program.display());
    let mut command = Command::new(program);
    if !folders.is_empty() {
        let path = std::env::join_paths(folders).map_err(ClusterError::while_doing(&doing))?;
        command.env("LD_LIBRARY_PATH", path);
    }
    let output = command
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .output()
        .await
        .map_err(ClusterError::while_doing(&doing))?;
    let mut found = parse_libraries(&String::from_utf8_lossy(&output.stdout));
    let folder = found
        .iter()
        .find(|file| file.file_name().is_some_and(|name| name == "libc.so.6"))
        .and_then(|file| file.parent().map(Path::to_path_buf));
    let later = folder
        .iter()
        .flat_map(|folder| LOADED_LATER.iter().map(|name| folder.join(name)));
    found.extend(later.filter(|file| file.is_file()).collect::<Vec<_>>());
    Ok(found)
}

/// Lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and `/lib64/ld-linux… (0x…)`.
fn parse_libraries(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| {
            let line = line.split_once("=> ").map_or(line, |(_, rest)| rest);
            let path = line.split_ascii_whitespace().next()?;
            path.starts_with('/').then(|| PathBuf::from(path))
        })
        .collect()
}

/// A copy without the tables that only debuggers read: a third of the size. `None` where binutils are
/// not there.
async fn stripped(docker: &Docker, program: &Path) -> Option<tempfile::NamedTempFile> {
    let slim = tempfile::NamedTempFile::new().ok()?;
    let strip = Tool::new("strip", docker.path())
        .args([Path::new("-o"), slim.path(), program])
        .run("stripping this program");
    strip.await.ok().map(|_| slim)
}

/// An image's files: each path in it with the file whose content is there.
fn archive(files: impl Iterator<Item = (PathBuf, PathBuf)>) -> std::io::Result<File> {
    let mut archive = Builder::new(tempfile::tempfile()?);
    for folder in ["tmp/", "run/", "root/", "etc/", "var/", "var/tmp/"] {
        let mode = if folder.ends_with("tmp/") {
            0o1777
        } else {
            0o755
        };
        archive.append_data(
            &mut header(EntryType::Directory, mode, 0),
            folder,
            std::io::empty(),
        )?;
    }
    for (path, text) in FILES {
        let mut header = header(EntryType::Regular, 0o644, text.len() as u64);
        archive.append_data(&mut header, path, text.as_bytes())?;
    }
    for (path, file) in files {
        let file = File::open(file)?;
        let mut header = header(EntryType::Regular, 0o755, file.metadata()?.len());
        archive.append_data(&mut header, path.strip_prefix("/").unwrap_or(&path), file)?;
    }
    let mut file = archive.into_inner()?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_the_loaders_list() {
        let text = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tlibgone.so => not found\n";
        let found = parse_libraries(text);
        let expected = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    #[test]
    fn the_archive_holds_the_program_where_the_entrypoint_names_it() {
        let program = std::env::current_exe().unwrap();
        let file = archive(std::iter::once((PathBuf::from(PROGRAM), program))).unwrap();
        let mut archive = tar::Archive::new(file);
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| format!("/{}", entry.unwrap().path().unwrap().display()))
            .collect();
        assert!(names.contains(&PROGRAM.to_owned()), "{names:?}");
        assert!(
            names.contains(&"/etc/nsswitch.conf".to_owned()),
            "{names:?}"
        );
    }
}
