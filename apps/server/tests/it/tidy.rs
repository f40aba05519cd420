//! The rules of the house: arrows between crates, where `unsafe`, clocks and threads may live, and what files open with.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What each crate may depend on of ours (dev-dependencies included, in brackets those only for tests).
const ARROWS: &[(&str, &[&str])] = &[
    ("engine", &[]),
    ("protocols/tcp", &[]),
    ("protocols/http", &[]),
    ("protocols/websocket", &["tcp"]),
    ("protocols/session", &[]),
    ("protocols/quantum", &["simnet"]),
    ("protocols/quic", &["simnet"]),
    ("protocols/simnet", &[]),
    ("apps/handler", &[]),
    ("apps/topic", &["handler", "simnet"]),
    ("apps/chat", &["handler", "topic"]),
    (
        "apps/server",
        &[
            "engine",
            "tcp",
            "ringshard-http",
            "websocket",
            "session",
            "quantum",
            "quic",
            "simnet",
            "handler",
            "topic",
            "chat",
        ],
    ),
    ("tuning", &["engine"]),
    ("bench", &["engine", "tcp", "ringshard-http", "websocket", "session", "quantum", "quic", "simnet"]),
    (
        "perf",
        &[
            "engine",
            "tcp",
            "ringshard-http",
            "websocket",
            "session",
            "quantum",
            "quic",
            "simnet",
            "handler",
            "topic",
            "chat",
        ],
    ),
    (".cargo/xtask", &[]),
];

const ROOT: &[&str] =
    &["Cargo.toml", "Cargo.lock", "README.md", "LICENSE", "engine", "protocols", "apps", "tuning", "bench", "perf"];

/// Crates whose code is sans-io: it is given time and bytes and has no clock, thread, socket or global randomness.
const CORES: &[&str] = &[
    "protocols/tcp/src",
    "protocols/http/src",
    "protocols/websocket/src",
    "protocols/session/src",
    "protocols/quantum/src",
    "protocols/quic/src",
    "protocols/simnet/src",
    "apps/handler/src",
    "apps/topic/src",
    "apps/chat/src",
    "apps/server/src/compat",
];

#[test]
fn the_root_is_the_card() {
    let listing = fs::read_dir(root()).expect("the root is there").flatten();
    for name in listing.map(|entry| entry.file_name().to_string_lossy().into_owned()) {
        let scratch = name == "target" || name == "ringshard-data";
        assert!(
            name.starts_with('.') || scratch || ROOT.contains(&name.as_str()),
            "`{name}` does not belong at the root"
        );
    }
}

#[test]
fn arrows_point_down_only() {
    let mut names = BTreeMap::new();
    for (folder, _) in ARROWS {
        names.insert(package(folder), *folder);
    }
    for (folder, allowed) in ARROWS {
        let manifest = read(&root().join(folder).join("Cargo.toml"));
        for line in manifest.lines().map(str::trim) {
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let ours = names.contains_key(dependency) && dependency != package(folder) && line.contains(['.', '=']);
            assert!(!ours || allowed.contains(&dependency), "{folder} must not depend on {dependency}");
        }
    }
}

#[test]
fn every_member_has_its_arrows() {
    let manifest = read(&root().join("Cargo.toml"));
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).expect("members");
    for member in members.split('"').skip(1).step_by(2) {
        assert!(ARROWS.iter().any(|(folder, _)| *folder == member), "`{member}` has no line in ARROWS");
    }
}

#[test]
fn the_engine_names_no_protocol() {
    absent(&["engine/src"], &["quantum", "quic", "websocket", "http"], |_| true);
}

#[test]
fn unsafe_stays_in_the_engine() {
    let word = concat!("un", "safe");
    let forms = [format!("{word} {{"), format!("{word} fn"), format!("{word} impl")];
    let forms: Vec<&str> = forms.iter().map(String::as_str).collect();
    absent(&["protocols", "apps", "tuning", "bench/src", "perf", ".cargo"], &forms, |_| true);
}

#[test]
fn cores_have_no_clock_thread_socket_or_global_randomness() {
    let words = [
        "Instant::now",
        "SystemTime::now",
        "std::thread",
        "thread::spawn",
        "thread_rng",
        "rand::rng()",
        "OsRng",
        "TcpStream",
        "UdpSocket",
        "std::fs",
        "println!",
        "eprintln!",
    ];
    absent(CORES, &words, |line| !line.trim_start().starts_with("//"));
}

#[test]
fn every_file_opens_with_a_sentence() {
    for file in sources() {
        let text = read(&file);
        let first = text.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
        let whole: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let sentence = first.starts_with("//! ") && (whole.contains('.') || whole.contains('?'));
        assert!(sentence, "{} does not open with a sentence", file.display());
    }
}

#[test]
fn the_map_of_the_readme_is_the_tree() {
    let readme = read(&root().join("README.md"));
    for (folder, _) in ARROWS.iter().filter(|(folder, _)| !folder.starts_with('.')) {
        assert!(readme.contains(&format!("`{folder}/`")), "the README's map lacks `{folder}/`");
    }
    let named =
        readme.split('`').skip(1).step_by(2).filter(|name| name.contains('/') && !name.contains([' ', ':', '<']));
    for name in named.filter(|name| ROOT.iter().any(|top| name.starts_with(&format!("{top}/")))) {
        assert!(root().join(name).exists(), "the README names `{name}`, which is not there");
    }
}

#[test]
fn the_readme_has_its_two_commands_and_says_what_is_missing() {
    let readme = read(&root().join("README.md"));
    for text in ["cargo serve", "cargo verify", "## Not yet"] {
        assert!(readme.contains(text), "the README lacks `{text}`");
    }
}

/// Fails when a word is in a source file under one of the folders, in a line that counts.
fn absent(folders: &[&str], words: &[&str], counts: fn(&str) -> bool) {
    for file in sources() {
        let inside = file.strip_prefix(root()).expect("sources are under the root");
        if is_test(&file) || !folders.iter().any(|folder| inside.starts_with(folder)) {
            continue;
        }
        // Tests may start from the real time; what they test may not ask for it.
        let text = read(&file);
        let shipped = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
        for (number, line) in shipped.enumerate().filter(|(_, line)| counts(line)) {
            for word in words {
                assert!(!line.contains(word), "{}:{}: `{word}` has no place here", inside.display(), number + 1);
            }
        }
    }
}

/// Whether a file is a module that only tests have.
fn is_test(file: &Path) -> bool {
    let (Some(folder), Some(name)) = (file.parent(), file.file_stem().and_then(|name| name.to_str())) else {
        return false;
    };
    let parents = [folder.with_extension("rs"), folder.join("lib.rs")];
    parents.iter().filter(|parent| parent.is_file()).any(|parent| {
        read(parent).contains(&format!("#[cfg(test)]\nmod {name};")) || (*parent != file && is_test(parent))
    })
}

/// Every Rust file of ours, in a fixed order.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["engine", "protocols", "apps", "tuning", "bench", "perf", ".cargo"].map(|top| root().join(top)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && name != "target" && name != "node_modules" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 30, "the sources were not found");
    found
}

fn package(folder: &str) -> String {
    let manifest = read(&root().join(folder).join("Cargo.toml"));
    let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")).expect("a package has a name");
    name.trim_end_matches('"').to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}
