//! Replays the corpora of the fuzz targets of HTTP/3 and WebTransport: what a fuzzer found once stays found.

use std::{fs, path::Path};

use crate::check_h3::TARGETS;

#[test]
fn corpora_of_http3_are_replayed() {
    for (name, check) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let files = fs::read_dir(&folder).expect("every target has a corpus");
        let mut count = 0;
        for file in files {
            check(&fs::read(file.expect("it can be listed").path()).expect("it can be read"));
            count += 1;
        }
        assert!(count >= 10, "{name} has {count} files");
    }
}

#[test]
fn mutants_of_the_corpora_break_nothing() {
    // xorshift64*, so that a seed says everything.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |end: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    };
    for (name, check) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut paths: Vec<_> =
            fs::read_dir(&folder).expect("it is there").map(|file| file.expect("listed").path()).collect();
        paths.sort();
        for path in paths {
            let whole = fs::read(path).expect("it can be read");
            for _ in 0..200 {
                let mut mutant = whole.clone();
                for _ in 0..=random(4) {
                    let at = random(mutant.len());
                    match random(3) {
                        0 if at < mutant.len() => mutant[at] = random(256) as u8,
                        1 => mutant.truncate(at),
                        _ => mutant.insert(at, [0, 1, 4, 0x21, 0x40, 0x41, 0x54, 0x80, 0xc0, 0xff][random(10)]),
                    }
                }
                check(&mutant);
            }
        }
    }
}
