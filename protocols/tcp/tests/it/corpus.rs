//! Replays the corpus of the fuzz target: what a fuzzer found once stays found.

use std::{fs, path::Path};

use crate::check;

#[test]
fn the_corpus_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frames");
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        check::frames(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 10, "{count} inputs in {}", folder.display());
}
