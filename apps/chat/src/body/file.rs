//! A file that a message shows: where it is and what it is.

use std::borrow::Cow;

use serde::Deserialize;

use super::Media;
use crate::name::is_printable;

/// Bytes of a file's address: what browsers and proxies agree on.
pub const URL_BYTES_MAX: usize = 2_048;

/// Characters of a file's name: what file systems take.
pub const FILE_NAME_CHARS_MAX: usize = 255;

/// Bytes of a media type: RFC 6838 has 127 for each half.
pub const MIME_BYTES_MAX: usize = 127;

/// Bytes, pixels and milliseconds that a number in JavaScript holds exactly.
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// What the paths of this server's own files begin with.
const OWN: &str = "/files/";

/// A file: `{url, name, bytes, mime, width?, height?, duration_ms?}`.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct File<'a> {
    /// Where it is: a path `/files/..` of this server, or an `https` address.
    #[serde(borrow)]
    pub url: Cow<'a, str>,
    /// What it is called.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// How long it is.
    pub bytes: u64,
    /// What it is, as `image/png`.
    #[serde(borrow)]
    pub mime: Cow<'a, str>,
    /// Pixels across, of what is seen.
    #[serde(default, deserialize_with = "super::present")]
    pub width: Option<u32>,
    /// Pixels down, of what is seen.
    #[serde(default, deserialize_with = "super::present")]
    pub height: Option<u32>,
    /// How long what is heard lasts.
    #[serde(default, deserialize_with = "super::present")]
    pub duration_ms: Option<u64>,
}

impl File<'_> {
    /// Whether it is a file of this server. Looking at any other tells a stranger who looks.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.url.starts_with('/')
    }

    pub(super) fn check(&self, kind: Media) -> Result<(), &'static str> {
        let (seen, heard, family) = match kind {
            Media::Image => (true, false, "image/"),
            Media::File => (false, false, ""),
            Media::Audio => (false, true, "audio/"),
            Media::Video => (true, true, "video/"),
        };
        let size = [self.width, self.height];
        if self.url.len() > URL_BYTES_MAX || !(is_own_path(&self.url) || is_https(&self.url)) {
            Err("`url` is a path /files/.. or an https address")
        } else if !is_file_name(&self.name) {
            Err("`name` is 1 to 255 printable characters without slashes")
        } else if !is_mime(&self.mime) || !self.mime.starts_with(family) {
            Err("`mime` is not a media type of this type of message")
        } else if self.bytes > NUMBER_MAX || self.duration_ms.is_some_and(|ms| ms > NUMBER_MAX) {
            Err("`bytes` and `duration_ms` are less than 2^53")
        } else if size.contains(&Some(0)) || self.width.is_some() != self.height.is_some() {
            Err("`width` and `height` are there together, and not 0")
        } else if (self.width.is_some() && !seen) || (self.duration_ms.is_some() && !heard) {
            Err("what is not seen has no `width`, what is not heard no `duration_ms`")
        } else {
            Ok(())
        }
    }
}

/// A path below `/files/` that no browser and no server takes for another one: nothing in it climbs, escaped or not.
fn is_own_path(url: &str) -> bool {
    let Some(rest) = url.strip_prefix(OWN) else { return false };
    let path = rest.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let climbs = path.split('/').any(|part| part == "." || part == "..");
    let hides = ["%2e", "%2f", "%5c", "%00"].iter().any(|escape| path.contains(escape));
    !path.is_empty() && !climbs && !hides && is_rest(rest)
}

/// An address of a host by its name, without a user: `https://bank.example@evil.example/` reads as the wrong one.
fn is_https(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    let letters = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    host.starts_with(|c: char| c.is_ascii_alphanumeric()) && letters && port.parse::<u16>().is_ok() && is_rest(behind)
}

/// The bytes that RFC 3986 has behind the host; none of them ends an attribute or a style sheet's string.
fn is_rest(rest: &str) -> bool {
    rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&()*+,;=:@/?#%".contains(&byte))
}

fn is_file_name(name: &str) -> bool {
    (1..=FILE_NAME_CHARS_MAX).contains(&name.chars().count())
        && name.chars().all(|c| is_printable(c) && !matches!(c, '/' | '\\'))
        && !matches!(name.trim(), "" | "." | "..")
}

fn is_mime(mime: &str) -> bool {
    let token = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    mime.len() <= MIME_BYTES_MAX && mime.split_once('/').is_some_and(|(family, kind)| token(family) && token(kind))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::body::{TEXT_CHARS_MAX, What, read};

    /// A message with this file, changed by some fields.
    fn check(kind: &str, change: Value) -> Result<(), &'static str> {
        let mut file = json!({"url": "/files/0190/cat.png", "name": "cat.png", "bytes": 7, "mime": "image/png"});
        for (field, value) in change.as_object().expect("fields") {
            file[field] = value.clone();
        }
        let body = json!({"type": kind, "file": file, "text": "a \"caption\""}).to_string();
        read(body.as_bytes(), TEXT_CHARS_MAX).map(|body| assert!(matches!(body.what, What::Media { .. })))
    }

    #[test]
    fn every_kind_of_file_has_what_belongs_to_it() {
        assert_eq!(check("image", json!({"width": 640, "height": 480})), Ok(()));
        assert_eq!(check("file", json!({"mime": "application/vnd.x+zip", "name": "日本 (1).zip"})), Ok(()));
        assert_eq!(check("audio", json!({"mime": "audio/ogg", "duration_ms": 1_500})), Ok(()));
        assert_eq!(check("video", json!({"mime": "video/mp4", "width": 1, "height": 1, "duration_ms": 0})), Ok(()));
        for (kind, change) in [
            ("image", json!({"mime": "video/mp4"})),
            ("image", json!({"duration_ms": 1})),
            ("image", json!({"width": 640})),
            ("image", json!({"width": 0, "height": 1})),
            ("image", json!({"width": null})),
            ("image", json!({"owner": "ada"})),
            ("file", json!({"width": 1, "height": 1})),
            ("audio", json!({})),
            ("audio", json!({"mime": "audio/ogg", "duration_ms": -1})),
            ("image", json!({"bytes": 1_u64 << 53})),
            ("image", json!({"mime": "image/"})),
            ("image", json!({"mime": "image/png; charset=x"})),
            ("image", json!({"mime": format!("image/{}", "x".repeat(127))})),
            ("sticker", json!({})),
        ] {
            assert!(check(kind, change.clone()).is_err(), "{kind} {change}");
        }
        for name in ["", " ", "..", "a/b", "a\\b", "a\u{202e}gnp.exe", "a\0", &"x".repeat(256)] {
            assert!(check("image", json!({"name": name})).is_err(), "{name:?}");
        }
    }

    #[test]
    fn an_address_is_here_or_https_and_reads_as_what_it_is() {
        let long = format!("/files/{}", "x".repeat(2_048));
        for good in [
            "/files/a",
            "/files/0190/a%20b.png?download=1",
            "/files/..a/b..",
            "https://example.org",
            "https://cdn.example.org:8443/a/b?c=d#e",
        ] {
            assert_eq!(check("image", json!({"url": good})), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/files/",
            "/files/?a",
            "/files/../admin",
            "/files/a/..",
            "/files/%2e%2E/admin",
            "/files/.%2e/admin",
            "/files/a%2fb",
            "/files/..\\admin",
            "/admin",
            "//evil.example/files/a",
            "files/a",
            "http://example.org/a",
            "HTTPS://example.org",
            "javascript:alert(1)",
            "https://",
            "https:///a",
            "https://bank.example@evil.example/",
            "https://exämple.org",
            "https://example.org:99999/",
            "https://example.org/\"onload=",
            "https://example.org/a b",
            "https://[::1]/",
            &long,
        ] {
            assert!(check("image", json!({"url": bad})).is_err(), "{bad}");
        }
    }
}
