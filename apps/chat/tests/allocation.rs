//! Checking a message costs no allocation, nor does looking for words in a text that has none.

use std::{alloc::System, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use chat::{Chat, Settings, Verdict, WordList, rate::Rates};
use handler::{App, Cx, Map, Message, Out, Peer, PeerInfo, ShardId};
use rand::{SeedableRng, rngs::StdRng};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use topic::Limits;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test in this file: the counter counts the whole process.
#[test]
fn a_text_is_checked_without_an_allocation() {
    let (peer, map) = (Peer { index: 0, generation: 1 }, Map::even(1));
    let info = PeerInfo { user: "ada".into(), device: "laptop".into(), guest: false };
    let mut chat =
        Chat::new(Limits::default(), Settings { rates: Rates::OFF, ..Settings::default() }, Arc::default(), 1);
    let (mut out, mut rng, mut arena) = (Out::default(), StdRng::seed_from_u64(1), BytesMut::with_capacity(1 << 20));
    let mut say = |body: &[u8]| {
        let (now, shard) = (Instant::now(), ShardId(0));
        let mut cx = Cx { now, wall_ms: 0, shard, rng: &mut rng, map: &map, arena: &mut arena, out: &mut out };
        if body.is_empty() {
            chat.on_open(&mut cx, peer, &info);
        } else {
            chat.on_message(&mut cx, peer, Message::Pub { id: 1, topic: "chat/lobby", seq: Some(1), body });
        }
        assert!(body.is_empty() || matches!(out.effects[..], [handler::Effect::Mail { .. }]));
        out.effects.clear();
    };
    let body = Bytes::from_static(br#"{"type":"text","text":"a \"quote\", a line\n and \ud83d\ude00"}"#);
    let answer = Bytes::from_static(br#"{"type":"text","text":"yes","reply_to":7,"client_id":"0190-a.b"}"#);
    say(b"");
    say(&body);
    say(&answer);
    let region = Region::new(ALLOCATOR);
    for _ in 0..1_000 {
        say(&body);
        say(&answer);
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{change:?}");

    let list = WordList::parse("abc\n国人\treject").expect("a list");
    let region = Region::new(ALLOCATOR);
    for text in ["plain, or É with a mark e\u{301}", "全角ＡＢ、ｶﾞ and \u{1f600}", "abcd 中国的人", ""] {
        assert_eq!(list.check(text), Verdict::Clean);
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{change:?}");
}
