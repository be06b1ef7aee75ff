//! A control plane in this process: what the frontend asks of it are calls, and
//! its relay is a pair of channels.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, sink, stream};
use sockerless_control::api::containers::logs::blob_name;
use sockerless_control::embedded::gateway::Gateway;
use sockerless_control::engine::Control;
use sockerless_control::ports::blobs::BlobError;
use sockerless_shared::answer::{Answer, Request};
use sockerless_shared::ids::{BlobId, Namespace, PeerId};
use sockerless_shared::protocol::control::ConnectQuery;
use sockerless_shared::protocol::mac::Token;
use tokio::sync::mpsc;

use crate::control_plane::{BodyError, ByteStream, ControlPlane, ControlPlaneError};
use crate::relay::{Dial, Link, LinkError};

/// The control plane of this process, for one namespace.
pub struct InProcess {
    /// What answers.
    pub control: Arc<Control>,
    /// Whose requests these are.
    pub namespace: Namespace,
    /// Largest request body, in bytes.
    pub max_body_bytes: u64,
}

#[async_trait]
impl ControlPlane for InProcess {
    async fn request(&self, request: Request) -> Result<Answer, ControlPlaneError> {
        Ok(self.control.handle(&self.namespace, request).await)
    }

    async fn upload(&self, body: ByteStream) -> Result<BlobId, ControlPlaneError> {
        let mut id = [0; BlobId::BYTES];
        getrandom::fill(&mut id).map_err(|error| ControlPlaneError::Failed(error.to_string()))?;
        let id = BlobId::from_random(id);
        let name = blob_name(&id).map_err(|error| ControlPlaneError::Failed(error.message))?;
        let body = body.map(|piece: Result<Bytes, BodyError>| {
            piece.map_err(|BodyError(why)| BlobError::Interrupted(why))
        });
        let stored = self
            .control
            .blobs()
            .put(&name, Box::pin(body), self.max_body_bytes);
        match stored.await {
            Ok(_) => Ok(id),
            Err(BlobError::Interrupted(why)) => Err(BodyError(why).into()),
            Err(error @ BlobError::TooLarge(_)) => {
                Err(ControlPlaneError::TooLarge(error.to_string()))
            }
            Err(error) => Err(ControlPlaneError::Failed(error.to_string())),
        }
    }

    async fn fetch(&self, blob: &BlobId) -> Result<ByteStream, ControlPlaneError> {
        let name = blob_name(blob).map_err(|error| ControlPlaneError::Failed(error.message))?;
        let body = self.control.blobs().get(&name).await;
        let body = body.map_err(|error| ControlPlaneError::Failed(error.to_string()))?;
        Ok(Box::pin(body.map(|piece| {
            piece.map_err(|error| BodyError(error.to_string()))
        })))
    }

    async fn relay_token(&self, peer: &PeerId) -> Result<Token, ControlPlaneError> {
        self.control
            .mint_relay_token(&self.namespace, peer)
            .await
            .map_err(|error| ControlPlaneError::Failed(error.to_string()))
    }
}

/// Connects to the gateway of this process.
pub struct InProcessDial(pub Gateway);

#[async_trait]
impl Dial for InProcessDial {
    async fn dial(&self, query: ConnectQuery) -> Result<Link, LinkError> {
        let (sender, receiver) = self
            .0
            .connect_in_process(&query.to_query())
            .await
            .map_err(|refused| LinkError(format!("refused: {}", refused.reason)))?;
        Ok(link(sender, receiver))
    }
}

fn link(sender: mpsc::Sender<String>, receiver: mpsc::Receiver<String>) -> Link {
    let outgoing = sink::unfold(sender, |sender, text: String| async {
        match sender.send(text).await {
            Ok(()) => Ok(sender),
            Err(_) => Err(LinkError("the gateway closed the connection".to_owned())),
        }
    });
    let incoming = stream::unfold(receiver, |mut receiver| async {
        let text = receiver.recv().await?;
        Some((Ok(text), receiver))
    });
    Link {
        outgoing: Box::pin(outgoing.sink_err_into()),
        incoming: Box::pin(incoming),
    }
}
