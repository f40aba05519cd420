//! Lists of facts in pages that fit a frame.

use serde::de::DeserializeOwned;

use crate::facts::{Facts, Refusal, parse};

/// Lines of one page.
pub const PAGE_LINES_MAX: usize = 200;

/// Bytes of one page. With the longest names it is full before it has all its lines; then it says that there are more.
const PAGE_BYTES_MAX: usize = 48 * 1024;

/// Bytes of a line beside its names and texts.
const LINE_BYTES: usize = 160;

/// Bytes of the longest names and texts in a line: a request's text, as JSON escapes it at worst.
const LINE_EXTRA_BYTES_MAX: usize = 8 * 1024;

const _: () =
    assert!(PAGE_BYTES_MAX + LINE_BYTES + LINE_EXTRA_BYTES_MAX + 1_024 <= topic::BODY_BYTES_MAX, "a page fits a frame");

/// What is behind the prefix in a fact's key, and the fact; and whether there are more.
pub(crate) type Lines<'f, T> = (Vec<(&'f str, T)>, bool);

/// The facts behind a key until the page is full. `extra` is what texts in a fact add to the length of its line.
pub(crate) fn lines<'f, T: DeserializeOwned>(
    facts: &'f impl Facts,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    extra: impl Fn(&T) -> usize,
) -> Result<Lines<'f, T>, Refusal> {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    for (key, value) in facts.range(prefix, after) {
        if lines.len() == limit || bytes > PAGE_BYTES_MAX {
            return Ok((lines, true));
        }
        let (name, value) = (key.get(prefix.len()..).unwrap_or_default(), parse(value)?);
        bytes += LINE_BYTES + name.len() + extra(&value);
        lines.push((name, value));
    }
    Ok((lines, false))
}

/// Whether a page may be that long.
pub(crate) fn check_limit(limit: usize) -> Result<(), Refusal> {
    if (1..=PAGE_LINES_MAX).contains(&limit) {
        Ok(())
    } else {
        Err(Refusal::bad(format!("`limit` is 1 to {PAGE_LINES_MAX}")))
    }
}
