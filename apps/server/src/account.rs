//! Accounts: names and argon2id hashes of passwords in an append-only file, safe on disk before anybody hears of them.
//!
//! The file is read at a start and then only written. An operator removes an account by removing its line while no server
//! runs; the next start ends its logins.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version, password_hash::SaltString,
};
use handler::Code;
use rand::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::{config::Auth, ledger::Ledger};

/// The file in the data directory: one JSON object per line.
const FILE: &str = "accounts.jsonl";

/// What an operator can do about a damaged line.
const ADVICE: &str = "restore the file from a backup, or remove that line and with it the account";

/// Characters of a name. It is repeated in every message, so it is short.
pub const NAME_CHARS_MAX: usize = 32;

/// Bytes of a password, at least: what NIST SP 800-63B asks for.
pub const PASSWORD_BYTES_MIN: usize = 8;

/// Bytes of a password, at most: long enough for any sentence, short enough that hashing costs the same for all.
pub const PASSWORD_BYTES_MAX: usize = 128;

/// Bytes of salt, as RFC 9106 recommends.
const SALT_BYTES: usize = 16;

/// The accounts of this server.
pub struct Accounts {
    ledger: Ledger,
    // The key is the name in lower case, so that `Alice` cannot pose as `alice`.
    by_key: BTreeMap<Box<str>, Account>,
    most: usize,
    hasher: Argon2<'static>,
    // What an unknown name is checked against, so that it takes as long as a known one.
    nobody: String,
}

struct Account {
    name: Box<str>,
    hash: Box<str>,
    /// When it was registered, in milliseconds since 1970.
    at_ms: u64,
}

impl Account {
    fn record(&self) -> Record<'_> {
        Record { name: (&*self.name).into(), hash: (&*self.hash).into(), at_ms: self.at_ms }
    }
}

/// An account that is not there yet.
pub struct NewAccount(Account);

#[derive(Serialize, Deserialize)]
struct Record<'a> {
    name: std::borrow::Cow<'a, str>,
    hash: std::borrow::Cow<'a, str>,
    at_ms: u64,
}

/// Why the accounts cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A record that is not the last one is damaged.
    #[error("{path}:{line}: {reason}; {advice}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
        /// What can be done.
        advice: &'static str,
    },
    /// The parameters of argon2 do not fit each other.
    #[error("auth.argon2_kib and auth.argon2_passes: {0}")]
    Parameters(argon2::Error),
}

/// Why a name or a password is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The name breaks a rule.
    #[error("a name has 1 to {NAME_CHARS_MAX} letters, digits, `.`, `_` and `-`, and starts with a letter or a digit")]
    Name,
    /// The password is too short or too long.
    #[error("a password has {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes")]
    Password,
    /// Somebody has that name.
    #[error("that name is taken")]
    Taken,
    /// No account with that name and password; which of the two is wrong is nobody's business.
    #[error("wrong name or password")]
    Wrong,
    /// No more accounts than auth.accounts_max.
    #[error("this server takes no more accounts")]
    Full,
    /// The disk does not take it.
    #[error("the disk does not take it: {0}")]
    Storage(String),
    /// The hash cannot be made.
    #[error("the password cannot be hashed")]
    Hash,
}

impl AccountError {
    /// The code of the answer.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Name | Self::Password => Code::InvalidArgument,
            Self::Taken => Code::AlreadyExists,
            Self::Wrong => Code::Unauthenticated,
            Self::Full => Code::ResourceExhausted,
            Self::Storage(_) => Code::Unavailable,
            Self::Hash => Code::Internal,
        }
    }
}

/// Checks a name, of an account or of a guest.
///
/// # Errors
/// [`AccountError::Name`].
pub fn check_name(name: &str) -> Result<(), AccountError> {
    let known = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    let starts = name.chars().next().is_some_and(char::is_alphanumeric);
    let short = name.chars().count() <= NAME_CHARS_MAX;
    if starts && short && name.chars().all(known) { Ok(()) } else { Err(AccountError::Name) }
}

fn check_password(password: &str) -> Result<(), AccountError> {
    if (PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        Ok(())
    } else {
        Err(AccountError::Password)
    }
}

fn key(name: &str) -> Box<str> {
    name.to_lowercase().into()
}

impl Accounts {
    /// Opens the accounts of a data directory. A last record that is not whole was never confirmed to anybody and is
    /// cut off.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(folder: &Path, auth: &Auth) -> Result<Self, OpenError> {
        let mut by_key = BTreeMap::new();
        let ledger = Ledger::open(folder, (FILE, ADVICE), |line| parse(line, &mut by_key))?;
        let hasher = hasher(auth).map_err(OpenError::Parameters)?;
        let nobody = hash(&hasher, "nobody has this password", &[0; SALT_BYTES]).unwrap_or_default();
        Ok(Self { ledger, by_key, most: auth.accounts_max, hasher, nobody })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_key.len()
    }

    /// The names as they were registered.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_key.values().map(|account| &*account.name)
    }

    /// Whether somebody registered the name, in whatever case.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.by_key.contains_key(&key(name))
    }

    /// Whether that is the name of an account, as it was registered.
    #[must_use]
    pub fn is_name(&self, name: &str) -> bool {
        self.by_key.get(&key(name)).is_some_and(|account| *account.name == *name)
    }

    /// Makes an account that can be added: its name is free, its password is hashed.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub fn prepare(&self, name: &str, password: &str, rng: &mut impl CryptoRng) -> Result<NewAccount, AccountError> {
        check_name(name)?;
        check_password(password)?;
        if self.has(name) {
            return Err(AccountError::Taken);
        }
        if self.by_key.len() >= self.most {
            return Err(AccountError::Full);
        }
        let mut salt = [0; SALT_BYTES];
        rng.fill_bytes(&mut salt);
        let hash = hash(&self.hasher, password, &salt).ok_or(AccountError::Hash)?;
        Ok(NewAccount(Account { name: name.into(), hash: hash.into(), at_ms: 0 }))
    }

    /// Brings a file that could not be written back into order, as soon as that is possible; `now` is in seconds since 1970.
    pub(crate) fn mend(&mut self, now: u64) {
        self.ledger.probe();
        if self.ledger.is_unsure() {
            let mut accounts: Vec<&Account> = self.by_key.values().collect();
            accounts.sort_by_key(|account| account.at_ms);
            let records: Vec<Record<'_>> = accounts.into_iter().map(Account::record).collect();
            self.ledger.rewrite(now, &records);
        }
    }

    /// Why no account can be added at the moment, if so.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.ledger.trouble()
    }

    /// Adds an account that was just prepared; it is on disk when this returns.
    ///
    /// # Errors
    /// [`AccountError::Storage`]; then there is no new account. Only of one whose sync failed nobody knows whether the next
    /// start finds it.
    pub fn add(&mut self, NewAccount(account): NewAccount, at_ms: u64) -> Result<(), AccountError> {
        let account = Account { at_ms, ..account };
        self.ledger.append(&[account.record()])?;
        self.by_key.insert(key(&account.name), account);
        Ok(())
    }

    /// From here on its disk is full.
    #[cfg(test)]
    pub(crate) fn be_full(&mut self) {
        self.ledger.be_full();
    }

    /// The name as it was registered, if the password is right. Unknown names take as long as known ones.
    ///
    /// # Errors
    /// [`AccountError::Wrong`], whatever is wrong.
    pub fn verify(&self, name: &str, password: &str) -> Result<&str, AccountError> {
        let account = self.by_key.get(&key(name));
        let hash = account.map_or(self.nobody.as_str(), |account| &account.hash);
        // A password that is too long is never hashed: its length is its sender's own doing and tells nothing.
        let right = password.len() <= PASSWORD_BYTES_MAX
            && PasswordHash::new(hash)
                .is_ok_and(|hash| self.hasher.verify_password(password.as_bytes(), &hash).is_ok());
        match account {
            Some(account) if right => Ok(&account.name),
            _ => Err(AccountError::Wrong),
        }
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for NewAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NewAccount").field(&self.0.name).finish()
    }
}

fn parse(line: &[u8], by_key: &mut BTreeMap<Box<str>, Account>) -> Result<(), String> {
    let record: Record<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    check_name(&record.name).map_err(|error| error.to_string())?;
    PasswordHash::new(&record.hash).map_err(|error| format!("the hash is damaged: {error}"))?;
    let (name, hash) = (record.name.as_ref().into(), record.hash.as_ref().into());
    let account = Account { name, hash, at_ms: record.at_ms };
    match by_key.insert(key(&record.name), account) {
        None => Ok(()),
        Some(_) => Err(format!("a second account {}", record.name)),
    }
}

fn hasher(auth: &Auth) -> Result<Argon2<'static>, argon2::Error> {
    let params = Params::new(auth.argon2_kib, auth.argon2_passes, 1, None)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(hasher: &Argon2<'_>, password: &str, salt: &[u8]) -> Option<String> {
    let salt = SaltString::encode_b64(salt).ok()?;
    Some(hasher.hash_password(password.as_bytes(), &salt).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    /// Cheap hashing: the tests are about accounts, not about argon2.
    fn auth() -> Auth {
        Auth { argon2_kib: 8, argon2_passes: 1, ..Auth::default() }
    }

    fn open(folder: &tempfile::TempDir) -> Accounts {
        Accounts::open(folder.path(), &auth()).expect("opened")
    }

    fn register(accounts: &mut Accounts, name: &str, password: &str) -> Result<(), AccountError> {
        let new = accounts.prepare(name, password, &mut StdRng::seed_from_u64(7))?;
        accounts.add(new, 1)
    }

    #[test]
    fn an_account_survives_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut accounts = open(&folder);
        assert_eq!(register(&mut accounts, "Alice", "correct horse"), Ok(()));
        drop(accounts);
        let mode = fs::metadata(folder.path().join(FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let accounts = open(&folder);
        assert_eq!(accounts.verify("alice", "correct horse"), Ok("Alice"));
        assert_eq!(accounts.verify("alice", "wrong horse"), Err(AccountError::Wrong));
        assert_eq!(accounts.verify("bob", "correct horse"), Err(AccountError::Wrong));
        assert_eq!(accounts.verify("alice", &"x".repeat(10_000)), Err(AccountError::Wrong));
    }

    #[test]
    fn the_password_is_nowhere_in_the_file_and_the_hash_is_argon2id() {
        let folder = tempfile::tempdir().expect("a folder");
        register(&mut open(&folder), "alice", "correct horse").expect("registered");
        let text = fs::read_to_string(folder.path().join(FILE)).expect("there");
        assert!(text.contains("$argon2id$v=19$m=8,t=1,p=1$") && !text.contains("horse"), "{text}");
    }

    #[test]
    fn names_and_passwords_have_rules() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut accounts = open(&folder);
        let long = "x".repeat(NAME_CHARS_MAX + 1);
        for name in ["", ".hidden", "a b", "a/b", "a\n", "<b>", "a\u{202e}b", "\u{301}a", long.as_str()] {
            assert_eq!(register(&mut accounts, name, "long enough"), Err(AccountError::Name), "{name:?}");
        }
        for password in ["", "1234567", "x".repeat(PASSWORD_BYTES_MAX + 1).as_str()] {
            assert_eq!(register(&mut accounts, "bob", password), Err(AccountError::Password));
        }
        for name in ["a", "Zoë.2-x_y", "张伟", "x".repeat(NAME_CHARS_MAX).as_str()] {
            assert_eq!(register(&mut accounts, name, "long enough"), Ok(()), "{name:?}");
        }
        assert_eq!(register(&mut accounts, "ZOË.2-X_Y", "long enough"), Err(AccountError::Taken));
    }

    #[test]
    fn there_are_no_more_accounts_than_the_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut accounts = Accounts::open(folder.path(), &Auth { accounts_max: 2, ..auth() }).expect("opened");
        assert_eq!(register(&mut accounts, "a", "long enough"), Ok(()));
        assert_eq!(register(&mut accounts, "b", "long enough"), Ok(()));
        assert_eq!(register(&mut accounts, "c", "long enough"), Err(AccountError::Full));
        assert_eq!(accounts.count(), 2);
    }

    #[test]
    fn a_torn_last_record_is_cut_off_wherever_it_was_torn() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        let mut accounts = open(&folder);
        register(&mut accounts, "alice", "long enough").expect("registered");
        let whole = fs::read(&path).expect("there");
        register(&mut accounts, "bob", "long enough").expect("registered");
        let both = fs::read(&path).expect("there");
        drop(accounts);
        let zeros = [&whole[..], &[0; 50], b"\n"].concat();
        for torn in (whole.len()..both.len()).map(|at| both[..at].to_vec()).chain([zeros]) {
            fs::write(&path, &torn).expect("written");
            let mut accounts = open(&folder);
            assert!(accounts.has("alice") && !accounts.has("bob"));
            assert_eq!(fs::read(&path).expect("there"), whole);
            register(&mut accounts, "carol", "long enough").expect("registered");
            assert_eq!(open(&folder).count(), 2);
        }
    }

    #[test]
    fn a_damaged_record_before_the_last_one_is_reported_never_skipped() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        let mut accounts = open(&folder);
        ["a", "b", "c"].iter().for_each(|name| register(&mut accounts, name, "long enough").expect("registered"));
        let mut bytes = fs::read(&path).expect("there");
        let second = bytes.iter().position(|byte| *byte == b'\n').expect("a line") + 3;
        bytes[second] = 0;
        fs::write(&path, &bytes).expect("written");
        let text = Accounts::open(folder.path(), &auth()).expect_err("damaged").to_string();
        assert!(text.contains("accounts.jsonl:2: "), "{text}");
        assert_eq!(fs::read(&path).expect("there"), bytes);
    }

    #[test]
    fn a_full_disk_refuses_and_leaves_whole_records() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut accounts = open(&folder);
        register(&mut accounts, "alice", "long enough").expect("registered");
        accounts.be_full();
        assert!(matches!(register(&mut accounts, "bob", "long enough"), Err(AccountError::Storage(_))));
        assert!(!accounts.has("bob") && accounts.has("alice"));
        assert!(matches!(register(&mut accounts, "bob", "long enough"), Err(AccountError::Storage(_))));
        accounts.ledger.be_well();
        assert_eq!(register(&mut accounts, "bob", "long enough"), Ok(()), "there is space again");
        drop(accounts);
        assert_eq!(open(&folder).count(), 2);
    }

    #[test]
    fn after_a_sync_that_failed_the_file_is_written_anew_with_every_account() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut accounts = open(&folder);
        for (name, at_ms) in [("b", 1), ("a", 2)] {
            let new = accounts.prepare(name, "long enough", &mut StdRng::seed_from_u64(7)).expect("prepared");
            accounts.add(new, at_ms).expect("added");
        }
        let before = fs::read(folder.path().join(FILE)).expect("there");
        accounts.ledger.be_unsynced();
        assert!(matches!(register(&mut accounts, "c", "long enough"), Err(AccountError::Storage(_))));
        assert!(accounts.trouble().is_some() && !accounts.has("c"));
        accounts.mend(1);
        assert_eq!((accounts.trouble(), fs::read(folder.path().join(FILE)).expect("there")), (None, before));
        assert_eq!(register(&mut accounts, "c", "long enough"), Ok(()));
        drop(accounts);
        assert_eq!(open(&folder).count(), 3);
    }
}
