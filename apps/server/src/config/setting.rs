//! The types that a value of the configuration can have: how each is read from TOML and text, and written back.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use toml::de::DeValue;

/// A type that a key may have. `key` is the key's name: its suffix is the unit of plain numbers.
pub(super) trait Setting: Sized + PartialOrd {
    /// What is expected, for the reason in an error.
    const EXPECTED: &'static str;

    /// Reads the text of a flag or an environment variable, or of a TOML string.
    fn from_text(key: &str, text: &str) -> Option<Self>;

    /// Reads a value that is not a string; a TOML string goes to [`Setting::from_text`].
    fn from_value(_key: &str, _value: &DeValue<'_>) -> Option<Self> {
        None
    }

    /// Writes the value as TOML; `None` when there is nothing that may be shown.
    fn write(&self, key: &str) -> Option<String>;
}

/// Reads a TOML value of whatever kind.
pub(super) fn read<T: Setting>(key: &str, value: &DeValue<'_>) -> Option<T> {
    match value.as_str() {
        Some(text) => T::from_text(key, text),
        None => T::from_value(key, value),
    }
}

/// A TOML string with its quotes.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_text(_key: &str, text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_value(_key: &str, value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }

    fn write(&self, _key: &str) -> Option<String> {
        Some(self.to_string())
    }
}

macro_rules! whole_number {
    ($($Type:ty),+) => { $(
        impl Setting for $Type {
            const EXPECTED: &'static str = "a whole number, or for bytes a text as \"64KiB\"";

            fn from_text(key: &str, text: &str) -> Option<Self> {
                if key.ends_with("_bytes") { Self::try_from(bytes(text)?).ok() } else { text.trim().parse().ok() }
            }

            fn from_value(_key: &str, value: &DeValue<'_>) -> Option<Self> {
                Self::try_from(integer(value)?).ok()
            }

            fn write(&self, key: &str) -> Option<String> {
                let unit = [("MiB", 1 << 20), ("KiB", 1 << 10)];
                let whole = unit.iter().find(|(_, size)| *self > 0 && u64::try_from(*self).is_ok_and(|n| n % size == 0));
                Some(match (key.ends_with("_bytes"), whole) {
                    (true, Some((name, size))) => quoted(&format!("{}{name}", u64::try_from(*self).ok()? / size)),
                    _ => self.to_string(),
                })
            }
        }
    )+ };
}

whole_number!(u16, u32, usize);

impl Setting for i32 {
    const EXPECTED: &'static str = "a whole number, perhaps with a - before it";

    fn from_text(_key: &str, text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }

    fn from_value(_key: &str, value: &DeValue<'_>) -> Option<Self> {
        let DeValue::Integer(integer) = value else { return None };
        Self::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    fn write(&self, _key: &str) -> Option<String> {
        Some(self.to_string())
    }
}

/// Reads "64KiB", "1 MiB", "100".
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text);
    let size: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(size)
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// The unit in which plain numbers of a key count, by its suffix.
fn unit_of(key: &str) -> (&'static str, Duration) {
    match key.rsplit('_').next() {
        Some("us") => ("us", Duration::from_micros(1)),
        Some("ms") => ("ms", Duration::from_millis(1)),
        _ => ("s", Duration::from_secs(1)),
    }
}

impl Setting for Duration {
    const EXPECTED: &'static str =
        "a number in the unit of the key's name, or a text as \"500us\", \"250ms\", \"10s\", \"5m\", \"24h\"";

    fn from_text(key: &str, text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text);
        let number: u32 = number.parse().ok()?;
        let unit = match unit {
            "" => unit_of(key).1,
            "us" => Duration::from_micros(1),
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(60 * 60),
            "d" => Duration::from_secs(24 * 60 * 60),
            _ => return None,
        };
        unit.checked_mul(number)
    }

    fn from_value(key: &str, value: &DeValue<'_>) -> Option<Self> {
        unit_of(key).1.checked_mul(u32::try_from(integer(value)?).ok()?)
    }

    fn write(&self, key: &str) -> Option<String> {
        let named = key.ends_with("_us") || key.ends_with("_ms") || key.ends_with("_secs");
        let (micros, unit) = (self.as_micros(), unit_of(key).1.as_micros());
        if named && micros % unit == 0 {
            return Some((micros / unit).to_string());
        }
        let units = [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)];
        let (name, size) =
            units.into_iter().find(|(_, size)| micros >= *size && micros % size == 0).unwrap_or(("s", 1));
        Some(quoted(&format!("{}{name}", micros / size)))
    }
}

impl Setting for SocketAddr {
    const EXPECTED: &'static str = "an address and a port, as \"127.0.0.1:8080\" or \"[::1]:8080\"";

    fn from_text(_key: &str, text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self, _key: &str) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "a path, not empty";

    fn from_text(_key: &str, text: &str) -> Option<Self> {
        (!text.is_empty() && !text.contains('\0')).then(|| text.into())
    }

    fn write(&self, _key: &str) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

impl<T: Setting> Setting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_text(key: &str, text: &str) -> Option<Self> {
        T::from_text(key, text).map(Some)
    }

    fn from_value(key: &str, value: &DeValue<'_>) -> Option<Self> {
        T::from_value(key, value).map(Some)
    }

    fn write(&self, key: &str) -> Option<String> {
        self.as_ref()?.write(key)
    }
}

/// The cores that the shards may use; empty: all that the process may.
#[derive(Clone, PartialEq, Eq, PartialOrd, Debug, Default)]
pub struct CpuList(Vec<usize>);

/// The highest core number that a list may name; the kernel's own bound for x86-64.
const CPU_MAX: usize = 8191;

impl CpuList {
    /// The cores, ascending.
    #[must_use]
    pub fn cpus(&self) -> &[usize] {
        &self.0
    }
}

impl Setting for CpuList {
    const EXPECTED: &'static str = "cores and ranges of cores, as \"0-3,6\", each up to 8191";

    fn from_text(_key: &str, text: &str) -> Option<Self> {
        let mut cpus = std::collections::BTreeSet::new();
        for part in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if first > last || last > CPU_MAX {
                return None;
            }
            cpus.extend(first..=last);
        }
        Some(Self(cpus.into_iter().collect()))
    }

    fn write(&self, _key: &str) -> Option<String> {
        let ranges = self.0.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            _ => run.iter().map(usize::to_string).collect(),
        });
        Some(quoted(&ranges.collect::<Vec<_>>().join(",")))
    }
}

/// Web origins, as a browser sends them in `Origin`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Debug, Default)]
pub struct Origins(Vec<String>);

impl Origins {
    /// The origins; `*` stands for all.
    #[must_use]
    pub fn list(&self) -> &[String] {
        &self.0
    }

    /// Whether a page of `origin` may open a session here, beside pages of this very host.
    #[must_use]
    pub fn allow(&self, origin: &str) -> bool {
        self.0.iter().any(|one| one == "*" || one.eq_ignore_ascii_case(origin))
    }

    fn collect<'a>(parts: impl Iterator<Item = Option<&'a str>>) -> Option<Self> {
        parts
            .map(|part| part.map(str::trim).filter(|one| Self::is_origin(one)).map(str::to_owned))
            .collect::<Option<_>>()
            .map(Self)
    }

    fn is_origin(text: &str) -> bool {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let host =
            |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b));
        text == "*" || rest.is_some_and(host)
    }
}

impl Setting for Origins {
    const EXPECTED: &'static str =
        "a list of origins, as [\"https://chat.example.com\"], or [\"*\"]; in text with commas between";

    fn from_text(_key: &str, text: &str) -> Option<Self> {
        Self::collect(text.split(',').filter(|_| !text.trim().is_empty()).map(Some))
    }

    fn from_value(_key: &str, value: &DeValue<'_>) -> Option<Self> {
        Self::collect(value.as_array()?.iter().map(|one| one.get_ref().as_str()))
    }

    fn write(&self, _key: &str) -> Option<String> {
        Some(format!("[{}]", self.0.iter().map(|one| quoted(one)).collect::<Vec<_>>().join(", ")))
    }
}

/// Names of topics, or beginnings of names with a `*` behind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Debug, Default)]
pub struct TopicNames(Vec<String>);

impl TopicNames {
    /// The names.
    #[must_use]
    pub fn list(&self) -> &[String] {
        &self.0
    }

    fn collect<'a>(parts: impl Iterator<Item = Option<&'a str>>) -> Option<Self> {
        let is_name = |name: &&str| {
            let stem = name.strip_suffix('*').unwrap_or(name);
            !name.is_empty() && stem.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._~-".contains(&b))
        };
        parts.map(|part| part.map(str::trim).filter(is_name).map(str::to_owned)).collect::<Option<_>>().map(Self)
    }
}

impl Setting for TopicNames {
    const EXPECTED: &'static str = "a list of topics, as [\"chat/lobby\", \"chat/tmp-*\"]; in text with commas between";

    fn from_text(_key: &str, text: &str) -> Option<Self> {
        Self::collect(text.split(',').filter(|_| !text.trim().is_empty()).map(Some))
    }

    fn from_value(_key: &str, value: &DeValue<'_>) -> Option<Self> {
        Self::collect(value.as_array()?.iter().map(|one| one.get_ref().as_str()))
    }

    fn write(&self, _key: &str) -> Option<String> {
        Some(format!("[{}]", self.0.iter().map(|one| quoted(one)).collect::<Vec<_>>().join(", ")))
    }
}

/// Bytes that sign tokens. Neither `Debug` nor the printed configuration shows them.
#[derive(Clone, PartialEq, Eq, PartialOrd)]
pub struct Secret(Vec<u8>);

/// Bytes that a secret has at least: as many as the HMAC's output (RFC 7518, 3.2).
pub const SECRET_BYTES_MIN: usize = 32;

impl Secret {
    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Setting for Secret {
    const EXPECTED: &'static str = "a text of at least 32 bytes";

    fn from_text(_key: &str, text: &str) -> Option<Self> {
        (text.len() >= SECRET_BYTES_MIN).then(|| Self(text.as_bytes().to_vec()))
    }

    fn write(&self, _key: &str) -> Option<String> {
        None
    }
}

macro_rules! choice {
    ($(#[$doc:meta])+ $Type:ident: $expected:literal { $($(#[$variant_doc:meta])+ $Variant:ident = $text:literal,)+ }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
        pub enum $Type { $($(#[$variant_doc])+ $Variant,)+ }

        impl fmt::Display for $Type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$Variant => $text,)+ })
            }
        }

        impl FromStr for $Type {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text { $($text => Ok(Self::$Variant),)+ _ => Err($expected) }
            }
        }

        impl Setting for $Type {
            const EXPECTED: &'static str = $expected;

            fn from_text(_key: &str, text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn write(&self, _key: &str) -> Option<String> {
                Some(quoted(&self.to_string()))
            }
        }
    };
}

choice! {
    /// From which level on log lines are written.
    Level: "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"" {
        /// Something is broken.
        Error = "error",
        /// Something needs a look.
        Warn = "warn",
        /// The life of the server.
        Info = "info",
        /// The life of connections.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

choice! {
    /// How log lines look.
    Format: "\"text\" or \"json\"" {
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

choice! {
    /// When Quantum repairs losses ahead of time.
    Fec: "\"adaptive\" or \"off\"" {
        /// As much as the losses of each connection ask for.
        Adaptive = "adaptive",
        /// Never.
        Off = "off",
    }
}

choice! {
    /// How Quantum finds the rate that a way takes.
    Congestion: "\"bbr\" or \"cubic\"" {
        /// By what arrives, so that random losses cost little.
        Bbr = "bbr",
        /// By what is lost.
        Cubic = "cubic",
    }
}
