//! Finding users by how their names begin. Every shard has the names that are at home there; a search asks all of them
//! and merges what they found.

use std::{collections::BTreeSet, ops::Bound};

use unicode_normalization::UnicodeNormalization;

/// Names that one search finds: what a person looks through.
pub const FOUND_MAX: usize = 20;

/// Names in the order of their small letters. An account has one spelling, `Alice` or `alice`, and is found by either.
#[derive(Default, Debug)]
pub struct Directory {
    names: BTreeSet<(Box<str>, Box<str>)>,
}

impl Directory {
    /// Adds a name; whether it is new.
    pub fn insert(&mut self, name: &str) -> bool {
        self.names.insert((fold(name), name.into()))
    }

    /// Whether this very name is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(&(fold(name), name.into()))
    }

    /// Takes a name out; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.names.remove(&(fold(name), name.into()))
    }

    /// Names that there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The first names that begin with this, in whatever case, in order. An empty beginning finds nobody: this is a
    /// search and no list of all users.
    #[must_use]
    pub fn find(&self, prefix: &str, limit: usize) -> Vec<&str> {
        let prefix = fold(prefix);
        if prefix.is_empty() {
            return Vec::new();
        }
        let from = (prefix.clone(), Box::default());
        let found = self.names.range((Bound::Included(from), Bound::Unbounded));
        let found = found.take_while(|(folded, _)| folded.starts_with(&*prefix)).map(|(_, name)| &**name);
        found.take(limit.min(FOUND_MAX)).collect()
    }
}

/// What several shards found, as if one had searched.
#[must_use]
pub fn merge<'a>(found: impl IntoIterator<Item = &'a str>, limit: usize) -> Vec<&'a str> {
    let names: BTreeSet<_> = found.into_iter().map(|name| (fold(name), name)).collect();
    names.into_iter().map(|(_, name)| name).take(limit.min(FOUND_MAX)).collect()
}

/// What is the same but for its case; composed, as names are, since some keyboards type a letter and its accent apart.
fn fold(name: &str) -> Box<str> {
    name.nfc().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

    use super::*;

    fn directory(names: &[&str]) -> Directory {
        let mut directory = Directory::default();
        names.iter().for_each(|name| assert!(directory.insert(name), "{name}"));
        directory
    }

    #[test]
    fn the_beginning_of_a_name_finds_it_in_any_case() {
        let mut names = directory(&["Alice", "alan", "ALBERT", "bob", "Zoë", "张伟", "张三"]);
        assert_eq!(names.find("al", 20), ["alan", "ALBERT", "Alice"]);
        assert_eq!(names.find("AL", 2), ["alan", "ALBERT"]);
        assert_eq!(names.find("张", 20), ["张三", "张伟"]);
        assert_eq!(names.find("ZOË", 20), ["Zoë"]);
        assert_eq!(names.find("zoe\u{308}", 20), ["Zoë"]);
        assert_eq!((names.find("", 20), names.find("x", 20), names.find("al", 0)), (vec![], vec![], vec![]));
        assert!(!names.insert("bob") && names.remove("bob") && !names.remove("bob"));
        assert_eq!((names.find("bob", 20), names.len()), (vec![], 6));
    }

    #[test]
    fn a_search_over_shards_finds_what_one_directory_would() {
        let letters: Vec<char> = "aAbBéÉ张.".chars().collect();
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut word = |most: usize| {
                (0..rng.random_range(1..=most)).filter_map(|_| letters.choose(&mut rng)).collect::<String>()
            };
            let (names, prefix): (Vec<String>, _) = ((0..200).map(|_| word(5)).collect(), word(2));
            let mut whole = Directory::default();
            let mut shards = [(); 3].map(|()| Directory::default());
            for (n, name) in names.iter().enumerate() {
                if whole.insert(name) {
                    shards[n % 3].insert(name);
                }
            }
            let found = merge(shards.iter().flat_map(|shard| shard.find(&prefix, 20)), 20);
            assert_eq!(found, whole.find(&prefix, 20), "seed {seed}: {prefix}");
            let all = names.iter().filter(|name| fold(name).starts_with(&*fold(&prefix)));
            assert_eq!(found.len(), all.collect::<BTreeSet<_>>().len().min(20), "seed {seed}: {prefix}");
        }
    }
}
