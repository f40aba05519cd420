//! The journals in the data directory: which run wrote them for how many shards, what is in them, and where each shard
//! goes on.
//!
//! ```text
//! journal/manifest          format = 1, vshards = 256, shards = N, origin = 16 hex digits
//! journal/ORIGIN/SHARD/     the segments of a shard
//! ```
//!
//! A key hashes to one of 256 virtual shards for ever, and these are spread over the shards of a run. When a run has
//! another number of shards than the one before, all journals are written anew for the new homes beside the old ones;
//! the manifest then names the new ones, in one step, and the old ones go.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};

use chat::Chat;
use engine::ShardId;
use handler::{Map, VSHARDS};
use rand::{Rng, SeedableRng, rngs::StdRng};
use topic::journal::{Copyist, Found, RecoverError, Recovered, Segments, name_of, number_of, walk};

use crate::data::{Data, DataError};

/// The folder in the data directory.
pub const FOLDER: &str = "journal";
const MANIFEST: &str = "manifest";
const FORMAT: u32 = 1;

/// Only the owner reads and writes.
const PRIVATE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;

/// Why journals cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The data directory.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The kernel said no.
    #[error("journal: {path}: {source}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The manifest is not what it must be.
    #[error("journal: {path}: {reason}")]
    Manifest {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A journal cannot be read, or is damaged.
    #[error(
        "journal: {path}/{source}; nothing was changed; `ringshard journal verify DIR` lists all that is wrong, and what \
         cannot be mended has to come from a backup"
    )]
    Journal {
        /// The shard's folder.
        path: PathBuf,
        /// What is wrong.
        source: RecoverError,
    },
}

/// What the manifest says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// For how many shards the journals are.
    pub shards: u16,
    /// What they have in common.
    pub origin: u64,
}

impl Manifest {
    fn write(self) -> String {
        let Self { shards, origin } = self;
        format!("format = {FORMAT}\nvshards = {VSHARDS}\nshards = {shards}\norigin = {origin:016x}\n")
    }

    fn read(text: &str) -> Result<Self, String> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='));
            line.map(str::trim).ok_or_else(|| format!("it does not say `{name}`"))
        };
        let number = |name: &str| field(name)?.parse::<u32>().map_err(|_| format!("`{name}` is not a number"));
        if number("format")? != FORMAT {
            return Err(format!("its format is {}, but this version knows only {FORMAT}", number("format")?));
        }
        if number("vshards")? as usize != VSHARDS {
            return Err(format!("`vshards` is not {VSHARDS}"));
        }
        let shards = u16::try_from(number("shards")?).ok().filter(|shards| *shards > 0);
        Ok(Self {
            shards: shards.ok_or("`shards` is impossible")?,
            origin: u64::from_str_radix(field("origin")?, 16).map_err(|_| "`origin` is no hex number")?,
        })
    }

    /// The folder of a shard's segments, below the one of all journals.
    #[must_use]
    pub fn folder(self, root: &Path, shard: u16) -> PathBuf {
        root.join(format!("{:016x}", self.origin)).join(format!("{shard:03}"))
    }
}

/// The manifest of the journals in a folder, if there are any.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn manifest(root: &Path) -> Result<Option<Manifest>, JournalError> {
    let path = root.join(MANIFEST);
    match fs::read_to_string(&path) {
        Ok(text) => match Manifest::read(&text) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(reason) => Err(JournalError::Manifest { path, reason }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(JournalError::Io { path, source }),
    }
}

/// The journals of a run, and what was in them.
#[derive(Debug)]
pub struct Journals {
    root: PathBuf,
    manifest: Manifest,
    chats: Vec<Mutex<Option<Chat>>>,
}

impl Journals {
    /// Opens the journals in the data directory for so many shards, and reads them into the apps that `chat` makes.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(
        data: &Data,
        shards: u16,
        (segment_bytes, in_memory): (u64, &[String]),
        chat: impl Fn() -> Chat + Sync,
    ) -> Result<Self, JournalError> {
        let root = data.path().join(FOLDER);
        make_folder(&root)?;
        let manifest = match manifest(&root)? {
            Some(manifest) if manifest.shards == shards => manifest,
            Some(old) => {
                // An earlier attempt may have used up the space.
                check_folders(&root, old)?;
                remove_others(&root, old)?;
                move_to(&root, old, shards, segment_bytes)?
            }
            None => {
                let path = root.join(MANIFEST);
                if has_segments(&root)? {
                    return Err(JournalError::Manifest {
                        path,
                        reason: "it is missing, but there are journals".into(),
                    });
                }
                begin(&root, shards, new_origin())?
            }
        };
        check_folders(&root, manifest)?;
        for shard in 0..shards {
            remove_drafts(&manifest.folder(&root, shard))?;
        }
        let recover = |shard: u16| {
            let path = manifest.folder(&root, shard);
            let (mut chat, mut folder) = (chat(), Folder::new(path.clone()));
            let at = (handler::ShardId(shard), manifest.origin);
            match chat.recover(at, in_memory.to_vec(), &mut folder) {
                Ok(recovered) => Ok((chat, recovered)),
                Err(source) => Err(JournalError::Journal { path, source }),
            }
        };
        let recovered: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..shards).map(|shard| scope.spawn(move || recover(shard))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        let mut chats = Vec::new();
        for (shard, recovered) in recovered.into_iter().enumerate() {
            let (chat, recovered) = recovered?;
            tell(shard, &recovered);
            chats.push(Mutex::new(Some(chat)));
        }
        // Only now is it sure that nothing else is needed.
        remove_others(&root, manifest)?;
        Ok(Self { root, manifest, chats })
    }

    /// Journals that are elsewhere than in files: of a simulated run.
    #[must_use]
    pub fn elsewhere(chats: Vec<Chat>) -> Self {
        let manifest = Manifest { shards: u16::try_from(chats.len()).unwrap_or(u16::MAX), origin: 0 };
        Self { root: PathBuf::new(), manifest, chats: chats.into_iter().map(|chat| Mutex::new(Some(chat))).collect() }
    }

    /// The app of a shard with all that its journal had; once.
    #[must_use]
    pub fn take(&self, shard: ShardId) -> Option<Chat> {
        let chat = self.chats.get(usize::from(shard.0))?;
        chat.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What a shard's journal had, for its next beginning.
    pub fn put(&self, shard: ShardId, chat: Chat) {
        if let Some(place) = self.chats.get(usize::from(shard.0)) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(chat);
        }
    }

    /// A file of a shard.
    #[must_use]
    pub fn path(&self, shard: ShardId, name: &str) -> PathBuf {
        self.manifest.folder(&self.root, shard.0).join(name)
    }
}

fn tell(shard: usize, recovered: &Recovered) {
    let Recovered { segments, bytes, batches, messages, facts, torn_bytes } = *recovered;
    tracing::info!(shard, segments, bytes, batches, messages, facts, torn_bytes, "read the journal");
}

/// The segments of one shard as files.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// In this folder.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl Segments for Folder {
    fn numbers(&mut self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            numbers.extend(entry?.file_name().to_str().and_then(number_of));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn read(&mut self, number: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        File::open(self.path.join(name_of(number)))?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn cut(&mut self, number: u64, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path.join(name_of(number)))?;
        file.set_len(length)?;
        file.sync_all()
    }
}

/// Nobody can guess it: bytes that a client sends never look like a batch.
fn new_origin() -> u64 {
    StdRng::from_os_rng().random()
}

/// The first journals of a data directory.
fn begin(root: &Path, shards: u16, origin: u64) -> Result<Manifest, JournalError> {
    let manifest = Manifest { shards, origin };
    for shard in 0..shards {
        make_folder(&manifest.folder(root, shard))?;
    }
    put_manifest(root, manifest)?;
    Ok(manifest)
}

/// Writes all journals anew for another number of shards.
fn move_to(root: &Path, old: Manifest, shards: u16, segment_bytes: u64) -> Result<Manifest, JournalError> {
    tracing::info!(from = old.shards, to = shards, "writing the journals anew for another number of shards");
    let manifest = Manifest { shards, origin: new_origin() };
    let map = Map::even(shards);
    let mut copyists: Vec<Copyist> =
        (0..shards).map(|shard| Copyist::new(shard, manifest.origin, segment_bytes)).collect();
    for shard in 0..shards {
        make_folder(&manifest.folder(root, shard))?;
    }
    let mut failed = None;
    for shard in 0..old.shards {
        let path = old.folder(root, shard);
        let mut each = |found: Found<'_>| {
            let home = map.home(found.name).0;
            if failed.is_none()
                && let Some(full) = copyists[usize::from(home)].add(&found)
            {
                failed = write_segment(&manifest.folder(root, home), full).err();
            }
        };
        let walked = walk((shard, old.origin), &mut Folder::new(path.clone()), false, &mut each);
        walked.map_err(|source| JournalError::Journal { path, source })?;
    }
    for (shard, copyist) in (0..shards).zip(copyists) {
        let folder = manifest.folder(root, shard);
        if failed.is_none()
            && let Some(last) = copyist.finish()
        {
            failed = write_segment(&folder, last).err();
        }
        sync_folder(&folder)?;
    }
    match failed {
        Some(error) => Err(error),
        None => put_manifest(root, manifest).map(|()| manifest),
    }
}

fn write_segment(folder: &Path, (number, bytes): (u64, Vec<u8>)) -> Result<(), JournalError> {
    let path = folder.join(name_of(number));
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(PRIVATE).open(&path)?;
        file.write_all(&bytes)?;
        file.sync_all()
    };
    write().map_err(io_error(&path))
}

fn put_manifest(root: &Path, manifest: Manifest) -> Result<(), JournalError> {
    let (path, new) = (root.join(MANIFEST), root.join("manifest.new"));
    let write = || {
        sync_file_folder(&root.join(format!("{:016x}", manifest.origin)))?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(PRIVATE).open(&new)?;
        file.write_all(manifest.write().as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync_file_folder(root)
    };
    write().map_err(io_error(&path))
}

/// What an interrupted move left, or the journals before the last one.
fn remove_others(root: &Path, manifest: Manifest) -> Result<(), JournalError> {
    let ours = format!("{:016x}", manifest.origin);
    for entry in fs::read_dir(root).map_err(io_error(root))? {
        let path = entry.map_err(io_error(root))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_journal = name.len() == ours.len() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_journal && name != ours {
            fs::remove_dir_all(&path).map_err(io_error(&path))?;
        }
    }
    Ok(())
}

/// Whether the manifest and the folders say the same: a manifest that was changed must not cost a journal.
fn check_folders(root: &Path, manifest: Manifest) -> Result<(), JournalError> {
    let path = root.join(format!("{:016x}", manifest.origin));
    let found = fs::read_dir(&path).map_err(io_error(&path))?.count();
    if found == usize::from(manifest.shards) {
        return Ok(());
    }
    let reason = format!("it says {} shards, but there are {found} journals", manifest.shards);
    Err(JournalError::Manifest { path: root.join(MANIFEST), reason })
}

/// Whether there is anything in any journal here.
fn has_segments(root: &Path) -> Result<bool, JournalError> {
    for entry in fs::read_dir(root).map_err(io_error(root))? {
        let path = entry.map_err(io_error(root))?.path();
        for shard in fs::read_dir(&path).into_iter().flatten().flatten() {
            let mut files = fs::read_dir(shard.path()).into_iter().flatten().flatten();
            if files.any(|file| file.file_name().to_str().and_then(number_of).is_some()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn remove_drafts(folder: &Path) -> Result<(), JournalError> {
    for entry in fs::read_dir(folder).map_err(io_error(folder))? {
        let path = entry.map_err(io_error(folder))?.path();
        if path.extension().is_some_and(|ending| ending == "draft") {
            fs::remove_file(&path).map_err(io_error(&path))?;
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), JournalError> {
    let made = DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(path);
    made.and_then(|()| path.parent().map_or(Ok(()), sync_file_folder)).map_err(io_error(path))
}

fn sync_folder(path: &Path) -> Result<(), JournalError> {
    sync_file_folder(path).map_err(io_error(path))
}

fn sync_file_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> JournalError + use<> {
    let path = path.to_owned();
    move |source| JournalError::Io { path, source }
}
