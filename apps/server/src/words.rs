//! The list of words that are not wanted: read at the start and on SIGHUP, by a thread that no shard waits for.

use std::{fs, io, path::PathBuf, sync::Arc};

use chat::{Shared, WORDS_BYTES_MAX, WordList};

use crate::config::Chat;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum WordsError {
    /// The kernel said no.
    #[error("chat.words: {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is no list of words.
    #[error("chat.words: {path}: {source}")]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: chat::WordsError,
    },
}

/// Reads the list that the configuration names. What was in effect stays if it cannot be read.
///
/// # Errors
/// See [`WordsError`].
pub fn load(config: &Chat, shared: &Shared) -> Result<(), WordsError> {
    let Some(path) = config.words.clone() else {
        shared.words.store(None);
        return Ok(());
    };
    let text = match fs::metadata(&path) {
        Ok(about) if about.len() > WORDS_BYTES_MAX as u64 => Err(io::Error::other("the file is too long")),
        Ok(_) => fs::read_to_string(&path),
        Err(error) => Err(error),
    };
    let text = text.map_err(|source| WordsError::Io { path: path.clone(), source })?;
    let list = WordList::parse(&text).map_err(|source| WordsError::List { path: path.clone(), source })?;
    tracing::info!(path = %path.display(), words = list.words(), "read the list of words");
    shared.words.store(Some(Arc::new(list)));
    Ok(())
}
