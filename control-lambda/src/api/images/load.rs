//! `POST /images/load` (Engine API, `ImageLoad`).

use bytes::BytesMut;
use sockerless_shared::answer::{Answer, Response};

use super::{platform, release_unused, say};
use crate::api::{ApiResult, Context, head};
use crate::images::Digest;
use crate::images::progress::{Message, Progress};

/// Loads the images of an archive, of which the body is the tar. What goes wrong
/// with it is told within the answer, whose status is 200 all the same.
///
/// # Errors
/// 400 for a platform that is none.
pub async fn load(context: &Context<'_>) -> ApiResult {
    let quiet = context.query.flag_or("quiet", true);
    let images = &context.control.images;
    let platform = platform::parameter(context)?;
    release_unused(context).await?;
    let body = context.body_stream().await?;
    let mut news = News::default();
    let outcome = images
        .load(context.namespace, body, platform.as_ref(), quiet, &mut news)
        .await;
    let News {
        mut messages,
        loaded,
    } = news;
    for image in loaded {
        let id = image.to_string();
        say(context.control, context.namespace, "load", &image, &id, &id).await;
    }
    if let Err(error) = outcome {
        tracing::info!(%error, "an image archive was not loaded");
        messages.push(Message::failure(error.to_string()));
    }
    let mut text = BytesMut::new();
    for message in &messages {
        text.extend_from_slice(message.line().as_bytes());
    }
    Ok(Answer::Final(Response {
        head: head(200, "application/json"),
        body: text.freeze(),
        cache_s: 0,
    }))
}

/// What a load told.
#[derive(Default)]
struct News {
    messages: Vec<Message>,
    loaded: Vec<Digest>,
}

#[async_trait::async_trait]
impl Progress for News {
    async fn message(&mut self, message: Message) {
        self.messages.push(message);
    }

    async fn loaded(&mut self, image: &Digest) {
        self.loaded.push(*image);
    }
}
