//! Tokens from outside: renewal, theft, logging out of one device and of all, on every transport and after a restart.

use std::time::Duration;

use serde_json::{Value, json};
use session::{Credential, Server as Told};

use crate::{
    messenger::person::{Person, call},
    process::{PATIENCE, Server},
    quantum::talker::Quantum,
    quic::talker::User,
    restart::client::Speech,
};

/// Hashing a password is not what these tests are about, and one address does all of it.
const SETTINGS: [(&str, &str); 6] = [
    ("RINGSHARD_AUTH_ARGON2_KIB", "8"),
    ("RINGSHARD_AUTH_ARGON2_PASSES", "1"),
    ("RINGSHARD_AUTH_LOGINS_PER_MIN", "100000"),
    ("RINGSHARD_AUTH_LOGINS_PER_MIN_ADDRESS", "1000"),
    ("RINGSHARD_AUTH_REFRESHES_PER_MIN_ADDRESS", "100000"),
    ("RINGSHARD_LOG_LEVEL", "trace"),
];

/// What a client is told whose token was revoked: an error, and on a WebSocket this code.
const REVOKED: (&str, u16) = ("unauthenticated", 4401);

/// The code on the transports that have one of their own.
const UNAUTHENTICATED: u32 = 5;

fn register(server: &Server, name: &str) -> Value {
    let (status, login) = call(server, "register", &json!({"name": name, "password": "long enough"}));
    assert_eq!(status, 200, "{login}");
    login
}

fn login(server: &Server, name: &str) -> Value {
    let (status, login) = call(server, "login", &json!({"name": name, "password": "long enough"}));
    assert_eq!(status, 200, "{login}");
    login
}

fn refresh(server: &Server, of: &Value) -> (u16, Value) {
    call(server, "refresh", &json!({"refresh_token": of["refresh_token"]}))
}

fn logout(server: &Server, of: &Value, all: bool) -> (u16, Value) {
    call(server, "logout", &json!({"refresh_token": of["refresh_token"], "all": all}))
}

fn token(of: &Value) -> String {
    of["token"].as_str().expect("a token").to_owned()
}

fn enter(server: &Server, speech: Speech, of: &Value) -> Person {
    Person::enter(server, speech, of["user"].as_str().expect("a user"), token(of))
}

fn is_refused(server: &Server, of: &Value) {
    for speech in [Speech::Socket, Speech::Frames] {
        // On either shard: the kernel spreads connections.
        for _ in 0..4 {
            let refused = enter(server, speech, of).came_in().expect_err("refused");
            assert_eq!(refused.0, "unauthenticated");
        }
    }
}

#[test]
fn a_token_is_renewed_and_a_stolen_one_ends_the_login() {
    let server = Server::start(&SETTINGS);
    let mut auditor = Person::program(&server, "auditor", &["chat/audit"]);
    auditor.subscribe("chat/audit", Some(0)).expect("may");
    let first = register(&server, "ada");
    let (access, refreshed) = (first["expires_at"].as_u64(), first["refresh_expires_at"].as_u64());
    assert!(access.expect("a time") + 3600 < refreshed.expect("a time"), "{first}");
    let (status, second) = refresh(&server, &first);
    assert_eq!((status, &second["user"]), (200, &json!("ada")));
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    let (status, third) = refresh(&server, &second);
    assert_eq!(status, 200, "{third}");
    let other = login(&server, "ada");
    let mut sessions = [&first, &second, &third].map(|of| enter(&server, Speech::Socket, of));
    let mut kept = enter(&server, Speech::Frames, &other);
    sessions.iter_mut().for_each(|session| session.came_in().expect("all are good"));
    // The thief, or the owner after the thief: nobody knows. Who used the second one had the answer to the first.
    let (status, refused) = refresh(&server, &first);
    assert_eq!((status, &refused["code"]), (401, &json!("unauthenticated")));
    for session in &mut sessions {
        assert_eq!(session.end(), (REVOKED.0.to_owned(), Some(REVOKED.1)));
    }
    assert_eq!(refresh(&server, &third).0, 401, "the newest one is no good either");
    [&first, &second, &third].into_iter().for_each(|login| is_refused(&server, login));
    kept.came_in().expect("another device");
    assert!(kept.ask("contact.list", &json!({})).is_ok(), "its session goes on");
    let record = auditor.hear("chat/audit");
    assert_eq!((&record["what"], &record["by"]), (&json!("refresh_reused"), &json!("ada")));
}

#[test]
fn a_renewal_whose_answer_is_lost_is_answered_again_also_after_a_crash() {
    let mut server = Server::start(&SETTINGS);
    let first = register(&server, "ada");
    let mut session = enter(&server, Speech::Socket, &first);
    // It is answered, and nobody hears it.
    let unheard = refresh(&server, &first).1;
    let (status, second) = refresh(&server, &first);
    assert_eq!((status, &second["user"]), (200, &json!("ada")));
    let next = |of: &Value| [of["refresh_token"].clone(), of["refresh_expires_at"].clone()];
    assert_eq!(next(&second), next(&unheard));
    let renewed = session.ask("session.renew", &json!({"token": second["token"]})).expect("a good one");
    assert_eq!(renewed["expires_at"], second["expires_at"]);
    enter(&server, Speech::Frames, &second).came_in().expect("a good one");
    server.signal("KILL");
    server.ended(PATIENCE);
    let server = server.next(&SETTINGS);
    let (status, again) = refresh(&server, &first);
    assert_eq!((status, next(&again)), (200, next(&unheard)));
    let mut session = enter(&server, Speech::Socket, &again);
    session.came_in().expect("a good one");
    let (status, third) = refresh(&server, &again);
    assert_eq!(status, 200, "{third}");
    assert_ne!(third["refresh_token"], again["refresh_token"]);
    assert_eq!(refresh(&server, &first).0, 401, "its answer was used, so it has arrived");
    assert_eq!(session.end(), (REVOKED.0.to_owned(), Some(REVOKED.1)));
    is_refused(&server, &third);
}

#[test]
fn logging_out_ends_the_sessions_of_that_device_on_every_transport() {
    let server = Server::start(&SETTINGS);
    let (here, there) = (register(&server, "ada"), login(&server, "ada"));
    let (mut socket, mut frames) = (enter(&server, Speech::Socket, &here), enter(&server, Speech::Frames, &here));
    let mut quantum = Quantum::connect(&server);
    quantum.greet(Credential::Token(token(&here).into()), "chat/lobby", None);
    quantum.hear("a welcome", |message| matches!(message, Told::Welcome { .. }).then_some(()));
    let mut users = [User::raw(&server), User::web(&server)];
    for user in &mut users {
        user.greet(Credential::Token(token(&here).into()), "chat/lobby", None);
        user.hear("a welcome", |message| matches!(message, Told::Welcome { .. }).then_some(()));
    }
    let mut kept = enter(&server, Speech::Socket, &there);
    let (session, ticket) = socket.ticket();
    assert_eq!(logout(&server, &here, false), (200, json!({})));
    assert_eq!(socket.end(), (REVOKED.0.to_owned(), Some(REVOKED.1)));
    assert_eq!(frames.end(), (REVOKED.0.to_owned(), None), "an error, and then the end of the stream");
    let says_why = |message: &Told<'_>| match message {
        Told::Err { id: None, code, .. } => Some(code.name()),
        _ => None,
    };
    // All of them at once: who does not listen for a while is closed without a word more.
    let [mut raw, mut web] = users;
    assert_eq!(quantum.hear("an error", says_why), REVOKED.0);
    assert_eq!(raw.hear("an error", says_why), REVOKED.0);
    assert_eq!(web.hear("an error", says_why), REVOKED.0);
    server.until("closed", |_| {
        web.turn(Duration::from_millis(5));
        raw.turn(Duration::from_millis(5));
        quantum.turn(Duration::from_millis(5));
        web.code.is_some() && raw.line().closed.is_some() && quantum.closed.is_some()
    });
    let code = u64::from(UNAUTHENTICATED);
    let closed = quantum.closed.take();
    let right = matches!(&closed, Some(quantum::CloseReason::Peer { code: of, application: true, .. }) if *of == code);
    assert!(right, "{closed:?}");
    let closed = raw.line().closed.take();
    let right = matches!(&closed, Some(quic::CloseReason::Peer { code: of, application: true, .. }) if *of == code);
    assert!(right, "{closed:?}");
    assert_eq!(web.code, Some(UNAUTHENTICATED));
    is_refused(&server, &here);
    let resumed = Person::enter(&server, Speech::Socket, "ada", format!("{session} {ticket}")).came_in();
    assert_eq!(resumed.expect_err("refused").0, "unauthenticated", "a ticket is no way around it");
    assert_eq!(logout(&server, &here, false), (200, json!({})), "once more does no harm");
    assert!(kept.ask("contact.list", &json!({})).is_ok());
    assert_eq!(refresh(&server, &there).0, 200);
}

#[test]
fn logging_out_everywhere_holds_after_a_crash_and_is_recorded() {
    let server = Server::start(&SETTINGS);
    let mut auditor = Person::program(&server, "auditor", &["chat/audit"]);
    auditor.subscribe("chat/audit", Some(0)).expect("may");
    let devices = [register(&server, "ada"), login(&server, "ada"), login(&server, "ada")];
    let mut sessions: Vec<Person> = devices.iter().map(|device| enter(&server, Speech::Socket, device)).collect();
    let bob = register(&server, "bob");
    // A token of the operator's for the same name has no login, and ends all the same.
    let mut program = Person::program(&server, "ada", &[]);
    assert_eq!(logout(&server, &devices[1], true), (200, json!({})));
    for session in sessions.iter_mut() {
        assert_eq!(session.end(), (REVOKED.0.to_owned(), Some(REVOKED.1)));
    }
    assert_eq!(program.end().0, REVOKED.0);
    let record = auditor.hear("chat/audit");
    assert_eq!((&record["what"], &record["by"]), (&json!("logout_all"), &json!("ada")));
    let mut server = server;
    server.signal("KILL");
    server.ended(PATIENCE);
    let server = server.next(&SETTINGS);
    for device in &devices {
        is_refused(&server, device);
        assert_eq!(refresh(&server, device).0, 401);
    }
    enter(&server, Speech::Socket, &bob).came_in().expect("others are as they were");
    assert_eq!(refresh(&server, &bob).0, 200);
    enter(&server, Speech::Socket, &login(&server, "ada")).came_in().expect("logged in anew");
    let mut auditor = Person::program(&server, "auditor", &["chat/audit"]);
    auditor.subscribe("chat/audit", Some(0)).expect("may");
    assert_eq!(auditor.hear("chat/audit")["what"], "logout_all");
}

#[test]
fn a_full_server_logs_out_who_has_not_renewed_for_longest_and_nobody_is_locked_out() {
    let server = Server::start(&[&SETTINGS[..], &[("RINGSHARD_AUTH_LOGINS_MAX", "2")]].concat());
    let [ada, bob] = ["ada", "bob"].map(|name| register(&server, name));
    // Ada has come first, and renews a second later.
    let later = |of: &Value| of["refresh_expires_at"].as_u64() > bob["refresh_expires_at"].as_u64();
    let mut newest = ada;
    server.until("renewed in another second", |server| {
        newest = refresh(server, &newest).1;
        later(&newest)
    });
    let mut sessions = [&newest, &bob].map(|of| enter(&server, Speech::Socket, of));
    sessions.iter_mut().for_each(|session| session.came_in().expect("good"));
    assert_eq!(server.metric("ringshard_logins ", ""), 2);
    let carol = register(&server, "carol");
    let [mut kept, mut displaced] = sessions;
    assert_eq!(displaced.end(), (REVOKED.0.to_owned(), Some(REVOKED.1)));
    assert_eq!(refresh(&server, &bob).0, 401);
    is_refused(&server, &bob);
    assert!(kept.ask("contact.list", &json!({})).is_ok());
    assert_eq!([&newest, &carol].map(|of| refresh(&server, of).0), [200, 200]);
    assert_eq!(server.metric("ringshard_logins_displaced_total", ""), 1);
    assert_eq!(login(&server, "bob")["user"], "bob", "whose turn it is now");
}

#[test]
fn an_account_that_the_operator_removes_takes_its_logins_with_it() {
    let mut server = Server::start(&SETTINGS);
    let [ada, bob] = ["ada", "bob"].map(|name| register(&server, name));
    let (session, ticket) = enter(&server, Speech::Socket, &ada).ticket();
    server.signal("TERM");
    server.ended(PATIENCE);
    let accounts = server.data().join("accounts.jsonl");
    let text = std::fs::read_to_string(&accounts).expect("a file");
    let (gone, kept): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.contains("\"ada\""));
    assert_eq!((gone.len(), kept.len()), (1, 1));
    std::fs::write(&accounts, format!("{}\n", kept[0])).expect("written");
    let server = server.next(&SETTINGS);
    // Somebody else takes the name: what was of the one before is not theirs.
    let other = register(&server, "ada");
    is_refused(&server, &ada);
    let resumed = Person::enter(&server, Speech::Socket, "ada", format!("{session} {ticket}")).came_in();
    assert_eq!(resumed.expect_err("refused").0, "unauthenticated");
    assert_eq!(refresh(&server, &ada).0, 401);
    for of in [&other, &bob] {
        enter(&server, Speech::Socket, of).came_in().expect("as it was");
        assert_eq!(refresh(&server, of).0, 200);
    }
}

#[test]
fn what_is_no_refresh_token_gets_nowhere_and_nothing_secret_is_logged() {
    let server = Server::start(&SETTINGS);
    let ada = register(&server, "ada");
    let guest = call(&server, "guest", &json!({"name": "gast"})).1;
    assert!(guest.get("refresh_token").is_none(), "nothing proves a guest");
    for bad in
        [json!(""), json!("x".repeat(76)), json!("x".repeat(60_000)), ada["token"].clone(), guest["token"].clone()]
    {
        for call_of in ["refresh", "logout"] {
            let (status, answer) = call(&server, call_of, &json!({"refresh_token": bad}));
            assert_eq!((status, &answer["code"]), (401, &json!("unauthenticated")), "{call_of}");
        }
    }
    for bad in [json!({}), json!({"refresh_token": 1}), json!({"refresh_token": ada["refresh_token"], "all": "x"})] {
        assert_eq!(call(&server, "logout", &bad).0, 400, "{bad}");
    }
    let with_all = json!({"refresh_token": ada["refresh_token"], "all": true});
    assert_eq!(call(&server, "refresh", &with_all).0, 400);
    let again = refresh(&server, &ada).1;
    let newest = refresh(&server, &again).1;
    refresh(&server, &ada);
    server.until("the log tells", |server| server.log().contains("a refresh token was used a second time"));
    for secret in [&ada, &again, &newest].into_iter().flat_map(|of| [&of["token"], &of["refresh_token"]]) {
        let secret = secret.as_str().expect("a token");
        assert!(!server.log().contains(secret));
        let stored = std::fs::read_to_string(server.data().join("logins.jsonl")).expect("a file");
        assert!(!stored.contains(secret));
    }
}

#[test]
fn renewals_have_a_rate_and_a_session_ends_with_its_token() {
    let settings = [("RINGSHARD_AUTH_REFRESHES_PER_MIN_ADDRESS", "3")];
    let server = Server::start(&[&SETTINGS[..], &settings].concat());
    let mut login = register(&server, "ada");
    let brief = Person::token(Duration::from_secs(5), "ada", &[]);
    let [mut short, mut long] =
        [Speech::Socket, Speech::Frames].map(|of| Person::enter(&server, of, "ada", brief.clone()));
    [&mut short, &mut long].into_iter().for_each(|session| session.came_in().expect("for five seconds"));
    for _ in 0..3 {
        let (status, next) = refresh(&server, &login);
        assert_eq!(status, 200, "{next}");
        login = next;
    }
    let (status, refused) = refresh(&server, &login);
    assert_eq!((status, &refused["code"]), (429, &json!("resource_exhausted")));
    let mut bob = enter(&server, Speech::Frames, &register(&server, "bob"));
    let renewed = long.ask("session.renew", &json!({"token": login["token"]})).expect("renewed");
    assert_eq!(renewed["expires_at"], login["expires_at"]);
    assert_eq!(bob.ask("session.renew", &json!({"token": login["token"]})), Err("permission_denied".to_owned()));
    assert_eq!(bob.ask("session.renew", &json!({"token": "x"})), Err("unauthenticated".to_owned()));
    assert_eq!(bob.ask("session.renew", &json!({})), Err("invalid_argument".to_owned()));
    assert_eq!(short.end().0, "unauthenticated", "it has expired");
    assert!(long.ask("contact.list", &json!({})).is_ok(), "this one has a newer token");
    assert_eq!(logout(&server, &login, false).0, 429, "logging out counts, too");
}
