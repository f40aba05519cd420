//! Jobs at times that are given, on a real disk.

use rand::SeedableRng;

use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

pub(crate) fn auth() -> Auth {
    Auth { argon2_kib: 8, argon2_passes: 1, logins_per_min: 3, logins_per_min_address: 8, ..Auth::default() }
}

fn desk(auth: &Auth) -> (tempfile::TempDir, Desk, Instant) {
    let folder = tempfile::tempdir().expect("a folder");
    let (books, now) = (books(&folder, auth), Instant::now());
    (folder, Desk::new(books, auth, Arc::default(), now, StdRng::seed_from_u64(7)), now)
}

pub(crate) fn books(folder: &tempfile::TempDir, auth: &Auth) -> (Accounts, LoginBook) {
    let accounts = Accounts::open(folder.path(), auth).expect("opened");
    let known = |user: &str| accounts.is_name(user);
    let logins = LoginBook::open(folder.path(), auth, Arc::default(), 0, known).expect("opened");
    (accounts, logins)
}

fn credentials(name: &str, password: &str) -> Credentials {
    Credentials { name: name.into(), password: password.into(), address: HERE }
}

pub(crate) fn guest(name: &str) -> Job {
    Job::Guest { name: name.into(), address: HERE }
}

fn code(outcome: Outcome) -> Result<(String, bool), (Code, bool)> {
    match outcome.answer {
        Ok(Done::Welcome(who)) => Ok((who.user, who.guest)),
        Ok(Done::Goodbye) => Ok((String::new(), false)),
        Err(why) => Err((why.code, why.retry_ms.is_some())),
    }
}

#[test]
fn what_ends_is_told_and_recorded() {
    let (_folder, mut desk, now) = desk(&Auth { logins_per_min: 100, ..auth() });
    let login = |outcome: Outcome| match outcome.answer {
        Ok(Done::Welcome(Identity { login: Some(stands), .. })) => stands.refresh,
        other => panic!("{other:?}"),
    };
    let first = login(desk.handle(now, UNIX_EPOCH, Job::Register(credentials("ada", "long enough"))));
    let again = Job::Refresh { refresh: first, address: HERE };
    let second = login(desk.handle(now, UNIX_EPOCH, again));
    assert_eq!(second, Refresh { generation: 1, ..first });
    let lost = desk.handle(now, UNIX_EPOCH, Job::Refresh { refresh: first, address: HERE });
    assert_eq!((lost.ended.clone(), login(lost)), (None, second), "its answer was lost: the same one again");
    let third = login(desk.handle(now, UNIX_EPOCH, Job::Refresh { refresh: second, address: HERE }));
    assert_eq!(third, Refresh { generation: 2, ..first });
    let stolen = desk.handle(now, UNIX_EPOCH, Job::Refresh { refresh: first, address: HERE });
    let ended = Ended { logins: vec![first.login], user: "ada".into(), all: false, record: Some("refresh_reused") };
    assert_eq!((stolen.ended.clone(), code(stolen)), (Some(ended), Err((Code::Unauthenticated, false))));
    let gone = desk.handle(now, UNIX_EPOCH, Job::Logout { refresh: third, all: false, address: HERE });
    assert_eq!((gone.ended.clone(), gone.answer), (None, Ok(Done::Goodbye)), "it has ended already");
    let other = login(desk.handle(now, UNIX_EPOCH, Job::Login(credentials("ada", "long enough"))));
    let left = desk.handle(now, UNIX_EPOCH, Job::Logout { refresh: other, all: true, address: HERE });
    let ended = Ended { logins: vec![other.login], user: "ada".into(), all: true, record: Some("logout_all") };
    assert_eq!((left.ended, left.answer), (Some(ended), Ok(Done::Goodbye)));
}

#[test]
fn renewals_are_slowed_down_by_login_and_by_address() {
    let (_folder, mut desk, now) = desk(&Auth { refreshes_per_min_address: 5, ..auth() });
    let mut ask = |n: u8| {
        let refresh = Refresh { login: LoginId([n; 16]), generation: 0 };
        code(desk.handle(now, UNIX_EPOCH, Job::Refresh { refresh, address: HERE }))
    };
    (0..3).for_each(|_| assert_eq!(ask(1), Err((Code::Unauthenticated, false))));
    assert_eq!(ask(1), Err((Code::ResourceExhausted, true)), "three of one login");
    assert_eq!(ask(2), Err((Code::Unauthenticated, false)));
    assert_eq!(ask(3), Err((Code::ResourceExhausted, true)), "five from one address");
}

#[test]
fn a_guest_never_gets_the_name_of_an_account() {
    let (_folder, mut desk, now) = desk(&auth());
    let mut ask = |job| code(desk.handle(now, UNIX_EPOCH, job));
    assert_eq!(ask(guest("alice")), Ok(("alice".into(), true)));
    assert_eq!(ask(Job::Register(credentials("Alice", "long enough"))), Ok(("Alice".into(), false)));
    assert_eq!(ask(guest("alice")), Err((Code::AlreadyExists, false)));
    assert_eq!(ask(guest("<script>")), Err((Code::InvalidArgument, false)));
    assert_eq!(ask(Job::Login(credentials("alice", "long enough"))), Ok(("Alice".into(), false)));
}

#[test]
fn a_registration_that_fails_leaves_the_name_free() {
    let failures: [fn(&mut Desk); 2] = [|desk| desk.logins.be_full(), |desk| desk.accounts.be_full()];
    for fail in failures {
        let (folder, mut desk, now) = desk(&auth());
        fail(&mut desk);
        let outcome = desk.handle(now, UNIX_EPOCH, Job::Register(credentials("ada", "long enough")));
        assert_eq!(code(outcome), Err((Code::Unavailable, false)));
        assert!(!desk.accounts.has("ada") && desk.logins.count() == 0);
        assert_eq!(code(desk.handle(now, UNIX_EPOCH, guest("ada"))), Ok(("ada".into(), true)));
        // There is space again, and somebody takes it.
        let mut desk = Desk::new(books(&folder, &auth()), &auth(), Arc::default(), now, StdRng::seed_from_u64(8));
        assert_eq!(desk.logins.count(), 0);
        let ours = Job::Register(credentials("ada", "another one"));
        assert_eq!(code(desk.handle(now, UNIX_EPOCH, ours)), Ok(("ada".into(), false)));
    }
}

#[test]
fn a_registration_that_a_crash_cuts_off_leaves_the_name_free_and_no_login() {
    let (folder, mut desk, now) = desk(&auth());
    // As far as it comes before the account is on disk.
    desk.begin(UNIX_EPOCH, "ada".into()).expect("stored");
    drop(desk);
    let mut desk = Desk::new(books(&folder, &auth()), &auth(), Arc::default(), now, StdRng::seed_from_u64(8));
    assert!(!desk.accounts.has("ada") && desk.logins.count() == 0);
    let again = Job::Register(credentials("ada", "long enough"));
    assert_eq!(code(desk.handle(now, UNIX_EPOCH, again)), Ok(("ada".into(), false)));
    assert_eq!(desk.logins.count(), 1);
}

#[test]
fn a_server_may_refuse_guests() {
    let (_folder, mut desk, now) = desk(&Auth { guest: false, ..auth() });
    let outcome = desk.handle(now, UNIX_EPOCH, guest("alice"));
    assert_eq!(code(outcome), Err((Code::PermissionDenied, false)));
}

#[test]
fn one_address_cannot_use_up_all_guests() {
    let (_folder, mut desk, now) = desk(&Auth { guests_per_min_address: 2, ..auth() });
    let mut ask = |job| code(desk.handle(now, UNIX_EPOCH, job));
    assert_eq!((ask(guest("a")).is_ok(), ask(guest("b")).is_ok()), (true, true));
    assert_eq!(ask(guest("c")), Err((Code::ResourceExhausted, true)));
    let elsewhere = Job::Guest { name: "d".into(), address: IpAddr::V4([127, 0, 0, 2].into()) };
    assert_eq!(ask(elsewhere), Ok(("d".into(), true)));
}

#[test]
fn guessing_is_slowed_down_by_name_and_by_address() {
    let (_folder, mut desk, now) = desk(&auth());
    let mut ask = |at, job| code(desk.handle(at, UNIX_EPOCH, job));
    let login = |name| Job::Login(credentials(name, "a wrong one"));
    (0..3).for_each(|_| assert_eq!(ask(now, login("alice")), Err((Code::Unauthenticated, false))));
    assert_eq!(ask(now, login("ALICE")), Err((Code::ResourceExhausted, true)));
    (0..3).for_each(|_| assert_eq!(ask(now, login("bob")), Err((Code::Unauthenticated, false))));
    assert_eq!(ask(now, login("carol")), Err((Code::Unauthenticated, false)));
    assert_eq!(ask(now, login("dave")), Err((Code::ResourceExhausted, true)), "eight from one address");
    assert_eq!(ask(now, Job::Register(credentials("eve", "long enough"))), Err((Code::ResourceExhausted, true)));
    assert_eq!(ask(now + Duration::from_secs(60), login("alice")), Err((Code::Unauthenticated, false)));
}
