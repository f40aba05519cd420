//! The current values of a setting: one, or one for each device that it exists on.

use std::io;

use crate::{Kind, Root, Setting};

/// One value of a setting on a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// The device, where the setting is one of many; else empty.
    pub place: String,
    /// The value, or why there is none.
    pub value: Result<String, String>,
    /// What could be chosen instead, where the kernel says.
    pub offered: Option<Vec<String>>,
}

/// Reads a setting wherever it exists; never empty.
#[must_use]
pub fn read(root: &Root, setting: &Setting) -> Vec<Reading> {
    let file = setting.file();
    let readings: Vec<Reading> = match file.split_once('*') {
        None => vec![read_one(root, setting, &file, "", "")],
        Some((before, after)) => {
            let (folder, stem) = before.rsplit_once('/').unwrap_or(("", before));
            let rest = after.strip_prefix('/').map_or(after, |rest| rest);
            let places = root.names(folder).into_iter().filter(|name| name.starts_with(stem));
            places
                .filter(|place| setting.beside.as_ref().is_none_or(|beside| root.has(&put(beside, stem, place))))
                .map(|place| (format!("{folder}/{place}/{rest}"), place))
                .filter(|(file, _)| root.has(file))
                .map(|(file, place)| read_one(root, setting, &file, stem, &place))
                .collect()
        }
    };
    if readings.is_empty() {
        return vec![Reading { place: String::new(), value: absent(setting), offered: None }];
    }
    readings
}

// The device's name for the `*` and what stands before it in its component: `cpu*` is `cpu3`.
fn put(pattern: &str, stem: &str, place: &str) -> String {
    pattern.replacen(&format!("{stem}*"), place, 1)
}

fn read_one(root: &Root, setting: &Setting, file: &str, stem: &str, place: &str) -> Reading {
    let listed = setting.offered_by.as_ref().and_then(|listing| {
        let text = root.text(&put(listing, stem, place)).ok()?;
        Some(text.split_whitespace().map(str::to_owned).collect())
    });
    let (value, choices) = match root.text(file) {
        Ok(text) => chosen(setting.kind, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (absent(setting), None),
        Err(error) => (Err(format!("cannot be read: {}", plain(&error))), None),
    };
    Reading { place: place.to_owned(), value, offered: listed.or(choices) }
}

fn absent(setting: &Setting) -> Result<String, String> {
    setting.absent_value.clone().ok_or_else(|| setting.absent.clone())
}

// `always [madvise] never` is `madvise` out of three.
fn chosen(kind: Kind, text: &str) -> (Result<String, String>, Option<Vec<String>>) {
    let inner = |word: &str| Some(word.strip_prefix('[')?.strip_suffix(']')?.to_owned());
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.iter().find_map(|word| inner(word)) {
        Some(choice) if kind == Kind::Sysfs => {
            let offered = words.iter().map(|word| inner(word).unwrap_or_else(|| (*word).to_owned())).collect();
            (Ok(choice), Some(offered))
        }
        _ => (Ok(words.join(" ")), None),
    }
}

// Without Rust's `(os error 13)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_in_brackets_is_the_choice() {
        let (value, offered) = chosen(Kind::Sysfs, "always [madvise] never");
        assert_eq!(value.as_deref(), Ok("madvise"));
        assert_eq!(offered.expect("choices"), ["always", "madvise", "never"]);
        assert_eq!(chosen(Kind::Sysfs, "none"), (Ok("none".to_owned()), None));
        assert_eq!(
            chosen(Kind::Sysctl, "a\t[b]"),
            (Ok("a [b]".to_owned()), None),
            "only sysfs has choices in brackets"
        );
    }

    #[test]
    fn a_star_takes_the_place_with_what_stands_before_it() {
        assert_eq!(put("sys/cpu/cpu*/freq", "cpu", "cpu3"), "sys/cpu/cpu3/freq");
        assert_eq!(put("sys/net/*/device", "", "eth0"), "sys/net/eth0/device");
    }
}
