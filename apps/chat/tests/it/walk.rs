//! A group in a random walk: whatever is asked by whomever, some things are always true.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chat::{
    Who, apply,
    conversation::{Ban, Call, Conversation, Decision, Group, Invitation, Member, Op, Role, decide},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::de::DeserializeOwned;

const USERS: [&str; 7] = ["ada", "bob", "cat", "dan", "eve", "fay", "guy"];
const SEEDS: u64 = 400;
const STEPS: u32 = 250;

type Facts = BTreeMap<String, Bytes>;

#[test]
fn no_walk_breaks_a_group() {
    let mut done = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut facts, mut at_ms) = (Facts::new(), 1_000);
        for step in 0..STEPS {
            at_ms += rng.random_range(0..50);
            let user = user(&mut rng);
            let who = Who { user, guest: user == "guy" || rng.random_bool(0.02) };
            let op = if facts.is_empty() { create(&mut rng) } else { op(&mut rng, at_ms) };
            let (is_account, knows) = (|user: &str| user != "guy", |user: &str| user < "dan");
            let call = Call {
                who,
                at_ms,
                head: if facts.is_empty() { 0 } else { step.into() },
                is_account: &is_account,
                knows: &knows,
            };
            let story = format!("seed {seed}, step {step}: {who:?} asks {op:?}");
            let Ok(decision) = decide(&facts, &Conversation::Group("1".into()), &call, &op) else { continue };
            let before = facts.clone();
            apply(&mut facts, &decision.changes);
            check_authority(&story, &before, &facts, &who, &op);
            check_lists(&story, (&before, &facts), &decision, &who, &op);
            check_invariants(&story, &facts, at_ms);
            let changed = u32::from(!decision.changes.is_empty());
            let name = format!("{op:?}").split([' ', '{']).next().unwrap_or_default().to_owned();
            *done.entry(name).or_insert(0) += changed;
            let again = decide(&facts, &Conversation::Group("1".into()), &call, &op);
            assert!(again.is_err() || again.is_ok_and(|again| again.changes.is_empty()), "{story}, twice");
        }
    }
    // Every operation that can change something did, often.
    assert!(done.values().filter(|count| **count > 100).count() >= 11, "{done:?}");
}

fn user(rng: &mut StdRng) -> &'static str {
    USERS[rng.random_range(0..USERS.len())]
}

fn create(rng: &mut StdRng) -> Op {
    let users = (0..rng.random_range(0..4)).map(|_| user(rng).to_owned()).collect();
    Op::Create { name: "us".into(), users, open: rng.random_bool(0.5), slow_ms: 0 }
}

fn op(rng: &mut StdRng, at_ms: u64) -> Op {
    let target = user(rng).to_owned();
    let until_ms = rng.random_bool(0.8).then(|| at_ms + rng.random_range(0..1_000));
    match rng.random_range(0..17) {
        0 => create(rng),
        1 => Op::Rename { name: format!("us {}", rng.random_range(0..9)) },
        2 => Op::Settings { open: Some(rng.random_bool(0.7)), slow_ms: None },
        3 | 4 => Op::Invite { users: vec![target, user(rng).to_owned()] },
        5..=7 => Op::Join,
        8 if rng.random_bool(0.3) => Op::Leave,
        9 => Op::Remove { user: target },
        10 | 11 => Op::Role {
            user: target,
            role: [Role::Member, Role::Admin, Role::Admin, Role::Owner][rng.random_range(0..4)],
        },
        12 => Op::Mute { user: target, until_ms },
        13 => Op::Ban { user: target, until_ms },
        14 => Op::Unban { user: target },
        15 => Op::Decline,
        _ => Op::Members { after: None, limit: 5 },
    }
}

fn read<T: DeserializeOwned>(facts: &Facts, prefix: &str) -> BTreeMap<String, T> {
    let range = facts.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
    range.map(|(key, value)| (key[prefix.len()..].to_owned(), serde_json::from_slice(value).expect("a fact"))).collect()
}

fn check_invariants(story: &str, facts: &Facts, at_ms: u64) {
    let Some(group) = facts.get("g/1") else {
        return assert!(facts.is_empty(), "{story}: the last member has left, and something stays");
    };
    let group: Group = serde_json::from_slice(group).expect("a group");
    let (members, bans): (BTreeMap<_, Member>, BTreeMap<_, Ban>) = (read(facts, "g/1/m/"), read(facts, "g/1/b/"));
    assert_eq!(group.members as usize, members.len(), "{story}");
    assert_eq!(group.bans as usize, bans.len(), "{story}");
    let invitations: BTreeMap<_, Invitation> = read(facts, "g/1/i/");
    assert_eq!(group.invitations as usize, invitations.len(), "{story}");
    assert_eq!(facts.len(), 1 + members.len() + bans.len() + invitations.len(), "{story}");
    let owners: Vec<&String> = members.iter().filter(|(_, m)| m.role == Role::Owner).map(|(user, _)| user).collect();
    assert_eq!((owners.as_slice(), group.closed_ms), (&[&group.owner][..], None), "{story}");
    assert!(bans.keys().chain(invitations.keys()).all(|user| !members.contains_key(user)), "{story}");
    assert!(!members.contains_key("guy"), "{story}: that is a guest");
    assert!(owners.iter().all(|owner| members[*owner].muted(at_ms).is_none()), "{story}");
}

/// Nobody changes what is not theirs to change.
fn check_authority(story: &str, before: &Facts, after: &Facts, who: &Who<'_>, op: &Op) {
    if before == after {
        return;
    }
    assert!(!who.guest, "{story}");
    let (was, is): (BTreeMap<_, Member>, BTreeMap<_, Member>) = (read(before, "g/1/m/"), read(after, "g/1/m/"));
    let Some(me) = was.get(who.user) else {
        let (was, is) = (read::<Invitation>(before, "g/1/i/"), read::<Invitation>(after, "g/1/i/"));
        let alone = was.iter().all(|(user, old)| user == who.user || is.get(user) == Some(old));
        return assert!(alone && matches!(op, Op::Join | Op::Decline | Op::Create { .. }), "{story}: not a member");
    };
    for (user, old) in was.iter().filter(|(user, _)| *user != who.user) {
        let new = is.get(user);
        if new.is_none() || new.is_some_and(|new| new.muted_until_ms != old.muted_until_ms) {
            let heir = matches!(op, Op::Leave | Op::Role { .. }) && new.is_some_and(|new| new.role == Role::Owner);
            assert!(me.role > old.role && me.role >= Role::Admin || heir, "{story}: {user} was {old:?}");
        }
        if new.is_some_and(|new| new.role != old.role) {
            assert_eq!(me.role, Role::Owner, "{story}: {user} was {old:?}");
        }
    }
    if read::<Ban>(before, "g/1/b/") != read::<Ban>(after, "g/1/b/") && !matches!(op, Op::Leave) {
        assert!(me.role >= Role::Admin || matches!(op, Op::Invite { .. }), "{story}");
    }
}

/// The lists of conversations follow the members, and no key changes twice.
fn check_lists(story: &str, (before, after): (&Facts, &Facts), decision: &Decision, who: &Who<'_>, op: &Op) {
    let members = |facts| read::<Member>(facts, "g/1/m/").into_keys().collect::<BTreeSet<String>>();
    let (was, is) = (members(before), members(after));
    assert!(decision.joined.iter().eq(sorted(is.difference(&was), &decision.joined)), "{story}");
    assert!(decision.left.iter().eq(was.difference(&is)), "{story}");
    let own = |user: &String| matches!(op, Op::Join | Op::Create { .. }) && user == who.user;
    assert!(decision.joined.iter().all(|user| user.as_str() < "dan" || own(user)), "{story}: without being asked");
    let keys: BTreeSet<&String> = decision.changes.iter().map(|change| &change.key).collect();
    assert_eq!(keys.len(), decision.changes.len(), "{story}");
    assert_eq!(before == after, decision.changes.is_empty(), "{story}: a change that changes nothing");
    let invitations = |facts| read::<Invitation>(facts, "g/1/i/").into_keys().collect::<BTreeSet<String>>();
    let (asked, asks) = (invitations(before), invitations(after));
    assert!(decision.invited.iter().eq(sorted(asks.difference(&asked), &decision.invited)), "{story}");
    let gone = asked.difference(&asks).filter(|user| !is.contains(*user));
    assert!(decision.uninvited.iter().eq(sorted(gone, &decision.uninvited)), "{story}");
    // Clearing away a ban that ended needs no word, and invitations are nobody else's business.
    let quiet = |key: &str| key == "g/1" || ["g/1/b/", "g/1/i/"].iter().any(|prefix| key.starts_with(prefix));
    let clears = decision.changes.iter().all(|change| quiet(&change.key));
    assert!(decision.changes.is_empty() == decision.notices.is_empty() || clears, "{story}: silence");
}

/// The same names in the order of another list.
fn sorted<'a>(names: impl Iterator<Item = &'a String>, like: &[String]) -> Vec<&'a String> {
    let mut names: Vec<&String> = names.collect();
    names.sort_by_key(|name| like.iter().position(|other| other == *name));
    names
}
