//! A program says something to groups and users but for some, over three shards.

use std::collections::BTreeMap;

use handler::Code;
use serde_json::{Value, json};

use crate::world::World;

const USERS: [&str; 5] = ["ada", "bob", "eve", "mia", "tom"];

struct Office {
    world: World,
    people: BTreeMap<&'static str, usize>,
    groups: Vec<String>,
}

impl Office {
    /// Everybody listens to the own topic and to the groups; of the first one all but tom are members, of the second one
    /// ada, mia and tom.
    fn open(seed: u64) -> Self {
        let mut world = World::new(seed, seed.is_multiple_of(2), &USERS);
        let people: BTreeMap<_, _> = USERS.iter().map(|user| (*user, world.enter(user))).collect();
        let mut groups = Vec::new();
        for users in [json!(["bob", "eve", "mia"]), json!(["mia", "tom"])] {
            let made = world.ask(people["ada"], "chat.create", json!({"name": "us", "users": users})).expect("made");
            for user in made["invited"].as_array().expect("a list").iter().filter_map(Value::as_str) {
                world.ask(people[user], "chat.join", json!({"topic": made["topic"]})).expect("asked");
            }
            groups.push(made["topic"].as_str().expect("a topic").to_owned());
        }
        for (user, person) in &people {
            world.subscribe(*person, &format!("chat/u/{user}"), None).expect("the own one");
            groups.iter().for_each(|group| _ = world.subscribe(*person, group, None));
        }
        let mut office = Self { world, people, groups };
        office.heard();
        office
    }

    fn push(&mut self, target: Value) -> Result<Value, Code> {
        let body = json!({"target": target, "body": {"type": "text", "text": "news"}});
        self.world.ask(self.people["ada"], "chat.push", body).map(|answer| answer["results"].clone())
    }

    /// Where each user has heard the news.
    fn heard(&mut self) -> BTreeMap<&'static str, Vec<String>> {
        let mut all = BTreeMap::new();
        for (user, person) in &self.people {
            let mut topics: Vec<String> = self
                .world
                .heard(*person)
                .into_iter()
                .filter(|heard| heard.3["text"] == "news")
                .map(|heard| heard.0)
                .collect();
            topics.sort();
            all.insert(*user, topics);
        }
        all
    }

    fn history(&mut self, user: &str, topic: &str) -> usize {
        let page = self.world.ask(self.people[user], "chat.history", json!({"topic": topic})).expect("a page");
        page["messages"].as_array().expect("a list").iter().filter(|message| message["body"]["text"] == "news").count()
    }
}

#[test]
fn a_group_without_exceptions_is_told_in_its_topic() {
    for seed in 0..6 {
        let mut office = Office::open(seed);
        let group = office.groups[0].clone();
        let mut target = json!({"groups": [group], "users": ["tom"]});
        assert_eq!(
            office.push(target.take()),
            Ok(json!([{"target": group, "ok": true}, {"target": "tom", "ok": true}]))
        );
        let heard = office.heard();
        for user in ["ada", "bob", "eve", "mia"] {
            assert_eq!(heard[user], [group.as_str()], "seed {seed}: {user}");
        }
        assert_eq!(heard["tom"], ["chat/u/tom"], "seed {seed}");
        assert_eq!(office.push(json!({"group": group})), Ok(json!([{"target": group, "ok": true}])), "seed {seed}");
    }
}

#[test]
fn who_is_excepted_finds_it_nowhere_and_everybody_else_once() {
    for seed in 0..10 {
        let mut office = Office::open(seed);
        let groups = office.groups.clone();
        let results = office.push(json!({"groups": groups, "users": ["bob", "tom"], "except": ["eve", "ada"]}));
        let mut targets: Vec<String> = groups.iter().cloned().chain(["bob", "tom"].map(str::to_owned)).collect();
        targets.sort();
        let expected = targets.into_iter().map(|target| json!({"target": target, "ok": true})).collect();
        assert_eq!(results, Ok(Value::Array(expected)), "seed {seed}");
        let heard = office.heard();
        for user in ["bob", "mia", "tom"] {
            assert_eq!(heard[user], [format!("chat/u/{user}")], "seed {seed}: {user}, once");
        }
        assert_eq!((heard["ada"].len(), heard["eve"].len()), (0, 0), "seed {seed}");
        assert_eq!(office.history("eve", &groups[0]), 0, "seed {seed}: not in the group's history either");
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_what_is_not_there_is_said() {
    let mut office = Office::open(3);
    let many: Vec<String> = (0..21).map(|n| format!("chat/g/{n}")).collect();
    let users: Vec<String> = (0..201).map(|n| format!("user-{n}")).collect();
    for bad in [
        json!({}),
        json!({"all": true, "except": ["ada"]}),
        json!({"all": true, "users": ["ada"]}),
        json!({"except": ["ada"]}),
        json!({"groups": many}),
        json!({"users": users}),
        json!({"users": ["ada"], "except": users}),
    ] {
        assert_eq!(office.push(bad.clone()), Err(Code::InvalidArgument), "{bad}");
    }
    let results = office.push(json!({"groups": ["chat/g/nobody", "chat/lobby"], "users": ["zoe"], "except": ["ada"]}));
    let expected = json!([
        {"target": "chat/g/nobody", "ok": false, "code": "not_found"},
        {"target": "chat/lobby", "ok": false, "code": "invalid_argument"},
        {"target": "zoe", "ok": false, "code": "not_found"},
    ]);
    assert_eq!(results, Ok(expected));
}
