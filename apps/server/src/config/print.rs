//! The effective configuration as TOML, with a comment on every key.

use std::fmt::Write;

use super::{Config, KEYS, Key, Loaded, Origin, SECTIONS};

/// Characters of a line of comment.
const LINE_CHARS: usize = 100;

/// Writes a configuration so that it can be read again. A secret is never shown.
#[must_use]
pub fn print(loaded: &Loaded) -> String {
    let mut out = String::from(HEAD);
    let defaults = Config::default();
    for (section, doc) in SECTIONS {
        out.push('\n');
        comment(&mut out, &sentence(doc));
        let _ = writeln!(out, "[{section}]");
        for (key, origin) in KEYS.iter().zip(&loaded.origins).filter(|(key, _)| key.section == *section) {
            comment(&mut out, &sentence(key.doc));
            comment(&mut out, &facts(key, &defaults, origin));
            match ((key.write)(&loaded.config), origin) {
                (Some(value), _) => {
                    let _ = writeln!(out, "{} = {value}", key.name);
                }
                (None, Origin::Default) => {
                    let _ = writeln!(out, "# {} = \"\"", key.name);
                }
                (None, _) => {
                    let _ = writeln!(out, "# {} = \"(set, not shown)\"", key.name);
                }
            }
        }
    }
    out
}

const HEAD: &str =
    "# Ringshard's configuration: flags override RINGSHARD_<TABLE>_<KEY> in the environment, which overrides
# the file of --config (or RINGSHARD_CONFIG), which overrides the defaults.
";

/// Default, bounds and origin, in one line.
fn facts(key: &Key, defaults: &Config, origin: &Origin) -> String {
    let mut facts = match (key.write)(defaults) {
        Some(default) => format!("Default: {default}."),
        None => "Default: unset.".to_owned(),
    };
    if let Some((low, high)) = (key.bounds)() {
        let _ = write!(facts, " From {low} to {high}.");
    }
    if *origin != Origin::Default {
        let _ = write!(facts, " Set by {origin}.");
    }
    facts
}

/// Lines of documentation as one.
fn sentence(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

fn comment(out: &mut String, text: &str) {
    let mut column = 0;
    for word in text.split_whitespace() {
        if column == 0 || column + 1 + word.chars().count() > LINE_CHARS {
            out.push_str(if column == 0 { "#" } else { "\n#" });
            column = 1;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.chars().count();
    }
    out.push('\n');
}
