//! Two users become contacts and cease to be, each at a home of its own, with letters under way between them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use chat::{
    Refusal, Who, apply,
    directory::{
        BLOCKS_MAX, CONTACTS_MAX, Contact, Decision, Letter, Op, REQUESTS_MAX, Request, State, blocks, decide, receive,
        state,
    },
};
use handler::Code;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The homes of some users, and the letters between them.
#[derive(Default)]
struct Homes {
    facts: BTreeMap<String, BTreeMap<String, Bytes>>,
    post: BTreeMap<(String, String), VecDeque<Letter>>,
    at_ms: u64,
}

impl Homes {
    fn ask(&mut self, user: &str, op: &str, body: Value) -> Result<Decision, Refusal> {
        let op = Op::read(op, body.to_string().as_bytes()).expect("an operation")?;
        self.at_ms += 1;
        let who = Who { user, guest: user.starts_with("guest") };
        let facts = self.facts.entry(user.to_owned()).or_default();
        let decision = decide(facts, &who, self.at_ms, &|user| user != "nobody", &op)?;
        self.settle(user, &decision);
        Ok(decision)
    }

    /// Asks something about another user, and everything that follows happens.
    fn act(&mut self, user: &str, verb: &str, other: &str) -> Result<Decision, Refusal> {
        let decision = self.ask(user, &format!("contact.{verb}"), json!({"user": other}));
        while let Some(way) = self.post.iter().find(|(_, letters)| !letters.is_empty()).map(|(way, _)| way.clone()) {
            self.deliver(&way);
        }
        decision
    }

    fn settle(&mut self, user: &str, decision: &Decision) {
        apply(self.facts.entry(user.to_owned()).or_default(), &decision.changes);
        for (to, letter) in decision.letters.clone() {
            self.post.entry((user.to_owned(), to)).or_default().push_back(letter);
        }
    }

    fn deliver(&mut self, way: &(String, String)) {
        let Some(letter) = self.post.get_mut(way).and_then(VecDeque::pop_front) else { return };
        self.at_ms += 1;
        let facts = self.facts.entry(way.1.clone()).or_default();
        let decision = receive(facts, &way.1, self.at_ms, &letter).expect("room");
        self.settle(&way.1, &decision);
        let again = receive(&self.facts[&way.1], &way.1, self.at_ms, &letter).expect("room");
        assert_eq!(again.changes, [], "{letter:?} twice");
    }

    fn state(&self, user: &str, other: &str) -> State {
        let none = BTreeMap::new();
        state(self.facts.get(user).unwrap_or(&none), user, other).expect("facts")
    }

    fn states(&self) -> (State, State) {
        (self.state("ada", "bob"), self.state("bob", "ada"))
    }

    fn fact<T: DeserializeOwned>(&self, user: &str, kind: char, other: &str) -> Option<T> {
        let fact = self.facts.get(user)?.get(&format!("u/{user}/{kind}/{other}"))?;
        Some(serde_json::from_slice(fact).expect("a fact"))
    }
}

#[test]
fn a_request_is_answered() {
    let mut homes = Homes::default();
    let asked = homes.ask("ada", "contact.request", json!({"user": "bob", "text": "I am Ada"})).expect("asked");
    assert_eq!(asked.notices, [r#"{"type":"contact","user":"bob","state":"outgoing"}"#]);
    assert_eq!(homes.ask("ada", "contact.request", json!({"user": "bob"})).map(|again| again.letters), Ok(vec![]));
    homes.deliver(&("ada".into(), "bob".into()));
    assert_eq!(homes.states(), (State::Outgoing, State::Incoming));
    let list: Value =
        serde_json::from_slice(&homes.ask("bob", "contact.requests", json!({})).expect("a list").answer).expect("JSON");
    assert_eq!(list, json!({"more": false, "users": [{"user": "ada", "at_ms": 1, "text": "I am Ada"}]}));
    homes.act("bob", "accept", "ada").expect("accepted");
    assert_eq!(homes.states(), (State::Contact, State::Contact));
    assert_eq!(homes.act("bob", "accept", "ada").map(|again| again.changes), Ok(vec![]));
    homes.act("ada", "remove", "bob").expect("removed");
    assert_eq!(homes.states(), (State::Stranger, State::Stranger));
    assert_eq!(homes.act("bob", "accept", "ada").map_err(|why| why.code), Err(Code::NotFound));

    homes.act("bob", "request", "ada").expect("asked");
    homes.act("ada", "decline", "bob").expect("declined");
    assert_eq!(homes.states(), (State::Stranger, State::Stranger));
    homes.act("bob", "request", "ada").expect("asked again");
    homes.act("bob", "remove", "ada").expect("taken back");
    assert_eq!(homes.states(), (State::Stranger, State::Stranger));
    homes.act("bob", "request", "ada").expect("asked again");
    homes.act("ada", "request", "bob").expect("which is a yes");
    assert_eq!(homes.states(), (State::Contact, State::Contact));
}

#[test]
fn two_who_ask_each_other_at_once_are_contacts() {
    let mut homes = Homes::default();
    for (user, other) in [("ada", "bob"), ("bob", "ada")] {
        homes.ask(user, "contact.request", json!({"user": other})).expect("asked");
    }
    homes.act("ada", "request", "bob").expect("asked twice");
    assert_eq!(homes.states(), (State::Contact, State::Contact));
}

#[test]
fn a_letter_that_comes_again_takes_back_nothing_newer() {
    let mut homes = Homes::default();
    homes.act("ada", "request", "bob").expect("asked");
    homes.act("ada", "remove", "bob").expect("taken back");
    homes.act("ada", "request", "bob").expect("asked again");
    let old = homes.fact::<Request>("bob", 'r', "ada").map_or(0, |request| request.at_ms) - 1;
    let from = || "ada".to_owned();
    for letter in [Letter::Withdraw { from: from(), at_ms: old }, Letter::Decline { from: from(), at_ms: old }] {
        assert_eq!(receive(&homes.facts["bob"], "bob", 99, &letter).map(|late| late.changes), Ok(vec![]), "{letter:?}");
    }
    homes.act("bob", "accept", "ada").expect("accepted");
    let letter = Letter::Remove { from: from(), at_ms: old };
    assert_eq!(receive(&homes.facts["bob"], "bob", 99, &letter).map(|late| late.changes), Ok(vec![]));
}

#[test]
fn who_is_blocked_is_not_heard() {
    let mut homes = Homes::default();
    homes.act("ada", "request", "bob").expect("asked");
    homes.act("bob", "accept", "ada").expect("accepted");
    homes.act("bob", "block", "ada").expect("blocked");
    assert_eq!(homes.states(), (State::Stranger, State::Blocked));
    assert_eq!(blocks(&homes.facts["bob"], "bob", "ada"), Ok(true));
    homes.act("ada", "request", "bob").expect("asked");
    assert_eq!(homes.states(), (State::Stranger, State::Blocked), "declined unseen");
    assert_eq!(homes.act("bob", "request", "ada").map_err(|why| why.code), Err(Code::FailedPrecondition));
    homes.act("bob", "unblock", "ada").expect("unblocked");
    homes.act("ada", "request", "bob").expect("asked");
    assert_eq!(homes.states(), (State::Outgoing, State::Incoming));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut homes = Homes::default();
    let mut code = |user: &str, op: &str, body: Value| homes.ask(user, op, body).err().map(|why| why.code);
    let bad = Some(Code::InvalidArgument);
    assert_eq!(code("ada", "contact.request", json!({"user": "ada"})), bad);
    assert_eq!(code("ada", "contact.request", json!({"user": "a/b"})), bad);
    assert_eq!(code("ada", "contact.request", json!({"user": "nobody"})), Some(Code::NotFound));
    assert_eq!(code("ada", "contact.request", json!({"user": "bob", "text": "x".repeat(201)})), bad);
    assert_eq!(code("ada", "contact.request", json!({"user": "bob", "text": "\u{202e}"})), bad);
    assert_eq!(code("ada", "contact.block", json!({"user": "bob", "why": "x"})), bad);
    assert_eq!(code("ada", "contact.list", json!({"limit": 0})), bad);
    assert_eq!(code("guest-1", "contact.request", json!({"user": "bob"})), Some(Code::PermissionDenied));
    assert!(Op::read("contact.hug", b"{}").is_none());
}

#[test]
fn contacts_requests_and_blocks_have_limits() {
    let full = Some(Code::ResourceExhausted);
    let mut homes = Homes::default();
    let mut ask = |op: &str, n: usize| homes.ask("ada", op, json!({"user": format!("u{n}")})).err().map(|why| why.code);
    (0..REQUESTS_MAX).for_each(|n| assert_eq!(ask("contact.request", n), None));
    assert_eq!(ask("contact.request", REQUESTS_MAX), full);
    (0..BLOCKS_MAX).for_each(|n| assert_eq!(ask("contact.block", n + REQUESTS_MAX), None));
    assert_eq!(ask("contact.block", BLOCKS_MAX + REQUESTS_MAX), full);

    let mut homes = Homes::default();
    let facts = homes.facts.entry("ada".to_owned()).or_default();
    for n in 0..CONTACTS_MAX - 1 {
        facts.insert(format!("u/ada/k/u{n}"), Bytes::from_static(br#"{"since_ms":1,"request_ms":1}"#));
    }
    homes.act("bob", "request", "ada").expect("asked");
    homes.act("ada", "request", "eve").expect("room for one");
    assert_eq!(homes.act("ada", "request", "zoe").map_err(|why| why.code), Err(Code::ResourceExhausted));
    assert_eq!(homes.act("ada", "accept", "bob").map_err(|why| why.code), Err(Code::ResourceExhausted));
    homes.act("eve", "accept", "ada").expect("there is always room for an acceptance");
    assert_eq!(homes.state("ada", "eve"), State::Contact);

    let mut homes = Homes::default();
    for n in 0..=REQUESTS_MAX {
        homes.act(&format!("u{n}"), "request", "ada").expect("asked");
    }
    assert_eq!(homes.state("u0", "ada"), State::Outgoing);
    assert_eq!(homes.state(&format!("u{REQUESTS_MAX}"), "ada"), State::Stranger, "declined for want of room");
}

#[test]
fn whatever_two_users_do_at_once_both_sides_agree_in_the_end() {
    let verbs = ["request", "request", "accept", "decline", "remove", "block", "unblock", "unblock"];
    let mut seen = BTreeMap::new();
    for seed in 0..20_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut homes = Homes::default();
        let ways = [("ada".to_owned(), "bob".to_owned()), ("bob".to_owned(), "ada".to_owned())];
        let mut story = Vec::new();
        for _ in 0..rng.random_range(1..40) {
            let way = &ways[rng.random_range(0..2)];
            if rng.random_bool(0.5) {
                story.push(format!("{:?} reaches {}", homes.post.get(way).and_then(VecDeque::front), way.1));
                homes.deliver(way);
            } else {
                let verb = verbs[rng.random_range(0..verbs.len())];
                story.push(format!("{} {verb}s", way.0));
                let _ = homes.ask(&way.0, &format!("contact.{verb}"), json!({"user": way.1}));
            }
        }
        while let Some(way) = ways.iter().find(|way| homes.post.get(*way).is_some_and(|letters| !letters.is_empty())) {
            homes.deliver(way);
        }
        let contact = |a, b| homes.fact::<Contact>(a, 'k', b).map(|contact| contact.request_ms);
        let request = |a, kind, b| homes.fact::<Request>(a, kind, b).map(|request| request.at_ms);
        let story = || format!("seed {seed}: {story:#?}");
        assert_eq!(contact("ada", "bob"), contact("bob", "ada"), "{}", story());
        assert_eq!(request("ada", 'o', "bob"), request("bob", 'r', "ada"), "{}", story());
        assert_eq!(request("bob", 'o', "ada"), request("ada", 'r', "bob"), "{}", story());
        for (user, other) in [("ada", "bob"), ("bob", "ada")] {
            let facts = homes.facts.get(user).map_or(0, BTreeMap::len);
            assert!(facts <= 1, "one thing at a time, {}", story());
            *seen.entry(format!("{:?}", homes.state(user, other))).or_insert(0) += 1;
        }
    }
    assert!(seen.len() == 5 && seen.values().all(|count| *count > 1_000), "{seen:?}");
}
