//! What can go wrong as a whole; a single setting that cannot be read is a finding instead.

use std::{io, path::PathBuf};

/// Why a command gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder given as the machine's root is no machine.
    #[error("{path}: {source}")]
    Root {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A catalogue file is not what it must be.
    #[error("catalogue/{file}: {reason}")]
    Catalogue {
        /// The file's name.
        file: String,
        /// What is wrong in it.
        reason: String,
    },
    /// No setting has this id.
    #[error("no setting is called `{id}`{}", nearest.as_ref().map(|id| format!("; did you mean `{id}`?")).unwrap_or_default())]
    UnknownSetting {
        /// What was asked for.
        id: String,
        /// The id that is spelled most like it.
        nearest: Option<String>,
    },
    /// A list of CPUs is not of the form `0-3,8`.
    #[error("`{0}` is not a list of CPUs such as 0-3,8")]
    CpuList(String),
    /// The thread that should measure a CPU may not run there.
    #[error("CPU {cpu} cannot be measured: {reason}")]
    Cpu {
        /// The CPU.
        cpu: usize,
        /// What the kernel said.
        reason: String,
    },
    /// An answer could not be written as JSON.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// An answer could not be written out.
    #[error("output: {0}")]
    Output(io::Error),
}
