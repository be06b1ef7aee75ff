//! `docker import`, which the Engine API has within `ImageCreate`.

use sockerless_shared::ids::{AnswerId, Namespace};
use tokio::sync::mpsc;

use super::news::{self, News};
use super::tag::repo_and_tag;
use super::{changed, release_unused, say};
use crate::api::{ApiError, ApiResult, Context};
use crate::engine::{Control, EngineError};
use crate::images::config::RunConfig;
use crate::images::import::Imported;
use crate::images::platform::Platform;
use crate::images::progress::{Message, Progress};
use crate::images::pull::counted;
use crate::ports::blobs::ByteStream;
use crate::ports::jobs::{Import, Job};

/// Makes an image of a root file system, of which the body (or what is at a URL)
/// is the tar. What is large, or at a URL, is a job.
///
/// # Errors
/// 400 for a name or a change that is none; 500 for what is no tar.
pub(super) async fn import(context: &Context<'_>, platform: Option<&Platform>) -> ApiResult {
    let query = &context.query;
    let mut import = Import {
        body: None,
        source: query.text("fromSrc").to_owned(),
        repo: query.text("repo").to_owned(),
        tag: query.text("tag").to_owned(),
        changes: query.all("changes").map(ToOwned::to_owned).collect(),
        message: query.text("message").to_owned(),
        platform: platform.map(ToString::to_string),
    };
    let control = context.control;
    // What can be refused at once is.
    wanted(control, &import)?;
    release_unused(context).await?;
    let peer = if import.source == "-" {
        let taken = context.take_body();
        import.body = taken.map(|(body, _)| body.clone());
        taken.map(|(_, peer)| peer)
    } else {
        context.request.peer.as_ref()
    };
    if let Some(peer) = peer {
        let (answer, parts) = control.begin_answer(peer, Vec::new()).await?;
        let job = Job::Import {
            namespace: context.namespace.clone(),
            import: Box::new(import),
            answer,
        };
        control.jobs.submit(job).await.map_err(EngineError::from)?;
        return Ok(parts);
    }
    let mut messages: Vec<Message> = Vec::new();
    let outcome = if import.source == "-" {
        let body = context.body_stream().await?;
        make(control, context.namespace, &import, body, &mut messages).await
    } else {
        fetch(control, context.namespace, &import, &mut messages).await
    };
    news::at_once(messages, outcome)
}

/// Carries out [`Job::Import`].
///
/// # Errors
/// When the answer cannot be stored.
pub(crate) async fn carry_out(
    control: &Control,
    namespace: &Namespace,
    import: &Import,
    answer: AnswerId,
) -> Result<(), EngineError> {
    let mut news = News::resume(control, answer).await?;
    let outcome = async {
        match &import.body {
            Some(body) => {
                let body = control.stored_body(body).await?;
                make(control, namespace, import, body, &mut news).await
            }
            None => fetch(control, namespace, import, &mut news).await,
        }
    };
    let outcome = outcome.await;
    if let Some(body) = &import.body {
        control.drop_body(body).await;
    }
    news.finish(outcome).await
}

/// Imports what is at a URL, which is told as it comes.
async fn fetch(
    control: &Control,
    namespace: &Namespace,
    import: &Import,
    progress: &mut dyn Progress,
) -> Result<(), ApiError> {
    let url = url(&import.source);
    let found = control.images.download(&url).await;
    let (body, size) = found.map_err(|(status, error)| ApiError::new(status, error.to_string()))?;
    let step = Message::status("", format!("Downloading from {url}"));
    progress.message(step).await;
    let (news, mut told) = mpsc::channel(64);
    let body = counted(body, "", "Importing", (0, size), news);
    let mut messages = Vec::new();
    let outcome = {
        let mut made = std::pin::pin!(make(control, namespace, import, body, &mut messages));
        loop {
            tokio::select! {
                biased;
                Some(message) = told.recv() => progress.message(message).await,
                made = &mut made => break made,
            }
        }
    };
    while let Ok(message) = told.try_recv() {
        progress.message(message).await;
    }
    for message in messages {
        progress.message(message).await;
    }
    outcome
}

/// What is to be made, checked.
fn wanted(control: &Control, import: &Import) -> Result<Wanted, ApiError> {
    let bad = |error: &dyn std::fmt::Display| ApiError::new(400, error.to_string());
    let reference = repo_and_tag(&import.repo, &import.tag)?;
    let platform = import
        .platform
        .as_deref()
        .map(|text| Platform::parse(text, &control.images.platform))
        .transpose()
        .map_err(|error| bad(&error))?;
    if platform
        .as_ref()
        .is_some_and(|platform| platform.os != "linux")
    {
        return Err(ApiError::new(400, "operating system is not supported"));
    }
    let changes = import.changes.iter().map(String::as_str);
    Ok(Wanted {
        reference,
        config: changed(RunConfig::default(), changes)?,
        architecture: platform.map(|platform| platform.architecture),
    })
}

struct Wanted {
    reference: Option<crate::images::reference::Reference>,
    config: RunConfig,
    architecture: Option<String>,
}

async fn make(
    control: &Control,
    namespace: &Namespace,
    import: &Import,
    body: ByteStream,
    progress: &mut dyn Progress,
) -> Result<(), ApiError> {
    let wanted = wanted(control, import)?;
    let comment = match import.message.as_str() {
        "" => format!("Imported from {}", import.source),
        message => message.to_owned(),
    };
    let imported = Imported {
        reference: wanted.reference.as_ref(),
        config: wanted.config,
        comment,
        architecture: wanted.architecture,
    };
    let id = control.images.import(namespace, body, imported).await;
    let id = id.map_err(|error| ApiError::new(500, error.to_string()))?;
    progress.message(Message::status("", id.to_string())).await;
    let actor = id.to_string();
    if let Some(reference) = &wanted.reference {
        let name = reference.familiar();
        say(control, namespace, "tag", &id, &actor, &name).await;
    }
    say(control, namespace, "import", &id, &actor, &actor).await;
    Ok(())
}

/// As Docker completes it: without a scheme it is `http`.
fn url(source: &str) -> String {
    if source.contains("://") {
        source.to_owned()
    } else {
        format!("http://{source}")
    }
}
