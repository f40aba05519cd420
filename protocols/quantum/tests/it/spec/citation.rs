//! Citations: where code and tests quote SPEC.md, SPEC.md says so.
//!
//! ```text
//! //= SPEC.md#<section>
//! //= type=test                                            in tests, if at all
//! //# The sentence, on one line or several.
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Fewer than that, and somebody has taken them out.
const CITATIONS_MIN: usize = 25;

struct Citation {
    at: String,
    section: String,
    quote: String,
}

/// All files of Rust below a directory.
fn sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn citations(path: &Path, all: &mut Vec<Citation>) {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(str::trim_start).enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        let Some(section) = line.strip_prefix("//= SPEC.md#") else { continue };
        lines.next_if(|(_, line)| *line == "//= type=test");
        let mut quote = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("//# ")) {
            quote.push(line[4..].to_owned());
        }
        let at = format!("{}:{}", path.display(), at + 1);
        all.push(Citation { at, section: section.to_owned(), quote: quote.join(" ") });
    }
}

fn normalised(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_quoted_stands_in_its_section() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut files, mut all) = (Vec::new(), Vec::new());
    ["src", "tests"].iter().for_each(|directory| sources(&root.join(directory), &mut files));
    files.retain(|file| !file.ends_with("spec/citation.rs"));
    files.sort();
    files.iter().for_each(|file| citations(file, &mut all));
    for Citation { at, section, quote } in &all {
        assert!(!quote.is_empty(), "{at} quotes nothing");
        let text = normalised(super::section(section));
        assert!(text.contains(&normalised(quote)), "{at}: section {section} does not say: {quote}");
    }
    assert!(all.len() >= CITATIONS_MIN, "{} citations", all.len());
}
