//! Answers whose status the agent decides.

use serde::Serialize;
use sockerless_shared::protocol::stream::{StreamReply, encode_head};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::Gone;

/// Status and headers of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    /// 200, with a content type unless it is empty.
    pub(super) fn ok(content_type: &str) -> Self {
        let typed = (!content_type.is_empty())
            .then(|| ("Content-Type".to_owned(), content_type.to_owned()));
        Self {
            status: 200,
            headers: typed.into_iter().collect(),
        }
    }
}

impl Head {
    /// Says how long the body is.
    pub(super) fn with_length(mut self, bytes: usize) -> Self {
        let length = ("Content-Length".to_owned(), bytes.to_string());
        self.headers.push(length);
        self
    }
}

/// Why something cannot be had, as Docker says it.
#[derive(Debug)]
pub(super) struct Failure {
    status: u16,
    message: String,
}

impl Failure {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

/// Answers 200 and nothing.
pub(super) async fn done<W: AsyncWrite + Unpin>(send: &mut W) -> Result<(), Gone> {
    answer(send, Head::ok("").with_length(0)).await
}

/// Answers 200 and a short JSON text.
pub(super) async fn whole<W: AsyncWrite + Unpin>(
    send: &mut W,
    value: &impl Serialize,
) -> Result<(), Gone> {
    whole_with(200, send, value).await
}

/// Answers with a short JSON text.
pub(super) async fn whole_with<W: AsyncWrite + Unpin>(
    status: u16,
    send: &mut W,
    value: &impl Serialize,
) -> Result<(), Gone> {
    let mut text = serde_json::to_vec(value).map_err(|_| Gone)?;
    text.push(b'\n');
    let head = Head {
        status,
        ..Head::ok("application/json").with_length(text.len())
    };
    answer(send, head).await?;
    send.write_all(&text).await?;
    Ok(())
}

/// Sends the head.
pub(super) async fn answer<W: AsyncWrite + Unpin>(send: &mut W, head: Head) -> Result<(), Gone> {
    let Head { status, headers } = head;
    let text = serde_json::to_string(&StreamReply::Answer { status, headers }).map_err(|_| Gone)?;
    send.write_all(&encode_head(&text).map_err(|_| Gone)?)
        .await?;
    Ok(())
}

/// Sends an error.
pub(super) async fn fail<W: AsyncWrite + Unpin>(
    send: &mut W,
    failure: Failure,
) -> Result<(), Gone> {
    let head = Head {
        status: failure.status,
        ..Head::ok("application/json")
    };
    answer(send, head).await?;
    line(send, &serde_json::json!({ "message": failure.message })).await
}

/// Sends a JSON value with a newline, as Go's encoder does.
pub(super) async fn line<W: AsyncWrite + Unpin>(
    send: &mut W,
    value: &impl Serialize,
) -> Result<(), Gone> {
    let mut text = serde_json::to_vec(value).map_err(|_| Gone)?;
    text.push(b'\n');
    send.write_all(&text).await?;
    Ok(())
}
