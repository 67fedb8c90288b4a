//! An image of this very program, made of its file and the libraries it links to: the same build is on
//! both ends of every wire, no base image is needed, and nothing is compiled for it.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use futures_util::future::try_join_all;
use inroads_harness::cluster::ClusterError;
use inroads_harness::role::this_program;
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

/// Makes an image of this program in the engine.
///
/// # Errors
/// Where the program's own files cannot be read, or the engine does not take the image.
pub async fn build(docker: &Docker, image: &str, label: &str) -> Result<(), ClusterError> {
    const DOING: &str = "making an image of this program";
    let program = this_program();
    let libraries = libraries(&program).await?;
    let slim = stripped(docker, &program).await;
    let content = slim.as_ref().map_or(program.as_path(), |file| file.path());
    let archive = archive(content, &libraries).map_err(ClusterError::while_doing(DOING))?;
    let entrypoint = format!("ENTRYPOINT [\"{PROGRAM}\"]");
    let label = format!("LABEL {label}");
    docker
        .command([
            "import",
            "--change",
            &entrypoint,
            "--change",
            &label,
            "-",
            image,
        ])
        .input_file(archive)
        .run(DOING)
        .await
        .map(drop)
}

/// Puts an image of this engine into nodes that are containers of it.
pub(crate) async fn load(
    docker: &Docker,
    image: &str,
    nodes: &[String],
) -> Result<(), ClusterError> {
    let failed = || ClusterError::while_doing("saving the image of this program");
    let saved = tempfile::NamedTempFile::new().map_err(failed())?;
    docker
        .command(["save", "--output"])
        .args([saved.path()])
        .args([image])
        .run("saving the image of this program")
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
            .run(&format!(
                "loading the image of this program into node `{node}`"
            ))
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
            tracing::warn!(%error, node, "the image of this program may be left there");
        }
    }
}

/// The libraries that `program` links to, as the loader finds them (ld.so(8), `LD_TRACE_LOADED_OBJECTS`).
async fn libraries(program: &Path) -> Result<Vec<PathBuf>, ClusterError> {
    const DOING: &str = "finding the libraries of this program";
    let output = Command::new(program)
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .output()
        .await
        .map_err(ClusterError::while_doing(DOING))?;
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

fn archive(program: &Path, libraries: &[PathBuf]) -> std::io::Result<File> {
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
    let programs = std::iter::once((PathBuf::from(PROGRAM), program.to_path_buf()));
    let libraries = libraries.iter().map(|file| (file.clone(), file.clone()));
    for (path, file) in programs.chain(libraries) {
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
        let file = archive(&program, &[]).unwrap();
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
