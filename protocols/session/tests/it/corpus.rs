//! Replays the corpora of the fuzz targets: what a fuzzer found once stays found.

use std::{fs, path::Path};

use crate::check;

#[test]
fn the_corpora_hold() {
    replay("json", check::json);
    replay("binary", check::binary);
}

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        check(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 20, "{count} inputs in {}", folder.display());
}
