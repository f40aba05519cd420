//! Disk operations by ticket: whole blocks in the shard's own ring, all else on glommio's files, in the background of the
//! shard's own executor.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    os::fd::{FromRawFd, IntoRawFd, OwnedFd},
    path::Path,
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
    queue::{Job, Queue},
    reactor::{Outcome, Ticket},
    stats::ShardStats,
};

/// Operations under way at most, in the executor and in the shard's own ring; more wait for one to end, without a buffer
/// yet. Twice the depth of a usual device's queue. Commits pass: they are few, and somebody waits for each.
const PENDING_MAX: usize = 64;

/// What the executor has achieved.
enum Done {
    Opened(File, u64),
    Other(Outcome),
}

/// What the shard and the executor's tasks share.
#[derive(Default)]
struct Shared {
    devices: Devices,
    ended: RefCell<VecDeque<(Job, io::Result<Done>)>>,
    under_way: Cell<usize>,
    waker: Cell<Option<Waker>>,
    woken: Cell<bool>,
}

impl Shared {
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
    files: Vec<Queue>,
    // What waits for nothing but to be one of `PENDING_MAX`.
    waiting: VecDeque<Job>,
    // On files that are not open.
    strays: Vec<Ticket>,
    // Operations that have not ended.
    pending: usize,
    listening: bool,
}

impl Disk {
    /// Starts an operation, or queues it behind others.
    pub(crate) fn start(&mut self, net: &mut Net, ticket: Ticket, operation: DiskOperation) {
        self.pending += 1;
        let job = Job::new(ticket, operation);
        match (job.file(), self.queue(job.file())) {
            (None, _) => self.waiting.push_back(job),
            (_, Some(queue)) if queue.is_open() => self.add(net, job),
            _ => self.strays.push(ticket),
        }
        self.advance(net);
    }

    /// Starts what had to wait for what has ended.
    pub(crate) fn advance(&mut self, net: &mut Net) {
        while let Some(job) = net.blocks.next_ended() {
            self.end(&job);
            if job.refused {
                self.add(net, job);
            } else {
                self.pending -= 1;
                self.begin_changes(net, job.file());
            }
        }
        while self.shared.under_way.get() + net.blocks.len() < PENDING_MAX
            && let Some(job) = self.waiting.pop_front()
        {
            self.begin(net, job);
        }
    }

    /// Operations that have not ended.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Whether the executor has to run for operations to get on.
    pub(crate) fn is_busy(&self) -> bool {
        self.shared.under_way.get() > 0
    }

    /// Whether outcomes can be delivered now.
    pub(crate) fn has_outcomes(&self) -> bool {
        !self.shared.ended.borrow().is_empty() || !self.strays.is_empty()
    }

    /// Hands out what has ended outside of the ring.
    pub(crate) fn deliver(&mut self, net: &mut Net, stats: &ShardStats, mut on_disk: impl FnMut(Ticket, Outcome)) {
        let mut tell = |ticket, outcome| {
            stats.disk_done.add(1);
            stats.disk_errors.add(u64::from(matches!(outcome, Outcome::Failed(_))));
            on_disk(ticket, outcome);
        };
        self.pending -= self.strays.len();
        for ticket in self.strays.drain(..) {
            tell(ticket, Outcome::Failed(io::Error::from_raw_os_error(libc::EBADF)));
        }
        loop {
            let next = self.shared.ended.borrow_mut().pop_front();
            let Some((job, done)) = next else { return };
            self.pending -= 1;
            self.end(&job);
            if job.refused
                && done.is_ok()
                && let Some(queue) = self.queue(job.file())
            {
                queue.refuse_blocks();
            }
            self.begin_changes(net, job.file());
            let outcome = match done {
                Ok(Done::Opened(file, len)) => Outcome::Opened { file: self.keep(file), len },
                Ok(Done::Other(outcome)) => outcome,
                Err(error) => Outcome::Failed(error),
            };
            tell(job.ticket, outcome);
        }
    }

    fn queue(&mut self, file: Option<FileId>) -> Option<&mut Queue> {
        self.files.get_mut(file?.0 as usize)
    }

    // Takes an operation in; what it must wait for decides when it begins.
    fn add(&mut self, net: &mut Net, job: Job) {
        let file = job.file();
        let read = self.queue(file).and_then(|queue| queue.add(job));
        self.waiting.extend(read);
        self.begin_changes(net, file);
    }

    fn end(&mut self, job: &Job) {
        if let Some(queue) = self.queue(job.file()) {
            queue.end(job);
        }
    }

    fn begin_changes(&mut self, net: &mut Net, file: Option<FileId>) {
        while let Some(job) = self.queue(file).and_then(Queue::next) {
            if job.is_commit() { self.begin(net, job) } else { self.waiting.push_back(job) }
        }
    }

    fn begin(&mut self, net: &mut Net, job: Job) {
        match self.queue(job.file()).and_then(|queue| queue.file(&job)) {
            Some(file) if job.blocks.is_some() => net.blocks.start(&mut net.ring, file, job),
            file => self.spawn(job, file),
        }
    }

    fn spawn(&self, job: Job, file: Option<Rc<File>>) {
        let shared = self.shared.clone();
        shared.under_way.set(shared.under_way.get() + 1);
        glommio::spawn_local(async move {
            let done = perform(&shared.devices, &job.operation, file).await;
            shared.under_way.set(shared.under_way.get() - 1);
            shared.ended.borrow_mut().push_back((job, done));
            shared.wake();
        })
        .detach();
    }

    fn keep(&mut self, file: File) -> FileId {
        let at = self.files.iter().position(Queue::is_free).unwrap_or(self.files.len());
        if at == self.files.len() {
            self.files.push(Queue::default());
        }
        self.files[at].open(file);
        FileId(at as u32)
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

async fn perform(devices: &Devices, operation: &DiskOperation, file: Option<Rc<File>>) -> io::Result<Done> {
    let file = || file.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF));
    match operation {
        DiskOperation::Open { path, create } => {
            devices.prime(path).await;
            let (file, len) = File::open(path, *create).await?;
            return Ok(Done::Opened(file, len));
        }
        DiskOperation::Read { offset, len, .. } => {
            return Ok(Done::Other(Outcome::Read(file()?.read(*offset, *len).await?)));
        }
        DiskOperation::Write { offset, bytes, sync, .. } => file()?.write(*offset, bytes, *sync).await?,
        DiskOperation::Allocate { bytes, .. } => file()?.allocate(*bytes).await?,
        DiskOperation::Sync { .. } => file()?.sync().await?,
        // All others have let go of it.
        DiskOperation::Close { .. } => match Rc::try_unwrap(file()?) {
            Ok(file) => file.close().await?,
            Err(_) => unreachable!("a close waits for who uses the file"),
        },
        DiskOperation::Rename { from, to } => {
            glommio::io::rename(from, to).await?;
            sync_directory_of(to).await?;
        }
        DiskOperation::Remove { path } => {
            glommio::io::remove(path).await?;
            sync_directory_of(path).await?;
        }
    }
    Ok(Done::Other(Outcome::Done))
}

async fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Nothing has failed to reach the disk yet: this may be tried again, other than a sync that failed.
    let busy = |error| io::Error::new(io::ErrorKind::ResourceBusy, io::Error::from(error));
    let directory = Directory::open(parent).await.map_err(busy)?;
    let synced = directory.sync().await;
    directory.close().await?;
    synced?;
    Ok(())
}

#[cfg(test)]
mod tests;
