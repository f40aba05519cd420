//! What a profile wants of a setting: an operator and values, `>= 65535` or `in none mq-deadline`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

/// How the current value is compared with the wanted one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// `>=`: a larger value than wanted is left alone.
    AtLeast,
    /// `<=`: a smaller value than wanted is left alone.
    AtMost,
    /// `=`: exactly these words, or numbers place by place.
    Equal,
    /// `in`: one of these words.
    In,
}

/// An operator and its values. Several numbers after `>=`, `<=` or `=` are compared place by place.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Wanted {
    op: Op,
    values: Vec<String>,
}

impl Wanted {
    /// The operator.
    #[must_use]
    pub fn op(&self) -> Op {
        self.op
    }

    /// The values behind it.
    #[must_use]
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether the value that a machine has is as wanted.
    ///
    /// # Errors
    /// When it cannot be compared, with the reason.
    pub fn is_met_by(&self, current: &str) -> Result<bool, String> {
        let words: Vec<&str> = current.split_whitespace().collect();
        match self.op {
            Op::Equal if self.values.iter().all(|value| value.parse::<i128>().is_ok()) => {
                self.by_place(&words, |current, wanted| current == wanted)
            }
            Op::Equal => Ok(words == self.values),
            Op::In => Ok(matches!(words[..], [word] if self.values.iter().any(|value| value == word))),
            Op::AtLeast => self.by_place(&words, |current, wanted| current >= wanted),
            Op::AtMost => self.by_place(&words, |current, wanted| current <= wanted),
        }
    }

    fn by_place(&self, words: &[&str], holds: fn(i128, i128) -> bool) -> Result<bool, String> {
        if words.len() != self.values.len() {
            return Err(format!("has {} values where {} are known", words.len(), self.values.len()));
        }
        let mut met = true;
        for (word, value) in words.iter().zip(&self.values) {
            let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is not a number"));
            met &= holds(number(word)?, number(value)?);
        }
        Ok(met)
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace().map(str::to_owned);
        let op = match words.next().as_deref() {
            Some(">=") => Op::AtLeast,
            Some("<=") => Op::AtMost,
            Some("=") => Op::Equal,
            Some("in") => Op::In,
            _ => return Err(format!("`{text}` does not begin with >=, <=, = or in")),
        };
        let wanted = Self { op, values: words.collect() };
        if wanted.values.is_empty() {
            return Err(format!("`{text}` has no value"));
        }
        let ordered = matches!(op, Op::AtLeast | Op::AtMost);
        match wanted.values.iter().find(|value| ordered && value.parse::<i128>().is_err()) {
            Some(value) => Err(format!("`{value}` in `{text}` is not a number")),
            None => Ok(wanted),
        }
    }
}

impl TryFrom<String> for Wanted {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            Op::AtLeast => ">=",
            Op::AtMost => "<=",
            Op::Equal => "=",
            Op::In => "in",
        };
        write!(f, "{op} {}", self.values.join(" "))
    }
}

impl Serialize for Wanted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(wanted: &str, current: &str) -> Result<bool, String> {
        wanted.parse::<Wanted>().expect("a wanted value").is_met_by(current)
    }

    #[test]
    fn each_operator_compares_in_its_way() {
        for (wanted, current, expected) in [
            (">= 4096", "4096", true),
            (">= 4096", "9223372036854775807", true),
            (">= 4096", "128", false),
            ("<= 10", "60", false),
            ("= 1", "1", true),
            ("= bbr", "bbr", true),
            ("= bbr", "cubic", false),
            ("= 0", "1", false),
            ("in none mq-deadline", "none", true),
            ("in none mq-deadline", "bfq", false),
            ("in none mq-deadline", "none mq-deadline", false),
            (">= 4096 131072 16777216", "4096\t131072\t33554432", true),
            (">= 4096 131072 16777216", "4096\t131072\t6291456", false),
        ] {
            assert_eq!(met(wanted, current), Ok(expected), "{wanted} against {current}");
        }
    }

    #[test]
    fn what_cannot_be_compared_says_why() {
        assert_eq!(met(">= 1", "many"), Err("`many` is not a number".to_owned()));
        assert_eq!(met("= 0", "what?"), Err("`what?` is not a number".to_owned()));
        assert_eq!(met(">= 1", ""), Err("has 0 values where 1 are known".to_owned()));
        assert_eq!(met("<= 1 2", "1"), Err("has 1 values where 2 are known".to_owned()));
    }

    #[test]
    fn a_broken_wish_is_refused() {
        for text in ["", ">=", "65535", "> 3", ">= many", "in", "<= 1 x"] {
            assert!(text.parse::<Wanted>().is_err(), "{text}");
        }
    }
}
