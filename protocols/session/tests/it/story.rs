//! Stories of sessions: what the state machine allows, refuses and does when nobody speaks.

use std::time::{Duration, Instant};

use session::{
    Action, Client, Code, Codec, Credential, Hello, Limits, REFUSALS_MAX, Refusal, Session, Subscription, Topic,
    decode_client,
};

const LEN: usize = 100;

fn hello() -> Hello<'static> {
    Hello::new(1, Credential::Token("t".into()), "laptop")
}

fn publish(id: u32) -> Client<'static> {
    Client::Pub { id, topic: "chat/lobby".into(), seq: None, body: b"{}" }
}

fn sub(topic: &str) -> Client<'_> {
    Client::Sub { id: 2, topic: topic.into(), epoch: None, after: None }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn open(limits: Limits) -> (Session, Instant) {
    let now = Instant::now();
    let mut session = Session::new(now, limits);
    session.on_client(now, LEN, &Client::Hello(hello())).unwrap();
    assert!(!session.is_open(), "nobody has looked at the token yet");
    session.open(now);
    assert!(session.is_open());
    (session, now)
}

fn code(refusal: Result<(), Refusal>) -> Option<(Code, bool)> {
    refusal.err().map(|refusal| (refusal.code, refusal.fatal))
}

#[test]
fn nobody_speaks_before_a_hello() {
    //= SPEC.md#4.1
    let now = Instant::now();
    let mut session = Session::new(now, Limits::default());
    assert_eq!(session.on_client(now, LEN, &Client::Ping { id: 1 }), Ok(()));
    assert_eq!(code(session.on_client(now, LEN, &publish(2))), Some((Code::Unauthenticated, true)));
}

#[test]
fn who_says_nothing_or_too_much_before_a_hello_is_sent_away() {
    //= SPEC.md#4.2
    let now = Instant::now();
    let mut session = Session::new(now, Limits::default());
    for _ in 0..10 {
        assert_eq!(session.on_client(now, 1, &Client::Ping { id: 1 }), Ok(()));
    }
    let too_much = Some((Code::ResourceExhausted, true));
    assert_eq!(code(session.on_client(now, 1, &Client::Ping { id: 1 })), too_much);

    let mut session = Session::new(now, Limits::default());
    assert_eq!(code(session.on_client(now, 4097, &Client::Hello(hello()))), too_much);

    // A ping is no hello: the time does not start again.
    let mut session = Session::new(now, Limits::default());
    assert_eq!(session.on_client(now + secs(9), 1, &Client::Ping { id: 1 }), Ok(()));
    assert_eq!(session.deadline(), Some(now + secs(10)));
    assert_eq!(session.handle_timeout(now + secs(9)), None);
    assert_eq!(session.handle_timeout(now + secs(10)), Some(Action::Close { reason: "no hello in time" }));
    assert_eq!(session.deadline(), None);
}

#[test]
fn a_client_of_another_time_is_told_so() {
    //= SPEC.md#4.3
    let now = Instant::now();
    for (min, max, fits) in [(1, 1, true), (0, 9, true), (2, 3, false), (0, 0, false), (3, 1, false)] {
        let mut session = Session::new(now, Limits::default());
        let hello = Hello { version_min: min, version_max: max, ..hello() };
        let refused = code(session.on_client(now, LEN, &Client::Hello(hello)));
        assert_eq!(refused, (!fits).then_some((Code::FailedPrecondition, true)), "{min}..={max}");
    }
}

#[test]
fn a_bad_hello_ends_the_connection() {
    let now = Instant::now();
    let topic = |topic: &'static str| Subscription { topic: topic.into(), epoch: None, after: None };
    let many = vec![topic("chat/lobby"); 257];
    for (hello, expected) in [
        (Hello { device: "".into(), ..hello() }, Code::InvalidArgument),
        (Hello { device: "a\nb".into(), ..hello() }, Code::InvalidArgument),
        (Hello { subs: vec![topic("lobby")], ..hello() }, Code::InvalidArgument),
        (Hello { subs: many, ..hello() }, Code::ResourceExhausted),
    ] {
        let mut session = Session::new(now, Limits::default());
        assert_eq!(code(session.on_client(now, LEN, &Client::Hello(hello))), Some((expected, true)));
    }
    // The ticket of a resumed session says which device it is.
    let credential = Credential::Resume { session: "s".into(), ticket: "t".into() };
    let mut session = Session::new(now, Limits::default());
    assert_eq!(session.on_client(now, LEN, &Client::Hello(Hello::new(1, credential, ""))), Ok(()));
}

#[test]
fn one_hello_is_enough() {
    //= SPEC.md#4.4
    let (mut session, now) = open(Limits::default());
    let again = session.on_client(now, LEN, &Client::Hello(hello()));
    assert_eq!(code(again), Some((Code::FailedPrecondition, false)));
    assert_eq!(session.on_client(now, LEN, &publish(2)), Ok(()));
}

#[test]
fn who_sends_too_fast_is_told_when_to_go_on() {
    //= SPEC.md#4.6
    let (mut session, now) = open(Limits { messages_per_sec: 3, ..Limits::default() });
    let eph = Client::Eph { topic: "chat/lobby".into(), key: "typing".into(), body: b"{}" };
    for _ in 0..100 {
        assert_eq!(session.on_client(now, LEN, &eph), Ok(()));
    }
    let refusal = session.on_client(now, LEN, &eph).unwrap_err();
    assert_eq!((refusal.code, refusal.retry_ms, refusal.fatal), (Code::ResourceExhausted, Some(334), false));
    assert_eq!(session.on_client(now + Duration::from_millis(334), LEN, &eph), Ok(()));
}

#[test]
fn unanswered_requests_are_bounded() {
    //= SPEC.md#4.7
    let (mut session, now) = open(Limits::default());
    for id in 1..=64 {
        assert_eq!(session.on_client(now, LEN, &publish(id)), Ok(()));
    }
    assert_eq!(code(session.on_client(now, LEN, &publish(65))), Some((Code::ResourceExhausted, false)));
    assert_eq!(session.on_client(now, LEN, &Client::Ping { id: 66 }), Ok(()), "a ping waits for nobody");
    session.on_answered();
    assert_eq!(session.on_client(now, LEN, &publish(67)), Ok(()));
    assert!(session.on_client(now, LEN, &publish(68)).is_err());
    for _ in 0..1000 {
        session.on_answered();
    }
}

#[test]
fn who_never_listens_is_sent_away() {
    //= SPEC.md#4.8
    let (mut session, now) = open(Limits::default());
    for id in 1..=64 {
        assert_eq!(session.on_client(now, LEN, &publish(id)), Ok(()));
    }
    let answers: Vec<_> = (0..REFUSALS_MAX).filter_map(|_| code(session.on_client(now, LEN, &publish(9)))).collect();
    let (last, rest) = answers.split_last().unwrap();
    assert!(rest.len() == 999 && rest.iter().all(|refusal| *refusal == (Code::ResourceExhausted, false)));
    assert_eq!(*last, (Code::ResourceExhausted, true));
}

#[test]
fn silence_is_asked_about_and_then_ended() {
    //= SPEC.md#4.9
    let (mut session, now) = open(Limits::default());
    assert_eq!(session.deadline(), Some(now + secs(25)));
    assert_eq!(session.handle_timeout(now + secs(24)), None);
    assert_eq!(session.handle_timeout(now + secs(25)), Some(Action::Ping));
    assert_eq!(session.deadline(), Some(now + secs(50)));
    session.on_traffic(now + secs(30));
    assert_eq!(session.deadline(), Some(now + secs(55)));
    assert_eq!(session.handle_timeout(now + secs(55)), Some(Action::Ping));
    assert_eq!(session.handle_timeout(now + secs(80)), Some(Action::Ping));
    assert_eq!(session.deadline(), Some(now + secs(90)));
    let silent = Some(Action::Close { reason: "the client was silent for too long" });
    assert_eq!(session.handle_timeout(now + secs(90)), silent);
    assert_eq!(session.handle_timeout(now + secs(900)), None);
    assert!(!session.is_open());
}

#[test]
fn what_is_said_in_place_of_a_client_is_no_sign_of_its_life() {
    let (mut session, now) = open(Limits { requests_inflight: 1, ..Limits::default() });
    assert_eq!(session.handle_timeout(now + secs(25)), Some(Action::Ping));
    let silence = session.silence();
    assert_eq!(session.on_client(now + secs(30), LEN, &publish(1)), Ok(()));
    assert_eq!(session.deadline(), Some(now + secs(55)), "its own words would be one");
    session.stay_silent(silence);
    assert_eq!(session.deadline(), Some(now + secs(50)));
    // It is counted as any other.
    assert!(session.on_client(now + secs(31), LEN, &publish(2)).is_err());
}

#[test]
fn a_late_timer_asks_once() {
    let limits = Limits { idle: secs(86_400), ping: secs(1), ..Limits::default() };
    let (mut session, now) = open(limits);
    assert_eq!(session.handle_timeout(now + secs(1000)), Some(Action::Ping));
    assert_eq!(session.handle_timeout(now + secs(1000)), None);
    assert_eq!(session.deadline(), Some(now + secs(1001)));
}

#[test]
fn what_cannot_be_read_is_answered_by_how_bad_it_is() {
    //= SPEC.md#4.10
    let (mut session, now) = open(Limits::default());
    let mut judge = |text: &str| {
        let error = decode_client(Codec::Json, text.as_bytes()).unwrap_err();
        session.on_undecodable(now, text.len(), &error).map(|refusal| (refusal.code, refusal.fatal))
    };
    assert_eq!(judge(r#"{"kind":"pub","id":5}"#), Some((Code::InvalidArgument, false)));
    assert_eq!(judge(r#"{"kind":"dance","id":5}"#), Some((Code::Unimplemented, false)));
    assert_eq!(judge("GET / HTTP/1.1"), Some((Code::InvalidArgument, true)));

    let mut frame = vec![0x81, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let error = decode_client(Codec::Binary, &frame).unwrap_err();
    assert_eq!(session.on_undecodable(now, 16, &error), None);
    frame[0] = 1;
    let error = decode_client(Codec::Binary, &frame).unwrap_err();
    let mut stranger = Session::new(now, Limits::default());
    assert!(stranger.on_undecodable(now, 16, &error).unwrap().fatal, "before a hello nothing is forgiven");
}

#[test]
fn skipped_frames_cost_as_much_as_others() {
    let (mut session, now) = open(Limits::default());
    let frame = [0x81, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let error = decode_client(Codec::Binary, &frame).unwrap_err();
    let refused = (0..200).filter(|_| session.on_undecodable(now, 16, &error).is_some()).count();
    assert_eq!(refused, 100);
}

#[test]
fn names_are_checked_where_they_come_in() {
    //= SPEC.md#4.11
    //= SPEC.md#6.1
    let (mut session, now) = open(Limits::default());
    let wrong = Some((Code::InvalidArgument, false));
    let eph = |key: &'static str| Client::Eph { topic: Topic::Alias(1), key: key.into(), body: b"{}" };
    let req = |op: &'static str| Client::Req { id: 3, op: op.into(), body: b"{}" };
    for message in [sub("Lobby"), sub("chat/a//b"), eph(""), eph("a\n"), req("history"), req("")] {
        assert_eq!(code(session.on_client(now, LEN, &message)), wrong, "{message:?}");
    }
    let by_alias = Client::Sub { id: 2, topic: Topic::Alias(1), epoch: None, after: None };
    assert_eq!(code(session.on_client(now, LEN, &by_alias)), wrong);
    for message in [sub("chat/lobby"), eph("cursor"), req("chat.history")] {
        assert_eq!(session.on_client(now, LEN, &message), Ok(()), "{message:?}");
    }
}

#[test]
fn subscriptions_are_bounded_and_counted_by_topic() {
    //= SPEC.md#4.12
    let (mut session, now) = open(Limits { subs: 2, ..Limits::default() });
    assert_eq!(session.on_client(now, LEN, &sub("chat/a")), Ok(()));
    assert_eq!(session.on_client(now, LEN, &sub("chat/b")), Ok(()));
    assert_eq!(session.on_client(now, LEN, &sub("chat/a")), Ok(()), "once more is no more");
    assert_eq!(code(session.on_client(now, LEN, &sub("chat/c"))), Some((Code::ResourceExhausted, false)));
    let unsub = Client::Unsub { id: 3, topic: "chat/a".into() };
    assert_eq!(session.on_client(now, LEN, &unsub), Ok(()));
    assert_eq!(session.on_client(now, LEN, &sub("chat/c")), Ok(()));
    session.forget("chat/b");
    assert_eq!(session.on_client(now, LEN, &sub("chat/d")), Ok(()));
}

#[test]
fn a_closed_session_is_over() {
    let (mut session, now) = open(Limits::default());
    session.close();
    assert_eq!(code(session.on_client(now, LEN, &publish(1))), Some((Code::FailedPrecondition, true)));
    session.open(now);
    session.on_traffic(now);
    assert_eq!((session.is_open(), session.deadline(), session.handle_timeout(now + secs(999))), (false, None, None));
}
