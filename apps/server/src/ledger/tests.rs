//! Ledgers on a real disk, with descriptors that stand for a disk that takes nothing or syncs nothing.

use std::cell::RefCell;

use super::*;

const NAME: &str = "numbers.jsonl";

fn open(folder: &tempfile::TempDir) -> (Ledger, Vec<String>) {
    let lines = RefCell::new(Vec::new());
    let ledger = Ledger::open(folder.path(), (NAME, "start anew"), |line| {
        serde_json::from_slice::<serde_json::Value>(line).map_err(|error| error.to_string())?;
        lines.borrow_mut().push(String::from_utf8_lossy(line).into_owned());
        Ok(())
    });
    (ledger.expect("opened"), lines.into_inner())
}

fn text(folder: &tempfile::TempDir) -> String {
    fs::read_to_string(folder.path().join(NAME)).expect("there")
}

#[test]
fn a_disk_that_took_nothing_for_a_while_is_written_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut ledger, _) = open(&folder);
    ledger.append(&[1]).expect("written");
    ledger.be_full();
    assert!(matches!(ledger.append(&[2]), Err(AccountError::Storage(_))));
    // What is left of it could not be cut off.
    assert_eq!(ledger.condition, Condition::Rest);
    ledger.probe();
    assert!(ledger.trouble().is_some_and(|why| why.starts_with("numbers.jsonl: ")), "{:?}", ledger.trouble());
    ledger.be_well();
    fs::write(folder.path().join(NAME), "1\n2").expect("a part of it came through");
    ledger.append(&[3]).expect("written");
    assert_eq!((ledger.trouble(), text(&folder).as_str(), ledger.lines()), (None, "1\n3\n", 2));
}

#[test]
fn an_end_of_the_trouble_is_found_out_without_anything_to_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut ledger, _) = open(&folder);
    ledger.append(&[1]).expect("written");
    ledger.be_full();
    ledger.append(&[2]).expect_err("full");
    ledger.be_well();
    ledger.probe();
    assert_eq!((ledger.trouble(), text(&folder).as_str()), (None, "1\n"), "and nothing is left of it");
    ledger.append(&[2]).expect("written");
    assert_eq!(text(&folder), "1\n2\n");
}

#[test]
fn what_a_probe_leaves_behind_at_a_crash_is_cut_off() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(NAME), [b"1\n".as_slice(), &[b' '; PROBE_BYTES]].concat()).expect("written");
    assert_eq!((open(&folder).1, text(&folder).as_str()), (vec!["1".to_owned()], "1\n"));
}

#[test]
fn after_a_sync_that_failed_only_a_new_file_helps() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut ledger, _) = open(&folder);
    ledger.append(&[1]).expect("written");
    ledger.be_unsynced();
    ledger.append(&[2]).expect_err("not synced");
    ledger.be_well();
    ledger.append(&[3]).expect_err("nobody knows what is in it");
    ledger.probe();
    assert!(ledger.is_unsure() && ledger.trouble().is_some());
    assert!(ledger.rewrite(0, &[1]) && ledger.trouble().is_none() && !ledger.is_unsure());
    ledger.append(&[4]).expect("written");
    assert_eq!((text(&folder).as_str(), ledger.lines()), ("1\n4\n", 2));
}

#[test]
fn a_rewrite_that_fails_leaves_nothing_and_waits_longer_each_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut ledger, _) = open(&folder);
    let path = folder.path().join(NAME);
    fs::remove_file(&path).and_then(|()| fs::create_dir(&path)).expect("no file takes its place");
    let tries: Vec<u64> = (0..60)
        .filter(|now| {
            let before = ledger.rewrites.failed;
            assert!(!ledger.rewrite(*now, &[1]));
            assert!(!ledger.new_path().exists(), "what it has written is gone");
            ledger.rewrites.failed != before
        })
        .collect();
    assert_eq!(tries, [0, 1, 3, 7, 15, 31, 47]);
    assert_eq!(ledger.trouble(), None, "what is appended still is");
    fs::remove_dir(&path).expect("removed");
    assert!(ledger.rewrite(63, &[1]) && ledger.rewrites.failed.is_none());
    assert_eq!(text(&folder), "1\n");
}

#[test]
fn a_rewrite_that_a_crash_has_cut_off_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let left = folder.path().join("numbers.jsonl.new");
    fs::write(&left, "1\n2").expect("written");
    open(&folder);
    assert!(!left.exists());
}

#[test]
fn records_that_belong_together_are_there_all_or_none_wherever_they_were_torn() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(NAME);
    let (mut ledger, _) = open(&folder);
    ledger.append(&[1]).expect("written");
    ledger.append(&Vec::from_iter(1_000..3_000)).expect("written");
    drop(ledger);
    let whole = fs::read(&path).expect("there");
    assert_eq!(whole.iter().filter(|byte| **byte == b'\n').count(), 2);
    // Of the blocks that it covers any may be missing, in front and at the end.
    for block in 0..whole.len().div_ceil(4096) {
        let mut torn = whole.clone();
        let end = (4096 * (block + 1)).min(torn.len());
        torn[(4096 * block).max(2)..end].fill(0);
        fs::write(&path, &torn).expect("written");
        assert_eq!(open(&folder).1, ["1"], "block {block}");
        fs::write(&path, &whole[..end - 1]).expect("written");
        assert_eq!(open(&folder).1, ["1"], "up to block {block}");
    }
    fs::write(&path, &whole).expect("written");
    assert_eq!(open(&folder).1.len(), 2);
}

#[test]
fn a_damaged_line_comes_with_what_to_do_about_this_file() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(NAME), "1\nx\n2\n").expect("written");
    let damaged = Ledger::open(folder.path(), (NAME, "start anew"), |line| {
        serde_json::from_slice::<u64>(line).map(drop).map_err(|error| error.to_string())
    });
    let text = damaged.map(drop).expect_err("damaged").to_string();
    assert!(text.contains("numbers.jsonl:2: ") && text.ends_with("; start anew"), "{text}");
}
