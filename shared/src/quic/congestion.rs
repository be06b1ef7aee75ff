//! How much may be on its way at once.
//!
//! The relay is no router: it has no queue that a smaller window would relieve,
//! and what it loses it loses around a reconnect. So the window begins large,
//! never falls below a floor, and lets a probe through after a reconnect even
//! when everything that fits is on its way (and lost).

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};

/// Bytes on their way from the beginning: 4 MB lets a bulk stream run at full
/// speed over a round trip of 150 ms.
const INITIAL_WINDOW: u64 = 4 * 1024 * 1024;

/// Bytes that may be on their way after any loss.
const MINIMUM_WINDOW: u64 = 1024 * 1024;

/// More than can be on its way, and far from overflowing.
const UNLIMITED: u64 = 1 << 40;

/// Datagrams let through after a wake-up: the probe, and one acknowledgement
/// that may have come before it.
const PROBES: u8 = 2;

/// Counts the wake-ups of one endpoint; every controller follows it.
#[derive(Debug, Default)]
pub(super) struct Wakeups(AtomicU64);

impl Wakeups {
    pub(super) fn announce(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes the controllers of one endpoint.
#[derive(Debug)]
pub(super) struct RelayCongestion {
    inner: Arc<CubicConfig>,
    wakeups: Arc<Wakeups>,
}

impl RelayCongestion {
    pub(super) fn new(wakeups: Arc<Wakeups>) -> Self {
        let mut inner = CubicConfig::default();
        inner.initial_window(INITIAL_WINDOW);
        Self {
            inner: Arc::new(inner),
            wakeups,
        }
    }
}

impl ControllerFactory for RelayCongestion {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(RelayController {
            inner: Arc::clone(&self.inner).build(now, mtu),
            seen: self.wakeups.count(),
            probes_sent: 0,
            wakeups: Arc::clone(&self.wakeups),
        })
    }
}

/// Cubic with a floor, and the exception for probes.
struct RelayController {
    inner: Box<dyn Controller>,
    wakeups: Arc<Wakeups>,
    /// The last wake-up whose probes have been sent.
    seen: u64,
    probes_sent: u8,
}

impl Controller for RelayController {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        let count = self.wakeups.count();
        if count != self.seen {
            self.probes_sent += 1;
            if self.probes_sent >= PROBES {
                self.probes_sent = 0;
                self.seen = count;
            }
        }
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &quinn_proto::RttEstimator,
    ) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.wakeups.count() == self.seen {
            self.inner.window().max(MINIMUM_WINDOW)
        } else {
            UNLIMITED
        }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            inner: self.inner.clone_box(),
            wakeups: Arc::clone(&self.wakeups),
            seen: self.seen,
            probes_sent: self.probes_sent,
        })
    }

    fn initial_window(&self) -> u64 {
        INITIAL_WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
