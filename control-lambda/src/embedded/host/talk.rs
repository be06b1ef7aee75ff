//! The tasks that a host runs in the background.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use super::shared::{Ordered, Shared};
use super::warden_client::{Reports, Warden, WardenError, number};
use super::wire::WireError;

/// How long a warden may take to begin.
const WARDEN_START_LIMIT: Duration = Duration::from_secs(10);

/// Starts wardens.
pub(super) struct Launcher {
    pub(super) helper: PathBuf,
    pub(super) scratch: PathBuf,
}

impl Launcher {
    pub(super) async fn start(&self) -> Result<(Warden, Reports), WardenError> {
        tokio::time::timeout(
            WARDEN_START_LIMIT,
            Warden::start(&self.helper, &self.scratch),
        )
        .await
        .unwrap_or(Err(WardenError::Ended))
    }
}

/// Carries orders to the warden and reports from it; starts another one when it
/// has ended.
pub(super) async fn talk(
    launcher: Launcher,
    first: (Warden, Reports),
    mut orders: mpsc::UnboundedReceiver<Ordered>,
    shared: Weak<Shared>,
) {
    let mut running = Some(first);
    loop {
        let (warden, reports) = match running.take() {
            Some(running) => running,
            None => match launcher.start().await {
                Ok(started) => started,
                Err(error) => {
                    tracing::error!(%error, "the sandbox helper does not start again");
                    // Whatever is asked for next is answered with that, and tried again.
                    let Some((order, fds)) = orders.recv().await else {
                        return;
                    };
                    drop(fds);
                    let Some(shared) = shared.upgrade() else {
                        return;
                    };
                    shared.undeliverable(order, &error).await;
                    continue;
                }
            },
        };
        if !exchange(&warden, reports, &mut orders, &shared).await {
            return;
        }
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.all_lost();
    }
}

/// Until the warden ends (true) or the host does (false).
async fn exchange(
    warden: &Warden,
    mut reports: Reports,
    orders: &mut mpsc::UnboundedReceiver<Ordered>,
    shared: &Weak<Shared>,
) -> bool {
    loop {
        tokio::select! {
            report = reports.recv() => {
                let Some((report, fds)) = report else {
                    return true;
                };
                let Some(shared) = shared.upgrade() else {
                    return false;
                };
                shared.reported(report, fds).await;
            }
            order = orders.recv() => {
                let Some((order, fds)) = order else {
                    return false;
                };
                let numbers: Vec<_> = fds.iter().map(number).collect();
                match warden.order(&order, &numbers).await {
                    Ok(()) => {}
                    Err(error @ WardenError::Wire(WireError::TooLarge(_))) => {
                        // Its end is told when nobody can write to its log any more.
                        drop(fds);
                        let Some(shared) = shared.upgrade() else {
                            return false;
                        };
                        shared.undeliverable(order, &error).await;
                    }
                    Err(error) => {
                        tracing::error!(%error, "sandbox helper");
                        return true;
                    }
                }
            }
        }
    }
}

/// Kills what has been idle for too long.
pub(super) async fn reclaim(shared: Weak<Shared>, idle: Arc<Notify>) {
    loop {
        let Some(strong) = shared.upgrade() else {
            return;
        };
        let mut next = None;
        strong.act(|pool| {
            let (effects, again) = pool.reclaim(Instant::now());
            next = again;
            effects
        });
        drop(strong);
        let wait = async {
            match next {
                Some(next) => tokio::time::sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            () = idle.notified() => {}
        }
    }
}
