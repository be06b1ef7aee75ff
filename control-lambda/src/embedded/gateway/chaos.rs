//! Misbehaviour on purpose, decided by a seeded generator.

use std::ops::Range;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use thiserror::Error;

/// What goes wrong on every connection. Each connection draws from a generator
/// of its own, made of the seed and of how many there were before it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChaosPolicy {
    /// The same seed misbehaves in the same way, as far as the order of events is the same.
    pub seed: u64,
    /// To messages from the connection to the control plane.
    pub inbound: Mischief,
    /// To texts posted to the connection.
    pub outbound: Mischief,
    /// Probability that the end of a connection is not told to the control plane.
    pub forget_disconnect: f64,
}

/// What happens to messages of one direction. Probabilities are from 0 to 1,
/// for each message.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mischief {
    /// It is lost.
    pub drop: f64,
    /// It is delivered twice.
    pub repeat: f64,
    /// Every delivery takes a time drawn from this range. A range that is wider
    /// than the time between messages reorders by itself.
    pub delay: Range<Duration>,
    /// It is held back for `reorder_by`, so that later ones overtake it.
    pub reorder: f64,
    /// How long.
    pub reorder_by: Duration,
    /// The connection is cut instead, without a close frame; what is under way is lost.
    pub disconnect: f64,
}

/// What is wrong with a policy's text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is none of seed=N; drop=P, repeat=P, reorder=P, disconnect=P, forget-disconnect=P \
     with P from 0 to 1; delay=MS, reorder-by=MS"
)]
pub struct InvalidChaos(String);

/// `seed=7,drop=0.01,…`: the same in both directions; what is not named does not happen.
/// `delay` is the longest time, in milliseconds; the shortest is none.
impl FromStr for ChaosPolicy {
    type Err = InvalidChaos;

    fn from_str(text: &str) -> Result<Self, InvalidChaos> {
        let mut seed = 0;
        let mut forget_disconnect = 0.0;
        let mut mischief = Mischief::default();
        for setting in text.split(',') {
            let wrong = || InvalidChaos(setting.to_owned());
            let (name, value) = setting.split_once('=').ok_or_else(wrong)?;
            let millis = || {
                value
                    .parse()
                    .map(Duration::from_millis)
                    .map_err(|_| wrong())
            };
            let part = || match value.parse::<f64>() {
                Ok(part) if (0.0..=1.0).contains(&part) => Ok(part),
                Ok(_) | Err(_) => Err(wrong()),
            };
            match name {
                "seed" => seed = value.parse().map_err(|_| wrong())?,
                "drop" => mischief.drop = part()?,
                "repeat" => mischief.repeat = part()?,
                "reorder" => mischief.reorder = part()?,
                "disconnect" => mischief.disconnect = part()?,
                "forget-disconnect" => forget_disconnect = part()?,
                "delay" => mischief.delay = Duration::ZERO..millis()?,
                "reorder-by" => mischief.reorder_by = millis()?,
                _ => return Err(wrong()),
            }
        }
        Ok(Self {
            seed,
            inbound: mischief.clone(),
            outbound: mischief,
            forget_disconnect,
        })
    }
}

/// What to do with one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// Deliver it after each of these times: none, one or two.
    Deliver(Vec<Duration>),
    /// Cut the connection.
    Disconnect,
}

/// One connection's misbehaviour.
#[derive(Debug)]
pub(super) struct Chaos {
    policy: ChaosPolicy,
    rng: Mutex<Rng>,
}

impl Chaos {
    /// For the connection before which there were `ordinal` others.
    pub(super) fn new(policy: ChaosPolicy, ordinal: u64) -> Self {
        let rng = Mutex::new(Rng::with_seed(policy.seed.rotate_left(17) ^ ordinal));
        Self { policy, rng }
    }

    pub(super) fn inbound(&self) -> Plan {
        self.draw(|rng| plan(&self.policy.inbound, rng))
    }

    pub(super) fn outbound(&self) -> Plan {
        self.draw(|rng| plan(&self.policy.outbound, rng))
    }

    pub(super) fn forgets_disconnect(&self) -> bool {
        self.draw(|rng| rng.f64() < self.policy.forget_disconnect)
    }

    fn draw<T>(&self, with: impl FnOnce(&mut Rng) -> T) -> T {
        with(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn plan(mischief: &Mischief, rng: &mut Rng) -> Plan {
    if rng.f64() < mischief.disconnect {
        return Plan::Disconnect;
    }
    if rng.f64() < mischief.drop {
        return Plan::Deliver(Vec::new());
    }
    let copies = if rng.f64() < mischief.repeat { 2 } else { 1 };
    Plan::Deliver((0..copies).map(|_| delay(mischief, rng)).collect())
}

fn delay(mischief: &Mischief, rng: &mut Rng) -> Duration {
    let Range { start, end } = mischief.delay;
    let mut delay = start + end.saturating_sub(start).mul_f64(rng.f64());
    if rng.f64() < mischief.reorder {
        delay += mischief.reorder_by;
    }
    delay
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(mischief: Mischief, seed: u64) -> Vec<Plan> {
        let policy = ChaosPolicy {
            seed,
            inbound: mischief,
            outbound: Mischief::default(),
            forget_disconnect: 0.0,
        };
        let chaos = Chaos::new(policy, 0);
        (0..1000).map(|_| chaos.inbound()).collect()
    }

    fn all() -> Mischief {
        Mischief {
            drop: 0.1,
            repeat: 0.2,
            delay: Duration::from_millis(5)..Duration::from_millis(9),
            reorder: 0.3,
            reorder_by: Duration::from_millis(50),
            disconnect: 0.05,
        }
    }

    #[test]
    fn a_policy_has_a_text() {
        let text = "seed=4,drop=0.1,repeat=0.2,reorder=0.3,reorder-by=50,delay=9,disconnect=0.05,forget-disconnect=1";
        let policy: ChaosPolicy = text.parse().unwrap();
        let mischief = Mischief {
            delay: Duration::ZERO..Duration::from_millis(9),
            ..all()
        };
        let expected = ChaosPolicy {
            seed: 4,
            inbound: mischief.clone(),
            outbound: mischief,
            forget_disconnect: 1.0,
        };
        assert_eq!(policy, expected);
        for wrong in [
            "",
            "drop",
            "drop=2",
            "drop=-1",
            "drop=x",
            "seed=-1",
            "delay=0.5",
            "x=1",
        ] {
            wrong.parse::<ChaosPolicy>().unwrap_err();
        }
    }

    #[test]
    fn nothing_asked_for_is_nothing_done() {
        let honest = Plan::Deliver(vec![Duration::ZERO]);
        assert!(
            plans(Mischief::default(), 1)
                .iter()
                .all(|plan| *plan == honest)
        );
    }

    #[test]
    fn a_seed_repeats_itself_and_another_differs() {
        assert_eq!(plans(all(), 1), plans(all(), 1));
        assert_ne!(plans(all(), 1), plans(all(), 2));
    }

    #[test]
    fn everything_asked_for_happens_about_as_often_as_asked() {
        let plans = plans(all(), 3);
        let count = |what: fn(&Plan) -> bool| plans.iter().filter(|plan| what(plan)).count();
        let cut = count(|plan| *plan == Plan::Disconnect);
        let lost = count(|plan| *plan == Plan::Deliver(vec![]));
        let twice = count(|plan| matches!(plan, Plan::Deliver(times) if times.len() == 2));
        assert!((25..90).contains(&cut), "{cut}");
        assert!((60..150).contains(&lost), "{lost}");
        assert!((120..260).contains(&twice), "{twice}");
        for plan in plans {
            if let Plan::Deliver(times) = plan {
                for time in times {
                    let millis = time.as_millis();
                    assert!(
                        (5..9).contains(&millis) || (55..59).contains(&millis),
                        "{time:?}"
                    );
                }
            }
        }
    }
}
