//! Disk operations by ticket, on glommio's files, in the background of the shard's own executor.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    future::{Future, poll_fn},
    io,
    os::fd::{FromRawFd, IntoRawFd, OwnedFd},
    path::{Path, PathBuf},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use glommio::{
    io::{BufferedFile, Directory},
    timer::Timer,
};

use crate::{
    file::{Devices, File},
    io::{DiskOperation, FileId},
    net::Net,
    reactor::{Outcome, Ticket},
    stats::ShardStats,
};

/// Operations under way at most; more wait for one to end. Twice the depth of a usual device's queue.
const PENDING_MAX: usize = 64;

#[derive(Default)]
struct Shared {
    files: RefCell<Vec<Option<Rc<File>>>>,
    devices: Devices,
    done: RefCell<VecDeque<(Ticket, Outcome)>>,
    pending: Cell<usize>,
    // By file, its changes that were started or wait: what is written in whole blocks meanwhile must not overtake them.
    changes: RefCell<BTreeMap<FileId, usize>>,
    waker: Cell<Option<Waker>>,
    woken: Cell<bool>,
}

impl Shared {
    // A change of this file has ended.
    fn changed(&self, file: Option<FileId>) {
        let mut changes = self.changes.borrow_mut();
        if let Some(Entry::Occupied(mut count)) = file.map(|file| changes.entry(file)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn wake(&self) {
        self.woken.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The disk as one shard sees it.
#[derive(Default)]
pub(crate) struct Disk {
    shared: Rc<Shared>,
    waiting: VecDeque<(Ticket, DiskOperation)>,
    listening: bool,
}

impl Disk {
    /// Starts an operation, or queues it behind others.
    pub(crate) fn start(&mut self, net: &mut Net, ticket: Ticket, operation: DiskOperation) {
        if let DiskOperation::Write { file, .. } | DiskOperation::Read { file, .. } = &operation
            && !self.shared.changes.borrow().contains_key(file)
            && let Ok(open) = find(&self.shared, *file)
            && net.blocks.start(&mut net.ring, ticket, &open, &operation)
        {
            return;
        }
        self.queue(ticket, operation);
        self.advance();
    }

    fn queue(&mut self, ticket: Ticket, operation: DiskOperation) {
        if let Some(file) = changes(&operation) {
            *self.shared.changes.borrow_mut().entry(file).or_default() += 1;
        }
        self.waiting.push_back((ticket, operation));
    }

    fn advance(&mut self) {
        while self.shared.pending.get() < PENDING_MAX {
            let Some((ticket, operation)) = self.waiting.pop_front() else { break };
            let shared = self.shared.clone();
            shared.pending.set(shared.pending.get() + 1);
            glommio::spawn_local(async move {
                let changes = changes(&operation);
                let outcome = perform(&shared, operation).await.unwrap_or_else(Outcome::Failed);
                shared.pending.set(shared.pending.get() - 1);
                shared.changed(changes);
                shared.done.borrow_mut().push_back((ticket, outcome));
                shared.wake();
            })
            .detach();
        }
    }

    /// Whether the executor has to run for operations to get on.
    pub(crate) fn is_busy(&self) -> bool {
        self.shared.pending.get() > 0
    }

    /// Whether outcomes can be delivered now.
    pub(crate) fn has_outcomes(&self) -> bool {
        !self.shared.done.borrow().is_empty()
    }

    /// Hands out what has ended.
    pub(crate) fn deliver(&mut self, net: &mut Net, stats: &ShardStats, mut on_disk: impl FnMut(Ticket, Outcome)) {
        while let Some((ticket, operation)) = net.blocks.next_refused() {
            self.queue(ticket, operation);
        }
        stats.disk_pending.set((self.shared.pending.get() + self.waiting.len() + net.blocks.len()) as u64);
        if !self.is_busy() && !self.has_outcomes() && self.waiting.is_empty() {
            return;
        }
        loop {
            let next = self.shared.done.borrow_mut().pop_front();
            let Some((ticket, outcome)) = next else { break };
            stats.disk_done.add(1);
            stats.disk_errors.add(u64::from(matches!(outcome, Outcome::Failed(_))));
            on_disk(ticket, outcome);
        }
        self.advance();
    }

    /// Makes an eventfd end [`Disk::wait`]: the one that the shard's ring signals.
    pub(crate) fn listen(&mut self, eventfd: OwnedFd) {
        self.listening = true;
        let shared = self.shared.clone();
        // SAFETY: the descriptor is owned and handed over; glommio only reads from it.
        let file = unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) };
        glommio::spawn_local(async move {
            while file.read_at(0, 8).await.is_ok() {
                shared.wake();
            }
        })
        .detach();
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.listening
    }

    /// Lets the executor work until an operation ends or the eventfd rings, at most for `most`. The executor reaches
    /// its reactor only when no task can run, so even the shortest wait is one pass of it.
    pub(crate) async fn wait(&self, most: Duration) {
        let mut timer = pin!(Timer::new(most));
        poll_fn(|context| {
            if self.shared.woken.take() {
                return Poll::Ready(());
            }
            self.shared.waker.set(Some(context.waker().clone()));
            timer.as_mut().poll(context).map(|_| ())
        })
        .await;
        self.shared.waker.take();
    }
}

/// The file of an operation whose order among writes to the same file matters.
fn changes(operation: &DiskOperation) -> Option<FileId> {
    match operation {
        DiskOperation::Write { file, .. } | DiskOperation::Allocate { file, .. } | DiskOperation::Sync { file } => {
            Some(*file)
        }
        DiskOperation::Open { .. }
        | DiskOperation::Read { .. }
        | DiskOperation::Close { .. }
        | DiskOperation::Rename { .. }
        | DiskOperation::Remove { .. } => None,
    }
}

async fn perform(shared: &Shared, operation: DiskOperation) -> io::Result<Outcome> {
    match operation {
        DiskOperation::Open { path, create } => open(shared, &path, create).await,
        DiskOperation::Read { file, offset, len } => Ok(Outcome::Read(find(shared, file)?.read(offset, len).await?)),
        DiskOperation::Write { file, offset, bytes, sync } => {
            find(shared, file)?.write(offset, &bytes, sync).await?;
            Ok(Outcome::Done)
        }
        DiskOperation::Allocate { file, bytes } => {
            find(shared, file)?.allocate(bytes).await?;
            Ok(Outcome::Done)
        }
        DiskOperation::Sync { file } => {
            find(shared, file)?.sync().await?;
            Ok(Outcome::Done)
        }
        DiskOperation::Close { file } => close(shared, file).await,
        DiskOperation::Rename { from, to } => rename(from, to).await,
        DiskOperation::Remove { path } => {
            glommio::io::remove(&path).await?;
            sync_directory_of(&path).await
        }
    }
}

async fn open(shared: &Shared, path: &Path, create: bool) -> io::Result<Outcome> {
    shared.devices.prime(path).await;
    let (file, len) = File::open(path, create).await?;
    let mut files = shared.files.borrow_mut();
    let at = files.iter().position(Option::is_none).unwrap_or(files.len());
    if at == files.len() {
        files.push(None);
    }
    files[at] = Some(Rc::new(file));
    Ok(Outcome::Opened { file: FileId(at as u32), len })
}

fn find(shared: &Shared, file: FileId) -> io::Result<Rc<File>> {
    let found = shared.files.borrow().get(file.0 as usize).cloned().flatten();
    found.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
}

async fn close(shared: &Shared, id: FileId) -> io::Result<Outcome> {
    let place = shared.files.borrow_mut().get_mut(id.0 as usize).and_then(Option::take);
    let file = place.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
    // Operations that are under way keep the file; the last of them closes it.
    if let Ok(file) = Rc::try_unwrap(file) {
        file.close().await?;
    }
    Ok(Outcome::Done)
}

async fn rename(from: PathBuf, to: PathBuf) -> io::Result<Outcome> {
    glommio::io::rename(&from, &to).await?;
    sync_directory_of(&to).await
}

async fn sync_directory_of(path: &Path) -> io::Result<Outcome> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Nothing has failed to reach the disk yet: this may be tried again, other than a sync that failed.
    let busy = |error| io::Error::new(io::ErrorKind::ResourceBusy, io::Error::from(error));
    let directory = Directory::open(parent).await.map_err(busy)?;
    let synced = directory.sync().await;
    directory.close().await?;
    synced?;
    Ok(Outcome::Done)
}
