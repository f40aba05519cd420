//! Where jobs are done: registering, logging in, renewing and leaving, each at its rate. It has no clock and no thread.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use handler::Code;
use rand::{Rng, rngs::StdRng};
use session::auth::{LoginId, Refresh};

use super::job::{Credentials, Done, Ended, Identity, Job, Outcome, Refusal};
use crate::{
    account::{AccountError, Accounts, check_name},
    config::Auth,
    login::{LoginBook, RenewError, Stands},
    throttle::{Throttle, network},
};

/// Where jobs are done; it has no clock and no thread.
pub(super) struct Desk {
    pub(super) accounts: Accounts,
    pub(super) logins: LoginBook,
    /// What the job that is being done has ended.
    ended: Option<Ended>,
    shared: Arc<chat::Shared>,
    guests: bool,
    by_name: Throttle,
    by_address: Throttle,
    guests_by_address: Throttle,
    refreshes_by_login: Throttle,
    refreshes_by_address: Throttle,
    rng: StdRng,
}

impl Desk {
    pub(super) fn new(
        (accounts, logins): (Accounts, LoginBook),
        auth: &Auth,
        shared: Arc<chat::Shared>,
        now: Instant,
        mut rng: StdRng,
    ) -> Self {
        accounts.names().for_each(|name| shared.people.add(name));
        let by_name = Throttle::new(now, auth.logins_per_min, rng.random());
        let by_address = Throttle::new(now, auth.logins_per_min_address, rng.random());
        let guests_by_address = Throttle::new(now, auth.guests_per_min_address, rng.random());
        let refreshes_by_login = Throttle::new(now, auth.logins_per_min, rng.random());
        let refreshes_by_address = Throttle::new(now, auth.refreshes_per_min_address, rng.random());
        Self {
            accounts,
            logins,
            ended: None,
            shared,
            guests: auth.guest,
            by_name,
            by_address,
            guests_by_address,
            refreshes_by_login,
            refreshes_by_address,
            rng,
        }
    }

    pub(super) fn handle(&mut self, now: Instant, wall: SystemTime, job: Job) -> Outcome {
        let answer = match job {
            Job::Register(credentials) => self.register(now, wall, &credentials).map(Done::Welcome),
            Job::Login(credentials) => self.login(now, wall, &credentials).map(Done::Welcome),
            Job::Guest { name, address } => self.guest(now, name, address).map(Done::Welcome),
            Job::Refresh { refresh, address } => self.refresh(now, wall, refresh, address).map(Done::Welcome),
            Job::Logout { refresh, all, address } => self.logout(now, wall, (refresh, all), address),
        };
        Outcome { answer, ended: self.ended.take() }
    }

    /// What is due about every second.
    pub(super) fn tend(&mut self, wall: SystemTime) {
        let now = unix_secs(wall);
        self.accounts.mend(now);
        self.logins.expire(now);
    }

    /// Makes an account and its first login. The login is stored first: as long as there is no account of that name it is
    /// nobody's, and ends with the next start. So a name is taken only by a registration that has gone all the way, also
    /// when a disk is full or the server ends in between.
    fn register(&mut self, now: Instant, wall: SystemTime, new: &Credentials) -> Result<Identity, Refusal> {
        self.by_address.take(now, network(new.address)).map_err(throttled)?;
        let at_ms = wall.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        let account = self.accounts.prepare(&new.name, &new.password, &mut self.rng)?;
        let identity = self.begin(wall, new.name.clone())?;
        self.accounts.add(account, at_ms).inspect_err(|_| self.withdraw(&identity))?;
        self.shared.people.add(&new.name);
        tracing::info!(user = new.name, "registered");
        Ok(identity)
    }

    fn login(&mut self, now: Instant, wall: SystemTime, login: &Credentials) -> Result<Identity, Refusal> {
        self.by_address.take(now, network(login.address)).map_err(throttled)?;
        // A name that nobody can have needs no hashing, and its length must not fill the table's hasher.
        check_name(&login.name).map_err(|_| AccountError::Wrong)?;
        // Per name and network: attempts from elsewhere must not lock the owner of a name out.
        let who = (login.name.to_lowercase(), network(login.address));
        self.by_name.take(now, who).map_err(throttled)?;
        let user = self.accounts.verify(&login.name, &login.password)?.to_owned();
        self.begin(wall, user)
    }

    /// A device of an account is logged in from here on.
    fn begin(&mut self, wall: SystemTime, user: String) -> Result<Identity, Refusal> {
        let id = LoginId(self.rng.random());
        let (stands, logins) = self.logins.begin(unix_secs(wall), &user, id)?;
        if !logins.is_empty() {
            self.ended = Some(Ended { logins, user: user.clone(), all: false, record: None });
        }
        Ok(Identity { user, guest: false, login: Some(stands) })
    }

    /// Nobody was told of this login, and nobody will be.
    fn withdraw(&mut self, identity: &Identity) {
        if let Some(Stands { refresh, .. }) = identity.login {
            self.logins.withdraw(refresh.login);
        }
    }

    fn refresh(
        &mut self,
        now: Instant,
        wall: SystemTime,
        refresh: Refresh,
        address: IpAddr,
    ) -> Result<Identity, Refusal> {
        self.refreshes_by_address.take(now, network(address)).map_err(throttled)?;
        self.refreshes_by_login.take(now, refresh.login).map_err(throttled)?;
        let renewed = self.logins.renew(unix_secs(wall), refresh);
        let (user, stands) = renewed.map_err(|error| self.not_renewed(refresh, error))?;
        Ok(Identity { user, guest: false, login: Some(stands) })
    }

    fn logout(
        &mut self,
        now: Instant,
        wall: SystemTime,
        (refresh, all): (Refresh, bool),
        address: IpAddr,
    ) -> Result<Done, Refusal> {
        self.refreshes_by_address.take(now, network(address)).map_err(throttled)?;
        match self.logins.leave(unix_secs(wall), refresh, all) {
            Ok((user, logins)) => {
                let record = all.then_some("logout_all");
                self.ended = Some(Ended { logins, user, all, record });
                Ok(Done::Goodbye)
            }
            // It has ended already, which is what was wanted.
            Err(RenewError::Unknown) if !all => Ok(Done::Goodbye),
            Err(error) => Err(self.not_renewed(refresh, error)),
        }
    }

    fn not_renewed(&mut self, refresh: Refresh, error: RenewError) -> Refusal {
        let refused =
            |message: &str| Refusal { code: Code::Unauthenticated, message: message.to_owned(), retry_ms: None };
        match error {
            RenewError::Unknown => refused("the refresh token is not valid; log in again"),
            RenewError::Reused { user } => {
                tracing::warn!(user, "a refresh token was used a second time: its login has ended");
                let (logins, record) = (vec![refresh.login], Some("refresh_reused"));
                self.ended = Some(Ended { logins, user, all: false, record });
                refused("the refresh token was used before, so that its login has ended; log in again")
            }
            RenewError::Storage(error) => error.into(),
        }
    }

    fn guest(&mut self, now: Instant, name: String, address: IpAddr) -> Result<Identity, Refusal> {
        if !self.guests {
            let message = "this server has no guests; register or log in".into();
            return Err(Refusal { code: Code::PermissionDenied, message, retry_ms: None });
        }
        check_name(&name)?;
        self.guests_by_address.take(now, network(address)).map_err(throttled)?;
        if self.accounts.has(&name) {
            return Err(AccountError::Taken.into());
        }
        Ok(Identity { user: name, guest: true, login: None })
    }
}

pub(super) fn unix_secs(wall: SystemTime) -> u64 {
    wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn throttled(wait: Duration) -> Refusal {
    let retry_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
    Refusal { code: Code::ResourceExhausted, message: "too many attempts".into(), retry_ms: Some(retry_ms) }
}

#[cfg(test)]
pub(super) mod tests;
