//! A disk forgets what was not synced, in every way, and never anything else.

mod model;

use std::{collections::BTreeSet, time::Duration};

use simnet::{CrashPlan, Disk, DiskConfig, DiskError, DiskKind, FileId, Latency};

/// All that is not synced is lost.
const LOSE: CrashPlan = CrashPlan { keep: 0.0, garbage: 0.0, flip_synced_bits: 0 };
/// Half of it survives.
const HALF: CrashPlan = CrashPlan { keep: 0.5, garbage: 0.0, flip_synced_bits: 0 };

fn disk(seed: u64) -> Disk {
    Disk::new(seed, DiskConfig::default())
}

fn create(disk: &mut Disk, name: &str) -> FileId {
    disk.open(name, true).unwrap().0
}

/// A disk with a file that holds four synced sectors of ones.
fn ones(seed: u64) -> (Disk, FileId) {
    let mut disk = disk(seed);
    let file = create(&mut disk, "ones");
    disk.write(file, 0, &[1; 2048]).unwrap();
    disk.sync(file).unwrap();
    (disk, file)
}

#[test]
fn what_is_written_is_read_back_and_a_gap_is_zero() {
    let mut disk = disk(1);
    let file = create(&mut disk, "a");
    disk.write(file, 3, b"four").unwrap();
    assert_eq!(disk.read(file, 0, 100).unwrap(), b"\0\0\0four");
    assert_eq!(disk.read(file, 7, 1).unwrap(), b"");
    assert_eq!(disk.read(file, u64::MAX, 1).unwrap(), b"");
    disk.truncate(file, 4).unwrap();
    disk.allocate(file, 6).unwrap();
    disk.allocate(file, 2).unwrap();
    assert_eq!(disk.bytes("a"), Some(&b"\0\0\0f\0\0"[..]));
    assert_eq!((disk.len("a"), disk.len("b")), (Ok(6), Err(DiskError::NotFound)));
    assert_eq!(disk.open("a", false).unwrap().1, 6);
}

#[test]
fn each_sector_of_a_write_has_its_own_fate() {
    let mut fates = BTreeSet::new();
    for seed in 0..200 {
        let (mut disk, file) = ones(seed);
        disk.write(file, 512, &[2; 1024]).unwrap();
        disk.crash(HALF);
        let bytes = disk.bytes("ones").unwrap();
        assert_eq!((&bytes[..512], &bytes[1536..]), (&[1; 512][..], &[1; 512][..]), "seed {seed}");
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "seed {seed}");
        fates.insert((bytes[512], bytes[1024]));
    }
    assert_eq!(fates.into_iter().collect::<Vec<_>>(), [(1, 1), (1, 2), (2, 1), (2, 2)]);
}

#[test]
fn garbage_is_a_tear_a_mix_or_noise_and_stays_in_its_sector() {
    let (mut torn, mut mixed, mut noise) = (0, 0, 0);
    for seed in 0..300 {
        let (mut disk, file) = ones(seed);
        disk.write(file, 600, &[2; 100]).unwrap();
        disk.crash(CrashPlan { garbage: 1.0, ..HALF });
        let bytes = disk.bytes("ones").unwrap();
        assert!(bytes[..512].iter().chain(&bytes[1024..]).all(|byte| *byte == 1), "seed {seed}");
        let written = &bytes[600..700];
        if written.iter().any(|byte| !(1..=2).contains(byte)) {
            noise += 1;
        } else if written.is_sorted_by(|one, next| one >= next) {
            torn += 1;
        } else {
            mixed += 1;
        }
    }
    assert!([torn, mixed, noise].iter().all(|count| *count > 60), "{torn} {mixed} {noise}");
}

#[test]
fn a_length_that_was_not_synced_may_be_lost_kept_or_between_and_the_rest_is_zero() {
    let (mut short, mut between, mut whole) = (0, 0, 0);
    for seed in 0..300 {
        let (mut disk, file) = ones(seed);
        disk.allocate(file, 10_000).unwrap();
        disk.crash(HALF);
        let bytes = disk.bytes("ones").unwrap();
        assert!(bytes[2048..].iter().all(|byte| *byte == 0), "seed {seed}");
        match bytes.len() {
            2048 => short += 1,
            10_000 => whole += 1,
            len => {
                assert!((2048..10_000).contains(&len), "seed {seed}");
                between += 1;
            }
        }
    }
    assert!([short, between, whole].iter().all(|count| *count > 40), "{short} {between} {whole}");
}

#[test]
fn a_length_that_was_cut_in_vain_shows_what_was_there() {
    let (mut disk, file) = ones(1);
    disk.truncate(file, 100).unwrap();
    disk.write(file, 0, &[2; 50]).unwrap();
    let mut lucky = disk.clone();
    disk.crash(LOSE);
    assert_eq!(disk.bytes("ones"), Some(&[1; 2048][..]));
    lucky.crash(CrashPlan { keep: 1.0, ..LOSE });
    assert_eq!(lucky.bytes("ones"), Some(&[[2; 50], [1; 50]].concat()[..]));
}

#[test]
fn a_new_file_survives_when_it_or_its_directory_was_synced() {
    let mut disk = disk(1);
    for name in ["lost", "synced", "d/listed", "d/renamed"] {
        create(&mut disk, name);
    }
    let (synced, _) = disk.open("synced", false).unwrap();
    disk.sync(synced).unwrap();
    disk.rename("d/renamed", "d/new").unwrap();
    disk.crash(LOSE);
    assert_eq!(disk.list(), ["d/listed", "d/new", "synced"]);
}

#[test]
fn a_removed_file_may_come_back_until_its_directory_is_synced() {
    let (mut disk, file) = ones(1);
    disk.remove("ones").unwrap();
    assert_eq!((disk.list().len(), disk.remove("ones")), (0, Err(DiskError::NotFound)));
    assert_eq!(disk.read(file, 0, 1).unwrap(), [1], "who has it open still reads it");
    let mut back = disk.clone();
    back.crash(LOSE);
    assert_eq!(back.bytes("ones"), Some(&[1; 2048][..]));
    disk.sync_dir("").unwrap();
    disk.crash(LOSE);
    assert!(disk.list().is_empty());
}

#[test]
fn a_rename_is_whole_or_did_not_happen() {
    let mut seen = [false; 2];
    for seed in 0..100 {
        let (mut disk, _) = ones(seed);
        let file = create(&mut disk, "new");
        disk.write(file, 0, &[2; 700]).unwrap();
        disk.sync(file).unwrap();
        disk.fail_next_sync();
        assert_eq!(disk.rename("new", "ones"), Err(DiskError::Io));
        assert_eq!(disk.list(), ["ones"]);
        disk.crash(CrashPlan { garbage: 0.5, ..HALF });
        let files: Vec<_> = disk.files().collect();
        let renamed = files.len() == 1;
        match files[..] {
            [("ones", new)] => assert_eq!(new, [2; 700], "seed {seed}"),
            [("new", new), ("ones", old)] => assert_eq!((new, old), (&[2; 700][..], &[1; 2048][..]), "seed {seed}"),
            _ => panic!("seed {seed}: {:?}", disk.list()),
        }
        seen[usize::from(renamed)] = true;
    }
    assert_eq!(seen, [true; 2]);
}

#[test]
fn renames_that_build_on_each_other_are_lost_from_the_last_one_on_and_others_alone() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let (mut disk, _) = ones(seed);
        for (from, to) in [("ones", "twos"), ("twos", "threes")] {
            disk.fail_next_sync();
            assert_eq!(disk.rename(from, to), Err(DiskError::Io));
        }
        create(&mut disk, "other");
        let file = create(&mut disk, "synced");
        disk.sync(file).expect("this says nothing about the other names");
        let mut lucky = disk.clone();
        lucky.crash(CrashPlan { keep: 1.0, ..LOSE });
        assert_eq!(lucky.list(), ["other", "synced", "threes"]);
        disk.crash(HALF);
        seen.insert(disk.list().join(" "));
    }
    let names = ["ones other synced", "ones synced", "other synced threes", "other synced twos"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [&names[..], &["synced threes", "synced twos"]].concat());
}

#[test]
fn a_sync_makes_durable_what_the_name_of_the_file_builds_on() {
    for seed in 0..50 {
        let (mut disk, _) = ones(seed);
        let file = create(&mut disk, "new");
        disk.write(file, 0, b"text").unwrap();
        disk.fail_next_sync();
        assert_eq!(disk.rename("new", "ones"), Err(DiskError::Io));
        create(&mut disk, "new");
        disk.sync(file).unwrap();
        disk.crash(HALF);
        assert_eq!(disk.bytes("ones"), Some(&b"text"[..]), "seed {seed}");
        assert!(disk.bytes("new").is_none_or(<[u8]>::is_empty), "seed {seed}: one file has two names");
    }
}

#[test]
fn a_rename_does_not_sync_what_the_file_holds() {
    let mut disk = disk(1);
    let file = create(&mut disk, "new");
    disk.write(file, 0, b"text").unwrap();
    disk.rename("new", "name").unwrap();
    disk.crash(LOSE);
    assert_eq!(disk.files().collect::<Vec<_>>(), [("name", &b""[..])]);
}

#[test]
fn a_full_disk_takes_what_fits_and_gives_back_what_is_removed() {
    let mut disk = Disk::new(1, DiskConfig { capacity_bytes: 1000, ..DiskConfig::default() });
    let (a, b) = (create(&mut disk, "a"), create(&mut disk, "b"));
    disk.allocate(a, 600).unwrap();
    assert_eq!(disk.allocate(b, 401), Err(DiskError::Full));
    assert_eq!(disk.write(b, 100, &[1; 500]), Err(DiskError::Full));
    assert_eq!((disk.len("b"), disk.used_bytes()), (Ok(400), 1000));
    assert_eq!(disk.write(b, u64::MAX, &[1]), Err(DiskError::Full));
    disk.write(a, 0, &[2; 600]).expect("a preallocated place needs no more");
    disk.remove("a").unwrap();
    assert_eq!(disk.truncate(b, 401), Err(DiskError::Full), "it is still open");
    disk.close(a).unwrap();
    disk.write(b, 400, &[1; 600]).unwrap();
    disk.set_capacity(10);
    disk.write(b, 0, &[3; 1000]).expect("what is there stays");
    assert_eq!(disk.write(b, 1000, &[3]), Err(DiskError::Full));
}

#[test]
fn a_read_only_disk_only_reads() {
    let (mut disk, file) = ones(1);
    disk.set_read_only(true);
    disk.sync(file).expect("there is nothing to sync");
    let refused = [
        disk.open("ones", false).map(drop),
        disk.open("new", true).map(drop),
        disk.write(file, 0, &[2]),
        disk.allocate(file, 9000),
        disk.truncate(file, 0),
        disk.rename("ones", "twos"),
        disk.remove("ones"),
        disk.sync_dir(""),
    ];
    assert_eq!(refused, [Err(DiskError::ReadOnly); 8]);
    assert_eq!(disk.open("new", false), Err(DiskError::NotFound));
    assert_eq!(disk.read(file, 0, 2048).unwrap(), [1; 2048]);
    disk.set_read_only(false);
    disk.write(file, 0, &[2]).unwrap();
    disk.set_read_only(true);
    assert_eq!(disk.sync(file), Err(DiskError::ReadOnly));
}

#[test]
fn after_a_failed_sync_only_what_is_written_again_can_be_synced() {
    let (mut disk, file) = ones(1);
    disk.write(file, 0, &[2; 1024]).unwrap();
    disk.write(file, 2048, &[2; 1024]).unwrap();
    disk.fail_next_sync();
    assert_eq!(disk.sync(file), Err(DiskError::Io));
    disk.write(file, 512, &[3; 512]).unwrap();
    disk.sync(file).expect("the kernel tells an error once");
    disk.crash(LOSE);
    let sectors: Vec<_> = disk.bytes("ones").unwrap().chunks(512).map(|sector| sector[0]).collect();
    assert_eq!(sectors, [1, 3, 1, 1, 0, 0]);
}

#[test]
fn a_failed_sync_is_forgotten_where_the_file_is_cut() {
    let (mut disk, file) = ones(1);
    disk.truncate(file, 0).unwrap();
    disk.fail_next_sync();
    assert_eq!(disk.sync(file), Err(DiskError::Io));
    disk.sync(file).unwrap();
    disk.allocate(file, 2048).unwrap();
    disk.sync(file).unwrap();
    disk.crash(LOSE);
    assert_eq!(disk.bytes("ones"), Some(&[0; 2048][..]));
}

#[test]
fn switches_and_probabilities_make_operations_fail() {
    let (mut disk, file) = ones(1);
    disk.fail_reads(true);
    assert_eq!(disk.read(file, 0, 1), Err(DiskError::Io));
    disk.fail_reads(false);
    assert_eq!(disk.read(file, 0, 1), Ok(vec![1]));
    disk.fail_next_write();
    assert_eq!(disk.write(file, 2048, &[2; 10]), Err(DiskError::Io));
    assert!(disk.bytes("ones").unwrap()[2048..].iter().all(|byte| *byte == 2), "a part of it may be there");
    disk.write(file, 2048, &[2; 10]).unwrap();

    let config = DiskConfig { read_error: 1.0, write_error: 1.0, sync_error: 1.0, ..DiskConfig::default() };
    disk.configure(config);
    assert_eq!(disk.read(file, 0, 1), Err(DiskError::Io));
    assert_eq!([disk.write(file, 0, &[1]), disk.sync(file), disk.sync_dir("")], [Err(DiskError::Io); 3]);
    assert_eq!(DiskError::Io.errno(), 5);
}

#[test]
fn a_killed_process_loses_its_handles_and_no_byte() {
    let (mut disk, file) = ones(1);
    disk.write(file, 1000, &[2; 3000]).unwrap();
    create(&mut disk, "new");
    let before = disk.clone();
    disk.kill();
    assert!(disk.files().eq(before.files()));
    assert_eq!(disk.write(file, 0, &[1]), Err(DiskError::BadHandle));
    assert_eq!(disk.close(file), Err(DiskError::BadHandle));
    assert_ne!(disk.open("ones", false).unwrap().0, file);
    disk.crash(LOSE);
    assert_eq!(disk.files().collect::<Vec<_>>(), [("ones", &[1; 2048][..])], "it was never on the disk");
}

#[test]
fn flips_hit_synced_bytes_of_the_file_written_last_and_are_told() {
    for seed in 0..100 {
        let (mut disk, _) = ones(seed);
        let file = create(&mut disk, "last");
        disk.write(file, 0, &[0; 1300]).unwrap();
        disk.sync(file).unwrap();
        disk.write(file, 512, &[0; 10]).unwrap();
        let flipped = disk.crash(CrashPlan { flip_synced_bits: 20, ..LOSE });
        assert_eq!(flipped.len(), 20, "seed {seed}");
        for (name, offset, bit) in &flipped {
            assert!(name == "last" && !(512..1024).contains(offset), "seed {seed}");
            disk.corrupt(name, *offset, *bit).unwrap();
        }
        let plain = [("last", &[0; 1300][..]), ("ones", &[1; 2048][..])];
        assert_eq!(disk.files().collect::<Vec<_>>(), plain, "seed {seed}: back as it was");
    }
}

#[test]
fn no_more_bits_flip_than_are_synced() {
    let mut disk = disk(1);
    let file = create(&mut disk, "a");
    disk.write(file, 0, &[0; 2]).unwrap();
    disk.sync(file).unwrap();
    assert_eq!(disk.crash(CrashPlan { flip_synced_bits: 100, ..LOSE }).len(), 16);
    assert_eq!(disk.bytes("a"), Some(&[0xff; 2][..]));
}

#[test]
fn a_corrupted_bit_stays_after_a_crash() {
    let (mut disk, file) = ones(1);
    disk.write(file, 0, &[1; 10]).unwrap();
    disk.corrupt("ones", 700, 7).unwrap();
    disk.corrupt("ones", 3, 1).unwrap();
    disk.crash(LOSE);
    let bytes = disk.bytes("ones").unwrap();
    assert_eq!((bytes[3], bytes[700], bytes[701]), (3, 129, 1));
    assert_eq!(disk.corrupt("none", 0, 0), Err(DiskError::NotFound));
}

#[test]
fn latency_is_between_its_bounds() {
    let (min, max) = (Duration::from_micros(100), Duration::from_micros(900));
    let mut disk = Disk::new(3, DiskConfig { sync_latency: Latency { min, max }, ..DiskConfig::default() });
    let drawn: Vec<_> = (0..100).map(|_| disk.latency(DiskKind::Sync)).collect();
    assert!(drawn.iter().all(|latency| (min..=max).contains(latency)), "{drawn:?}");
    assert!(drawn.iter().max() > drawn.iter().min());
    assert_eq!(disk.latency(DiskKind::Read), Duration::ZERO);
}
