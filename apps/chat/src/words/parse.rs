//! The file of a word list: what it may say, and where it is wrong.

use std::collections::BTreeMap;

use super::{Actions, WORD_CHARS_MAX, WORDS_BYTES_MAX, WORDS_MAX, letter};

/// Why a file is not a word list. Lines count from 1.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WordsError {
    /// The file is too long, or its words are once they are normalised.
    #[error("the word list is longer than {WORDS_BYTES_MAX} bytes")]
    TooLong,
    /// This line has a word too many.
    #[error("line {line}: the word list has more than {WORDS_MAX} words")]
    TooMany {
        /// Which line.
        line: usize,
    },
    /// This line has a word that is too long, as it stands there or normalised.
    #[error("line {line}: the word is longer than {WORD_CHARS_MAX} characters")]
    WordTooLong {
        /// Which line.
        line: usize,
    },
    /// This line has a word of punctuation and invisible characters only: it would be found nowhere.
    #[error("line {line}: the word has neither letters nor digits nor symbols that count")]
    Nothing {
        /// Which line.
        line: usize,
    },
    /// This line asks for something unknown.
    #[error("line {line}: `{action}` is none of `mask`, `flag` and `reject`")]
    UnknownAction {
        /// Which line.
        line: usize,
        /// What it asks for.
        action: String,
    },
}

/// All words in the form that texts are read in, with their actions.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Actions>, WordsError> {
    if text.len() > WORDS_BYTES_MAX {
        return Err(WordsError::TooLong);
    }
    let (mut words, mut count, mut bytes) = (BTreeMap::<String, Actions>::new(), 0, 0);
    // Editors of another system put a mark in front that is no part of the first line.
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let Some((word, action)) = entry(line, index + 1)? else { continue };
        count += 1;
        bytes += word.len();
        if count > WORDS_MAX {
            return Err(WordsError::TooMany { line: index + 1 });
        }
        if bytes > WORDS_BYTES_MAX {
            return Err(WordsError::TooLong);
        }
        let actions = words.entry(word).or_default();
        *actions = actions.and(action);
    }
    Ok(words)
}

/// The word of a line and its action; `None`: the line is empty or a comment.
fn entry(line: &str, number: usize) -> Result<Option<(String, Actions)>, WordsError> {
    let line = uncommented(line).trim();
    if line.is_empty() {
        return Ok(None);
    }
    let (word, action) = line.split_once('\t').unwrap_or((line, "mask"));
    let (word, action) = (word.trim(), action.trim());
    let action = match action {
        "mask" => Actions::MASK,
        "flag" => Actions::FLAG,
        "reject" => Actions::REJECT,
        _ => return Err(WordsError::UnknownAction { line: number, action: action.to_owned() }),
    };
    let mut plain = String::with_capacity(word.len());
    letter::each(word, |letter| plain.push(letter.char));
    if plain.is_empty() {
        return Err(WordsError::Nothing { line: number });
    }
    if word.chars().count().max(plain.chars().count()) > WORD_CHARS_MAX {
        return Err(WordsError::WordTooLong { line: number });
    }
    Ok(Some((plain, action)))
}

/// The line up to its comment. A `#` inside a word is not one: `f#ck` must not become `f`.
fn uncommented(line: &str) -> &str {
    let comment =
        line.match_indices('#').find(|(at, _)| line[..*at].chars().next_back().is_none_or(char::is_whitespace));
    comment.map_or(line, |(at, _)| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> WordsError {
        parse(text).expect_err(text)
    }

    #[test]
    fn a_file_has_words_actions_and_comments() {
        let text =
            "\u{feff}# a list\r\n\r\nSex\r\n中国人民\treject\n f#ck \tflag # why\n\tmask\u{3000}\nＡＢＣ\nabc\tflag\n";
        let words = parse(text).expect("a list");
        let expected = [
            ("abc", Actions::MASK.and(Actions::FLAG)),
            ("fck", Actions::FLAG),
            ("mask", Actions::MASK),
            ("sex", Actions::MASK),
            ("中国人民", Actions::REJECT),
        ];
        assert!(words.iter().map(|(word, actions)| (word.as_str(), *actions)).eq(expected), "{words:?}");
        assert_eq!(parse(""), Ok(BTreeMap::new()));
    }

    #[test]
    fn an_error_names_its_line() {
        assert_eq!(error("a\n\nb\tdelete"), WordsError::UnknownAction { line: 3, action: "delete".to_owned() });
        assert_eq!(error("a\tmask\tflag"), WordsError::UnknownAction { line: 1, action: "mask\tflag".to_owned() });
        assert_eq!(error("# only\n$%&*@|.-_"), WordsError::Nothing { line: 2 });
        assert_eq!(error("a\n\u{200b}"), WordsError::Nothing { line: 2 });
        assert_eq!(
            error("a\n---\treject").to_string(),
            "line 2: the word has neither letters nor digits nor symbols that count"
        );
    }

    #[test]
    fn limits_are_kept_to_the_last_character() {
        let long = "人".repeat(WORD_CHARS_MAX);
        assert!(parse(&long).is_ok());
        assert_eq!(error(&format!("x\n{long}民")), WordsError::WordTooLong { line: 2 });
        assert_eq!(error(&format!("x{}", "-".repeat(WORD_CHARS_MAX))), WordsError::WordTooLong { line: 1 });
        // One character that is six when it is normalised.
        assert!(parse(&"㌖".repeat(10)).is_ok());
        assert_eq!(error(&"㌖".repeat(11)), WordsError::WordTooLong { line: 1 });

        let mut many: String = (0..WORDS_MAX).map(|n| format!("{n}\n")).collect();
        assert_eq!(parse(&many).map(|words| words.len()), Ok(WORDS_MAX));
        many.push_str("# a comment is no word\none more");
        assert_eq!(error(&many), WordsError::TooMany { line: WORDS_MAX + 2 });

        let whole = "#".repeat(WORDS_BYTES_MAX);
        assert!(parse(&whole).is_ok());
        assert_eq!(error(&(whole + "#")), WordsError::TooLong);
        let swelling = format!("{}\n", "㌖".repeat(10)).repeat(50_000);
        assert_eq!(error(&swelling), WordsError::TooLong);
    }
}
