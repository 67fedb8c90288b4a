//! What containers write, kept in the format of the container runtime interface: one line for each line,
//! with time and stream in front, which `kubectl logs` takes off again.

use std::path::{Path, PathBuf};

use inroads_harness::clock;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::sync::watch;

/// The size at which a log starts anew, in bytes: logs live in memory.
const LARGEST: u64 = 16 << 20;

/// One log line of at most this many bytes stays whole; a longer one is cut into several.
const LONGEST_LINE: usize = 16 << 10;

/// The log of one container, across restarts of its program.
#[derive(Debug, Clone)]
pub(crate) struct ContainerLog {
    path: PathBuf,
    /// Changes with every line, so that followers need not poll.
    written: watch::Sender<u64>,
}

impl ContainerLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            written: watch::Sender::new(0),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells of every line written from now on; it closes when the log is no longer written.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Copies everything that comes from `output` into the log, until it ends.
    pub(crate) async fn copy(self, stream: &'static str, output: impl AsyncRead + Unpin) {
        let Ok(mut file) = self.open().await else {
            return;
        };
        let mut lines = BufReader::with_capacity(LONGEST_LINE, output);
        loop {
            let mut line = Vec::new();
            let read = read_line(&mut lines, &mut line).await;
            if !matches!(read, Ok(count) if count > 0) {
                return;
            }
            let partial = if line.ends_with(b"\n") { 'F' } else { 'P' };
            let mut entry =
                format!("{:.9} {stream} {partial} ", clock::wall_precise()).into_bytes();
            entry.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(&line));
            entry.push(b'\n');
            if self.written.borrow().saturating_add(entry.len() as u64) % LARGEST
                < entry.len() as u64
            {
                drop(file.set_len(0).await);
            }
            if file.write_all(&entry).await.is_err() || file.flush().await.is_err() {
                return;
            }
            self.written
                .send_modify(|written| *written += entry.len() as u64);
        }
    }

    async fn open(&self) -> std::io::Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .await
    }
}

/// Reads up to the end of a line, or as much of it as the buffer holds.
async fn read_line(
    lines: &mut BufReader<impl AsyncRead + Unpin>,
    line: &mut Vec<u8>,
) -> std::io::Result<usize> {
    let available = lines.fill_buf().await?;
    let length = available
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(available.len(), |at| at + 1);
    line.extend_from_slice(&available[..length]);
    lines.consume(length);
    Ok(length)
}
