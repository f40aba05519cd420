//! Logs: lines to stderr as text or JSON, at a level that can change while running, written by a thread of their own.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam::channel::{Receiver, Sender, bounded};
use tracing_subscriber::{
    Layer, Registry,
    filter::LevelFilter,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    reload,
};

use crate::config::{Format, Level, Log};

/// Lines that wait for stderr. 4,096 lines of about 200 bytes are under 1 MiB; beyond it lines are counted and dropped,
/// because a pipe that nobody reads must not stop a shard.
pub const LINES_MAX: usize = 4096;

/// How long the end of the process waits for the last lines.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// The handle on the logs of this process.
#[derive(Clone, Debug)]
pub struct Logger {
    filter: reload::Handle<LevelFilter, Registry>,
    lines: Lines,
}

#[derive(Clone, Debug)]
struct Lines {
    sender: Sender<Entry>,
    dropped: Arc<AtomicU64>,
}

enum Entry {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No thread for them.
    #[error("the thread that writes logs cannot be started: {0}")]
    Thread(#[from] io::Error),
    /// They are being written already.
    #[error("logs are already set up in this process")]
    Again(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Starts logging for the whole process.
///
/// # Errors
/// See [`LogError`].
pub fn start(config: &Log) -> Result<Logger, LogError> {
    let (sender, receiver) = bounded(LINES_MAX);
    thread::Builder::new().name("log".into()).spawn(move || write(&receiver, &mut io::stderr()))?;
    let (subscriber, logger) =
        subscriber(config, Lines { sender, dropped: Arc::default() }, io::stderr().is_terminal());
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(logger)
}

fn subscriber(config: &Log, lines: Lines, colour: bool) -> (impl tracing::Subscriber + Send + Sync + use<>, Logger) {
    let (filter, handle) = reload::Layer::new(filter(config.level));
    let layer = match config.format {
        Format::Text => fmt::layer().with_ansi(colour).with_writer(lines.clone()).boxed(),
        Format::Json => fmt::layer().json().flatten_event(true).with_writer(lines.clone()).boxed(),
    };
    (Registry::default().with(filter).with(layer), Logger { filter: handle, lines })
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

impl Logger {
    /// Writes lines from `level` on from now on.
    pub fn set_level(&self, level: Level) {
        // It fails only when the subscriber is gone, and then nothing is logged anyway.
        let _ = self.filter.reload(filter(level));
    }

    /// From which level on lines are written.
    #[must_use]
    pub fn level(&self) -> Level {
        match self.filter.clone_current() {
            Some(LevelFilter::ERROR) => Level::Error,
            Some(LevelFilter::WARN) => Level::Warn,
            Some(LevelFilter::DEBUG) => Level::Debug,
            Some(LevelFilter::TRACE) => Level::Trace,
            _ => Level::Info,
        }
    }

    /// Lines that were dropped because stderr did not take them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lines.dropped.load(Ordering::Relaxed)
    }

    /// Waits until the lines so far are written, but not for ever.
    pub fn flush(&self) {
        let (done, written) = bounded(1);
        if self.lines.sender.send_timeout(Entry::Flush(done), FLUSH_MAX).is_ok() {
            let _ = written.recv_timeout(FLUSH_MAX);
        }
    }
}

fn write(entries: &Receiver<Entry>, out: &mut impl Write) {
    for entry in entries {
        match entry {
            // There is no better place to complain about stderr than stderr.
            Entry::Line(line) => drop(out.write_all(&line)),
            Entry::Flush(done) => drop(done.send(())),
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { text: Vec::new(), lines: self }
    }
}

/// A line in the making; it leaves when it is dropped.
struct Line<'a> {
    text: Vec<u8>,
    lines: &'a Lines,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() && self.lines.sender.try_send(Entry::Line(text)).is_err() {
            self.lines.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A handle on logs that go nowhere, for tests of whoever needs one.
#[cfg(test)]
pub(crate) fn silent(config: &Log) -> Logger {
    let (subscriber, logger) = subscriber(config, Lines { sender: bounded(1).0, dropped: Arc::default() }, false);
    // The handle works as long as the subscriber lives.
    std::mem::forget(subscriber);
    logger
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logger(format: Format, room: usize) -> (impl tracing::Subscriber + Send + Sync, Logger, Receiver<Entry>) {
        let (sender, receiver) = bounded(room);
        let config = Log { level: Level::Info, format };
        let (subscriber, logger) = subscriber(&config, Lines { sender, dropped: Arc::default() }, false);
        (subscriber, logger, receiver)
    }

    fn written(receiver: &Receiver<Entry>) -> String {
        let mut out = Vec::new();
        while let Ok(Entry::Line(line)) = receiver.try_recv() {
            out.extend(line);
        }
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_level_can_change_while_running() {
        let (subscriber, logger, receiver) = logger(Format::Text, 10);
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("hidden");
            tracing::info!(shard = 1, "shown");
            logger.set_level(Level::Debug);
            tracing::debug!("shown too");
            assert_eq!(logger.level(), Level::Debug);
        });
        let text = written(&receiver);
        assert!(text.contains("shown shard=1") && text.contains("shown too") && !text.contains("hidden"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn json_is_one_object_per_line() {
        let (subscriber, _logger, receiver) = logger(Format::Json, 10);
        tracing::subscriber::with_default(subscriber, || tracing::warn!(user = "a\"b\n", "odd"));
        let line: serde_json::Value = serde_json::from_str(&written(&receiver)).expect("JSON");
        assert_eq!(
            (&line["level"], &line["message"], &line["user"]),
            (&"WARN".into(), &"odd".into(), &"a\"b\n".into())
        );
    }

    #[test]
    fn lines_that_stderr_does_not_take_are_counted_not_waited_for() {
        let (subscriber, logger, receiver) = logger(Format::Text, 3);
        tracing::subscriber::with_default(subscriber, || (0..10).for_each(|n| tracing::info!(n)));
        assert_eq!((logger.dropped(), written(&receiver).lines().count()), (7, 3));
    }
}
