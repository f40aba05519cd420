//! What happens at every limit: the client is told, others notice nothing, memory stays bounded.

use std::time::Duration;

use handler::{Code, Message, Pressure, Push};
use topic::{BODY_BYTES_MAX, EPHEMERAL_BYTES_MAX, KEY_BYTES_MAX, Limits, TOPIC_BYTES_MAX, Watermark};

use crate::{client::Ask, world::World};

fn sub(world: &mut World, device: usize, topic: &str) {
    world.ask(device, Ask::Sub { topic: topic.to_owned(), epoch: None, after: None, bogus: false });
}

/// The answers to what a device says, unchecked.
fn hear(world: &mut World, device: usize, message: Message<'_>) -> Vec<Push> {
    world.say(device, message);
    while world.deliver() {}
    world.devices[device].line.as_mut().expect("connected").inbox.drain(..).collect()
}

fn code(pushes: &[Push]) -> Option<Code> {
    match pushes {
        [Push::Err { code, .. }] => Some(*code),
        _ => None,
    }
}

fn one(limits: Limits) -> World {
    let mut world = World::new(1, 2, limits);
    let ada = world.add_device("ada", "laptop");
    world.connect(ada, 0, false);
    world
}

#[test]
fn what_is_too_long_is_refused() {
    let mut world = one(Limits::default());
    let (long_topic, long_body) = ("x".repeat(TOPIC_BYTES_MAX + 1), vec![b' '; BODY_BYTES_MAX + 1]);
    let (id, seq, epoch, after) = (1, None, None, None);
    for topic in ["", &long_topic] {
        let answers = [
            hear(&mut world, 0, Message::Sub { id, topic, epoch, after }),
            hear(&mut world, 0, Message::Pub { id, topic, seq, body: b"{}" }),
        ];
        assert!(answers.iter().all(|answer| code(answer) == Some(Code::InvalidArgument)));
    }
    let topic = &long_topic[1..];
    assert_eq!(
        code(&hear(&mut world, 0, Message::Pub { id, topic, seq, body: &long_body })),
        Some(Code::InvalidArgument)
    );
    let answer = hear(&mut world, 0, Message::Pub { id, topic, seq, body: &long_body[1..] });
    assert!(matches!(&answer[..], [Push::PubOk { offset: 1, .. }]));
    assert_eq!(code(&hear(&mut world, 0, Message::Unsub { id, topic })), Some(Code::NotFound));
    let eph = |key, body| Message::Eph { topic, key, body };
    assert_eq!(code(&hear(&mut world, 0, eph("cursor", b"{}"))), Some(Code::FailedPrecondition));
    hear(&mut world, 0, Message::Sub { id, topic, epoch, after });
    let long_key = "k".repeat(KEY_BYTES_MAX + 1);
    assert_eq!(code(&hear(&mut world, 0, eph(&long_key, b"{}"))), Some(Code::InvalidArgument));
    assert_eq!(code(&hear(&mut world, 0, eph("", b"{}"))), Some(Code::InvalidArgument));
    let long = &long_body[..=EPHEMERAL_BYTES_MAX];
    assert_eq!(code(&hear(&mut world, 0, eph("cursor", long))), Some(Code::InvalidArgument));
    assert!(hear(&mut world, 0, eph("cursor", b"{}")).is_empty(), "its own value comes back to nobody");
}

#[test]
fn subscriptions_are_counted_and_can_be_given_back() {
    let mut world = one(Limits { subs_max: 2, listening_max: 3, ..Limits::default() });
    let bob = world.add_device("bob", "phone");
    world.connect(bob, 0, false);
    let (epoch, after) = (None, None);
    let ask = |world: &mut World, device, topic| hear(world, device, Message::Sub { id: 1, topic, epoch, after });
    assert!(matches!(ask(&mut world, 0, "a")[0], Push::SubOk { .. }));
    assert!(matches!(ask(&mut world, 0, "b")[0], Push::SubOk { .. }));
    assert_eq!(code(&ask(&mut world, 0, "c")), Some(Code::ResourceExhausted), "too many of one peer");
    assert_eq!(code(&ask(&mut world, 0, "a")), Some(Code::AlreadyExists));
    assert!(matches!(ask(&mut world, bob, "c")[0], Push::SubOk { .. }));
    assert_eq!(code(&ask(&mut world, bob, "d")), Some(Code::ResourceExhausted), "too many of one shard");
    assert!(matches!(hear(&mut world, 0, Message::Unsub { id: 2, topic: "b" })[..], [Push::UnsubOk { .. }]));
    assert!(matches!(ask(&mut world, bob, "d")[0], Push::SubOk { .. }));
}

#[test]
fn a_full_home_forgets_topics_that_nobody_hears_and_refuses_only_then() {
    let limits = Limits { topics_max: 4, ..Limits::default() };
    let mut world = World::new(1, 1, limits);
    let ada = world.add_device("ada", "laptop");
    world.connect(ada, 0, false);
    let publish =
        |world: &mut World, topic: &str| hear(world, ada, Message::Pub { id: 1, topic, seq: None, body: b"{}" });
    for n in 0..100 {
        assert!(matches!(publish(&mut world, &format!("room-{n}"))[..], [Push::PubOk { offset: 1, .. }]));
        // The one that is used stays.
        let answer = publish(&mut world, "used");
        assert!(matches!(answer[..], [Push::PubOk { offset, .. }] if offset == n + 1), "{answer:?}");
        world.check_bounds();
    }
    assert_eq!(world.topics(0).stats().evicted, 101 - 4);
    for n in 0..4 {
        let topic = &format!("heard-{n}");
        let answer = hear(&mut world, ada, Message::Sub { id: 1, topic, epoch: None, after: None });
        assert!(matches!(answer[0], Push::SubOk { .. }));
    }
    let answers = [
        publish(&mut world, "one-more"),
        hear(&mut world, ada, Message::Sub { id: 1, topic: "one-more", epoch: None, after: None }),
    ];
    for answer in answers {
        assert!(
            matches!(answer[..], [Push::Err { code: Code::ResourceExhausted, retry_ms: Some(_), .. }]),
            "{answer:?}"
        );
    }
    let size = world.topics(0).size();
    assert_eq!((size.topics, size.listening, size.pending), (4, 4, 0), "{size:?}");
}

#[test]
fn histories_share_what_there_is() {
    let limits = Limits { history_total_bytes_max: 1 << 20, ..Limits::default() };
    let mut world = World::new(1, 1, limits);
    let ada = world.add_device("ada", "laptop");
    world.connect(ada, 0, false);
    let mut refused = 0;
    for n in 0..200 {
        let topic = &format!("room-{n}");
        hear(&mut world, ada, Message::Sub { id: 1, topic, epoch: None, after: None });
        for _ in 0..10 {
            let answer = hear(&mut world, ada, Message::Pub { id: 1, topic, seq: None, body: &[b' '; 10_000] });
            refused +=
                u32::from(answer.iter().any(|push| matches!(push, Push::Err { code: Code::ResourceExhausted, .. })));
        }
        world.check_bounds();
    }
    let size = world.topics(0).size();
    assert!(size.history_bytes > 1 << 19, "most of it is used: {size:?}");
    assert!(refused > 0, "what cannot be kept is not acknowledged");
    world.disconnect(ada);
    world.settle();
    world.connect(ada, 0, false);
    let answer = hear(&mut world, ada, Message::Pub { id: 1, topic: "new", seq: None, body: &[b' '; 10_000] });
    assert!(matches!(answer[..], [Push::PubOk { .. }]), "rooms that nobody hears make room: {answer:?}");
    world.check_bounds();
}

#[test]
fn presence_comes_in_one_word_per_window() {
    let mut world = World::new(1, 2, Limits::default());
    for n in 0..20 {
        let device = world.add_device(&format!("user-{n}"), "laptop");
        world.connect(device, device % 2, false);
        sub(&mut world, device, "chat/lobby");
    }
    while world.deliver() {}
    let presences = |world: &World, device: usize| {
        let line = world.devices[device].line.as_ref().expect("connected");
        line.inbox.iter().filter(|push| matches!(push, Push::Presence { .. })).count()
    };
    assert!((0..20).all(|device| presences(&world, device) == 1), "the roster for the newcomer");
    for _ in 0..4 {
        world.pass(Duration::from_millis(250));
        while world.deliver() {}
    }
    assert!((0..20).all(|device| presences(&world, device) == 2), "and one word about all who came");
    let line = world.devices[3].line.as_ref().expect("connected");
    let Some(Push::Presence { joined, count: 20, .. }) = line.inbox.back() else { panic!("{:?}", line.inbox.back()) };
    assert_eq!(joined.len(), 20);
    world.settle();
    world.check_rest();
}

#[test]
fn watermarks_are_kept_at_home() {
    let mut world = one(Limits::default());
    let home = world.home("chat/lobby");
    sub(&mut world, 0, "chat/lobby");
    world.ask(0, Ask::Pub { topic: "chat/lobby".to_owned(), seq: None });
    world.settle();
    world.say(0, Message::Ack { topic: "chat/lobby", delivered: 1, read: 0 });
    world.say(0, Message::Ack { topic: "chat/lobby", delivered: 0, read: 0 });
    world.say(0, Message::Ack { topic: "chat/other", delivered: 1, read: 1 });
    world.settle();
    assert_eq!(world.topics(home).watermark("chat/lobby", "ada"), Some(Watermark { delivered: 1, read: 0 }));
    assert_eq!(world.topics(home).watermark("chat/lobby", "bob"), None);
}

#[test]
fn an_alias_means_a_topic_only_to_its_subscribers() {
    let mut world = one(Limits::default());
    let bob = world.add_device("bob", "phone");
    world.connect(bob, 0, false);
    sub(&mut world, 0, "chat/lobby");
    world.settle();
    let line = world.devices[0].line.as_ref().expect("connected");
    let (peer, alias) = (line.peer, line.subs["chat/lobby"].alias);
    let stranger = world.devices[bob].line.as_ref().expect("connected").peer;
    assert_eq!(world.topics(0).topic_of(peer, alias).as_deref(), Some("chat/lobby"));
    assert_eq!(world.topics(0).topic_of(stranger, alias), None);
    assert_eq!(world.topics(0).topic_of(peer, 0), None);
    assert_eq!(world.topics(0).topic_of(peer, u32::MAX), None);
}

#[test]
fn a_stalled_reader_costs_nothing_and_the_others_do_not_notice() {
    let mut world = World::new(1, 2, Limits::default());
    for (user, shard) in [("ada", 0), ("bob", 0), ("cy", 1), ("dee", 1)] {
        let device = world.add_device(user, "laptop");
        world.connect(device, shard, false);
        sub(&mut world, device, "chat/lobby");
    }
    let (stalled, publisher) = (1, 3);
    for _ in 0..1_500 {
        world.ask(publisher, Ask::Pub { topic: "chat/lobby".to_owned(), seq: Some(100) });
        world.ask(publisher, Ask::Pub { topic: "chat/lobby".to_owned(), seq: None });
        while world.deliver() {}
        for device in [0, 2, 3] {
            world.read(device, usize::MAX);
        }
    }
    assert_eq!((world.laggings, world.drops), (1, 1), "one word, then nothing is even tried");
    assert!(world.devices[stalled].line.as_ref().is_some_and(|line| line.queued < 50_000));
    // Reading a little does not make it read more than once what it asked for.
    world.pass(Duration::from_secs(1));
    world.settle();
    world.check_rest();
    let line = world.devices[stalled].line.as_ref().expect("connected");
    assert_eq!(line.gaps, 1, "it was away for longer than the history");
    let replayed: u64 = (0..2).map(|shard| world.topics(shard).stats().replayed).sum();
    assert!(replayed <= 1_000 + world.drops, "{replayed} pushes for a history of 1000");
    // The repeated publication was new twice: at first, and when the history no longer held it.
    assert_eq!((0..2).map(|shard| world.topics(shard).stats().repeated).sum::<u64>(), 1_500 - 2);
    assert!([0, 2, 3].iter().all(|device| world.devices[*device].line.as_ref().is_some_and(|line| line.gaps == 0)));
}

#[test]
fn a_subscription_while_its_peer_lags_waits_for_the_queue() {
    let mut world = World::new(1, 1, Limits::default());
    let (ada, bob) = (world.add_device("ada", "laptop"), world.add_device("bob", "laptop"));
    world.connect(ada, 0, false);
    world.connect(bob, 0, false);
    for _ in 0..10 {
        world.ask(bob, Ask::Pub { topic: "chat/old".to_owned(), seq: None });
    }
    sub(&mut world, ada, "chat/lobby");
    world.settle();
    for _ in 0..1_000 {
        world.ask(bob, Ask::Pub { topic: "chat/lobby".to_owned(), seq: None });
    }
    while world.deliver() {}
    let drops = world.drops;
    assert!(drops > 0);
    world.ask(ada, Ask::Sub { topic: "chat/old".to_owned(), epoch: None, after: Some(0), bogus: false });
    assert_eq!(std::iter::from_fn(|| world.deliver().then_some(())).count(), 3, "asked, answered, roster, no pull");
    assert_eq!((world.drops, world.topics(0).stats().replayed), (drops, 0));
    world.pass(Duration::from_secs(1));
    world.settle();
    world.check_rest();
}

#[test]
fn a_peer_pulls_once_at_a_time_and_not_while_it_lags() {
    let mut world = one(Limits::default());
    let topic = "chat/old".to_owned();
    for _ in 0..10 {
        world.ask(0, Ask::Pub { topic: topic.clone(), seq: None });
    }
    world.settle();
    world.ask(0, Ask::Sub { topic: topic.clone(), epoch: None, after: Some(0), bogus: false });
    while world.devices[0].line.as_ref().is_some_and(|line| line.inbox.is_empty()) {
        world.deliver();
    }
    world.read(0, 1);
    let alias = world.devices[0].line.as_ref().expect("connected").subs[&topic].alias;
    // The chunk is on its way when the queue fills.
    world.press(0, Pressure::Lagging { alias, offset: None });
    while world.deliver() {}
    assert_eq!(world.topics(0).stats().replayed, 0, "a chunk for a full queue is not even tried");
    world.press(0, Pressure::Drained);
    world.press(0, Pressure::Lagging { alias, offset: None });
    world.press(0, Pressure::Drained);
    assert_eq!(world.letters(), 1, "one pull is on its way already");
    world.pass(Duration::from_secs(1));
    world.settle();
    world.check_rest();
    assert_eq!(world.topics(0).stats().replayed, 10);
}
