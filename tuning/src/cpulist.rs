//! Lists of CPUs as the kernel writes them: `0-3,8,10-11`.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::Error;

/// More CPUs than any kernel is built for (x86-64 stops at 8,192): bounds what `0-99999999999` can make of itself.
const CPU_MAX: usize = 8191;

/// CPUs in rising order, none twice.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// Their numbers.
    #[must_use]
    pub fn cpus(&self) -> &[usize] {
        &self.0
    }

    /// Whether the list has the CPU.
    #[must_use]
    pub fn has(&self, cpu: usize) -> bool {
        self.0.binary_search(&cpu).is_ok()
    }
}

impl FromIterator<usize> for CpuList {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Self {
        let mut cpus: Vec<usize> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        Self(cpus)
    }
}

impl FromStr for CpuList {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::CpuList(text.trim().to_owned());
        let mut cpus = Vec::new();
        for part in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |word: &str| word.trim().parse::<usize>().ok().filter(|cpu| *cpu <= CPU_MAX).ok_or_else(wrong);
            let (first, last) = (number(first)?, number(last)?);
            if first > last || cpus.len() > CPU_MAX {
                return Err(wrong());
            }
            cpus.extend(first..=last);
        }
        Ok(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for run in self.0.chunk_by(|a, b| a + 1 == *b) {
            match run {
                [only] => write!(f, "{separator}{only}")?,
                [first, .., last] => write!(f, "{separator}{first}-{last}")?,
                [] => {}
            }
            separator = ",";
        }
        Ok(())
    }
}

impl Serialize for CpuList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_is_shown_again() {
        for (text, shown, count) in [("0-3,8,10-11\n", "0-3,8,10-11", 7), ("3,1,2,1", "1-3", 3), ("", "", 0)] {
            let list: CpuList = text.parse().expect("a list");
            assert_eq!((list.to_string().as_str(), list.cpus().len()), (shown, count));
        }
    }

    #[test]
    fn broken_lists_are_errors() {
        for text in ["x", "2-", "-2", "3-1", "0-99999999999", "1,,2", "1;2", "0-8191,0-8191,0-8191"] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
    }
}
