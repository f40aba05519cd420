//! SPEC.md, executed: its vectors are what is written and read, its tables what is allowed, its rules are numbered.

mod citation;
mod frame;
mod packet;
mod pitfall;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use quantum::frame::{is_ack_eliciting, is_allowed, is_protectable};
use quantum::packet::Space;

const SPEC: &str = include_str!("../../SPEC.md");

/// The lines of each block marked `vector`, without comments.
fn vectors() -> BTreeMap<&'static str, Vec<String>> {
    let mut vectors = BTreeMap::new();
    let mut blocks = SPEC.split("```");
    while let (Some(_), Some(block)) = (blocks.next(), blocks.next()) {
        let (mark, body) = block.split_once('\n').unwrap();
        let Some(name) = mark.strip_prefix("vector ") else { continue };
        let lines = body.lines().map(|line| line.split('#').next().unwrap().trim().to_owned());
        let before = vectors.insert(name, lines.filter(|line| !line.is_empty()).collect());
        assert_eq!(before, None, "two vectors are called {name}");
    }
    vectors
}

/// The text of a section, without that of the sections in it.
fn section(number: &str) -> &'static str {
    let heading = |line: &str| line.starts_with("## ") || line.starts_with("### ");
    let named = |line: &str| line.split_whitespace().nth(1).is_some_and(|name| name.trim_end_matches('.') == number);
    let mut at = 0;
    let mut start = None;
    for line in SPEC.split_inclusive('\n') {
        match start {
            None if heading(line) && named(line) => start = Some(at + line.len()),
            Some(start) if heading(line) => return &SPEC[start..at],
            _ => {}
        }
        at += line.len();
    }
    &SPEC[start.unwrap_or_else(|| panic!("no section {number}"))..]
}

fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.as_chunks().0.iter().map(|[high, low]| high << 4 | low).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The numbers in each line of a vector that is a table.
fn table<const N: usize>(name: &str) -> Vec<[u64; N]> {
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let row = |line: &String| line.split_whitespace().map(number).collect::<Vec<_>>().try_into().unwrap();
    vectors()[name].iter().map(row).collect()
}

/// Vectors that are tables; the others are bytes.
const TABLES: [&str; 4] = ["steering", "issued-word", "number-lengths", "number-expansion"];

#[test]
fn what_is_written_is_what_the_vectors_say() {
    let mut vectors = vectors();
    TABLES.iter().for_each(|name| assert!(vectors.remove(name).is_some(), "{name} is missing"));
    let written: BTreeMap<&str, Vec<u8>> = packet::written().into_iter().chain(frame::written()).collect();
    let mut wrong = Vec::new();
    for (name, bytes) in &written {
        let told = vectors.remove(name).map(|lines| super::spec::bytes(&lines.concat()));
        if told.as_ref() != Some(bytes) {
            wrong.push(format!("{name}: {}", hex(bytes)));
        }
    }
    assert!(wrong.is_empty(), "SPEC.md should say\n{}", wrong.join("\n"));
    assert!(vectors.is_empty(), "nothing writes {:?}", vectors.keys());
}

#[test]
fn frames_stand_where_the_table_says() {
    let section = SPEC.split("\n## 5. Frames\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let mut kinds = BTreeSet::new();
    for line in section.lines().filter(|line| line.starts_with("| 0x")) {
        let [_, types, name, place, ack, _, symbol, _] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let types: Vec<u64> =
            types.split([',', '-']).map(|kind| u64::from_str_radix(&kind.trim()[2..], 16).unwrap()).collect();
        for kind in types[0]..=*types.last().unwrap() {
            let (handshake, early) = (place.contains('I'), place.contains('0'));
            assert_eq!(is_allowed(kind, Space::Initial, false), handshake, "{name}");
            assert_eq!(is_allowed(kind, Space::Handshake, false), place.contains('H'), "{name}");
            assert_eq!(is_allowed(kind, Space::Application, true), early, "{name}");
            assert_eq!(is_allowed(kind, Space::Application, false), place.contains('1'), "{name}");
            assert_eq!(is_ack_eliciting(kind), ack == "yes", "{name}");
            assert_eq!(is_protectable(kind), symbol == "yes", "{name}");
            assert!(kinds.insert(kind), "{name} twice");
        }
    }
    // All types that there are, but for 0x27 and for MESSAGE with the fourth delivery.
    assert!(kinds.into_iter().eq((0..=0x31).filter(|kind| ![0x17 + 0x10, 0x2E, 0x2F].contains(kind))));
}

#[test]
fn rules_are_numbered_in_order() {
    let (mut section, mut count, mut all) = (String::new(), 0, 0);
    for line in SPEC.lines() {
        if let Some(heading) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
            section = heading.split_whitespace().next().unwrap().trim_end_matches('.').to_owned();
            count = 0;
        }
        if let Some(rule) = line.strip_prefix("- **Q-") {
            count += 1;
            assert!(rule.starts_with(&format!("{section}-{count}** ")), "rule {count} of section {section}: {line}");
            all += 1;
        }
    }
    assert!(all > 100, "{all} rules");
}

#[test]
fn the_page_is_narrow() {
    for (at, line) in SPEC.lines().enumerate() {
        assert!(line.chars().count() <= 120, "line {} of SPEC.md is too long", at + 1);
    }
}
