//! PITFALLS.md, checked: no number is missing, and every test and every fault that it names is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const TABLE: &str = include_str!("../../PITFALLS.md");

const COUNT: usize = 46;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What is named for each number.
fn rows() -> BTreeMap<usize, Vec<&'static str>> {
    let mut rows = BTreeMap::new();
    for line in TABLE.lines().filter(|line| line.starts_with("| ")) {
        let [_, number, _, caught, _] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let Ok(number) = number.parse() else { continue };
        let names = caught.split('`').skip(1).step_by(2).collect();
        assert_eq!(rows.insert(number, names), None, "pitfall {number} is there twice");
    }
    rows
}

/// The tests of a file: functions with `#[test]` before them, or in `proptest!`, where it is the same.
fn tests(source: &str) -> BTreeSet<&str> {
    let (mut found, mut is_test) = (BTreeSet::new(), false);
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[test]") {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            found.extend(rest.split('(').next().filter(|_| is_test));
            is_test = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            // Other attributes and comments may stand between.
            is_test = false;
        }
    }
    found
}

/// The faults that there are.
fn mutants() -> BTreeSet<String> {
    let source = read("protocols/quantum/src/mutant.rs");
    let name = |line: &str| Some(line.trim().strip_prefix("(\"")?.split_once("\", Mutant::")?.0.to_owned());
    source.lines().filter_map(name).collect()
}

#[test]
fn every_pitfall_has_its_tests() {
    let (rows, mut files) = (rows(), BTreeMap::new());
    assert!(rows.keys().copied().eq(1..=COUNT), "{:?}", rows.keys());
    let mut missing = Vec::new();
    for (number, names) in &rows {
        let named = names.iter().filter_map(|name| name.split_once("::")).collect::<Vec<_>>();
        assert!(!named.is_empty(), "no test catches pitfall {number}");
        for (file, test) in named {
            let is_ours = file.starts_with("src/") || file.starts_with("tests/");
            let path = if is_ours { format!("protocols/quantum/{file}") } else { file.to_owned() };
            let source = files.entry(path).or_insert_with_key(|path| read(path));
            if !tests(source).contains(test) {
                missing.push(format!("{number}: {file}::{test}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such test: {missing:#?}");
}

#[test]
fn every_fault_is_named_and_the_chore_tries_them_all() {
    let named = rows().into_values().flatten().filter(|name| !name.contains("::"));
    let named: BTreeSet<String> = named.map(|name| name.strip_prefix("mutant ").expect(name).to_owned()).collect();
    assert_eq!(named, mutants());
    assert!(read(".cargo/xtask/src/verify.rs").contains("(\"mutants\", mutants::run)"));
    assert!(read(".cargo/xtask/src/mutants.rs").contains("folder: \"protocols/quantum\""));
}

#[test]
fn rivals_are_set_up_as_well_as_we_are() {
    let tcp = read("bench/peers/src/bin/link_tcp.rs");
    assert!(tcp.contains("set_tcp_nodelay(true)"), "TCP must not wait for more to send");
    assert!(!tcp.contains("set_send_buffer_size") && !tcp.contains("set_recv_buffer_size"), "the kernel sizes buffers");
    let kcp = read("bench/peers/src/bin/link_kcp.rs");
    let window = kcp.lines().find_map(|line| line.strip_prefix("const WINDOW: u16 = ")?.strip_suffix(';'));
    assert!(window.is_some_and(|window| window.replace('_', "").parse::<u16>().unwrap() >= 1_024), "{window:?}");
    assert!(kcp.contains("wnd_size: (WINDOW, WINDOW)"), "KCP begins with 32 packets otherwise");
}
