//! Replays the corpora of the fuzz targets: what a fuzzer found once stays found.

use std::{fs, path::Path};

use crate::check;

#[test]
fn the_corpora_hold() {
    for (name, target) in check::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut count = 0;
        for entry in fs::read_dir(&folder).unwrap() {
            target(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count >= 10, "{count} inputs in {}", folder.display());
    }
}
