//! The words that a room does not want to read: a list is parsed once, then texts are checked against all its words in
//! one pass.
//!
//! A word is found however it is dressed up: in capitals, full width, with punctuation, blanks or invisible characters
//! inside. What counts as the same character is said in `letter.rs`, where a match may begin and end in `scan.rs`.

mod letter;
mod parse;
mod scan;

use std::{collections::BTreeMap, fmt, ops::Range};

use aho_corasick::{
    Anchored,
    automaton::{Automaton, StateID},
    nfa::contiguous::NFA,
};

pub use self::parse::WordsError;
use self::scan::Scan;

/// The most words of a list. Ten times the longest public lists.
pub const WORDS_MAX: usize = 200_000;

/// The longest word in characters. It also bounds the work per character of a text: no more than this many words of
/// different length end at one place.
pub const WORD_CHARS_MAX: usize = 64;

/// The longest file, and the longest list in the one form that all words get. The automaton has up to one state per
/// byte: 8 MiB of random words take 1.9 s and 370 MB to build and 160 MB to keep, so a list is not parsed on a shard.
pub const WORDS_BYTES_MAX: usize = 8 << 20;

const _: () = assert!(WORD_CHARS_MAX <= u8::MAX as usize, "a word's length is kept in a byte");

/// What a list says about a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It has none of the words: publish it.
    Clean,
    /// Publish it as it is, and tell a moderator.
    Flagged,
    /// Publish this instead: every character of a word is a `*`, all others are byte for byte what they were.
    Masked {
        /// As many characters as the text had.
        text: String,
        /// Whether a moderator is told too.
        flagged: bool,
    },
    /// Do not publish it.
    Rejected,
}

/// A list of words, each with what happens to a text that has it. Read-only; shards share one.
pub struct WordList {
    automaton: NFA,
    start: StateID,
    words: Vec<Word>,
}

/// One word, by the number that the automaton knows it by.
struct Word {
    /// Its length in letters.
    len: u8,
    actions: Actions,
    /// The actions of all shorter words that it ends with: whoever has found it may know that none of them matters.
    below: Actions,
}

/// A set of what may happen to a text.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Actions(u8);

impl WordList {
    /// Reads a list: one word per line, after it perhaps a tab and `mask` (which is the default), `flag` or `reject`.
    /// From a `#` at the start of a line or after a blank, the line is a comment. A word that is listed twice has the
    /// actions of both lines.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn parse(text: &str) -> Result<Self, WordsError> {
        Self::build(&parse::parse(text)?)
    }

    /// What to do with a text. One that is clean costs no allocation, unless it has rare characters that
    /// stand for many.
    #[must_use]
    pub fn check(&self, text: &str) -> Verdict {
        let mut scan = Scan::new(self);
        letter::each(text, |letter| scan.take(letter));
        let (found, covered) = scan.finish();
        let flagged = found.has(Actions::FLAG);
        if found.has(Actions::REJECT) {
            Verdict::Rejected
        } else if found.has(Actions::MASK) {
            Verdict::Masked { text: mask(text, &covered), flagged }
        } else if flagged {
            Verdict::Flagged
        } else {
            Verdict::Clean
        }
    }

    /// How many different words there are.
    #[must_use]
    pub fn words(&self) -> usize {
        self.words.len()
    }

    fn build(words: &BTreeMap<String, Actions>) -> Result<Self, WordsError> {
        let automaton = NFA::builder().prefilter(false).build(words.keys()).map_err(|_| WordsError::TooLong)?;
        let start = automaton.start_state(Anchored::No).map_err(|_| WordsError::TooLong)?;
        let actions: Vec<Actions> = words.values().copied().collect();
        let words = words.keys().enumerate().map(|(index, word)| {
            let end = walk(&automaton, start, word);
            // The scan relies on it, and the crate does not promise it: of all words that end here, the longest first.
            assert_eq!(automaton.match_pattern(end, 0).as_usize(), index, "a word is the longest that ends at its end");
            let shorter = (1..automaton.match_len(end)).map(|at| automaton.match_pattern(end, at));
            let below = shorter.fold(Actions::default(), |all, shorter| all.and(actions[shorter.as_usize()]));
            Word { len: letters(word), actions: actions[index], below }
        });
        let words = words.collect();
        Ok(Self { automaton, start, words })
    }
}

impl fmt::Debug for WordList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WordList").field("words", &self.words.len()).finish_non_exhaustive()
    }
}

impl Actions {
    const MASK: Self = Self(1);
    const FLAG: Self = Self(2);
    const REJECT: Self = Self(4);
    const ALL: Self = Self(7);

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

fn walk(automaton: &NFA, state: StateID, letters: &str) -> StateID {
    letters.bytes().fold(state, |state, byte| automaton.next_state(Anchored::No, state, byte))
}

fn letters(word: &str) -> u8 {
    u8::try_from(word.chars().count()).expect("a longer word was refused")
}

/// The text with `*` for each character of these ranges, which are in order and do not overlap.
fn mask(text: &str, covered: &[Range<usize>]) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut kept = 0;
    for range in covered {
        masked.push_str(&text[kept..range.start]);
        masked.extend(text[range.clone()].chars().map(|_| '*'));
        kept = range.end;
    }
    masked.push_str(&text[kept..]);
    masked
}

#[cfg(test)]
mod tests;
