//! What counts as the same character: a text's letters in one form, each with its place in the text.
//!
//! Ignorable characters are dropped, the rest is normalised (NFKC, so that full width is plain) and put in lower case
//! character by character, which is not all of Unicode's case folding: `ß` stays, `ς` is not `σ`. Combining marks that
//! did not melt into a letter are dropped too. Then noise is left out; what remains is a letter here, be it a digit or
//! an emoji.

use std::iter;

use unicode_normalization::{IsNormalized, UnicodeNormalization, char::canonical_combining_class, is_nfkc_quick};

/// One letter of a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Letter {
    pub(super) char: char,
    /// Where what it was made of begins in the text, in bytes.
    pub(super) from: usize,
    /// Where that ends.
    pub(super) to: usize,
    /// Whether noise, or nothing, is in front of it.
    pub(super) apart: bool,
}

/// Marks taken together with the character in front of them, as in Unicode's stream-safe format (UAX #15). Nobody
/// writes more, and sorting them would not be linear.
const MARKS_MAX: usize = 30;

/// Calls `each` with the letters of a text, in order.
pub(super) fn each(text: &str, mut each: impl FnMut(Letter)) {
    let (mut from, mut apart) = (0, true);
    while let Some(first) = text[from..].chars().next() {
        if is_ignorable(first) || is_phrase(first) {
            from += first.len_utf8();
            apart |= is_phrase(first);
            continue;
        }
        let to = cluster_end(text, from);
        let take = |char| match char {
            _ if is_mark(char) => {}
            _ if is_noise(char) => apart = true,
            _ => {
                each(Letter { char, from, to, apart });
                apart = false;
            }
        };
        let cluster = &text[from..to];
        if cluster.len() == first.len_utf8() && is_plain(first) {
            cluster.chars().map(|char| char.to_ascii_lowercase()).for_each(take);
        } else {
            cluster.chars().filter(|char| !is_ignorable(*char)).nfkc().flat_map(char::to_lowercase).for_each(take);
        }
        from = to;
    }
}

/// Characters that NFKC leaves as they are, in the common ranges. Asking for each would cost 82 ns per Chinese
/// character instead of 28.
fn is_plain(char: char) -> bool {
    char.is_ascii()
        || matches!(char,
            '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}

/// Whether a character is of a script that puts blanks between words, where a word in another word is another word:
/// `sex` in `Essex`. Korean has blanks, but its words carry their particles.
pub(super) fn is_spaced(char: char) -> bool {
    char.is_alphanumeric()
        && !matches!(char,
            '\u{e00}'..='\u{109f}'       // Thai, Lao, Tibetan, Burmese
            | '\u{1100}'..='\u{11ff}'    // Hangul letters
            | '\u{1780}'..='\u{17ff}'    // Khmer
            | '\u{1950}'..='\u{19ff}'    // Tai Le, New Tai Lue, Khmer symbols
            | '\u{1a20}'..='\u{1aaf}'    // Tai Tham
            | '\u{2e80}'..='\u{a4cf}'    // Chinese, Japanese, Yi
            | '\u{a960}'..='\u{a97f}' | '\u{a9e0}'..='\u{a9ff}' | '\u{aa60}'..='\u{aadf}'
            | '\u{ac00}'..='\u{d7ff}'    // Hangul syllables
            | '\u{f900}'..='\u{faff}' | '\u{16fe0}'..='\u{18dff}' | '\u{1aff0}'..='\u{1b2ff}'
            | '\u{20000}'..='\u{3ffff}') // Chinese beyond the first plane
}

/// Where the character at `from` ends with all that may melt into it.
fn cluster_end(text: &str, from: usize) -> usize {
    let mut end = from;
    let visible = text[from..].char_indices().filter(|(_, char)| !is_ignorable(*char));
    for (count, (at, char)) in visible.enumerate() {
        if count > 0 && (count > MARKS_MAX || !melts(char)) {
            break;
        }
        end = from + at + char.len_utf8();
    }
    end
}

/// Whether a character may melt into the one in front of it. None does before the combining marks; Chinese ideographs
/// are merely many.
fn melts(char: char) -> bool {
    if char < '\u{300}' || matches!(char, '\u{3400}'..='\u{9fff}') {
        return false;
    }
    let first = iter::once(char).nfkd().next().unwrap_or(char);
    canonical_combining_class(first) != 0 || is_nfkc_quick(iter::once(first)) == IsNormalized::Maybe
}

/// Characters that nobody sees: Unicode's `Default_Ignorable_Code_Point`.
fn is_ignorable(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Two Arabic phrases in one character each. They count as noise: normalised they are 18 and 8 characters, and a text
/// of 5,000 of them took 8 ms; nothing else is more than 6.
fn is_phrase(char: char) -> bool {
    matches!(char, '\u{fdfa}' | '\u{fdfb}')
}

/// Marks over and through letters, as in `s̷e̷x̷`. Those of other scripts are vowels and stay.
fn is_mark(char: char) -> bool {
    matches!(char, '\u{300}'..='\u{36f}')
}

/// Characters that may stand inside a word without making it another one: blanks, control characters, punctuation of
/// ASCII, Latin-1, typography and Chinese, lines, boxes and stars. Other symbols and emoji are letters, so that they
/// can be listed.
fn is_noise(char: char) -> bool {
    char.is_whitespace()
        || char.is_control()
        || char.is_ascii_punctuation()
        || matches!(char,
            '\u{a1}'..='\u{bf}' | '\u{d7}' | '\u{f7}'
            | '\u{2010}'..='\u{205e}'
            | '\u{2500}'..='\u{25ff}' | '\u{2605}' | '\u{2606}'
            | '\u{2800}'                                        // a blank in braille
            | '\u{3001}'..='\u{3004}' | '\u{3008}'..='\u{3020}' | '\u{3030}' | '\u{30fb}')
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

    use super::*;

    /// The most letters of one character: a kilometre in Japanese.
    const LETTERS_MAX: usize = 6;

    fn letters(text: &str) -> Vec<Letter> {
        let mut letters = Vec::new();
        each(text, |letter| letters.push(letter));
        letters
    }

    fn plain(text: &str) -> String {
        letters(text).iter().map(|letter| letter.char).collect()
    }

    /// The same in one piece, without places.
    fn reference(text: &str) -> String {
        let visible =
            text.chars().filter(|char| !is_ignorable(*char)).map(|char| if is_phrase(char) { ' ' } else { char });
        let small = visible.nfkc().flat_map(char::to_lowercase);
        small.filter(|char| !is_mark(*char) && !is_noise(*char)).collect()
    }

    #[test]
    fn one_letter_has_many_clothes() {
        for dressed in [
            "abc",
            "ABC",
            "ａｂｃ",
            "Ⓐⓑ🄲",
            "𝐚𝔟𝕔",
            "a\u{200b}b\u{feff}c",
            "a$b%c",
            "｡A ・B\t★C\n",
            "a̷b̶\u{30d}c",
            "a\u{ad}bc",
        ] {
            assert_eq!(plain(dressed), "abc", "{dressed}");
        }
        assert_eq!(plain("ﾊﾞｶﾞ"), "バガ");
        assert_eq!(plain("cafe\u{200d}\u{301}"), "café");
        assert_eq!(plain("\u{1112}\u{1161}\u{11ab}국"), "한국");
        assert_eq!(plain("a\u{fdfa}b\u{fdfb}\u{301}"), "ab");
        assert_eq!(plain("İẞΣς㎏½"), "ißσςkg12");
    }

    #[test]
    fn a_letter_knows_its_place() {
        let text = "é=E\u{200b}\u{301}\u{200b}㎏.国";
        let places: Vec<(char, &str, bool)> =
            letters(text).iter().map(|letter| (letter.char, &text[letter.from..letter.to], letter.apart)).collect();
        let expected = [
            ('é', "é", true),
            ('é', "E\u{200b}\u{301}", true),
            ('k', "㎏", false),
            ('g', "㎏", false),
            ('国', "国", true),
        ];
        assert_eq!(places, expected);
        assert!(letters("a\u{fdfa}b")[1].apart);
        let pile = format!("a{}", "\u{337}".repeat(200));
        assert_eq!(letters(&pile)[0].to, 1 + MARKS_MAX * 2);
    }

    #[test]
    fn every_character_alone_and_behind_others_is_as_if_normalised_in_one_piece() {
        // Planes 4 to 13 are empty, 15 and 16 private.
        for char in ('\0'..='\u{3ffff}').chain('\u{e0000}'..='\u{effff}') {
            assert!(letters(char.encode_utf8(&mut [0; 4])).len() <= LETTERS_MAX, "{char:?}");
            for before in ["", "a", "カ", "가", "ᄒ", "\u{9c7}"] {
                let text = format!("{before}{char}");
                assert_eq!(plain(&text), reference(&text), "{text:?}");
            }
        }
    }

    #[test]
    fn any_text_is_as_if_normalised_in_one_piece() {
        let odd = "aÉ e\u{301}\u{323}\u{327}\u{345}カｶﾞ\u{3099}\u{309a}ᄒ\u{1161}\u{11ab}한가\u{9c7}\u{9be}";
        let odd: Vec<char> = odd.chars().chain("\u{200b}\u{34f}㎏\u{fdfa}İ½´.$国\u{1d15e}".chars()).collect();
        for seed in 0..20_000 {
            let mut rng = StdRng::seed_from_u64(seed);
            let text: String = (0..rng.random_range(1..24)).filter_map(|_| odd.choose(&mut rng)).collect();
            assert_eq!(plain(&text), reference(&text), "seed {seed}: {text:?}");
            let letters = letters(&text);
            assert!(letters.is_sorted_by_key(|letter| (letter.from, letter.to)), "seed {seed}: {letters:?}");
            assert!(
                letters.iter().all(|letter| text.get(letter.from..letter.to).is_some()),
                "seed {seed}: {letters:?}"
            );
        }
    }

    #[test]
    fn blanks_between_words_are_a_matter_of_script() {
        assert!("aZéßЖαא7٣हი".chars().all(is_spaced));
        assert!("国人々〇あアー한กမ𠀀🙂$ ".chars().all(|char| !is_spaced(char)));
    }
}
