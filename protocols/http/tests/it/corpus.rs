//! Replays what fuzzing has found, and what it starts from.

use std::{fs, path::PathBuf, time::Instant};

use ringshard_http::fuzz;

/// Runs `target` on each file of its corpus.
fn replay(name: &str, target: fn(Instant, &[u8])) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let (now, mut seen) = (Instant::now(), 0);
    for entry in fs::read_dir(&directory).unwrap() {
        target(now, &fs::read(entry.unwrap().path()).unwrap());
        seen += 1;
    }
    assert!(seen > 0, "{} is empty", directory.display());
}

#[test]
fn http1() {
    replay("http1", fuzz::http1);
}

#[test]
fn upgrade() {
    replay("upgrade", fuzz::upgrade);
}

#[test]
fn http2() {
    replay("http2", fuzz::http2);
}
