//! Logins: which devices of which accounts are logged in, how often each has renewed its token, and which have ended. Kept
//! in a file, and shown to the shards, which ask for every session.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};
use session::auth::{LoginId, Refresh};

use crate::{
    account::{AccountError, OpenError},
    config::Auth,
    ledger::Ledger,
};

/// The file in the data directory.
const FILE: &str = "logins.jsonl";

/// What an operator can do about a damaged line. Where one with an end goes alone, what has ended stands again.
const ADVICE: &str = "restore the file from a backup, which brings back logins that have ended since, or remove the file, \
                      so that everybody has to log in again; to end the tokens of programs, too, remove `secret`";

/// Devices of one account that are logged in; another one logs out the one that renewed its token longest ago.
pub const LOGINS_PER_USER_MAX: usize = 32;

/// How long an answer to a renewal is given again to who shows the token before: an answer that got lost (a laptop sleeps,
/// a network changes, a server is started anew) makes nobody a thief, who is found out as soon as this is over (RFC 9700
/// section 4.14.2). It covers some tries with growing pauses; somebody who copies a token has to follow its owner
/// by less than this, every time, to stay unnoticed.
pub const RENEWED_AGAIN_SECS: u64 = 60;

/// How long it is remembered that an account logged out everywhere, for tokens without a login: as long as a token may be
/// valid at most, a year.
const LEFT_SECS: u64 = 365 * 24 * 3600;

/// Logins that end at most so that another one fits. More than one fits only where `auth.logins_max` is lower than in an
/// earlier run: this many bring the number down with every login, and nobody waits for more work than that.
const DISPLACED_MAX: usize = 2;

/// Lines of the file that are not worth writing it anew.
const STALE_MIN: usize = 1024;

/// How long a login is remembered that has expired, so that a wall clock that is wrong by less than that ends none for good.
/// It opens nothing meanwhile.
const EXPIRED_KEPT_SECS: u64 = 24 * 3600;

/// How long the wall clock has to have gone evenly until something is forgotten by it: one that is wrong by more, as after a
/// start without a battery, is set right within minutes.
const CLOCK_STEADY_SECS: u64 = 3600;

/// How far the wall clock may move between two looks, which are about a second apart, to have gone evenly.
const CLOCK_STEP_SECS: u64 = 60;

/// What every shard looks at: a token of a login is good as long as that stands.
#[derive(Default, Debug)]
pub struct Logins(RwLock<Standing>);

#[derive(Default, Debug)]
struct Standing {
    logins: BTreeSet<LoginId>,
    /// When accounts logged out everywhere, in seconds since 1970.
    left: BTreeMap<Box<str>, u64>,
}

impl Logins {
    /// Whether a token of this user, issued then for that login, was not revoked.
    #[must_use]
    pub fn allow(&self, (user, guest): (&str, bool), issued: u64, login: Option<LoginId>) -> bool {
        let standing = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match login {
            Some(login) => standing.logins.contains(&login),
            // A guest has no account that could log out. Of the second itself nobody knows what came first.
            None => guest || standing.left.get(user).is_none_or(|left| issued > *left),
        }
    }

    fn change(&self, work: impl FnOnce(&mut Standing)) {
        work(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Where an account stands in the order in which logins make room for others: the one with the most comes first, of equals
/// the one whose oldest ends first. It holds the number of logins, and the end and the name of the oldest.
type Rank = (Reverse<usize>, u64, LoginId);

/// The logins of this server.
pub(crate) struct LoginBook {
    ledger: Ledger,
    logins: BTreeMap<LoginId, Login>,
    /// Each account's, by when they end, the first first: that is the order in which they were renewed.
    by_user: BTreeMap<Box<str>, Vec<LoginId>>,
    by_end: BTreeSet<(u64, LoginId)>,
    /// Every account's rank.
    by_rank: BTreeSet<Rank>,
    left: BTreeMap<Box<str>, u64>,
    shown: Arc<Logins>,
    ttl_secs: u64,
    most: usize,
    /// How many have ended to make room for others.
    displaced: u64,
    /// What has ended and is not on disk yet.
    owed: Vec<Record>,
    clock: Clock,
}

#[derive(Debug)]
struct Login {
    user: Box<str>,
    generation: u64,
    exp: u64,
    /// When it came to this generation, in seconds since 1970; earlier versions have not written it.
    since: Option<u64>,
}

impl Login {
    /// Whether this is the generation before, whose renewal was so short a time ago that its answer may have been lost. The
    /// wall clock may have been set back meanwhile.
    fn was(&self, generation: u64, now: u64) -> bool {
        let lost = self.since.is_some_and(|since| now.abs_diff(since) < RENEWED_AGAIN_SECS);
        lost && generation.checked_add(1) == Some(self.generation)
    }
}

/// What is known of the wall clock, in seconds since 1970.
#[derive(Debug)]
struct Clock {
    seen: u64,
    /// Since when it has gone evenly.
    steady_since: u64,
}

impl Clock {
    /// Whether it has gone evenly for so long that something may be forgotten by it.
    fn is_steady(&mut self, now: u64) -> bool {
        if now.abs_diff(self.seen) > CLOCK_STEP_SECS {
            self.steady_since = now;
        }
        self.seen = now;
        now.saturating_sub(self.steady_since) >= CLOCK_STEADY_SECS
    }
}

/// A login that stands: what its next refresh token says, and until when that is good, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stands {
    /// What the token says.
    pub refresh: Refresh,
    /// Until when.
    pub expires_at: u64,
}

/// Why a login is not renewed.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum RenewError {
    /// There is no such login, or not any longer.
    Unknown,
    /// Somebody has renewed it with the same token before, and more than that or not just now: one of the two is a thief.
    /// It has ended.
    Reused { user: String },
    /// The disk does not take it.
    Storage(AccountError),
}

#[derive(Clone, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
enum Record {
    /// It stands.
    Login {
        id: LoginId,
        user: Box<str>,
        generation: u64,
        exp: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<u64>,
    },
    /// It has ended.
    Ended { id: LoginId },
    /// An account has logged out everywhere.
    Left { user: Box<str>, at: u64 },
}

impl LoginBook {
    /// Opens the logins of a data directory; those that have ended are not there any more, nor those of users that are not
    /// `known`: the operator has removed their accounts.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(crate) fn open(
        folder: &Path,
        auth: &Auth,
        shown: Arc<Logins>,
        now: u64,
        known: impl Fn(&str) -> bool,
    ) -> Result<Self, OpenError> {
        let mut records = Vec::new();
        let ledger = Ledger::open(folder, (FILE, ADVICE), |line| {
            records.extend(parse(line).map_err(|error| error.to_string())?);
            Ok(())
        })?;
        let (ttl_secs, most) = (auth.refresh_ttl.as_secs(), auth.logins_max);
        let (logins, by_user, by_end, by_rank, left) = Default::default();
        let (displaced, owed, clock) = (0, Vec::new(), Clock { seen: now, steady_since: now });
        let mut book =
            Self { ledger, logins, by_user, by_end, by_rank, left, shown, ttl_secs, most, displaced, owed, clock };
        records.into_iter().for_each(|record| book.apply(record));
        book.forget_all_but(known);
        Ok(book)
    }

    /// Somebody has logged in. Gives the logins that had to end for it: the account's own one too many, or the oldest of the
    /// account that has the most, which may be the same account. So a stranger with many logins ends its own.
    pub(crate) fn begin(&mut self, now: u64, user: &str, id: LoginId) -> Result<(Stands, Vec<LoginId>), AccountError> {
        let own = self.by_user.get(user).map_or(&[][..], Vec::as_slice);
        let mut ended = own[..own.len().saturating_sub(LOGINS_PER_USER_MAX - 1)].to_vec();
        let over = (self.logins.len() + 1).saturating_sub(self.most + ended.len()).min(DISPLACED_MAX);
        let displaced = self.displace(user, ended.len(), over);
        ended.extend(&displaced);
        let exp = now.saturating_add(self.ttl_secs);
        let mut records: Vec<Record> = ended.iter().map(|id| Record::Ended { id: *id }).collect();
        records.push(Record::Login { id, user: user.into(), generation: 0, exp, since: Some(now) });
        self.record(records)?;
        self.displaced += displaced.len() as u64;
        Ok((Stands { refresh: Refresh { login: id, generation: 0 }, expires_at: exp }, ended))
    }

    /// Which logins end for one more of this user, of whose own the first `own_gone` end anyway.
    fn displace(&self, user: &str, own_gone: usize, over: usize) -> Vec<LoginId> {
        let mut displaced = Vec::with_capacity(over);
        // Accounts whose rank is not the one in the book: how many of their logins have ended by now.
        let mut touched = BTreeMap::from([(user, own_gone)]);
        for _ in 0..over {
            let rank_of = |(other, gone): (&&str, &usize)| self.rank(other, *gone, usize::from(*other == user));
            let of_touched = touched.iter().filter_map(rank_of).min();
            let other = self.by_rank.iter().find(|(.., id)| !touched.contains_key(&*self.logins[id].user));
            let Some((.., id)) = other.copied().into_iter().chain(of_touched).min() else { break };
            *touched.entry(&self.logins[&id].user).or_default() += 1;
            displaced.push(id);
        }
        displaced
    }

    /// The rank that an account has once the first `gone` of its logins have ended and `more` have come.
    fn rank(&self, user: &str, gone: usize, more: usize) -> Option<Rank> {
        let own = self.by_user.get(user)?;
        let oldest = own.get(gone)?;
        Some((Reverse(own.len() - gone + more), self.logins.get(oldest)?.exp, *oldest))
    }

    /// Takes back a login that nobody was told of.
    pub(crate) fn withdraw(&mut self, id: LoginId) {
        self.end(vec![Record::Ended { id }]);
    }

    /// How many stand.
    pub(crate) fn count(&self) -> usize {
        self.logins.len()
    }

    /// How many have ended in this run to make room for others.
    pub(crate) fn displaced(&self) -> u64 {
        self.displaced
    }

    /// Somebody shows a refresh token of ours. It is good once, and for [`RENEWED_AGAIN_SECS`] it gets the same answer again,
    /// unless the next one was used meanwhile: then the answer has arrived. Shown after that it ends its login.
    pub(crate) fn renew(&mut self, now: u64, refresh: Refresh) -> Result<(String, Stands), RenewError> {
        let (id, login) = (refresh.login, self.find(now, refresh)?);
        let user = login.user.clone();
        if login.generation > refresh.generation {
            // Nothing is written, so that the time runs from the first use on, also in the next run.
            let newest = Refresh { login: id, generation: login.generation };
            return Ok((user.into(), Stands { refresh: newest, expires_at: login.exp }));
        }
        let (generation, exp) = (login.generation + 1, now.saturating_add(self.ttl_secs));
        let record = Record::Login { id, user: user.clone(), generation, exp, since: Some(now) };
        self.record(vec![record]).map_err(RenewError::Storage)?;
        Ok((user.into(), Stands { refresh: Refresh { login: id, generation }, expires_at: exp }))
    }

    /// Somebody shows a refresh token to log out with: that device, or all of them. Gives who, and which have ended.
    pub(crate) fn leave(
        &mut self,
        now: u64,
        refresh: Refresh,
        all: bool,
    ) -> Result<(String, Vec<LoginId>), RenewError> {
        let user = self.find(now, refresh)?.user.clone();
        let ended = if all { self.by_user.get(&user).cloned().unwrap_or_default() } else { vec![refresh.login] };
        let mut records: Vec<Record> = ended.iter().map(|id| Record::Ended { id: *id }).collect();
        if all {
            records.push(Record::Left { user: user.clone(), at: now });
        }
        self.end(records);
        Ok((user.into(), ended))
    }

    /// Forgets what does not count any longer, brings what is owed to the disk, and writes the file anew when most of it does
    /// not count or nobody knows what is in it.
    pub(crate) fn expire(&mut self, now: u64) {
        if self.clock.is_steady(now) {
            self.forget(now.saturating_sub(EXPIRED_KEPT_SECS));
        }
        if self.owed.is_empty() {
            self.ledger.probe();
        } else if self.ledger.append(&self.owed).is_ok() {
            self.owed.clear();
        }
        let kept = self.logins.len() + self.left.len();
        if self.ledger.is_unsure() || self.ledger.lines() > 2 * kept + STALE_MIN {
            self.rewrite(now);
        }
    }

    /// Why nobody can log in at the moment, if so.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.ledger.trouble()
    }

    /// Forgets what has not counted since then.
    fn forget(&mut self, then: u64) {
        while let Some((_, id)) = self.by_end.first().copied().filter(|(exp, _)| *exp <= then) {
            self.remove(id);
        }
        let old: Vec<_> = self.left.iter().filter(|(_, at)| **at + LEFT_SECS <= then).map(|(u, _)| u.clone()).collect();
        for user in old {
            self.left.remove(&user);
            self.shown.change(|standing| _ = standing.left.remove(&user));
        }
    }

    fn rewrite(&mut self, now: u64) {
        let login = |(id, login): (&LoginId, &Login)| {
            let Login { user, generation, exp, since } = login;
            Record::Login { id: *id, user: user.clone(), generation: *generation, exp: *exp, since: *since }
        };
        let left = self.left.iter().map(|(user, at)| Record::Left { user: user.clone(), at: *at });
        // By their ends, so that the order of each account's is the same again.
        let by_end = self.by_end.iter().filter_map(|(_, id)| self.logins.get_key_value(id));
        let records: Vec<Record> = by_end.map(login).chain(left).collect();
        if self.ledger.rewrite(now, &records) {
            self.owed.clear();
        }
    }

    /// Ends the logins of users that are not `known`. It is on disk before anybody can register such a name again, whose
    /// account they would be logins of.
    fn forget_all_but(&mut self, known: impl Fn(&str) -> bool) {
        let lost = self.by_user.iter().filter(|(user, _)| !known(user));
        let lost: Vec<_> = lost.flat_map(|(_, own)| own).map(|id| Record::Ended { id: *id }).collect();
        if !lost.is_empty() {
            tracing::info!(logins = lost.len(), "ended logins of accounts that are not there any more");
            self.end(lost);
        }
    }

    /// The login of a refresh token, if that is the newest one, or the one before while its answer may be lost. The login of
    /// an older one ends.
    fn find(&mut self, now: u64, refresh: Refresh) -> Result<&Login, RenewError> {
        let login = self.logins.get(&refresh.login).filter(|login| login.exp > now).ok_or(RenewError::Unknown)?;
        let newest = login.generation;
        if refresh.generation < newest && !login.was(refresh.generation, now) {
            let user = login.user.to_string();
            self.end(vec![Record::Ended { id: refresh.login }]);
            return Err(RenewError::Reused { user });
        }
        // One of the future is of a server with the same secret and other data.
        self.logins.get(&refresh.login).filter(|_| refresh.generation <= newest).ok_or(RenewError::Unknown)
    }

    /// What ends, ends here also if the disk does not take it: it is owed, and goes before anything else.
    fn end(&mut self, records: Vec<Record>) {
        self.owed.extend(records.iter().cloned());
        if self.ledger.append(&self.owed).is_ok() {
            self.owed.clear();
        }
        records.into_iter().for_each(|record| self.apply(record));
    }

    fn record(&mut self, records: Vec<Record>) -> Result<(), AccountError> {
        let owed = self.owed.len();
        self.owed.extend(records);
        let appended = self.ledger.append(&self.owed);
        let records = self.owed.split_off(owed);
        appended?;
        self.owed.clear();
        records.into_iter().for_each(|record| self.apply(record));
        Ok(())
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Login { id, user, generation, exp, since } => {
                self.remove(id);
                // One of a run with a longer time ends as if it had been renewed with the time of this one, as the setting
                // says. So those that end first are those that have gone longest without renewal.
                let exp = since.map_or(exp, |since| exp.min(since.saturating_add(self.ttl_secs)));
                self.unrank(&user);
                self.by_user.entry(user.clone()).or_default().push(id);
                self.by_end.insert((exp, id));
                self.logins.insert(id, Login { user: user.clone(), generation, exp, since });
                self.by_rank.extend(self.rank(&user, 0, 0));
                self.shown.change(|standing| _ = standing.logins.insert(id));
            }
            Record::Ended { id } => self.remove(id),
            Record::Left { user, at } => {
                self.shown.change(|standing| _ = standing.left.insert(user.clone(), at));
                self.left.insert(user, at);
            }
        }
    }

    /// From here on its disk is full.
    #[cfg(test)]
    pub(crate) fn be_full(&mut self) {
        self.ledger.be_full();
    }

    /// Its logins change: until it is ranked again, it has no rank.
    fn unrank(&mut self, user: &str) {
        if let Some(rank) = self.rank(user, 0, 0) {
            self.by_rank.remove(&rank);
        }
    }

    /// From here on its disk syncs nothing.
    #[cfg(test)]
    pub(crate) fn be_unsynced(&mut self) {
        self.ledger.be_unsynced();
    }

    fn remove(&mut self, id: LoginId) {
        let Some(user) = self.logins.get(&id).map(|login| login.user.clone()) else { return };
        self.unrank(&user);
        let Some(Login { exp, .. }) = self.logins.remove(&id) else { return };
        self.by_end.remove(&(exp, id));
        if let Some(own) = self.by_user.get_mut(&user) {
            own.retain(|other| *other != id);
            if own.is_empty() {
                self.by_user.remove(&user);
            }
        }
        self.by_rank.extend(self.rank(&user, 0, 0));
        self.shown.change(|standing| _ = standing.logins.remove(&id));
    }
}

/// The records of a line: one, or an array of those that belong together.
fn parse(line: &[u8]) -> serde_json::Result<Vec<Record>> {
    if line.starts_with(b"[") { serde_json::from_slice(line) } else { Ok(vec![serde_json::from_slice(line)?]) }
}

#[cfg(test)]
mod tests;
