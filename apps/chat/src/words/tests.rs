//! What a list finds and what it leaves alone, against the cases that other filters got wrong and against a filter that
//! tries every word at every place.

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::{Scan, Verdict, WORD_CHARS_MAX, WordList, letter};

fn list(words: &[&str]) -> WordList {
    WordList::parse(&words.join("\n")).expect("a list")
}

/// The text as it would be published; `None`: not at all.
fn published(list: &WordList, text: &str) -> Option<String> {
    match list.check(text) {
        Verdict::Clean | Verdict::Flagged => Some(text.to_owned()),
        Verdict::Masked { text, .. } => Some(text),
        Verdict::Rejected => None,
    }
}

#[track_caller]
fn masks(words: &[&str], pairs: &[(&str, &str)]) {
    let list = list(words);
    for (text, expected) in pairs {
        assert_eq!(published(&list, text).as_deref(), Some(*expected), "{words:?} in {text:?}");
    }
}

#[test]
fn a_word_is_found_where_a_longer_one_fails_and_at_the_end() {
    masks(
        &["中国人民", "国人"],
        &[
            ("中国人", "中**"),
            ("中国人民", "****"),
            ("中国人国人民", "中****民"),
            ("国中国人", "国中**"),
            ("中国", "中国"),
        ],
    );
    masks(&["ab中", "中cd"], &[("ab中cd", "*****"), ("xab中 cd", "xab****"), ("ab中cd中", "*****中")]);
}

#[test]
fn disguises_do_not_help() {
    masks(
        &["abc"],
        &[
            ("a$bc", "****"),
            ("ABC, aBc", "***, ***"),
            ("ａｂｃ＄", "***＄"),
            ("a\u{200b}bc\u{200b}", "****\u{200b}"),
            ("(a. b_c)", "(******)"),
            ("𝐚Ⓑc\u{337}!", "****!"),
            ("say a  b\tc 👍🏽 é", "say ****** 👍🏽 é"),
        ],
    );
    masks(&["国人"], &[("国　·人", "****"), ("国■人", "***"), ("国x人", "国x人"), ("中国\u{fe00}人", "中***")]);
    masks(&["A.B-C"], &[("abc", "***"), ("a+b", "a+b")]);
}

#[test]
fn a_word_in_another_word_is_not_the_word() {
    masks(
        &["sex"],
        &[
            ("Essex, sexy, SEX", "Essex, sexy, ***"),
            ("s e x", "*****"),
            ("Es sex", "Es ***"),
            ("Es se x", "Es ****"),
            ("Es.sexy", "Es.sexy"),
            ("his ex", "his ex"),
            ("x\u{200b}sex se\u{ad}xy", "x\u{200b}sex se\u{ad}xy"),
            ("Ｅssex sexＹ séx", "Ｅssex sexＹ séx"),
            ("sex1 2sex _sex_", "sex1 2sex _***_"),
            ("有sex的 sex한", "有***的 ***한"),
            ("ésex sexж", "ésex sexж"),
        ],
    );
    // Each end of a word has its own rule.
    masks(&["av女优"], &[("看av女优们", "看****们"), ("java女优", "java女优"), ("java av女优x", "java ****x")]);
    masks(&["六四", "64"], &[("一六四零", "一**零"), ("1964", "1964"), ("在64年", "在**年")]);
    // The price of seeing through blanks.
    masks(&["another"], &[("an other day", "******** day"), ("an others", "an others")]);
}

#[test]
fn a_mask_touches_nothing_else() {
    let text = "é\u{301}\r\n\t国人🙂㎏\u{0}";
    masks(&["国人", "g"], &[(text, "é\u{301}\r\n\t**🙂㎏\u{0}")]);
    // One character that is two letters is masked as one.
    masks(&["kg"], &[("5 ㎏ k㎏", "5 * k㎏")]);
    masks(&[], &[("", ""), ("anything", "anything")]);
    masks(&["x"], &[("", ""), ("x", "*")]);
}

#[test]
fn rejecting_wins_and_flags_go_with_masks() {
    let list =
        list(&["mask", "flag\tflag", "reject\treject", "both", "Both\tflag", "中\tflag", "国中", "坏国中\treject"]);
    let masked = |text: &str, flagged| Verdict::Masked { text: text.to_owned(), flagged };
    assert_eq!(list.words(), 7);
    assert_eq!(list.check("nothing"), Verdict::Clean);
    assert_eq!(list.check("a mask"), masked("a ****", false));
    assert_eq!(list.check("a flag"), Verdict::Flagged);
    assert_eq!(list.check("flag and mask"), masked("flag and ****", true));
    assert_eq!(list.check("both"), masked("****", true));
    assert_eq!(list.check("flag, mask, r-e-ject"), Verdict::Rejected);
    assert_eq!(list.check("reject mask"), Verdict::Rejected);
    // The shorter word inside the longer one counts too.
    assert_eq!(list.check("国中"), masked("**", true));
    assert_eq!(list.check("坏国中"), Verdict::Rejected);
    assert_eq!(format!("{list:?}"), "WordList { words: 7, .. }");
}

/// The work on a text: its letters, and the words looked at.
fn work(list: &WordList, text: &str) -> (usize, usize) {
    let (mut scan, mut letters) = (Scan::new(list), 0);
    letter::each(text, |letter| {
        letters += 1;
        scan.take(letter);
    });
    scan.finish();
    (letters, scan.visits)
}

/// About 10,000 words: all prefixes of 160 words of the full length, which differ in their last letters only.
fn nested(of: &str, action: &str) -> WordList {
    let mut words = BTreeSet::new();
    for tail in 0..160_u32 {
        let word: Vec<char> =
            of.chars().chain((0..8).map(|bit| if tail >> bit & 1 == 0 { 'x' } else { '人' })).collect();
        words.extend((1..=word.len()).map(|len| word[..len].iter().collect::<String>()));
    }
    words.extend((0..9_000).map(|n| format!("{of}{n:04}")));
    let lines: String = words.iter().map(|word| format!("{word}\t{action}\n")).collect();
    WordList::parse(&lines).expect("a list")
}

#[test]
fn hostile_texts_cost_as_much_as_they_are_long() {
    let (latin, chinese) = ("a".repeat(WORD_CHARS_MAX - 8), "中".repeat(WORD_CHARS_MAX - 8));
    for (of, action) in
        [(&latin, "mask"), (&latin, "flag"), (&chinese, "mask"), (&chinese, "flag"), (&chinese, "reject")]
    {
        let list = nested(of, action);
        assert!(list.words() > 9_000);
        let unit: String = of.chars().take(1).collect();
        for piece in [unit.clone(), format!("{unit}."), format!("{of}x"), format!("x{of}"), format!("中{of}1 ")] {
            let [small, large] = [5_000, 40_000].map(|len| {
                let text: String = piece.chars().cycle().take(len).collect();
                let (letters, visits) = work(&list, &text);
                assert!(letters <= len && visits <= letters, "{action} {piece:?}: {visits} words in {letters} letters");
                visits
            });
            assert!(large <= small * 8 + WORD_CHARS_MAX, "{action} {piece:?}: {small} words, then {large}");
        }
    }
}

#[test]
fn no_letter_costs_more_than_the_longest_word() {
    // Words that no text's place satisfies until the shortest: the walk down goes all the way.
    let words: Vec<String> = (1..WORD_CHARS_MAX).map(|len| format!("{}中\treject", "a".repeat(len))).collect();
    let list = WordList::parse(&words.join("\n")).expect("a list");
    let text = format!("b{}中", "a".repeat(WORD_CHARS_MAX)).repeat(80);
    let (letters, visits) = work(&list, &text);
    assert_eq!(visits, 80 * (WORD_CHARS_MAX - 1));
    assert!(visits <= letters, "a long walk needs a long way to it: {visits} words in {letters} letters");
    assert_eq!(list.check(&text), Verdict::Clean);
}

#[test]
fn any_list_and_text_give_what_trying_everything_gives() {
    const WORD: [char; 9] = ['a', 'b', 'é', '1', '国', '中', '人', '🙂', 'B'];
    const TEXT: [char; 16] =
        ['a', 'b', 'A', 'ａ', 'Ｂ', 'é', '1', '国', '中', '人', '🙂', ' ', '$', '。', '\u{200b}', '\u{337}'];
    let mut seen = [0; 4];
    for seed in 0..30_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        // Few different characters make many matches.
        let (few, most) = (rng.random_range(1..=WORD.len()), rng.random_range(1..6));
        let words: Vec<(String, &str)> = (0..rng.random_range(1..20))
            .map(|_| {
                let word = (0..rng.random_range(1..=most)).filter_map(|_| WORD[..few].choose(&mut rng)).collect();
                (word, *["mask", "mask", "mask", "flag", "reject"].choose(&mut rng).expect("some"))
            })
            .collect();
        let text: String = (0..rng.random_range(0..40)).filter_map(|_| TEXT.choose(&mut rng)).collect();
        let lines: String = words.iter().map(|(word, action)| format!("{word}\t{action}\n")).collect();
        let verdict = WordList::parse(&lines).expect("a list").check(&text);
        assert_eq!(verdict, try_everything(&words, &text), "seed {seed}: {words:?} in {text:?}");
        if let Verdict::Masked { text: masked, .. } = &verdict {
            assert_eq!(masked.chars().count(), text.chars().count(), "seed {seed}");
        }
        seen[match verdict {
            Verdict::Clean => 0,
            Verdict::Flagged => 1,
            Verdict::Masked { .. } => 2,
            Verdict::Rejected => 3,
        }] += 1;
    }
    assert!(seen.iter().all(|count| *count > 500), "the seeds are one-sided: {seen:?}");
}

/// Every word at every place, with a table of its own for what is the same.
fn try_everything(words: &[(String, &str)], text: &str) -> Verdict {
    let original: Vec<char> = text.chars().collect();
    let plain: Vec<Option<char>> = original
        .iter()
        .map(|char| match char {
            'A' | 'ａ' => Some('a'),
            'B' | 'Ｂ' => Some('b'),
            ' ' | '$' | '。' => Some(' '),
            '\u{200b}' | '\u{337}' => None,
            char => Some(*char),
        })
        .collect();
    let (mut masked, mut flagged, mut rejected) = (original.clone(), false, false);
    for (word, action) in words {
        let word: Vec<char> = word.to_lowercase().chars().collect();
        for start in 0..plain.len() {
            let Some(end) = ends(&plain, start, &word) else { continue };
            match *action {
                // A mark on the last letter is masked with it.
                "mask" => {
                    let marked = (end..original.len()).take_while(|at| plain[*at].is_none());
                    let end = marked.filter(|at| original[*at] == '\u{337}').last().map_or(end, |at| at + 1);
                    masked[start..end].fill('*');
                }
                "flag" => flagged = true,
                _ => rejected = true,
            }
        }
    }
    match () {
        () if rejected => Verdict::Rejected,
        () if masked != original => Verdict::Masked { text: masked.into_iter().collect(), flagged },
        () if flagged => Verdict::Flagged,
        () => Verdict::Clean,
    }
}

/// Where the word ends that begins exactly here.
fn ends(plain: &[Option<char>], start: usize, word: &[char]) -> Option<usize> {
    let is_latin = |char: char| matches!(char, 'a' | 'b' | 'é' | '1');
    let edge = |ours: char, next: Option<char>| !is_latin(ours) || next.is_none_or(|next| !is_latin(next));
    let mut letters = (start..plain.len()).filter(|at| plain[*at].is_some_and(|char| char != ' '));
    let mut end = start;
    for (index, char) in word.iter().enumerate() {
        let at = letters.next()?;
        if plain[at] != Some(*char) || (index == 0 && at != start) {
            return None;
        }
        end = at + 1;
    }
    let before = plain[..start].iter().rev().find_map(|char| *char);
    let after = plain[end..].iter().find_map(|char| *char);
    (edge(*word.first()?, before) && edge(*word.last()?, after)).then_some(end)
}
