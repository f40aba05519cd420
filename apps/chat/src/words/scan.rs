//! One pass over a text: which words end at each letter, and what is done about them.
//!
//! Where a word begins or ends with a letter of a script with blanks between words, the text's word must begin or end
//! there too: `sex` is not in `Essex`. What decides is the neighbour in the text as it was written: blanks, punctuation
//! and letters of other scripts are an edge, invisible characters are not there. So `s.e.x`, `s ex` and `Es sex` have
//! `sex`, but `Es.sexy` and `x\u{200b}sex` have not. A text of two innocent words that together are a listed one is
//! found too; that is the price of seeing through blanks.
//!
//! The work is linear. The automaton's steps are amortised, one or two per byte. Of the words that end at one letter
//! the longest comes first, and the walk down to the shorter ones stops as soon as they can change nothing; it is never
//! longer than [`WORD_CHARS_MAX`].

use std::ops::Range;

use aho_corasick::automaton::{Automaton, StateID};

use super::{Actions, WORD_CHARS_MAX, WordList, letter, letter::Letter, walk};

/// What is known of a text so far.
pub(super) struct Scan<'w> {
    list: &'w WordList,
    state: StateID,
    last: Option<Letter>,
    letters: usize,
    /// The last letters, by their number modulo the length: no word reaches further back.
    places: [Place; WORD_CHARS_MAX],
    found: Actions,
    covered: Vec<Range<usize>>,
    /// Words looked at: the part of the work that a list and a text could make large together.
    pub(super) visits: usize,
}

/// Where a letter begins in the text, and whether a word may begin with it.
#[derive(Clone, Copy, Default)]
struct Place {
    from: usize,
    opens: bool,
}

impl<'w> Scan<'w> {
    pub(super) fn new(list: &'w WordList) -> Self {
        Self {
            list,
            state: list.start,
            last: None,
            letters: 0,
            places: [Place::default(); WORD_CHARS_MAX],
            found: Actions::default(),
            covered: Vec::new(),
            visits: 0,
        }
    }

    /// The next letter.
    pub(super) fn take(&mut self, letter: Letter) {
        let edge = match self.last {
            Some(last) => {
                let edge = letter.apart || !letter::is_spaced(letter.char);
                self.settle(last, edge);
                edge || !letter::is_spaced(last.char)
            }
            None => true,
        };
        self.places[self.letters % WORD_CHARS_MAX] = Place { from: letter.from, opens: edge };
        self.letters += 1;
        self.last = Some(letter);
        self.state = walk(&self.list.automaton, self.state, letter.char.encode_utf8(&mut [0; 4]));
    }

    /// What was found, and the ranges to mask: in order, without overlaps.
    pub(super) fn finish(&mut self) -> (Actions, Vec<Range<usize>>) {
        if let Some(last) = self.last {
            self.settle(last, true);
        }
        (self.found, std::mem::take(&mut self.covered))
    }

    /// Looks at the words that end with the last letter, now that it is known whether an edge follows it.
    fn settle(&mut self, last: Letter, edge: bool) {
        let automaton = &self.list.automaton;
        let closes = edge || !letter::is_spaced(last.char);
        if !closes || !automaton.is_match(self.state) {
            return;
        }
        // Shorter words matter for as long as they have one of these: a mask covers those inside it, but not those
        // of other ends; one flag is as good as many.
        let mut wanted = Actions::ALL.without(self.found).and(Actions::MASK);
        for at in 0..automaton.match_len(self.state) {
            self.visits += 1;
            let word = &self.list.words[automaton.match_pattern(self.state, at).as_usize()];
            let first = self.places[(self.letters - usize::from(word.len)) % WORD_CHARS_MAX];
            if first.opens {
                self.found = self.found.and(word.actions);
                if word.actions.has(Actions::MASK) && wanted.has(Actions::MASK) {
                    cover(&mut self.covered, first.from..last.to);
                }
                wanted = wanted.without(word.actions);
            }
            if !word.below.has(wanted) {
                break;
            }
        }
    }
}

/// Adds a range that ends where all others end or behind. Each range is taken away once, so this too is linear.
fn cover(covered: &mut Vec<Range<usize>>, mut range: Range<usize>) {
    while let Some(last) = covered.pop_if(|last| last.end > range.start) {
        range.start = range.start.min(last.start);
    }
    covered.push(range);
}
