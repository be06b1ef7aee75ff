//! `docker import`, which the Engine API has within `ImageCreate`.

use sockerless_shared::answer::{Answer, Response};

use super::tag::repo_and_tag;
use super::{release_unused, say};
use crate::api::{ApiError, ApiResult, Context, head};
use crate::images::changes;
use crate::images::import::{ImportError, Imported};
use crate::images::platform::Platform;
use crate::images::progress::Message;

/// Makes an image of a root file system, of which the body (or what is at a URL)
/// is the tar.
///
/// # Errors
/// 400 for a name or a change that is none; 500 for what is no tar.
pub(super) async fn import(context: &Context<'_>, platform: Option<&Platform>) -> ApiResult {
    let query = &context.query;
    let reference = repo_and_tag(query.text("repo"), query.text("tag"))?;
    if platform.is_some_and(|platform| platform.os != "linux") {
        return Err(ApiError::new(400, "operating system is not supported"));
    }
    let bad = |error: changes::ChangeError| ApiError::new(400, error.to_string());
    let config = changes::apply(query.all("changes")).map_err(bad)?;
    release_unused(context).await?;
    let images = &context.control.images;
    let source = query.text("fromSrc");
    let mut messages = Vec::new();
    let body = if source == "-" {
        context.body_stream().await?
    } else {
        let url = url(source);
        let found = images.download(&url).await;
        let body = found.map_err(|(status, error)| ApiError::new(status, error.to_string()))?;
        messages.push(Message::status("", format!("Downloading from {url}")));
        body
    };
    let comment = match query.text("message") {
        "" => format!("Imported from {source}"),
        message => message.to_owned(),
    };
    let wanted = Imported {
        reference: reference.as_ref(),
        config,
        comment,
        architecture: platform.map(|platform| platform.architecture.clone()),
    };
    let imported = images.import(context.namespace, body, wanted).await;
    match imported {
        Ok(id) => {
            messages.push(Message::status("", id.to_string()));
            let (control, namespace, actor) = (context.control, context.namespace, id.to_string());
            if let Some(reference) = &reference {
                let name = reference.familiar();
                say(control, namespace, "tag", &id, &actor, &name).await;
            }
            say(control, namespace, "import", &id, &actor, &actor).await;
        }
        Err(error) if messages.is_empty() => return Err(refusal(&error)),
        Err(error) => messages.push(Message::failure(error.to_string())),
    }
    let text: String = messages.iter().map(Message::line).collect();
    Ok(Answer::Final(Response {
        head: head(200, "application/json"),
        body: text.into(),
        cache_s: 0,
    }))
}

fn refusal(error: &ImportError) -> ApiError {
    ApiError::new(500, error.to_string())
}

/// As Docker completes it: without a scheme it is `http`.
fn url(source: &str) -> String {
    if source.contains("://") {
        source.to_owned()
    } else {
        format!("http://{source}")
    }
}
