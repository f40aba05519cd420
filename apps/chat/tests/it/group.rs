//! Groups: who may do what, and what the others are told of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use chat::{
    Change, Refusal, Who, apply,
    conversation::{
        Ask, Call, Conversation, Decision, GROUP_BANS_MAX, GROUP_INVITATIONS_MAX, GROUP_MEMBERS_MAX, Member, Op,
        Permit, Role, decide, may_read, may_write,
    },
};
use handler::Code;
use serde_json::{Value, json};

/// The home of one group, `g/1`, made by ada.
struct Home {
    facts: BTreeMap<String, Bytes>,
    at_ms: u64,
    head: u64,
}

impl Home {
    fn new(users: &[&str]) -> Self {
        let mut home = Self { facts: BTreeMap::new(), at_ms: 1_000, head: 0 };
        home.ask("ada", "create", json!({"name": "Cafe\u{301}", "users": users})).expect("made");
        home
    }

    /// Somebody asks; what was decided is applied.
    fn ask(&mut self, user: &str, verb: &str, mut body: Value) -> Result<Decision, Refusal> {
        if verb != "create" {
            body["topic"] = json!("chat/g/1");
        }
        let ask = Ask::read(&format!("chat.{verb}"), body.to_string().as_bytes()).expect("an operation")?;
        let who = Who { user, guest: user.starts_with("guest") };
        self.at_ms += 10;
        let (is_account, knows) = (|user: &str| !user.starts_with("guest"), |user: &str| !user.starts_with("stranger"));
        let call = Call { who, at_ms: self.at_ms, head: self.head, is_account: &is_account, knows: &knows };
        let decision = decide(&self.facts, &group(), &call, &ask.op)?;
        apply(&mut self.facts, &decision.changes);
        self.head += decision.notices.len() as u64;
        Ok(decision)
    }

    fn code(&mut self, user: &str, verb: &str, body: Value) -> Option<Code> {
        self.ask(user, verb, body).err().map(|refusal| refusal.code)
    }

    fn member(&self, user: &str) -> Option<Member> {
        self.facts.get(&format!("g/1/m/{user}")).map(|fact| serde_json::from_slice(fact).expect("a member"))
    }

    fn role(&self, user: &str) -> Option<Role> {
        self.member(user).map(|member| member.role)
    }

    fn write(&self, user: &str) -> Result<Permit, Refusal> {
        may_write(&self.facts, &group(), &Who { user, guest: false }, self.at_ms)
    }
}

fn group() -> Conversation {
    Conversation::parse("chat/g/1").expect("a group")
}

fn told(decision: &Decision) -> Vec<Value> {
    decision.notices.iter().map(|body| serde_json::from_slice(body).expect("JSON")).collect()
}

const DENIED: Option<Code> = Some(Code::PermissionDenied);

#[test]
fn a_group_is_made_grows_and_shrinks() {
    let mut home = Home { facts: BTreeMap::new(), at_ms: 1_000, head: 0 };
    let made =
        home.ask("ada", "create", json!({"name": " Cafe\u{301}", "users": ["bob", "bob", "ada"]})).expect("made");
    assert_eq!(made.answer, r#"{"topic":"chat/g/1"}"#);
    assert_eq!((made.joined, made.left.len()), (vec!["ada".to_owned(), "bob".to_owned()], 0));
    assert_eq!(made.notices, [r#"{"type":"system","event":"created","name":"Café","users":["bob"],"by":"ada"}"#]);
    assert_eq!(home.code("eve", "create", json!({"name": "x"})), Some(Code::AlreadyExists));

    let invited = home.ask("ada", "invite", json!({"users": ["bob", "eve"]})).expect("invited");
    assert_eq!(told(&invited), [json!({"type": "system", "event": "invited", "users": ["eve"], "by": "ada"})]);
    assert_eq!(invited.joined, ["eve"]);
    assert_eq!(home.member("eve").map(|member| (member.joined_ms, member.joined_offset)), Some((1_030, 1)));
    let again = home.ask("ada", "invite", json!({"users": ["eve"]})).expect("nothing to do");
    assert_eq!((again.changes, again.notices), (vec![], vec![]));

    let removed = home.ask("ada", "remove", json!({"user": "bob"})).expect("removed");
    assert_eq!(told(&removed), [json!({"type": "system", "event": "removed", "user": "bob", "by": "ada"})]);
    assert_eq!(removed.left, ["bob"]);
    let left = home.ask("eve", "leave", json!({})).expect("left");
    assert_eq!(told(&left), [json!({"type": "system", "event": "left", "user": "eve", "by": "eve"})]);
    assert_eq!(home.code("eve", "leave", json!({})), DENIED);

    home.ask("ada", "leave", json!({})).expect("left");
    assert_eq!(home.facts.len(), 0, "nothing is left");
    for verb in ["join", "leave", "info", "members"] {
        assert_eq!(home.code("ada", verb, json!({})), Some(Code::NotFound), "{verb}");
    }
    assert_eq!(home.code("ada", "create", json!({"name": "x"})), Some(Code::AlreadyExists));
    assert_eq!(home.write("ada").map_err(|refusal| refusal.code), Err(Code::NotFound));
}

#[test]
fn whoever_is_longest_in_it_gets_the_group_of_an_owner_who_leaves() {
    let mut home = Home::new(&["zoe"]);
    home.ask("ada", "invite", json!({"users": ["bob"]})).expect("invited");
    home.ask("ada", "invite", json!({"users": ["amy"]})).expect("invited");
    home.ask("ada", "role", json!({"user": "amy", "role": "admin"})).expect("promoted");
    let left = home.ask("ada", "leave", json!({})).expect("left");
    assert_eq!(told(&left)[1], json!({"type": "system", "event": "role", "user": "amy", "role": "owner", "by": "ada"}));
    assert_eq!(home.role("amy"), Some(Role::Owner), "an admin goes before who is longer in it");
    home.ask("amy", "mute", json!({"user": "zoe", "until_ms": 9_999})).expect("muted");
    home.ask("amy", "leave", json!({})).expect("left");
    assert_eq!((home.role("zoe"), home.role("bob")), (Some(Role::Owner), Some(Role::Member)));
    assert!(home.write("zoe").is_ok(), "an owner is not muted");
}

#[test]
fn roles_decide_who_may_do_what_to_whom() {
    let mut home = Home::new(&["adam", "abel", "bob", "eve"]);
    for (by, admin) in [("bob", DENIED), ("ada", None), ("adam", DENIED)] {
        assert_eq!(home.code(by, "role", json!({"user": "adam", "role": "admin"})), admin, "{by}");
    }
    home.ask("ada", "role", json!({"user": "abel", "role": "admin"})).expect("promoted");
    for verb in ["remove", "mute", "ban"] {
        let on = |user: &str| json!({"user": user});
        let on = |user: &str| if verb == "mute" { json!({"user": user, "until_ms": 99_999}) } else { on(user) };
        assert_eq!(home.code("bob", verb, on("eve")), DENIED, "a member {verb}s a member");
        assert_eq!(home.code("adam", verb, on("abel")), DENIED, "an admin {verb}s an admin");
        assert_eq!(home.code("adam", verb, on("ada")), DENIED, "an admin {verb}s the owner");
        assert_eq!(home.code("ada", verb, on("ada")), DENIED, "the owner {verb}s itself");
        assert_eq!(home.code("mallory", verb, on("bob")), DENIED, "a stranger {verb}s a member");
    }
    for (verb, body) in [("rename", json!({"name": "x"})), ("settings", json!({"open": true})), ("bans", json!({}))] {
        assert_eq!(home.code("bob", verb, body.clone()), DENIED, "{verb}");
        assert_eq!(home.code("adam", verb, body), None, "{verb}");
    }
    assert_eq!(home.code("ada", "role", json!({"user": "ada", "role": "member"})), Some(Code::FailedPrecondition));
    assert_eq!(home.code("ada", "role", json!({"user": "mallory", "role": "admin"})), Some(Code::NotFound));
    home.ask("ada", "role", json!({"user": "bob", "role": "owner"})).expect("handed over");
    assert_eq!((home.role("ada"), home.role("bob")), (Some(Role::Admin), Some(Role::Owner)));
    assert_eq!(home.code("ada", "role", json!({"user": "bob", "role": "member"})), DENIED);
}

#[test]
fn a_group_is_closed_to_strangers_until_it_is_opened() {
    let mut home = Home::new(&["bob"]);
    let closed = home.ask("eve", "join", json!({})).expect_err("closed");
    assert_eq!((closed.code, closed.retry_ms), (Code::PermissionDenied, None));
    assert_eq!(home.code("eve", "info", json!({})), DENIED);
    assert_eq!(
        home.code("bob", "invite", json!({"users": ["eve"]})),
        DENIED,
        "members of a closed group do not invite"
    );
    let opened = home.ask("ada", "settings", json!({"open": true, "slow_ms": 5_000})).expect("opened");
    assert_eq!(
        told(&opened),
        [json!({"type": "system", "event": "settings", "open": true, "slow_ms": 5_000, "by": "ada"})]
    );
    let info = home.ask("eve", "info", json!({})).expect("open").answer;
    let info: Value = serde_json::from_slice(&info).expect("JSON");
    assert_eq!((&info["name"], &info["members"], info.get("you")), (&json!("Café"), &json!(2), None));
    let joined = home.ask("eve", "join", json!({})).expect("open");
    assert_eq!(joined.notices, [r#"{"type":"system","event":"joined","user":"eve","by":"eve"}"#]);
    assert_eq!(home.ask("eve", "join", json!({})).map(|again| again.changes), Ok(vec![]));
    assert!(home.ask("bob", "invite", json!({"users": ["zoe"]})).is_ok());
    assert_eq!(home.write("eve"), Ok(Permit { role: Some(Role::Member), slow_ms: 5_000 }));
    assert_eq!(home.write("ada"), Ok(Permit { role: Some(Role::Owner), slow_ms: 0 }));
}

#[test]
fn strangers_are_asked_and_only_their_yes_makes_them_members() {
    let mut home = Home { facts: BTreeMap::new(), at_ms: 1_000, head: 0 };
    let users = json!({"name": "us", "users": ["bob", "stranger1"]});
    let made = home.ask("ada", "create", users).expect("made");
    assert_eq!(made.answer, r#"{"topic":"chat/g/1","invited":["stranger1"]}"#);
    assert_eq!((made.joined, made.invited, made.name.as_str()), (names(&["ada", "bob"]), names(&["stranger1"]), "us"));
    assert_eq!(told_event(&made.notices[0], "users"), json!(["bob"]), "nobody hears of the others");
    let users = json!({"users": ["eve", "stranger1", "stranger2"]});
    let invited = home.ask("ada", "invite", users).expect("invited");
    assert_eq!(invited.answer, r#"{"invited":["stranger1","stranger2"]}"#);
    assert_eq!((invited.joined, invited.invited), (names(&["eve"]), names(&["stranger2"])), "one question is enough");
    let stranger = Who { user: "stranger1", guest: false };
    assert!(may_read(&home.facts, &group(), &stranger).is_err() && home.write("stranger1").is_err());
    let page = home.ask("ada", "invitations", json!({})).expect("an admin").answer;
    let page: Value = serde_json::from_slice(&page).expect("JSON");
    assert_eq!(page["invitations"][1], json!({"user": "stranger2", "by": "ada", "at_ms": 1_020}));
    assert_eq!(home.code("bob", "invitations", json!({})), DENIED);

    let joined = home.ask("stranger1", "join", json!({})).expect("asked");
    assert_eq!((told(&joined)[0]["event"].clone(), joined.joined), (json!("joined"), names(&["stranger1"])));
    assert_eq!(home.code("stranger1", "remove", json!({"user": "stranger2"})), DENIED);
    let declined = home.ask("stranger2", "decline", json!({})).expect("asked");
    assert_eq!((declined.uninvited, declined.notices), (names(&["stranger2"]), vec![]));
    assert_eq!(home.code("stranger2", "join", json!({})), DENIED);
    assert_eq!(home.code("stranger2", "decline", json!({})), Some(Code::NotFound));

    home.ask("ada", "invite", json!({"users": ["stranger2", "stranger3", "stranger4"]})).expect("invited");
    let withdrawn = home.ask("ada", "remove", json!({"user": "stranger2"})).expect("taken back");
    assert_eq!((withdrawn.uninvited, withdrawn.left.len()), (names(&["stranger2"]), 0));
    assert_eq!(home.code("stranger2", "join", json!({})), DENIED);
    let banned = home.ask("ada", "ban", json!({"user": "stranger3"})).expect("banned");
    assert_eq!(banned.uninvited, names(&["stranger3"]));
    for user in ["bob", "eve", "stranger1"] {
        home.ask(user, "leave", json!({})).expect("left");
    }
    assert_eq!(home.ask("ada", "leave", json!({})).map(|closed| closed.uninvited), Ok(names(&["stranger4"])));
    assert_eq!(home.facts.len(), 0, "nothing is left");
}

#[test]
fn invitations_without_an_answer_are_so_many() {
    let mut home = Home::new(&[]);
    let users = |first: u32, count: u32| (first..first + count).map(|n| format!("stranger{n}")).collect::<Vec<_>>();
    for first in (0..GROUP_INVITATIONS_MAX).step_by(200) {
        home.ask("ada", "invite", json!({"users": users(first, 200)})).expect("room");
    }
    let more = json!({"users": users(GROUP_INVITATIONS_MAX, 1)});
    assert_eq!(home.code("ada", "invite", more.clone()), Some(Code::ResourceExhausted));
    home.ask("stranger7", "decline", json!({})).expect("asked");
    assert_eq!(home.code("ada", "invite", more), None);
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn told_event(notice: &Bytes, field: &str) -> Value {
    serde_json::from_slice::<Value>(notice).expect("JSON")[field].clone()
}

#[test]
fn a_muted_member_reads_and_cannot_shake_it_off() {
    let mut home = Home::new(&["bob"]);
    home.ask("ada", "settings", json!({"open": true})).expect("opened");
    let until = home.at_ms + 60_000;
    let muted = home.ask("ada", "mute", json!({"user": "bob", "until_ms": until})).expect("muted");
    assert_eq!(told(&muted)[0]["event"], "muted");
    assert_eq!(home.ask("ada", "mute", json!({"user": "bob", "until_ms": until})).map(|same| same.notices), Ok(vec![]));
    let refusal = home.write("bob").expect_err("muted");
    assert_eq!((refusal.message.as_ref(), refusal.retry_ms), ("you are muted", Some(59_980)));
    assert_eq!(may_read(&home.facts, &group(), &Who { user: "bob", guest: false }), Ok(()));
    home.ask("bob", "leave", json!({})).expect("left");
    assert_eq!(home.ask("bob", "join", json!({})).map_err(|refusal| refusal.retry_ms), Err(Some(59_960)));
    home.at_ms = until;
    home.ask("bob", "join", json!({})).expect("it is over");
    assert!(home.write("bob").is_ok());
    assert_eq!(home.facts.len(), 3, "the group and two members, no ban");
    home.ask("ada", "mute", json!({"user": "bob", "until_ms": u64::MAX})).expect("muted");
    assert_eq!(home.write("bob").map_err(|refusal| refusal.retry_ms), Err(Some(u32::MAX)));
    home.ask("ada", "mute", json!({"user": "bob"})).expect("unmuted");
    assert!(home.write("bob").is_ok());
}

#[test]
fn a_banned_user_stays_out_until_the_ban_ends() {
    let mut home = Home::new(&["bob"]);
    home.ask("ada", "settings", json!({"open": true})).expect("opened");
    let until = home.at_ms + 1_000;
    let banned = home.ask("ada", "ban", json!({"user": "bob", "until_ms": until})).expect("banned");
    assert_eq!((told(&banned)[0]["event"].as_str(), &banned.left[..]), (Some("banned"), &["bob".to_owned()][..]));
    assert_eq!(home.write("bob").map_err(|why| why.message), Err("you are banned".into()));
    assert_eq!(home.code("bob", "join", json!({})), DENIED);
    assert_eq!(home.code("ada", "invite", json!({"users": ["bob"]})), Some(Code::FailedPrecondition));
    let list: Value =
        serde_json::from_slice(&home.ask("ada", "bans", json!({})).expect("a list").answer).expect("JSON");
    assert_eq!((&list["bans"][0]["user"], &list["bans"][0]["by"]), (&json!("bob"), &json!("ada")));
    home.at_ms = until;
    home.ask("bob", "join", json!({})).expect("it is over");
    home.ask("ada", "ban", json!({"user": "bob"})).expect("for good");
    home.ask("ada", "unban", json!({"user": "bob"})).expect("unbanned");
    assert_eq!(home.ask("ada", "unban", json!({"user": "bob"})).map(|again| again.notices), Ok(vec![]));
    home.ask("ada", "invite", json!({"users": ["bob"]})).expect("welcome back");
    let over = home.at_ms;
    assert_eq!(home.code("ada", "ban", json!({"user": "bob", "until_ms": over})), Some(Code::InvalidArgument));
}

#[test]
fn guests_and_strange_names_have_no_groups() {
    let mut home = Home::new(&[]);
    let double = Who { user: "ada", guest: true };
    let call = Call { who: double, at_ms: 0, head: 0, is_account: &|_| true, knows: &|_| true };
    assert!(decide(&home.facts, &group(), &call, &Op::Info).is_err(), "a guest that is called like a member is not it");
    home.ask("ada", "settings", json!({"open": true})).expect("opened");
    assert_eq!(home.code("guest-1", "create", json!({"name": "x"})), DENIED);
    assert_eq!(home.code("guest-1", "join", json!({})), DENIED);
    assert_eq!(home.code("ada", "invite", json!({"users": ["guest-1"]})), Some(Code::NotFound));
    assert_eq!(home.code("ada", "invite", json!({"users": ["a/m/b"]})), Some(Code::InvalidArgument));
    assert_eq!(home.code("a/b", "join", json!({})), DENIED);
    assert!(may_read(&home.facts, &group(), &double).is_err() && may_write(&home.facts, &group(), &double, 0).is_err());
    let pair = Conversation::direct("ada", "bob").expect("a pair");
    assert!(may_read(&home.facts, &pair, &double).is_err());
    for (user, may) in [("ada", true), ("bob", true), ("eve", false)] {
        let who = Who { user, guest: false };
        assert_eq!(may_read(&home.facts, &pair, &who).is_ok(), may, "{user}");
        assert_eq!(may_write(&home.facts, &pair, &who, 0).is_ok(), may, "{user}");
    }
    for topic in ["chat/world", "chat/lobby"] {
        let on = Conversation::parse(topic).expect("a conversation");
        assert_eq!(may_write(&home.facts, &on, &double, 0), Ok(Permit::default()), "{topic}");
        assert!(may_read(&home.facts, &on, &Who { user: "a/b", guest: false }).is_ok(), "{topic}");
    }
}

#[test]
fn members_come_in_pages_that_fit_a_frame() {
    let mut home = Home::new(&[]);
    let name = |n: u32| format!("{n:03}{}", "𠀀".repeat(61));
    for first in [0, 100, 200] {
        let users: Vec<String> = (first..first + 100).map(name).collect();
        home.ask("ada", "invite", json!({"users": users})).expect("invited");
    }
    let (mut after, mut seen, mut pages) = (None::<String>, Vec::new(), 0);
    loop {
        let answer = home.ask("ada", "members", json!({"after": after, "limit": 200})).expect("a page").answer;
        assert!(answer.len() <= topic::BODY_BYTES_MAX, "{} bytes", answer.len());
        let page: Value = serde_json::from_slice(&answer).expect("JSON");
        let users = page["members"].as_array().expect("a list").iter();
        seen.extend(users.map(|line| line["user"].as_str().expect("a name").to_owned()));
        after = seen.last().cloned();
        pages += 1;
        if page["more"] == json!(false) {
            break;
        }
    }
    assert_eq!((seen.len(), pages), (301, 3));
    assert!(seen.is_sorted());
    for limit in [0, 201] {
        assert_eq!(home.code("ada", "members", json!({"limit": limit})), Some(Code::InvalidArgument));
    }
}

#[test]
fn a_group_has_limits() {
    let mut home = Home::new(&[]);
    let users = |n: usize| (0..n).map(|n| format!("u{n}")).collect::<Vec<_>>();
    assert_eq!(home.code("ada", "invite", json!({"users": users(201)})), Some(Code::InvalidArgument));
    for first in 0..GROUP_MEMBERS_MAX / 200 {
        let users: Vec<String> = (0..200).map(|n| format!("u{first}-{n}")).collect();
        let full = home.code("ada", "invite", json!({"users": users}));
        assert_eq!(full, (first == GROUP_MEMBERS_MAX / 200 - 1).then_some(Code::ResourceExhausted), "{first}");
    }
    for n in 0..199 {
        home.ask("ada", "invite", json!({"users": [format!("x{n}")]})).expect("room");
    }
    assert_eq!(home.code("ada", "invite", json!({"users": ["last"]})), Some(Code::ResourceExhausted));
    let ends = home.at_ms + 1_000_000;
    for n in 0..GROUP_BANS_MAX {
        let until = (n % 2 == 0).then_some(ends);
        home.ask("ada", "ban", json!({"user": format!("b{n}"), "until_ms": until})).expect("room");
    }
    assert_eq!(home.code("ada", "ban", json!({"user": "last"})), Some(Code::ResourceExhausted));
    home.at_ms = ends;
    let swept = home.ask("ada", "ban", json!({"user": "last"})).expect("those that ended make room");
    assert_eq!(swept.changes.len(), GROUP_BANS_MAX as usize / 2 + 2);
    assert_eq!(home.ask("ada", "leave", json!({})).map(|left| left.changes.len()), Ok(3), "no scan of bans");
}

#[test]
fn a_broken_fact_is_not_taken_for_no_fact() {
    let mut home = Home::new(&["bob"]);
    apply(&mut home.facts, &[Change { key: "g/1/m/bob".into(), value: Some(Bytes::from_static(b"{")) }]);
    assert_eq!(home.code("bob", "join", json!({})), Some(Code::Internal));
    assert_eq!(home.write("bob").map_err(|why| why.code), Err(Code::Internal));
}

#[test]
fn operations_are_read_strictly() {
    let read = |op: &str, body: &str| Ask::read(op, body.as_bytes());
    assert!(read("chat.history", "{}").is_none() && read("contact.list", "{}").is_none());
    let role = read("chat.role", r#"{"topic":"chat/g/1","user":"bob","role":"admin"}"#);
    let op = Op::Role { user: "bob".into(), role: Role::Admin };
    assert_eq!(role, Some(Ok(Ask { on: Some(group()), op })));
    for (op, body) in [
        ("chat.join", "{}"),
        ("chat.join", r#"{"topic":"chat/g/A"}"#),
        ("chat.join", r#"{"topic":"chat/g/1","user":"bob"}"#),
        ("chat.create", r#"{"topic":"chat/g/1","name":"x"}"#),
        ("chat.role", r#"{"topic":"chat/g/1","user":"bob","role":"king"}"#),
        ("chat.mute", r#"{"topic":"chat/g/1","user":"bob","until_ms":-1}"#),
    ] {
        let refused = read(op, body).expect("an operation").expect_err("refused");
        assert_eq!(refused.code, Code::InvalidArgument, "{op} {body}");
    }
}
