//! Replays the corpora of the fuzz targets: what a fuzzer found once stays found.

use std::{fs, path::Path};

use crate::{check, world::World, world::plain};

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

/// One datagram as the target reads it.
fn framed(port: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[port], &len[..], bytes].concat()
}

/// Real datagrams, whole and damaged: in `QUIC_CORPUS` to keep, else only tried.
#[test]
fn real_datagrams_and_damaged_ones_are_taken() {
    let mut world = World::new(1, 1, plain());
    let (client, _) = world.connected();
    world.client_at(client).close(1, b"bye");
    world.run_for(std::time::Duration::from_secs(1));
    let up = &world.sent_up;
    let whole: Vec<u8> = up.iter().take(4).flat_map(|bytes| framed(1, bytes)).collect();
    let hello: Vec<u8> = up.iter().take(2).flat_map(|bytes| framed(1, bytes)).collect();
    let moved: Vec<u8> = [framed(1, &up[0]), framed(2, &up[1])].concat();
    let mut other_version = up[0].clone();
    other_version[4] = 9;
    let mut damaged = up[0].clone();
    damaged[700] ^= 4;
    let stray = up.last().unwrap();
    let inputs = [
        ("hello", 0, hello.clone()),
        ("hello_retry", 1, hello.clone()),
        ("first_only", 0, framed(1, &up[0])),
        ("second_first", 0, [framed(1, &up[1]), framed(1, &up[0])].concat()),
        ("repeated", 0, [&hello[..], &hello].concat()),
        ("flight", 0, whole),
        ("moved", 0, moved),
        ("other_version", 0, framed(1, &other_version)),
        ("damaged", 0, framed(1, &damaged)),
        ("cut", 0, framed(1, &up[0][..900])),
        ("stray_short", 0, framed(1, stray)),
        ("foreign", 0xC0, [framed(1, stray), hello].concat()),
        ("from_the_server", 0, world.sent_down.iter().take(3).flat_map(|bytes| framed(1, bytes)).collect()),
    ];
    for (name, choice, bytes) in inputs {
        let input = [&[choice], &bytes[..]].concat();
        if let Some(folder) = std::env::var_os("QUIC_CORPUS") {
            fs::write(Path::new(&folder).join(name), &input).unwrap();
        }
        check::run("datagram", &input);
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
    for (name, check) in check::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let whole = fs::read(path).unwrap();
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
