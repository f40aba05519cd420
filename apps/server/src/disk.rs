//! An app's words about the disk in the engine's, and back.

use std::path::PathBuf;

use handler::{DiskOperation, FileId, Outcome};

/// What an app asks for, in the engine's words. `path` knows where its files are.
pub(crate) fn operation(operation: DiskOperation, path: impl Fn(&str) -> PathBuf) -> engine::DiskOperation {
    let id = |file: FileId| engine::FileId(file.0);
    match operation {
        DiskOperation::Open { name, create } => engine::DiskOperation::Open { path: path(&name), create },
        DiskOperation::Allocate { file, bytes } => engine::DiskOperation::Allocate { file: id(file), bytes },
        DiskOperation::Read { file, offset, len } => engine::DiskOperation::Read { file: id(file), offset, len },
        DiskOperation::Write { file, offset, bytes } => {
            engine::DiskOperation::Write { file: id(file), offset, bytes, sync: true }
        }
        DiskOperation::Fill { file, offset, bytes } => {
            engine::DiskOperation::Write { file: id(file), offset, bytes, sync: false }
        }
        DiskOperation::Close { file } => engine::DiskOperation::Close { file: id(file) },
        DiskOperation::Rename { from, to } => engine::DiskOperation::Rename { from: path(&from), to: path(&to) },
        DiskOperation::Remove { name } => engine::DiskOperation::Remove { path: path(&name) },
    }
}

/// How it ended, in the app's words.
pub(crate) fn outcome(outcome: engine::Outcome) -> Outcome {
    match outcome {
        engine::Outcome::Opened { file, len } => Outcome::Opened { file: FileId(file.0), len },
        engine::Outcome::Read(bytes) => Outcome::Read(bytes),
        engine::Outcome::Done => Outcome::Done,
        engine::Outcome::Failed(error) => Outcome::Failed(error),
    }
}
