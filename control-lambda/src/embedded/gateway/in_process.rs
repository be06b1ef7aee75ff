//! A connection without a socket, for the frontend in the same process. All
//! the gateway's rules hold for it.

use futures_util::{StreamExt as _, sink, stream};
use sockerless_shared::protocol::control::MAX_MESSAGE_BYTES;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::Gateway;
use super::connection::End;
use crate::ports::relay::ConnectRefused;

/// Messages that fit between the two sides without anybody waiting, each way.
const BUFFERED: usize = 64;

impl Gateway {
    /// Connects as over a socket, with the query string of
    /// [`sockerless_shared::protocol::control::ConnectQuery`]. The connection ends when
    /// either half is dropped, and by the gateway's own rules; then the
    /// receiver gives `None` and the sender fails.
    ///
    /// # Errors
    /// As the control plane says at `$connect`; 503 when there is none.
    pub async fn connect_in_process(
        &self,
        query: &str,
    ) -> Result<(Sender<String>, Receiver<String>), ConnectRefused> {
        let (membership, queue) = self.shared.admit(query).await?;
        let (to_gateway, from_client) = channel::<String>(BUFFERED);
        let (to_client, from_gateway) = channel::<String>(BUFFERED);
        let client_gone = {
            let to_client = to_client.clone();
            async move { to_client.closed().await }
        };
        tokio::spawn(async move {
            let mut incoming = stream::unfold(from_client, |mut from_client| async move {
                let text = from_client.recv().await?;
                let text = if text.len() > MAX_MESSAGE_BYTES {
                    Err(End::TooLarge)
                } else {
                    Ok(text)
                };
                Some((text, from_client))
            })
            .boxed();
            let mut outgoing = Box::pin(sink::unfold(to_client, |to_client, text| async move {
                match to_client.send(text).await {
                    Ok(()) => Ok(to_client),
                    Err(_) => Err(End::Gone),
                }
            }));
            tokio::select! {
                _ = membership.run(queue, &mut incoming, &mut outgoing) => {}
                () = client_gone => {}
            }
        });
        Ok((to_gateway, from_gateway))
    }
}
