//! Disk tickets: results, errors, odd offsets, and network traffic meanwhile.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use engine::{DiskOperation, FileId, ShardId, Ticket};

use crate::world::{DEADLINE, Habit, Happened, Mail, Order, World, eventually};

fn perform(world: &World, number: u64, operation: DiskOperation) -> (String, Vec<u8>) {
    world.order(0, move |io| io.disk(Ticket(number), operation));
    world.until(|happened| match happened {
        Happened::Disk(ticket, text, bytes) if ticket == Ticket(number) => {
            if text.starts_with("failed") {
                eprintln!("ticket {number}: {}", String::from_utf8_lossy(&bytes));
            }
            Some((text, bytes))
        }
        _ => None,
    })
}

fn open(world: &World, path: &Path, create: bool) -> String {
    perform(world, 1, DiskOperation::Open { path: path.to_owned(), create }).0
}

/// A shard that reports, with an empty file open in a directory of its own.
fn world_with_file() -> (World, tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir_in(".").expect("a directory on disk");
    let path = directory.path().join("file");
    let world = World::tcp(Habit::Report, 1);
    open(&world, &path, true);
    (world, directory, path)
}

const FILE: FileId = FileId(0);

const BLOCK: usize = 4096;

#[test]
fn odd_offsets_and_lengths_read_back_what_was_written() {
    let directory = tempfile::tempdir_in(".").expect("a directory on disk");
    let path = directory.path().join("file");
    let world = World::tcp(Habit::Report, 1);
    assert_eq!(open(&world, &path, true), "opened 0 0");
    let mut model: Vec<u8> = Vec::new();
    let writes =
        [(0u64, 10usize), (10, 4096), (4000, 300), (9000, 1), (8191, 2), (5, 12_000), (12_288, 4096), (511, 1)];
    for (n, (offset, len)) in writes.into_iter().enumerate() {
        let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + n * 31 + 1) as u8).collect();
        let end = offset as usize + len;
        model.resize(model.len().max(end), 0);
        model[offset as usize..end].copy_from_slice(&bytes);
        let write = DiskOperation::Write { file: FILE, offset, bytes: bytes.into(), sync: n % 2 == 0 };
        assert_eq!(perform(&world, 2, write).0, "done");
        assert!(fs::read(&path).expect("readable") == model, "after write {n}");
    }
    for (offset, len) in [
        (0, 20_000),
        (1, 1),
        (4095, 2),
        (16_383, 10),
        (16_384, 10),
        (50_000, 10),
        // Whole blocks.
        (0, 8_192),
        (12_288, 8_192),
        (16_384, 4_096),
        (409_600, 4_096),
    ] {
        let (text, bytes) = perform(&world, 3, DiskOperation::Read { file: FILE, offset, len });
        let from = (offset as usize).min(model.len());
        assert_eq!((text.as_str(), &bytes[..]), ("read", &model[from..(from + len).min(model.len())]));
    }
    assert_eq!(perform(&world, 4, DiskOperation::Sync { file: FILE }).0, "done");
    assert_eq!(perform(&world, 5, DiskOperation::Close { file: FILE }).0, "done");
    assert_eq!(open(&world, &path, false), format!("opened 0 {}", model.len()));
    world.stop();
}

#[test]
fn writes_that_share_a_block_do_not_lose_each_other() {
    let (world, _directory, path) = world_with_file();
    world.order(0, |io| {
        for n in 0..100u64 {
            let bytes = Bytes::from(vec![n as u8; 50]);
            io.disk(Ticket(100 + n), DiskOperation::Write { file: FILE, offset: n * 50, bytes, sync: false });
        }
    });
    for _ in 0..100 {
        world.until(|happened| matches!(happened, Happened::Disk(_, text, _) if text == "done").then_some(()));
    }
    let expected: Vec<u8> = (0..5000).map(|at| (at / 50) as u8).collect();
    assert!(fs::read(&path).expect("readable") == expected);
    world.stop();
}

#[test]
fn commits_of_whole_blocks_and_odd_writes_do_not_lose_each_other() {
    let (world, _directory, path) = world_with_file();
    perform(&world, 2, DiskOperation::Allocate { file: FILE, bytes: 64 * BLOCK as u64 });
    let mut model = vec![0; 64 * BLOCK];
    let mut writes = Vec::new();
    for n in 0..64usize {
        // A whole block, all blocks of a batch, or a piece of the block before, which brings back the rest of it.
        let (at, len) = [(n * BLOCK, BLOCK), (n / 2 * BLOCK, n % 9 * BLOCK), (n * BLOCK + 500, 700)][n % 3];
        let end = (at + len).min(model.len());
        let bytes = Bytes::from(vec![n as u8 + 1; end - at]);
        model[at..end].copy_from_slice(&bytes);
        writes.push((at as u64, bytes));
    }
    let count = writes.len();
    world.order(0, move |io| {
        for (n, (offset, bytes)) in writes.into_iter().enumerate() {
            io.disk(Ticket(100 + n as u64), DiskOperation::Write { file: FILE, offset, bytes, sync: true });
        }
        // It ends when what was started before has.
        io.disk(Ticket(99), DiskOperation::Close { file: FILE });
    });
    for _ in 0..=count {
        world.until(|happened| matches!(happened, Happened::Disk(_, text, _) if text == "done").then_some(()));
    }
    assert_eq!(world.stats(0).disk_errors.get(), 0);
    let found = fs::read(&path).expect("readable");
    let places: Vec<usize> = (0..model.len()).filter(|at| found[*at] != model[*at]).collect();
    assert!(
        places.is_empty() && found.len() == model.len(),
        "{} bytes differ from {:?} on",
        places.len(),
        places.first()
    );
    world.stop();
}

// Orders that reach the shard apart from each other, so that some operations are under way when the next is started.
fn order_with_pauses(world: &World, round: u64, operations: impl IntoIterator<Item = DiskOperation>) {
    for (n, operation) in operations.into_iter().enumerate() {
        world.order(0, move |io| io.disk(Ticket(n as u64), operation));
        let until = Instant::now() + Duration::from_micros(round * 7 % 200);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
}

fn order_of_ends(world: &World, count: usize) -> Vec<u64> {
    let next = |happened| match happened {
        Happened::Disk(ticket, text, _) if text == "done" => Some(ticket.0),
        _ => None,
    };
    (0..count).map(|_| world.until(next)).collect()
}

const ROUNDS: u64 = 200;

#[test]
fn of_writes_to_the_same_bytes_the_one_that_was_started_last_counts() {
    let (world, _directory, path) = world_with_file();
    perform(&world, 2, DiskOperation::Allocate { file: FILE, bytes: BLOCK as u64 });
    for round in 0..ROUNDS {
        // Parts of blocks only, or a whole block before them.
        let first = [100, BLOCK][round as usize % 2];
        let writes = [first, 100, 100, 100, 100, 100].into_iter().zip(1..).map(|(len, byte)| {
            let bytes = Bytes::from(vec![byte; len]);
            DiskOperation::Write { file: FILE, offset: 0, bytes, sync: true }
        });
        order_with_pauses(&world, round, writes);
        let order = order_of_ends(&world, 6);
        let found = fs::read(&path).expect("readable")[0];
        assert_eq!((found, &order[..]), (6, &[0, 1, 2, 3, 4, 5][..]), "round {round}");
    }
    world.stop();
}

#[test]
fn a_sync_ends_after_the_writes_that_were_started_before_it() {
    let (world, _directory, _) = world_with_file();
    perform(&world, 2, DiskOperation::Allocate { file: FILE, bytes: BLOCK as u64 });
    for round in 0..ROUNDS {
        let write = |len| {
            let bytes = Bytes::from(vec![7; len]);
            DiskOperation::Write { file: FILE, offset: 0, bytes, sync: false }
        };
        order_with_pauses(&world, round, [write(BLOCK), write(100), DiskOperation::Sync { file: FILE }]);
        assert_eq!(order_of_ends(&world, 3), [0, 1, 2], "round {round}");
    }
    world.stop();
}

#[test]
fn a_file_is_closed_when_what_was_started_before_has_ended() {
    const LEN: usize = 32 << 20;
    let directory = tempfile::tempdir_in(".").expect("a directory on disk");
    let path = directory.path().join("file");
    fs::write(&path, vec![7; LEN]).expect("written");
    let path = path.canonicalize().expect("a path");
    let world = World::tcp(Habit::Quiet, 1);
    let name = path.clone();
    world.order(0, |io| io.disk(Ticket(1), DiskOperation::Open { path: name, create: false }));
    eventually("open", || world.stats(0).disk_done.get() == 1);
    let is_open = || {
        let links = fs::read_dir("/proc/self/fd").expect("descriptors").flatten();
        links.filter_map(|link| fs::read_link(link.path()).ok()).any(|link| link == path)
    };
    assert!(is_open());
    world.order(0, |io| {
        io.disk(Ticket(2), DiskOperation::Read { file: FILE, offset: 0, len: LEN });
        io.disk(Ticket(3), DiskOperation::Close { file: FILE });
        io.disk(Ticket(4), DiskOperation::Read { file: FILE, offset: 0, len: 1 });
    });
    eventually("read and closed", || world.stats(0).disk_done.get() == 4);
    assert!(!is_open());
    assert_eq!(world.stats(0).disk_errors.get(), 1, "what was started after the close");
    world.stop();
}

#[test]
fn what_has_not_ended_is_pending_and_nothing_else() {
    let directory = tempfile::tempdir_in(".").expect("a directory on disk");
    let path = directory.path().join("file");
    let world = World::tcp(Habit::Quiet, 1);
    let stats = world.stats(0).clone();
    world.order(0, |io| io.disk(Ticket(9), DiskOperation::Open { path, create: true }));
    eventually("open", || stats.disk_done.get() == 1);
    world.order(0, move |io| {
        for n in 0..3 {
            let bytes = Bytes::from(vec![1; BLOCK]);
            io.disk(Ticket(n), DiskOperation::Write { file: FILE, offset: 0, bytes, sync: true });
        }
        // Comes with the next turn.
        let look: Order = Box::new(move |io| {
            let pending = Happened::Mail(ShardId(0), stats.disk_pending.get());
            io.mail(ShardId::CONTROL, Mail::Report(pending));
        });
        io.mail(ShardId(0), Mail::Order(look));
    });
    assert_eq!(world.next(), Happened::Mail(ShardId(0), 3));
    eventually("the end of all", || world.stats(0).disk_done.get() == 4);
    // The shard sleeps now, and must have said so before.
    eventually("nothing pending", || world.stats(0).disk_pending.get() == 0);
    world.stop();
}

#[test]
fn impossible_offsets_fail_and_cost_the_file_nothing() {
    let directory = tempfile::tempdir_in(".").expect("a directory on disk");
    let world = World::tcp(Habit::Report, 1);
    open(&world, &directory.path().join("file"), true);
    for offset in [1 << 63, u64::MAX - 4095, u64::MAX] {
        let bytes = Bytes::from(vec![1; BLOCK]);
        let write = DiskOperation::Write { file: FILE, offset, bytes, sync: true };
        assert_eq!(perform(&world, 2, write).0, "failed InvalidInput");
        let read = DiskOperation::Read { file: FILE, offset, len: BLOCK };
        assert_eq!(perform(&world, 3, read).0, "failed InvalidInput");
    }
    let write = DiskOperation::Write { file: FILE, offset: 0, bytes: Bytes::from(vec![1; BLOCK]), sync: true };
    assert_eq!(perform(&world, 4, write).0, "done");
    world.stop();
}

#[test]
fn a_shard_ends_with_much_under_way() {
    for round in 0..4u64 {
        let directory = tempfile::tempdir_in(".").expect("a directory on disk");
        let path = directory.path().join("file");
        let world = World::tcp(Habit::Report, 1);
        open(&world, &path, true);
        world.order(0, move |io| {
            for n in 0..100u64 {
                let (len, offset) = ([BLOCK, 1 << 20, 700][n as usize % 3], n << 20);
                let bytes = Bytes::from(vec![n as u8; len]);
                io.disk(Ticket(n), DiskOperation::Write { file: FILE, offset, bytes, sync: n % 2 == 0 });
                io.disk(Ticket(n), DiskOperation::Read { file: FILE, offset, len: BLOCK });
            }
            if round % 2 == 0 {
                io.disk(Ticket(0), DiskOperation::Close { file: FILE });
            }
        });
        let begun = Instant::now();
        world.stop();
        // Sooner than it would give up.
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
}

#[test]
fn every_error_comes_back_with_its_ticket() {
    let directory = tempfile::tempdir_in(".").expect("a directory on disk");
    let world = World::tcp(Habit::Report, 1);
    assert_eq!(open(&world, &directory.path().join("absent"), false), "failed NotFound");
    let bad = [
        DiskOperation::Read { file: FileId(9), offset: 0, len: 1 },
        DiskOperation::Write { file: FileId(9), offset: 0, bytes: Bytes::new(), sync: true },
        DiskOperation::Sync { file: FileId(9) },
        DiskOperation::Close { file: FileId(9) },
        DiskOperation::Remove { path: directory.path().join("absent") },
        DiskOperation::Rename { from: directory.path().join("absent"), to: directory.path().join("b") },
    ];
    for operation in bad {
        assert!(perform(&world, 2, operation).0.starts_with("failed"));
    }
    assert_eq!(world.stats(0).disk_errors.get(), 7);
    world.stop();
}

#[test]
fn a_file_is_renamed_and_removed_also_where_direct_access_is_refused() {
    // /dev/shm is a tmpfs nearly everywhere; where it is not, the test still holds.
    for root in [Path::new("."), Path::new("/dev/shm")].into_iter().filter(|root| root.is_dir()) {
        let directory = tempfile::tempdir_in(root).expect("a directory");
        let (from, to) = (directory.path().join("a"), directory.path().join("b"));
        let world = World::tcp(Habit::Report, 1);
        open(&world, &from, true);
        let write = DiskOperation::Write { file: FILE, offset: 3, bytes: Bytes::from_static(b"tail"), sync: true };
        assert_eq!(perform(&world, 2, write).0, "done");
        assert_eq!(perform(&world, 3, DiskOperation::Read { file: FILE, offset: 2, len: 9 }).1, b"\0tail");
        assert_eq!(perform(&world, 4, DiskOperation::Close { file: FILE }).0, "done");
        assert_eq!(perform(&world, 5, DiskOperation::Rename { from: from.clone(), to: to.clone() }).0, "done");
        assert_eq!(fs::read(&to).expect("there"), b"\0\0\0tail");
        assert_eq!(perform(&world, 6, DiskOperation::Remove { path: to.clone() }).0, "done");
        assert!(!from.exists() && !to.exists());
        world.stop();
    }
}

#[test]
fn network_and_disk_go_on_side_by_side() {
    let (world, _directory, path) = world_with_file();
    let mut client = TcpStream::connect(world.addr()).expect("connected");
    client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let stream = world.until(|happened| match happened {
        Happened::Accepted(stream, _) => Some(stream),
        _ => None,
    });
    let (mut done, mut echoed) = (0, 0);
    for round in 0..50u64 {
        world.order(0, move |io| {
            let bytes = Bytes::from(vec![round as u8; 4096]);
            io.disk(Ticket(round), DiskOperation::Write { file: FILE, offset: round * 4096, bytes, sync: true });
        });
        for _ in 0..10 {
            client.write_all(b"ping").expect("sent");
            world.until(|happened| {
                done += u64::from(matches!(&happened, Happened::Disk(_, text, _) if text == "done"));
                matches!(happened, Happened::Data(..)).then_some(())
            });
            world.order(0, move |io| io.send_slice(stream, b"pong"));
            let mut pong = [0; 4];
            client.read_exact(&mut pong).expect("an answer while the disk works");
            echoed += 1;
        }
    }
    while done < 50 {
        world.until(|happened| matches!(happened, Happened::Disk(_, text, _) if text == "done").then_some(()));
        done += 1;
    }
    assert_eq!((done, echoed), (50, 500));
    assert_eq!(fs::metadata(&path).expect("there").len(), 50 * 4096);
    world.stop();
}
