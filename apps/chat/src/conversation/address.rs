//! Which conversation a topic is, and the one topic that a direct conversation of two users has.
//!
//! A topic has the bytes `[a-z0-9._~/-]`, a user's name has any letters. A name is written as it is where it can be;
//! anything else in it is a run of `~.`, four digits `[0-9a-v]` per character, and `.`. No name begins with a `.`, so
//! that a `~` in front of one only ever starts a run, and any other `~` stands between the two names.

use topic::TOPIC_BYTES_MAX;

use crate::{name::is_user, room::is_room};

/// What the topics of two users begin with.
pub(crate) const DIRECT: &str = "chat/d/";
pub(crate) const GROUP: &str = "chat/g/";
const PERSONAL: &str = "chat/u/";
const WORLD: &str = "chat/world";

/// Bytes of a group's id; the server makes them, so it only has to fit a topic.
pub const GROUP_ID_BYTES_MAX: usize = 64;

/// Bits of a digit, and digits of a character: 20 bits hold every letter that Unicode has.
const DIGIT_BITS: u32 = 5;
const DIGITS: usize = 4;

const _: () = assert!(GROUP.len() + GROUP_ID_BYTES_MAX <= TOPIC_BYTES_MAX, "the topic of a group is a topic");

/// A conversation, by its topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Conversation {
    /// `chat/d/<a>~<b>`: two users, the smaller name first. It needs no making.
    Direct(String, String),
    /// `chat/g/<id>`: its members.
    Group(String),
    /// `chat/u/<user>`: what the server tells all devices of one user.
    Personal(String),
    /// `chat/world`: everybody.
    World,
    /// `chat/<room>`: everybody who comes.
    Room(String),
}

impl Conversation {
    /// The conversation of a topic, if it is one. Two topics are never the same conversation.
    #[must_use]
    pub fn parse(topic: &str) -> Option<Self> {
        if let Some(pair) = topic.strip_prefix(DIRECT) {
            let [a, b] = unpack_names(pair)?;
            let direct = Self::direct(&a, &b)?;
            // Whatever else would read as the same pair is no topic.
            return (direct.topic() == topic).then_some(direct);
        }
        if let Some(id) = topic.strip_prefix(GROUP) {
            return is_group_id(id).then(|| Self::Group(id.to_owned()));
        }
        if let Some(user) = topic.strip_prefix(PERSONAL) {
            let [user, none] = unpack_names(user)?;
            return (none.is_empty() && personal(&user).as_deref() == Some(topic)).then_some(Self::Personal(user));
        }
        match is_room(topic) {
            true if topic == WORLD => Some(Self::World),
            true => Some(Self::Room(topic.strip_prefix("chat/")?.to_owned())),
            false => None,
        }
    }

    /// The conversation of two users, in whatever order. `None`: they are one, have names that no account has, or names
    /// that are too long together. Any two of 40 ASCII letters fit, and any two of 23 letters.
    #[must_use]
    pub fn direct(a: &str, b: &str) -> Option<Self> {
        let (a, b) = if a < b { (a, b) } else { (b, a) };
        let direct = Self::Direct(a.to_owned(), b.to_owned());
        (a != b && is_user(a) && is_user(b) && direct.topic().len() <= TOPIC_BYTES_MAX).then_some(direct)
    }

    /// The topic of this conversation.
    #[must_use]
    pub fn topic(&self) -> String {
        match self {
            Self::Direct(a, b) => {
                let mut topic = DIRECT.to_owned();
                pack(a, &mut topic);
                topic.push('~');
                pack(b, &mut topic);
                topic
            }
            Self::Group(id) => format!("{GROUP}{id}"),
            Self::Personal(user) => {
                let mut topic = PERSONAL.to_owned();
                pack(user, &mut topic);
                topic
            }
            Self::World => WORLD.to_owned(),
            Self::Room(room) => format!("chat/{room}"),
        }
    }
}

/// The personal topic of a user, under whose name also its facts are kept. `None`: no account is called so, or the name
/// is too long for a topic; 32 letters always fit.
#[must_use]
pub fn personal(user: &str) -> Option<String> {
    let topic = Conversation::Personal(user.to_owned()).topic();
    (is_user(user) && topic.len() <= TOPIC_BYTES_MAX).then_some(topic)
}

/// Whether everybody may read and write here, without a look at any facts: a cheap answer for plain rooms.
pub(crate) fn is_open(topic: &str) -> bool {
    ![DIRECT, GROUP, PERSONAL].iter().any(|prefix| topic.starts_with(prefix))
}

/// Whether this is the topic of a conversation.
pub(crate) fn is_topic(topic: &str) -> bool {
    if is_open(topic) { is_room(topic) } else { Conversation::parse(topic).is_some() }
}

pub(super) fn is_group_id(id: &str) -> bool {
    id.len() <= GROUP_ID_BYTES_MAX
        && id.bytes().all(|byte| is_plain(byte.into()) || byte == b'~')
        && id.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

fn is_plain(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-')
}

fn pack(name: &str, out: &mut String) {
    let mut in_run = false;
    for c in name.chars() {
        if in_run == is_plain(c) {
            out.push_str(if in_run { "." } else { "~." });
            in_run = !in_run;
        }
        if in_run {
            let shifts = (0..DIGITS as u32).rev().map(|digit| digit * DIGIT_BITS);
            out.extend(shifts.filter_map(|shift| char::from_digit((u32::from(c) >> shift) & 31, 32)));
        } else {
            out.push(c);
        }
    }
    if in_run {
        out.push('.');
    }
}

fn unpack_names(pair: &str) -> Option<[String; 2]> {
    let mut names = [String::new(), String::new()];
    let (mut at, mut rest) = (0, pair);
    while let Some(c) = rest.chars().next() {
        if let Some(run) = rest.strip_prefix("~.") {
            let (digits, behind) = run.split_once('.')?;
            unpack_run(digits, names.get_mut(at)?)?;
            rest = behind;
            continue;
        }
        match c {
            '~' => at += 1,
            _ => names.get_mut(at)?.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    Some(names)
}

fn unpack_run(digits: &str, out: &mut String) -> Option<()> {
    for digits in digits.as_bytes().chunks(DIGITS) {
        let value =
            digits.iter().try_fold(0, |value, digit| Some(value << DIGIT_BITS | char::from(*digit).to_digit(32)?));
        out.push(char::from_u32(value?)?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

    use super::*;

    fn parse(topic: &str) -> Option<Conversation> {
        Conversation::parse(topic)
    }

    #[test]
    fn topics_say_what_they_are() {
        assert_eq!(parse("chat/world"), Some(Conversation::World));
        assert_eq!(parse("chat/lobby"), Some(Conversation::Room("lobby".into())));
        assert_eq!(parse("chat/d"), Some(Conversation::Room("d".into())));
        assert_eq!(parse("chat/g/0190-x"), Some(Conversation::Group("0190-x".into())));
        assert_eq!(parse("chat/d/ada~bob"), Some(Conversation::Direct("ada".into(), "bob".into())));
        assert_eq!(parse("chat/u/~.0021.lice"), Some(Conversation::Personal("Alice".into())));
        assert_eq!(personal(&"\u{10348}".repeat(32)).map(|topic| topic.len()), Some(7 + 32 * 4 + 3));
        assert_eq!((personal(""), personal("a/b"), personal(&"张".repeat(64))), (None, None, None));
        for bad in ["", "ada~", "ada~bob", "~ada", "Ada", "~.0031.da", "a/b", "~..a"] {
            assert_eq!(parse(&format!("chat/u/{bad}")), None, "{bad}");
        }
        let long = format!("chat/g/{}", "a".repeat(GROUP_ID_BYTES_MAX + 1));
        for bad in
            ["", "chat", "chat/", "chat/g/", "chat/g/a/b", "chat/g/A", "chat/g/..", "chat/x/y", "canvas/a", &long]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pair_has_one_topic_and_no_other_text_means_it() {
        let alice = Conversation::direct("bob", "Alice").expect("a pair");
        assert_eq!(alice.topic(), "chat/d/~.0021.lice~bob");
        assert_eq!(parse("chat/d/~.0021.lice~bob"), Some(alice));
        let wei = Conversation::direct("张伟", "a.b-c_d").expect("a pair");
        assert_eq!(wei.topic(), "chat/d/a.b-c_d~~.0np00jov.");
        for bad in [
            "ada",
            "ada~",
            "~ada",
            "bob~ada",
            "ada~ada",
            "ada~bob~eve",
            "ada~~bob",
            "ada/bob",
            "ada~.bob",
            "ada~-bob",
            "~.0031.da~bob",
            "~.003.~bob",
            "~..a~bob",
            "a~~.0021",
            "a~~.0021.~.0021.",
            "a~~.v000.",
            "a~~.0021.~.",
            "~",
            "",
            "A~b",
            "张~b",
        ] {
            assert_eq!(parse(&format!("chat/d/{bad}")), None, "{bad}");
        }
        assert_eq!(Conversation::direct("ada", "a/b"), None);
        assert!(Conversation::direct(&"a".repeat(64), &"b".repeat(64)).is_some());
        assert!(Conversation::direct(&"张".repeat(23), &"𠀀".repeat(23)).is_some());
        assert_eq!(Conversation::direct(&"张".repeat(32), &"伟".repeat(32)), None);
    }

    #[test]
    fn whatever_two_users_are_called_their_topic_leads_back_to_them() {
        let letters: Vec<char> = "aZ09._-éß张𠀀आ".chars().collect();
        for seed in 0..2_000 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut name = || (0..rng.random_range(1..9)).filter_map(|_| letters.choose(&mut rng)).collect::<String>();
            let (a, b) = (name(), name());
            let Some(direct) = Conversation::direct(&a, &b) else {
                assert!(a == b || !is_user(&a) || !is_user(&b), "seed {seed}: {a} and {b}");
                continue;
            };
            let topic = direct.topic();
            assert!(topic.bytes().all(|byte| is_plain(byte.into()) || b"~/".contains(&byte)), "seed {seed}: {topic}");
            assert_eq!(parse(&topic), Some(direct), "seed {seed}: {topic}");
            assert_eq!(Conversation::direct(&b, &a).map(|same| same.topic()), Some(topic), "seed {seed}");
        }
    }
}
