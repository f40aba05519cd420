//! What can be wrong with a configuration, and how it is said: where, which key, why, and which key was meant.

use std::{fmt, path::PathBuf};

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A file, and the line in it, counted from 1; 0 is the file as a whole.
    File {
        /// Its path as it was given.
        path: PathBuf,
        /// The line of the key.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A flag.
    Flag {
        /// The flag with its dashes.
        flag: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => f.write_str(variable),
            Self::Flag { flag } => f.write_str(flag),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// The key's path; empty when it is about a file as a whole.
    pub key: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.is_empty() {
            true => write!(f, "{}: {}", self.origin, self.reason),
            false => write!(f, "{}: {}: {}", self.origin, self.key, self.reason),
        }
    }
}

/// All that is wrong, a line each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub(super) fn one(origin: Origin, reason: String) -> Self {
        Self(vec![Problem { origin, key: String::new(), reason }])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The reason for an unknown name.
pub(super) fn unknown(what: &str, nearest: Option<String>) -> String {
    match nearest {
        Some(name) => format!("unknown {what}; did you mean {name}?"),
        None => format!("unknown {what}; `ringshard config` prints all there are"),
    }
}

/// The known name that is most like `name`, ties going to the first. Always one when any is known: even a far guess
/// shows what names look like.
pub(super) fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    // Names are compared up to here, so that a hostile file cannot make a comparison expensive.
    let name: String = name.chars().take(NAME_CHARS_COMPARED).collect();
    known
        .map(|known| (strsim::damerau_levenshtein(&name, &known), known))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

const NAME_CHARS_COMPARED: usize = 64;
