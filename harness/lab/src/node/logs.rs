//! Reading container logs as `kubectl logs` asks for them.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::{Stream, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::{mpsc, watch};

use super::container_log::ContainerLog;
use inroads_harness::clock;

/// What `PodLogOptions` says of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LogOptions {
    follow: bool,
    timestamps: bool,
    tail: Option<usize>,
    since: Option<Timestamp>,
    limit_bytes: Option<usize>,
}

impl LogOptions {
    /// Reads them from a query string. What cannot be read counts as not given: the API server has
    /// checked it.
    pub(super) fn parse(query: &str) -> Self {
        let mut options = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "follow" => options.follow = value == "true",
                "timestamps" => options.timestamps = value == "true",
                "tailLines" => options.tail = value.parse().ok(),
                "limitBytes" => options.limit_bytes = value.parse().ok(),
                "sinceSeconds" => {
                    let seconds = value.parse().map(SignedDuration::from_secs).ok();
                    options.since =
                        seconds.and_then(|ago| clock::wall_precise().checked_sub(ago).ok());
                }
                "sinceTime" => options.since = value.replace("%3A", ":").parse().ok(),
                _ => {}
            }
        }
        options
    }
}

/// The log's lines, whole or as far as the options go; with `follow`, those still to come too.
pub(super) fn read(
    log: ContainerLog,
    options: LogOptions,
) -> impl Stream<Item = Bytes> + Send + Sync + 'static {
    let (lines, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let followed = log.follow();
        // The log must not keep itself open for followers once nobody writes it.
        let path = log.path().to_owned();
        drop(log);
        if let Ok(file) = File::open(path).await {
            drop(send_lines(BufReader::new(file), &options, followed, &lines).await);
        }
    });
    stream::unfold(Shared(receiver), |mut receiver| async move {
        let line = receiver.0.recv().await?;
        Some((line, receiver))
    })
}

/// A receiver that only one task at a time holds, which makes it `Sync`.
struct Shared(mpsc::Receiver<Bytes>);

async fn send_lines(
    mut file: BufReader<File>,
    options: &LogOptions,
    mut followed: watch::Receiver<u64>,
    lines: &mpsc::Sender<Bytes>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut left = options.limit_bytes.unwrap_or(usize::MAX);
    let mut held = VecDeque::new();
    while let Some(line) = next_line(&mut file, options).await? {
        // Only the end of a log can be known at its end; the rest need not be held.
        match options.tail {
            None => send(lines, line, &mut left).await?,
            Some(tail) => {
                held.push_back(line);
                if held.len() > tail {
                    held.pop_front();
                }
            }
        }
    }
    for line in held {
        send(lines, line, &mut left).await?;
    }
    while options.follow && left > 0 {
        let written = tokio::select! {
            written = followed.changed() => written.is_ok(),
            () = lines.closed() => return Ok(()),
        };
        while let Some(line) = next_line(&mut file, options).await? {
            send(lines, line, &mut left).await?;
        }
        if !written {
            return Ok(());
        }
    }
    Ok(())
}

async fn send(
    lines: &mpsc::Sender<Bytes>,
    mut line: Vec<u8>,
    left: &mut usize,
) -> Result<(), mpsc::error::SendError<Bytes>> {
    line.truncate(*left);
    *left -= line.len();
    if line.is_empty() {
        Ok(())
    } else {
        lines.send(line.into()).await
    }
}

/// The next line as it is shown; `None` at the end of what is there.
async fn next_line(
    file: &mut BufReader<File>,
    options: &LogOptions,
) -> std::io::Result<Option<Vec<u8>>> {
    loop {
        let mut entry = Vec::new();
        if file.read_until(b'\n', &mut entry).await? == 0 {
            return Ok(None);
        }
        if let Some(line) = show(&entry, options) {
            return Ok(Some(line));
        }
    }
}

/// `TIME STREAM TAG TEXT` as a reader wants it; `None` where it is too old.
fn show(entry: &[u8], options: &LogOptions) -> Option<Vec<u8>> {
    let entry = entry.strip_suffix(b"\n").unwrap_or(entry);
    let mut fields = entry.splitn(4, |byte| *byte == b' ');
    let (time, _stream, tag, text) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    if let Some(since) = options.since {
        let written: Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
        if written < since {
            return None;
        }
    }
    let mut line = Vec::new();
    if options.timestamps {
        line.extend_from_slice(time);
        line.push(b' ');
    }
    line.extend_from_slice(text);
    if tag == b"F" {
        line.push(b'\n');
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[test]
    fn a_line_is_shown_as_it_was_written() {
        let entry = b"2026-11-23T06:00:00.000000000Z stdout F hello  world\n";
        let show = |options: &LogOptions| {
            show(entry, options).map(|line| String::from_utf8(line).unwrap())
        };
        assert_eq!(show(&LogOptions::default()).unwrap(), "hello  world\n");
        let stamped = show(&LogOptions {
            timestamps: true,
            ..LogOptions::default()
        })
        .unwrap();
        assert_eq!(stamped, "2026-11-23T06:00:00.000000000Z hello  world\n");
        let later = "2026-11-23T07:00:00Z".parse().ok();
        assert_eq!(
            show(&LogOptions {
                since: later,
                ..LogOptions::default()
            }),
            None
        );
    }

    #[tokio::test]
    async fn the_last_lines_are_the_tail() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let entries: String = (0..5)
            .map(|number| format!("2026-11-23T06:00:00Z stdout F {number}\n"))
            .collect();
        std::fs::write(&path, entries).unwrap();
        for (query, wanted) in [
            ("", "0\n1\n2\n3\n4\n"),
            ("tailLines=2", "3\n4\n"),
            ("tailLines=0", ""),
            ("tailLines=9&limitBytes=3", "0\n1"),
        ] {
            let log = ContainerLog::new(path.clone());
            let lines: Vec<Bytes> = read(log, LogOptions::parse(query)).collect().await;
            assert_eq!(lines.concat(), wanted.as_bytes(), "{query}");
        }
    }

    #[test]
    fn a_part_of_a_line_gets_no_line_end() {
        let options = LogOptions::default();
        assert_eq!(
            show(b"2026-11-23T06:00:00Z stdout P abc\n", &options).unwrap(),
            b"abc"
        );
    }

    #[test]
    fn options_are_read_from_a_query() {
        let options = LogOptions::parse("follow=true&tailLines=3&timestamps=false&unknown=1");
        assert_eq!(
            options,
            LogOptions {
                follow: true,
                tail: Some(3),
                ..LogOptions::default()
            }
        );
    }
}
