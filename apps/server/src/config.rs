//! The configuration: flags over environment over file over defaults, read against one schema that documents itself.

mod print;
mod problem;
mod schema;
mod setting;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

pub use print::print;
pub use problem::{Origin, Problem, Problems};
pub use schema::{Auth, Chat, Config, Journal, KEYS, Key, Limits, Listen, Log, Quantum, SECTIONS, Server, Tls};
pub use setting::{Congestion, CpuList, Fec, Format, Level, Origins, SECRET_BYTES_MIN, Secret, TopicNames};

/// Bytes that a configuration file may have: far beyond all keys with comments, far below what hurts.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Where the configuration comes from, weakest first. Kept, so that SIGHUP can read it all again.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file of `--config` or `RINGSHARD_CONFIG`.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not start with `RINGSHARD_` are ignored.
    pub environment: Vec<(String, String)>,
    /// Flags: the flag, the path of the key that it sets, its value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// A configuration, and where each of its values comes from.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// For each of [`KEYS`], its origin.
    pub origins: Vec<Origin>,
}

impl Sources {
    /// Reads all sources and joins them.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, not just the first.
    pub fn load(&self) -> Result<Loaded, Problems> {
        let mut loader = Loader::default();
        if let Some(path) = self.file_path() {
            let text =
                read(&path).map_err(|reason| Problems::one(Origin::File { path: path.clone(), line: 0 }, reason))?;
            loader.file(&path, &text);
        }
        for (name, value) in &self.environment {
            loader.variable(name, value);
        }
        for (flag, path, value) in &self.flags {
            loader.flag(flag, path, value);
        }
        loader.finish()
    }

    fn file_path(&self) -> Option<PathBuf> {
        let variable = || self.environment.iter().find(|(name, _)| name == FILE_VARIABLE).map(|(_, path)| path.into());
        self.file.clone().or_else(variable)
    }
}

/// The variable that names the file when `--config` does not.
const FILE_VARIABLE: &str = "RINGSHARD_CONFIG";
const PREFIX: &str = "RINGSHARD_";

/// Checks a file alone, without flags and environment.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(path: &Path) -> Result<Loaded, Problems> {
    Sources { file: Some(path.to_owned()), ..Sources::default() }.load()
}

/// Checks the text of a file whose name is only for the errors.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check_text(path: &Path, text: &str) -> Result<Loaded, Problems> {
    let mut loader = Loader::default();
    loader.file(path, text);
    loader.finish()
}

/// Reads a duration, as `1h`; a plain number counts seconds.
///
/// # Errors
/// What a duration looks like.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    use setting::Setting;
    std::time::Duration::from_text("", text).ok_or_else(|| "must be as 90s, 30m, 1h or 2d".to_owned())
}

fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let most = FILE_BYTES_MAX as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
}

/// A configuration in the making: what is set so far, by whom, and what was wrong.
struct Loader {
    config: Config,
    origins: Vec<Origin>,
    problems: Vec<Problem>,
}

impl Default for Loader {
    fn default() -> Self {
        Self { config: Config::default(), origins: vec![Origin::Default; KEYS.len()], problems: Vec::new() }
    }
}

impl Loader {
    fn file(&mut self, path: &Path, text: &str) {
        let at = |offset: usize| Origin::File { path: path.to_owned(), line: line_of(text, offset) };
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let offset = error.span().map_or(text.len(), |span| span.start);
                let reason = error.message().replace('\n', ", ");
                return self.problems.push(Problem { origin: at(offset), key: "syntax".into(), reason });
            }
        };
        for (section, value) in &table {
            let (name, origin) = (section.get_ref().as_ref(), at(section.span().start));
            match value.get_ref() {
                _ if SECTIONS.iter().all(|(known, _)| *known != name) => self.unknown_section(name, origin),
                DeValue::Table(keys) => {
                    for (key, value) in keys {
                        self.file_key(name, key.get_ref(), value.get_ref(), at(key.span().start));
                    }
                }
                _ => self.problem(origin, name, format!("must be a table: write [{name}]")),
            }
        }
    }

    fn file_key(&mut self, section: &str, name: &str, value: &DeValue<'_>, origin: Origin) {
        match KEYS.iter().position(|key| key.section == section && key.name == name) {
            Some(index) => {
                let outcome = (KEYS[index].set_value)(&mut self.config, value);
                self.took(index, origin, outcome);
            }
            None => {
                let known = || KEYS.iter().map(Key::path);
                let path = format!("{section}.{name}");
                let here = known().filter(|key| key.starts_with(&format!("{section}.")));
                let elsewhere = KEYS.iter().find(|key| key.name == name).map(Key::path);
                let nearest =
                    elsewhere.or_else(|| problem::nearest(&path, here)).or_else(|| problem::nearest(&path, known()));
                self.problem(origin, &path, problem::unknown("key", nearest));
            }
        }
    }

    fn unknown_section(&mut self, name: &str, origin: Origin) {
        let key = KEYS.iter().find(|key| key.name == name).map(Key::path);
        let nearest = key.or_else(|| problem::nearest(name, SECTIONS.iter().map(|(name, _)| format!("[{name}]"))));
        self.problem(origin, name, problem::unknown("table", nearest));
    }

    fn variable(&mut self, name: &str, value: &str) {
        if !name.starts_with(PREFIX) || name == FILE_VARIABLE || is_service_link(&name[PREFIX.len()..]) {
            return;
        }
        let origin = Origin::Environment { variable: name.to_owned() };
        match KEYS.iter().position(|key| key.variable() == name) {
            Some(index) => {
                let outcome = (KEYS[index].set_text)(&mut self.config, value);
                self.took(index, origin, outcome);
            }
            None => {
                let nearest = problem::nearest(name, KEYS.iter().map(Key::variable));
                self.problem(origin, name, problem::unknown("variable", nearest));
            }
        }
    }

    fn flag(&mut self, flag: &'static str, path: &str, value: &str) {
        match KEYS.iter().position(|key| key.path() == path) {
            Some(index) => {
                let outcome = (KEYS[index].set_text)(&mut self.config, value);
                self.took(index, Origin::Flag { flag }, outcome);
            }
            None => self.problem(Origin::Flag { flag }, path, problem::unknown("key", None)),
        }
    }

    fn took(&mut self, index: usize, origin: Origin, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.origins[index] = origin,
            Err(reason) => self.problem(origin, &KEYS[index].path(), reason),
        }
    }

    fn problem(&mut self, origin: Origin, key: &str, reason: String) {
        self.problems.push(Problem { origin, key: key.to_owned(), reason });
    }

    fn finish(mut self) -> Result<Loaded, Problems> {
        // Relations are told only about values that are each right by themselves: one mistake, one line.
        if self.problems.is_empty() {
            for (path, reason) in relations(&self.config) {
                let origin = KEYS.iter().position(|key| key.path() == path).map(|index| self.origins[index].clone());
                self.problem(origin.unwrap_or(Origin::Default), path, reason);
            }
        }
        match self.problems.is_empty() {
            true => Ok(Loaded { config: self.config, origins: self.origins }),
            false => Err(Problems(self.problems)),
        }
    }
}

/// What must hold between keys.
fn relations(config: &Config) -> Vec<(&'static str, String)> {
    let (limits, tls, quantum, quic) = (&config.limits, &config.tls, &config.quantum, &config.quic);
    let mut broken = Vec::new();
    let mut must = |holds: bool, path, reason: &str| {
        if !holds {
            broken.push((path, reason.to_owned()));
        }
    };
    must(
        limits.queue_soft_bytes < limits.queue_hard_bytes,
        "limits.queue_soft_bytes",
        "must be below limits.queue_hard_bytes",
    );
    must(
        limits.queue_hard_bytes >= limits.frame_bytes.saturating_mul(2),
        "limits.queue_hard_bytes",
        "must be at least twice limits.frame_bytes, or one large message closes a connection",
    );
    must(limits.hello_bytes <= limits.frame_bytes, "limits.hello_bytes", "must not be above limits.frame_bytes");
    must(limits.ping_secs * 2 < limits.idle_secs, "limits.ping_secs", "must be below half of limits.idle_secs");
    must(
        limits.messages_burst >= limits.messages_per_sec,
        "limits.messages_burst",
        "must not be below limits.messages_per_sec",
    );
    must(
        limits.history_bytes >= limits.frame_bytes,
        "limits.history_bytes",
        "must not be below limits.frame_bytes, or a message can be too large to be kept",
    );
    must(
        limits.http_target_bytes < limits.http_head_bytes,
        "limits.http_target_bytes",
        "must be below limits.http_head_bytes",
    );
    must(
        quantum.idle_secs > limits.ping_secs,
        "quantum.idle_secs",
        "must be above limits.ping_secs, or silent sessions lose their connection between two pings",
    );
    must(
        quantum.retry_above <= quantum.half_open_max,
        "quantum.retry_above",
        "must not be above quantum.half_open_max, or handshakes are dropped before any client is asked to retry",
    );
    must(
        quic.idle_secs > limits.ping_secs,
        "quic.idle_secs",
        "must be above limits.ping_secs, or silent sessions lose their connection between two pings",
    );
    must(
        quic.retry_above <= quic.half_open_max,
        "quic.retry_above",
        "must not be above quic.half_open_max, or handshakes are dropped before any client is asked to retry",
    );
    must(quic.half_open_max <= quic.connections_max, "quic.half_open_max", "must not be above quic.connections_max");
    must(tls.certificate.is_some() || tls.key.is_none(), "tls.key", "needs tls.certificate beside it");
    must(tls.key.is_some() || tls.certificate.is_none(), "tls.certificate", "needs tls.key beside it");
    broken
}

/// Whether a variable, without our prefix, is one that Kubernetes sets for a service that is called `ringshard`.
fn is_service_link(rest: &str) -> bool {
    let port = |rest: &str| {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        digits.len() < rest.len() && (digits.starts_with("_TCP") || digits.starts_with("_UDP"))
    };
    rest == "PORT"
        || rest == "SERVICE_HOST"
        || rest.starts_with("SERVICE_PORT")
        || rest.strip_prefix("PORT_").is_some_and(port)
}

/// The line, counted from 1, of a byte of a text.
fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// For the fuzzer and the replay of its corpus: whatever the text is, reading it ends, and what is accepted prints to
/// something that reads back as the same.
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match check_text(Path::new("fuzz"), text) {
        Ok(loaded) => {
            let printed = print(&loaded);
            let again = check_text(Path::new("printed"), &printed).map(|again| again.config);
            let mut expected = loaded.config;
            expected.auth.secret = None;
            assert_eq!(again, Ok(expected), "{printed}");
        }
        Err(problems) => {
            let lines = text.lines().count() + 1;
            let within = |problem: &Problem| match &problem.origin {
                Origin::File { line, .. } => (1..=lines).contains(line),
                Origin::Default => true,
                Origin::Environment { .. } | Origin::Flag { .. } => false,
            };
            assert!(!problems.0.is_empty() && problems.0.iter().all(within), "{problems}");
        }
    }
}
