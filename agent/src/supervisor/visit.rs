//! What the agent does with a container's files beside running it: laying down what was kept
//! of them, serving them while no process of it runs, and storing them as a layer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sockerless_shared::protocol::control::Report;
use sockerless_shared::protocol::invocation::{Errand, Invocation};
use sockerless_shared::spec::Runtime;
use tokio::task::spawn_blocking;

use super::{Agent, Outcome, Phase, Run};
use crate::files::kept::lay;
use crate::files::layer::layer;
use crate::files::layers::Layers;
use crate::net::http::put_file;
use crate::relay::Link;
use crate::streams::{Keeper, Place};

/// How long laying down or keeping files may take.
const KEEPING_LIMIT: Duration = Duration::from_secs(120);

/// How long packing and storing a layer may take.
const LAYER_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The streams that a visit is for.
const VISITORS: u64 = 1;

/// What the files of this invocation depend on.
pub(super) fn place(agent: &Agent, invocation: &Invocation, link: &Link) -> Place {
    let keeper = match (&invocation.errand, &invocation.kept.keep_url) {
        (Errand::Visit, Some(url)) => Some(Keeper {
            scratch: agent.scratch.clone(),
            url: url.clone(),
            link: link.clone(),
            within: KEEPING_LIMIT,
        }),
        // At its end a run keeps them itself.
        (Errand::Visit | Errand::Run | Errand::StoreLayer { .. }, _) => None,
    };
    Place {
        runtime: invocation.spec.runtime,
        read_only_root: invocation.spec.read_only_root,
        layers: agent.layers.clone(),
        lost: match invocation.errand {
            Errand::Visit => invocation.kept.lost.clone(),
            // A new run has begun anew.
            Errand::Run | Errand::StoreLayer { .. } => None,
        },
        keeper,
    }
}

impl Run<'_> {
    /// Lays down what was kept of the container's files, if anything was.
    pub(super) async fn lay(&self) -> Result<(), String> {
        let Some(url) = &self.invocation.kept.lay_url else {
            return Ok(());
        };
        let limit = self.left().min(KEEPING_LIMIT);
        lay(url, self.agent.scratch.folder(), limit)
            .await
            .map_err(|error| {
                format!("what was kept of the container's files could not be laid down in /tmp again: {error}")
            })
    }

    /// Serves the files of a container that does not run.
    pub(super) async fn visit(mut self) -> Result<Outcome, String> {
        match self.claim().await {
            Some(true) => {}
            Some(false) => return Ok(Outcome::NotOurs),
            None => return Ok(Outcome::Unrecorded),
        }
        let laid = self.lay().await;
        self.phase.send_replace(Phase::Visited(laid.err()));
        self.active.drain(VISITORS, self.times.give_up).await;
        Ok(self.record(Report::Left).await)
    }

    /// Stores the layer of a container that does not run.
    pub(super) async fn store_layer_alone(
        mut self,
        command: u64,
        upload_url: &str,
    ) -> Result<Outcome, String> {
        match self.claim().await {
            Some(true) => {}
            Some(false) => return Ok(Outcome::NotOurs),
            None => return Ok(Outcome::Unrecorded),
        }
        let error = store(
            self.agent.layers.clone(),
            self.agent.scratch.folder(),
            upload_url,
        )
        .await
        .err();
        self.record(Report::LayerStored { command, error }).await;
        Ok(self.record(Report::Left).await)
    }

    /// Stores the layer while the container runs.
    pub(super) fn store_layer(&mut self, command: u64, upload_url: String) {
        let (layers, link) = (self.agent.layers.clone(), self.link.clone());
        let folder = self.agent.scratch.folder().to_owned();
        self.storing.spawn(async move {
            let error = store(layers, &folder, &upload_url).await.err();
            // Without an acknowledgement the run is over, and the commit with it.
            let _ = link.report(Report::LayerStored { command, error }).await;
        });
    }
}

async fn store(layers: Option<Arc<Layers>>, folder: &Path, upload_url: &str) -> Result<(), String> {
    let Some(layers) = layers else {
        return Err(format!(
            "the sandbox does not tell what the image has from what the container wrote; use --runtime {}",
            Runtime::Microvm.name()
        ));
    };
    let url = upload_url
        .parse()
        .map_err(|error| format!("the layer's upload URL cannot be read: {error}"))?;
    let folder = folder.to_owned();
    let (file, bytes) = spawn_blocking(move || layer(&layers, &folder))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("what the container wrote could not be packed: {error}"))?;
    put_file(&url, &file, bytes, LAYER_LIMIT)
        .await
        .map_err(|error| format!("the layer could not be stored: {error}"))
}
