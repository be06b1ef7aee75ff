//! The spend guard: what refuses the next start, so that no mistake costs more
//! than was meant.
//!
//! GB-seconds are counted when they are begun: each run with its whole time limit,
//! and what it did not use is given back when it has ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sockerless_shared::timestamp::Timestamp;
use thiserror::Error;

use super::{Control, EngineError};
use crate::ports::table::{Condition, Key};
use crate::store::containers::Container;
use crate::store::{ATTEMPTS, StoreError, put_until};

/// How long a day's account is kept after it began.
const ACCOUNT_LIFETIME: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// The limits; none where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpendGuard {
    /// So many containers run at once, in all namespaces together.
    pub max_containers: Option<usize>,
    /// So many GB-seconds are begun in a day (UTC).
    pub max_gb_seconds_per_day: Option<u64>,
}

/// Why the guard does not let a container start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GuardRefusal {
    /// As many run as may.
    #[error(
        "the spend guard allows {limit} containers at once, and as many run: stop one, or raise max_containers of spend_guard and deploy again"
    )]
    Containers {
        /// The limit.
        limit: usize,
    },
    /// The day's allowance is used up.
    #[error(
        "the spend guard allows {limit} GB-seconds a day, of which {used} are used or held for what runs, and this container may need {wanted}: \
         wait for running containers or for midnight UTC, or raise max_gb_seconds_per_day of spend_guard and deploy again"
    )]
    GbSeconds {
        /// The limit.
        limit: u64,
        /// What is used or held.
        used: u64,
        /// What this container may need.
        wanted: u64,
    },
}

/// What a day has begun, in MiB-seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Account {
    mib_seconds: u64,
}

impl Account {
    /// With so much more held; `None` where the limit, in GB-seconds, does not allow it.
    fn hold(self, mib_seconds: u64, limit: u64) -> Option<Self> {
        let after = self.mib_seconds.saturating_add(mib_seconds);
        (after <= limit.saturating_mul(1024)).then_some(Self { mib_seconds: after })
    }
}

/// What a run that took so long did not use of what was held for it.
fn unused(held: u64, memory_mib: u32, took: Duration) -> u64 {
    // Begun seconds count whole.
    let used = u64::from(memory_mib).saturating_mul(took.as_secs() + 1);
    held.saturating_sub(used)
}

impl Control {
    /// Whether this container may start now; what it may need is held for it.
    ///
    /// # Errors
    /// [`EngineError::Guard`], or when the store fails.
    pub(crate) async fn hold(&self, container: &Container) -> Result<(), EngineError> {
        let guard = self.config.spend_guard;
        if let Some(limit) = guard.max_containers
            && self.store.live_containers().await?.len() >= limit
        {
            return Err(GuardRefusal::Containers { limit }.into());
        }
        let Some(limit) = guard.max_gb_seconds_per_day else {
            return Ok(());
        };
        let now = self.environment.now();
        let wanted = self.whole_run(container);
        let held = self
            .change_account(now, |account| account.hold(wanted, limit))
            .await?;
        held.map_err(|account| {
            GuardRefusal::GbSeconds {
                limit,
                used: account.mib_seconds.div_ceil(1024),
                wanted: wanted.div_ceil(1024),
            }
            .into()
        })
    }

    /// Gives back what a run that has ended did not use.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn give_back(&self, container: &Container) -> Result<(), EngineError> {
        if self.config.spend_guard.max_gb_seconds_per_day.is_none() {
            return Ok(());
        }
        let (Some(run), Some(exit)) = (&container.lifecycle.run, &container.lifecycle.exit) else {
            return Ok(());
        };
        let took = exit.at.since(run.requested_at);
        let unused = unused(self.whole_run(container), container.shape.memory_mib, took);
        // An account that is gone needs nothing given back.
        let _ = self
            .change_account(run.requested_at, |account| {
                Some(Account {
                    mib_seconds: account.mib_seconds.saturating_sub(unused),
                })
            })
            .await?;
        Ok(())
    }

    fn whole_run(&self, container: &Container) -> u64 {
        u64::from(container.shape.memory_mib)
            .saturating_mul(self.config.function_time_limit.as_secs())
    }

    /// Changes a day's account; `Err` with the account where `change` does not want to.
    async fn change_account(
        &self,
        day: Timestamp,
        change: impl Fn(Account) -> Option<Account>,
    ) -> Result<Result<(), Account>, EngineError> {
        let text = day.rfc3339();
        let date = text.get(..10).unwrap_or(&text);
        let key = Key::new("SPENT", date);
        for _ in 0..ATTEMPTS {
            let found = self.store.read::<Account>(&key).await?;
            let (account, condition) = found.map_or((Account::default(), Condition::Absent), |f| {
                (f.record, Condition::Version(f.version))
            });
            let Some(next) = change(account) else {
                return Ok(Err(account));
            };
            let expires = Some(day.plus(ACCOUNT_LIFETIME));
            let write = put_until(key.clone(), &next, condition, expires)?;
            match self.store.write(vec![write]).await {
                Ok(()) => return Ok(Ok(())),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Contended("the spend guard's account".to_owned()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_limit_and_gets_back_what_was_not_used() {
        let (memory, whole) = (1024, 1024 * 900);
        let first = Account::default().hold(whole, 1800).unwrap();
        let second = first.hold(whole, 1800).unwrap();
        assert_eq!(second.hold(whole, 1800), None);
        // Ten seconds and a bit count as eleven.
        let left = unused(whole, memory, Duration::from_millis(10_500));
        assert_eq!(left, 1024 * 889);
        let after = Account {
            mib_seconds: second.mib_seconds - left,
        };
        assert!(after.hold(1024 * 889, 1800).is_some());
        assert_eq!(after.hold(whole, 1800), None);
        // One that took longer than it should have gives nothing back.
        assert_eq!(unused(whole, memory, Duration::from_secs(2000)), 0);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let refusal = GuardRefusal::Containers { limit: 3 }.to_string();
        assert!(refusal.contains("max_containers"), "{refusal}");
        let refusal = GuardRefusal::GbSeconds {
            limit: 100,
            used: 90,
            wanted: 20,
        };
        assert!(refusal.to_string().contains("max_gb_seconds_per_day"));
    }
}
