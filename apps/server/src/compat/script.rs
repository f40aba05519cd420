//! Plays the golden vectors of `vectors/`: what goes in on either side, and all that comes out.
//!
//! | line begins | is |
//! |---|---|
//! | `?` | the URL's query; the client connects |
//! | `>` | a message of the client: text of GoChat, hexadecimal bytes of Hawos |
//! | `<=` | what the server says to the session, in JSON |
//! | `<` | what the client is told |
//! | `=>` | what the session is asked |
//! | `~` | how much was left out |
//! | `!` | the connection ends, and why |
//! | `#` | a remark |

use std::{fmt::Write, fs, path::Path};

use rand::{Rng, SeedableRng, rngs::StdRng};
use session::{Codec, Server};

use super::{Foreign, Protocol, fuzz};

#[test]
fn every_message_is_as_in_the_vectors() {
    for (protocol, folder, files_min) in [(Protocol::GoChat, "gochat", 5), (Protocol::Hawos, "hawos", 5)] {
        let mut files = 0;
        for file in entries(&format!("src/compat/vectors/{folder}")) {
            let text = fs::read_to_string(&file).expect("a text");
            let played = play(protocol, &text);
            assert!(played == text, "{} is played as\n{played}", file.display());
            files += 1;
        }
        assert!(files >= files_min, "only {files} vectors of {folder}");
    }
}

#[test]
fn nothing_in_the_corpus_breaks_an_adapter() {
    for (replay, folder) in [(fuzz::gochat as fn(&[u8]), "gochat"), (fuzz::hawos, "hawos")] {
        let corpus = entries(&format!("fuzz/corpus/{folder}"));
        assert!(corpus.len() >= 5, "only {} inputs for {folder}", corpus.len());
        for file in corpus {
            let bytes = fs::read(&file).expect("readable");
            // Cut anywhere, what is left of it is hostile, too.
            (0..=bytes.len()).for_each(|len| replay(&bytes[..len]));
        }
    }
}

#[test]
fn nothing_that_is_made_of_the_corpus_breaks_an_adapter() {
    for (replay, folder) in [(fuzz::gochat as fn(&[u8]), "gochat"), (fuzz::hawos, "hawos")] {
        let corpus: Vec<_> = entries(&format!("fuzz/corpus/{folder}"))
            .iter()
            .chain(&entries(&format!("src/compat/vectors/{folder}")))
            .map(|file| fs::read(file).expect("readable"))
            .collect();
        for seed in 0..5_000 {
            println!("{folder}, seed {seed}");
            let mut rng = StdRng::seed_from_u64(seed);
            let mut bytes = corpus[rng.random_range(0..corpus.len())].clone();
            (0..rng.random_range(1..8)).for_each(|_| spoil(&mut rng, &mut bytes, &corpus));
            replay(&bytes);
        }
    }
}

/// Changes, takes out or puts in a little.
fn spoil(rng: &mut StdRng, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = rng.random_range(0..=bytes.len());
    let end = bytes.len().min(at + rng.random_range(1..20));
    match rng.random_range(0..4) {
        0 => bytes[at..end].iter_mut().take(1).for_each(|byte| *byte = rng.random()),
        1 => drop(bytes.drain(at..end)),
        2 => bytes.insert(at, rng.random()),
        _ => {
            let other = &corpus[rng.random_range(0..corpus.len())];
            let from = rng.random_range(0..=other.len());
            let to = other.len().min(from + rng.random_range(1..200));
            bytes.splice(at..end, other[from..to].iter().copied());
        }
    }
}

fn entries(folder: &str) -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// The script with everything that comes out as it does here.
fn play(protocol: Protocol, script: &str) -> String {
    let mut foreign = Foreign::new(protocol, None);
    let mut played = String::new();
    for line in script.lines() {
        if let Some(query) = line.strip_prefix("? ") {
            foreign = Foreign::new(protocol, Some(query));
        } else if let Some(told) = line.strip_prefix("<= ") {
            let told = session::decode_server(Codec::Json, told.as_bytes());
            foreign.told(&told.unwrap_or_else(|error| panic!("{line}: {error}")));
        } else if let Some(said) = line.strip_prefix("> ") {
            hear(&mut foreign, &bytes(protocol, said));
        } else if line.starts_with('#') {
            writeln!(played, "{line}").expect("written");
            continue;
        } else {
            continue;
        }
        writeln!(played, "{line}").expect("written");
        out(protocol, &mut foreign, &mut played);
    }
    played
}

/// As the server does, which has no answer to what is no message but an error.
fn hear(foreign: &mut Foreign, bytes: &[u8]) {
    if let Err(error) = foreign.hear(bytes) {
        let message = error.to_string().into();
        foreign.told(&Server::Err { id: None, code: error.code(), message, retry_ms: None });
    }
}

fn out(protocol: Protocol, foreign: &mut Foreign, played: &mut String) {
    while let Some(ask) = foreign.next_ask() {
        let ask = std::str::from_utf8(&ask).expect("JSON is text");
        assert!(session::decode_client(Codec::Json, ask.as_bytes()).is_ok(), "{ask}");
        writeln!(played, "=> {ask}").expect("written");
    }
    while let Some(reply) = foreign.next_reply() {
        writeln!(played, "< {}", text(protocol, &reply)).expect("written");
    }
    match foreign.take_dropped() {
        0 => {}
        dropped => writeln!(played, "~ {dropped}").expect("written"),
    }
    if let Some(reason) = foreign.ends() {
        writeln!(played, "! {reason}").expect("written");
    }
}

fn bytes(protocol: Protocol, said: &str) -> Vec<u8> {
    match protocol {
        Protocol::GoChat => said.into(),
        Protocol::Hawos => {
            let digits = said.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).expect("digits"));
            digits.map(|two| u8::from_str_radix(two, 16).expect("hexadecimal")).collect()
        }
    }
}

fn text(protocol: Protocol, reply: &[u8]) -> String {
    match protocol {
        Protocol::GoChat => String::from_utf8(reply.to_vec()).expect("JSON is text"),
        Protocol::Hawos => reply.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")),
    }
}
