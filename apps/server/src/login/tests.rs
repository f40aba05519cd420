//! Logins on a real disk, at times that are given.

use std::{fs, time::Duration};

use super::*;

const NOW: u64 = 1_800_000_000;
const TTL: u64 = 1_000;

fn auth() -> Auth {
    Auth { refresh_ttl: Duration::from_secs(TTL), logins_max: 100, ..Auth::default() }
}

fn open(folder: &tempfile::TempDir, now: u64) -> (LoginBook, Arc<Logins>) {
    let shown = Arc::<Logins>::default();
    (LoginBook::open(folder.path(), &auth(), Arc::clone(&shown), now, |_| true).expect("opened"), shown)
}

fn id(n: u8) -> LoginId {
    LoginId([n; 16])
}

fn at(n: u8, generation: u64) -> Refresh {
    Refresh { login: id(n), generation }
}

fn stands(shown: &Logins, n: u8) -> bool {
    shown.allow(("ada", false), NOW, Some(id(n)))
}

/// The clock goes on evenly from then, until what expired that long ago may be forgotten.
fn pass(book: &mut LoginBook, then: u64) {
    (then..=then + CLOCK_STEADY_SECS).step_by(30).for_each(|now| book.expire(now));
}

fn reused() -> Result<(String, Stands), RenewError> {
    Err(RenewError::Reused { user: "ada".to_owned() })
}

#[test]
fn a_refresh_token_is_good_once_and_its_later_use_ends_the_login_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut book, shown) = open(&folder, NOW);
    assert_eq!(book.renew(NOW, at(1, 0)), Err(RenewError::Unknown));
    let (first, ended) = book.begin(NOW, "ada", id(1)).expect("begun");
    assert_eq!((first, ended), (Stands { refresh: at(1, 0), expires_at: NOW + TTL }, vec![]));
    book.begin(NOW, "ada", id(2)).expect("begun");
    let second = Stands { refresh: at(1, 1), expires_at: NOW + 10 + TTL };
    assert_eq!(book.renew(NOW + 10, at(1, 0)), Ok(("ada".to_owned(), second)));
    assert_eq!(book.renew(NOW, at(1, 9)), Err(RenewError::Unknown), "a token of the future");
    drop(book);
    let (mut book, again) = open(&folder, NOW + 11);
    assert!(stands(&again, 1) && stands(&shown, 1));
    assert_eq!(book.renew(NOW + 10 + RENEWED_AGAIN_SECS, at(1, 0)), reused());
    assert!(!stands(&again, 1) && stands(&again, 2));
    assert_eq!(book.renew(NOW + 20, at(1, 1)), Err(RenewError::Unknown), "the good one is lost, too");
    drop(book);
    let (_, again) = open(&folder, NOW + 20);
    assert!(!stands(&again, 1) && stands(&again, 2));
}

#[test]
fn an_answer_that_was_lost_is_given_again_for_a_short_time_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut book, shown) = open(&folder, NOW);
    (1..=4).for_each(|n| _ = book.begin(NOW, "ada", id(n)).expect("begun"));
    let second = |n| Ok(("ada".to_owned(), Stands { refresh: at(n, 1), expires_at: NOW + 10 + TTL }));
    (1..=4).for_each(|n| assert_eq!(book.renew(NOW + 10, at(n, 0)), second(n)));
    let lines = book.ledger.lines();
    let last = NOW + 10 + RENEWED_AGAIN_SECS - 1;
    assert_eq!(book.renew(NOW + 30, at(1, 0)), second(1));
    assert_eq!(book.renew(last, at(1, 0)), second(1), "the same as often as it is asked");
    // Somebody sets the wall clock: back by a little, and back by a lot.
    assert_eq!(book.renew(NOW + 5, at(1, 0)), second(1));
    assert_eq!(book.renew(NOW + 10 - RENEWED_AGAIN_SECS, at(2, 0)), reused());
    assert_eq!(book.ledger.lines(), lines + 1, "only the end is written");
    drop(book);
    let (mut book, shown_again) = open(&folder, NOW + 40);
    assert_eq!(book.renew(last, at(3, 0)), second(3));
    // Also when the file was written anew.
    book.rewrite(NOW + 50);
    drop(book);
    let (mut book, _) = open(&folder, NOW + 50);
    assert_eq!(book.renew(last, at(3, 0)), second(3));
    assert_eq!(book.renew(last + 1, at(3, 0)), reused(), "from the first use on, not from the last");
    // The one who shows the newest has the answer: the one before it is no good any longer, and one before that never.
    let third = Stands { refresh: at(4, 2), expires_at: NOW + 50 + TTL };
    assert_eq!(book.renew(NOW + 50, at(4, 1)), Ok(("ada".to_owned(), third)));
    assert_eq!(book.renew(NOW + 51, at(4, 1)), Ok(("ada".to_owned(), third)), "this one's may be lost now");
    assert_eq!(book.renew(NOW + 51, at(4, 0)), reused());
    assert_eq!(book.renew(NOW + 51, at(4, 2)), Err(RenewError::Unknown));
    assert!(stands(&shown, 1) && stands(&shown_again, 1));
}

#[test]
fn one_whose_answer_was_lost_can_log_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut book, shown) = open(&folder, NOW);
    (1..=3).for_each(|n| _ = book.begin(NOW, "ada", id(n)).expect("begun"));
    (1..=3).for_each(|n| _ = book.renew(NOW, at(n, 0)).expect("renewed"));
    assert_eq!(book.leave(NOW + 1, at(1, 0), false), Ok(("ada".to_owned(), vec![id(1)])));
    let late = book.leave(NOW + RENEWED_AGAIN_SECS, at(2, 0), true);
    assert_eq!(late, Err(RenewError::Reused { user: "ada".to_owned() }), "of an old one only its login ends");
    assert_eq!([1, 2, 3].map(|n| stands(&shown, n)), [false, false, true]);
}

#[test]
fn lines_of_earlier_versions_are_read_and_give_no_answer_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let line =
        format!("{{\"login\":{{\"id\":\"{}\",\"user\":\"ada\",\"generation\":1,\"exp\":{}}}}}\n", id(1), NOW + TTL);
    fs::write(folder.path().join(FILE), line).expect("written");
    let (mut book, shown) = open(&folder, NOW);
    assert!(stands(&shown, 1));
    assert_eq!(book.renew(NOW, at(1, 0)), reused());
}

#[test]
fn logging_out_ends_one_device_or_all_and_holds_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut book, shown) = open(&folder, NOW);
    for (n, user) in [(1, "ada"), (2, "ada"), (3, "ada"), (4, "bob")] {
        book.begin(NOW, user, id(n)).expect("begun");
    }
    assert_eq!(book.leave(NOW, at(1, 0), false), Ok(("ada".to_owned(), vec![id(1)])));
    assert_eq!([1, 2, 3, 4].map(|n| stands(&shown, n)), [false, true, true, true]);
    assert_eq!(book.leave(NOW, at(1, 0), true), Err(RenewError::Unknown));
    assert!(shown.allow(("ada", false), NOW, None), "a token of a program");
    assert_eq!(book.leave(NOW + 5, at(2, 0), true), Ok(("ada".to_owned(), vec![id(2), id(3)])));
    drop(book);
    let (mut book, shown) = open(&folder, NOW + 5);
    assert_eq!([1, 2, 3, 4].map(|n| stands(&shown, n)), [false, false, false, true]);
    assert!(!shown.allow(("ada", false), NOW + 5, None) && shown.allow(("ada", false), NOW + 6, None));
    assert!(shown.allow(("ada", true), NOW, None) && shown.allow(("bob", false), NOW, None));
    pass(&mut book, NOW + 5 + LEFT_SECS + EXPIRED_KEPT_SECS);
    assert!(shown.0.read().expect("read").left.is_empty() && book.left.is_empty(), "no token is so old");
}

#[test]
fn what_ends_while_the_disk_is_full_has_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut book, shown) = open(&folder, NOW);
    for n in 0..3 {
        book.begin(NOW, "ada", id(n)).expect("begun");
    }
    book.renew(NOW, at(1, 0)).expect("renewed");
    book.be_full();
    assert_eq!(book.leave(NOW, at(0, 0), false), Ok(("ada".to_owned(), vec![id(0)])));
    assert_eq!(book.renew(NOW + RENEWED_AGAIN_SECS, at(1, 0)), reused());
    assert_eq!([0, 1, 2].map(|n| stands(&shown, n)), [false, false, true]);
    assert!(matches!(book.begin(NOW, "ada", id(3)), Err(AccountError::Storage(_))));
    assert!(matches!(book.renew(NOW, at(2, 0)), Err(RenewError::Storage(_))));
    book.expire(NOW + 1);
    assert!(book.trouble().is_some_and(|why| why.starts_with(FILE)), "{:?}", book.trouble());
    // There is space again, and what has ended goes first.
    book.ledger.be_well();
    book.begin(NOW + 1, "ada", id(3)).expect("begun");
    assert!(book.owed.is_empty() && book.trouble().is_none());
    drop(book);
    let (_, shown) = open(&folder, NOW + 1);
    assert_eq!([0, 1, 2, 3].map(|n| stands(&shown, n)), [false, false, true, true]);
}

#[test]
fn what_has_ended_gets_to_the_disk_by_itself_also_after_a_sync_that_failed() {
    let failures: [fn(&mut Ledger); 2] = [Ledger::be_full, Ledger::be_unsynced];
    for fail in failures {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut book, _) = open(&folder, NOW);
        (0..3).for_each(|n| _ = book.begin(NOW, "ada", id(n)).expect("begun"));
        fail(&mut book.ledger);
        book.leave(NOW, at(0, 0), false).expect("left");
        assert!(book.trouble().is_some());
        book.ledger.be_well();
        book.expire(NOW + 1);
        assert_eq!((book.owed.len(), book.trouble()), (0, None));
        drop(book);
        let (_, shown) = open(&folder, NOW + 1);
        assert_eq!([0, 1, 2].map(|n| stands(&shown, n)), [false, true, true]);
    }
}

#[test]
fn a_wall_clock_that_is_wrong_for_a_moment_ends_no_login_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut book, shown) = open(&folder, NOW);
    book.begin(NOW, "ada", id(1)).expect("begun");
    book.begin(NOW, "bob", id(2)).expect("begun");
    book.leave(NOW, at(2, 0), true).expect("left");
    // An even hour, a jump by ten years, and minutes until it is set right.
    let wrong = NOW + 10 * LEFT_SECS;
    let times = (NOW..NOW + 2 * CLOCK_STEADY_SECS).step_by(30).chain((wrong..wrong + 600).step_by(30));
    times.for_each(|now| book.expire(now));
    assert_eq!(book.renew(wrong + 600, at(1, 0)), Err(RenewError::Unknown), "it has expired, as far as is known");
    book.expire(NOW + 1);
    assert!(stands(&shown, 1) && !shown.allow(("bob", false), NOW, None));
    book.renew(NOW + 1, at(1, 0)).expect("it stands");
    drop(book);
    // A start with such a clock.
    let (mut book, shown) = open(&folder, wrong);
    book.rewrite(wrong);
    drop(book);
    let (mut book, again) = open(&folder, NOW + 2);
    assert!(stands(&shown, 1) && stands(&again, 1) && !again.allow(("bob", false), NOW, None));
    book.renew(NOW + 2, at(1, 1)).expect("it stands");
}

#[test]
fn records_that_belong_together_are_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut book, _) = open(&folder, NOW);
    (0..3).for_each(|n| _ = book.begin(NOW, "ada", id(n)).expect("begun"));
    let lines = book.ledger.lines();
    book.leave(NOW, at(0, 0), true).expect("left");
    assert_eq!(book.ledger.lines(), lines + 1);
    drop(book);
    let text = fs::read_to_string(folder.path().join(FILE)).expect("there");
    let last = text.lines().last().expect("a line");
    assert!(last.starts_with("[{\"ended\"") && last.contains("\"left\"") && last.ends_with(']'), "{last}");
    let (_, shown) = open(&folder, NOW);
    assert!((0..3).all(|n| !stands(&shown, n)) && !shown.allow(("ada", false), NOW, None));
}

#[test]
fn logins_are_bounded_expire_and_leave_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut book, shown) = open(&folder, NOW);
    for n in 0..40 {
        let (_, ended) = book.begin(NOW + u64::from(n), "ada", id(n)).expect("begun");
        let expected = n.checked_sub(32).map(id);
        assert_eq!(ended, Vec::from_iter(expected), "the oldest goes");
    }
    assert!(!stands(&shown, 7) && stands(&shown, 8));
    for n in 100..168 {
        book.begin(NOW + 40, &format!("user-{n}"), id(n)).expect("begun");
    }
    let (_, ended) = book.begin(NOW + 40, "ada", id(201)).expect("begun");
    assert_eq!((ended, book.displaced()), (vec![id(8)], 0), "one goes and one comes");
    for generation in 0..2_000 {
        book.renew(NOW, at(39, generation)).expect("renewed");
    }
    let size = || fs::metadata(folder.path().join(FILE)).expect("there").len();
    let before = size();
    book.expire(NOW + 1);
    assert!(size() * 10 < before && book.ledger.lines() == 100, "{} of {before}", size());
    drop(book);
    let (mut book, shown) = open(&folder, NOW + 1);
    assert_eq!((book.count(), stands(&shown, 39), stands(&shown, 8)), (100, true, false));
    assert_eq!(book.renew(NOW, at(39, 1_998)), reused());
    let before = NOW + TTL + EXPIRED_KEPT_SECS - CLOCK_STEADY_SECS;
    pass(&mut book, before - 1);
    assert!(!book.logins.is_empty(), "what has expired may be needed again");
    pass(&mut book, NOW + 100 + TTL + EXPIRED_KEPT_SECS);
    assert!(book.logins.is_empty() && book.by_user.is_empty() && shown.0.read().expect("read").logins.is_empty());
}

#[test]
fn a_full_table_makes_room_for_somebody_by_ending_what_went_longest_without_renewal() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut book, shown) = open(&folder, NOW);
    for n in 0..100 {
        book.begin(NOW + u64::from(n), &format!("user-{n}"), id(n)).expect("begun");
    }
    // The oldest one has renewed its token, so that it is the newest.
    book.renew(NOW + 100, at(0, 0)).expect("renewed");
    book.be_full();
    assert!(matches!(book.begin(NOW + 101, "late", id(200)), Err(AccountError::Storage(_))));
    assert!(stands(&shown, 1) && book.displaced() == 0, "for nothing nobody goes");
    drop(book);
    let (mut book, shown) = open(&folder, NOW + 101);
    for n in 200..232 {
        let (_, ended) = book.begin(NOW + 101, &format!("late-{n}"), id(n)).expect("begun");
        assert_eq!(ended, [id(n - 199)]);
    }
    assert_eq!((book.count(), book.displaced()), (100, 32));
    assert_eq!([0, 32, 33].map(|n| stands(&shown, n)), [true, false, true]);
    let (_, ended) = book.begin(NOW + 101, "user-40", id(1)).expect("begun");
    assert_eq!(ended, [id(40)], "its own, for it would have the most");
    drop(book);
    let (book, shown) = open(&folder, NOW + 101);
    assert_eq!((book.count(), [0, 32, 33, 40].map(|n| stands(&shown, n))), (100, [true, false, true, false]));
}

#[test]
fn a_stranger_with_many_logins_ends_its_own_before_those_of_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut book, shown) = open(&folder, NOW);
    // 36 people with one login each; two strangers with 32 each fill the table.
    for n in 0..36 {
        book.begin(NOW, &format!("person-{n}"), id(n)).expect("begun");
    }
    for n in 0..64_u8 {
        book.begin(NOW + 1, &format!("stranger-{}", n / 32), id(100 + n)).expect("begun");
    }
    assert_eq!(book.count(), 100);
    // A third one logs in 32 times, and takes from the other two until it has as many.
    for n in 0..32_u8 {
        let (_, ended) = book.begin(NOW + 2, "stranger-2", id(200 + n)).expect("begun");
        assert!(ended.len() == 1 && ended[0].0[0] >= 100, "{n}: {ended:?}");
    }
    let left = (0..36).filter(|n| stands(&shown, *n)).count();
    assert_eq!(left, 36, "people with one login each who are still there");
    let of = |n| book.by_user[format!("stranger-{n}").as_str()].len();
    assert_eq!([of(0), of(1), of(2)], [21, 21, 22]);
}

/// As many logins as four for each account: whoever does what, nobody with up to four loses one to another.
#[test]
fn nobody_with_four_logins_is_displaced_while_there_are_four_for_each_account() {
    let seed = 9;
    println!("seed {seed}");
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let auth = Auth { logins_max: 40, ..auth() };
    let mut book = LoginBook::open(folder.path(), &auth, Arc::default(), NOW, |_| true).expect("opened");
    let count = |book: &LoginBook, user: &str| book.by_user.get(user).map_or(0, Vec::len);
    // All have four, and one wants a fifth.
    for n in 0..40_u128 {
        book.begin(NOW, &format!("user-{}", n % 10), LoginId((n << 64).to_be_bytes())).expect("begun");
    }
    let (_, ended) = book.begin(NOW, "user-3", LoginId((40_u128 << 64).to_be_bytes())).expect("begun");
    assert_eq!(ended, [LoginId((3_u128 << 64).to_be_bytes())]);
    for n in 0..1_000_u128 {
        let user = format!(
            "user-{}",
            rand::Rng::random_range(&mut rng, 0..10_u32).min(rand::Rng::random_range(&mut rng, 0..10))
        );
        let before: Vec<usize> = (0..10).map(|n| count(&book, &format!("user-{n}"))).collect();
        let (_, ended) = book.begin(NOW + 1, &user, LoginId((n + 1).to_be_bytes())).expect("begun");
        for (other, before) in before.iter().enumerate() {
            let (other, own) = (format!("user-{other}"), usize::from(format!("user-{other}") == user));
            let after = count(&book, &other);
            assert!(after >= (before + own).min(4), "{n}: {other} had {before} and has {after}: {ended:?}");
        }
        if rand::Rng::random_ratio(&mut rng, 1, 20) {
            let (_, id) = *book.by_end.first().expect("some stand");
            book.leave(NOW + 1, Refresh { login: id, generation: 0 }, true).expect("left");
        }
        let ranks: BTreeSet<Rank> = book.by_user.keys().filter_map(|user| book.rank(user, 0, 0)).collect();
        assert_eq!((&ranks, ranks.len()), (&book.by_rank, book.by_user.len()), "every account has its rank");
    }
    assert!(book.displaced() > 100, "{} were displaced", book.displaced());
}

#[test]
fn a_lower_limit_is_reached_login_by_login() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut book, _) = open(&folder, NOW);
    for n in 0..20 {
        book.begin(NOW + u64::from(n), &format!("user-{n}"), id(n)).expect("begun");
    }
    drop(book);
    let auth = Auth { logins_max: 10, ..auth() };
    let mut book = LoginBook::open(folder.path(), &auth, Arc::default(), NOW + 20, |_| true).expect("opened");
    assert_eq!(book.count(), 20, "nobody is logged out by a start");
    for n in 0..15 {
        let (_, ended) = book.begin(NOW + 20, &format!("user-{n}"), id(100 + n)).expect("begun");
        let expected = if n < 10 { vec![id(2 * n), id(2 * n + 1)] } else { vec![id(90 + n)] };
        assert_eq!(ended, expected, "{n}");
    }
    assert_eq!(book.count(), 10);
}

#[test]
fn a_shorter_time_holds_for_all_and_a_longer_one_for_new_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut book, _) = open(&folder, NOW);
    book.begin(NOW, "ada", id(1)).expect("begun");
    book.begin(NOW + 50, "ada", id(2)).expect("begun");
    drop(book);
    let reopen = |secs: u64, now| {
        let auth = Auth { refresh_ttl: Duration::from_secs(secs), ..auth() };
        LoginBook::open(folder.path(), &auth, Arc::default(), now, |_| true).expect("opened")
    };
    let ends = |book: &LoginBook| Vec::from_iter(book.by_end.iter().copied());
    let book = reopen(2 * TTL, NOW + 60);
    assert_eq!(ends(&book), [(NOW + TTL, id(1)), (NOW + 50 + TTL, id(2))]);
    drop(book);
    let mut book = reopen(100, NOW + 60);
    book.begin(NOW + 60, "ada", id(3)).expect("begun");
    assert_eq!(ends(&book), [(NOW + 100, id(1)), (NOW + 150, id(2)), (NOW + 160, id(3))], "as they were renewed");
}

#[test]
fn logins_of_accounts_that_were_removed_end_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut book, _) = open(&folder, NOW);
    for (n, user) in [(1, "ada"), (2, "bob"), (3, "ada"), (4, "Ada")] {
        book.begin(NOW, user, id(n)).expect("begun");
    }
    drop(book);
    let shown = Arc::<Logins>::default();
    let known = |user: &str| user != "ada";
    let mut book = LoginBook::open(folder.path(), &auth(), Arc::clone(&shown), NOW, known).expect("opened");
    assert_eq!([1, 2, 3, 4].map(|n| stands(&shown, n)), [false, true, false, true]);
    assert_eq!(book.renew(NOW, at(1, 0)), Err(RenewError::Unknown));
    // Somebody else takes the name, and the server goes down before it had a quiet second.
    book.begin(NOW, "ada", id(5)).expect("begun");
    drop(book);
    let (_, shown) = open(&folder, NOW);
    assert_eq!([1, 2, 3, 4, 5].map(|n| stands(&shown, n)), [false, true, false, true, true]);
}

#[test]
fn nothing_in_the_file_opens_a_door() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut book, _) = open(&folder, NOW);
    book.begin(NOW, "ada", id(1)).expect("begun");
    let text = fs::read_to_string(folder.path().join(FILE)).expect("there");
    let token = session::Keys::new(&[7; 32]).refresh_token(at(1, 0));
    assert!(!text.contains(&token) && text.lines().count() == 1, "{text}");
    fs::write(folder.path().join(FILE), format!("{text}{{\"login\":{{\"id\":\"00")).expect("written");
    let (book, shown) = open(&folder, NOW);
    assert!(stands(&shown, 1) && book.logins.len() == 1, "a torn last line is cut off");
    fs::write(folder.path().join(FILE), format!("x\n{text}")).expect("written");
    let damaged = LoginBook::open(folder.path(), &auth(), Arc::default(), NOW, |_| true).map(|_| ());
    assert!(matches!(damaged, Err(OpenError::Damaged { line: 1, .. })), "{damaged:?}");
}
