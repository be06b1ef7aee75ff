//! `POST /commit` (Engine API, `ImageCommit`).

use serde_json::{Value, json};
use sockerless_shared::ids::{AnswerId, RunId};
use sockerless_shared::lifecycle::Phase;
use sockerless_shared::protocol::control::Command;
use sockerless_shared::spec::Runtime;

use super::changed;
use super::tag::repo_and_tag;
use crate::api::containers::config::CONFIG;
use crate::api::containers::find;
use crate::api::{ApiError, ApiResult, Context, go_json, head};
use crate::engine::jobs::AnswerWriter;
use crate::engine::{Control, EngineError};
use crate::images::commit::{Committed, complete};
use crate::images::config::RunConfig;
use crate::images::reference::Reference;
use crate::ports::blobs::BlobName;
use crate::store::containers::Container;
use crate::store::runs::{Commit, PendingCommand};

/// How long the layer may take to be stored.
const UPLOAD_LIMIT: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// What is said of a container that wrote nothing an image could have.
const READ_ONLY: &str = "commit is not implemented by sockerless for a container under the runtime function, whose root cannot be written to: \
                         use --runtime microvm";

/// Makes an image of what a container wrote: its agent stores that as a layer, then the image
/// is made ([`carry_out`]).
///
/// # Errors
/// 400 for a name or a change that is none, 404, 409 for a container that is being removed, 501
/// for one that cannot write to its root.
pub async fn commit(context: &Context<'_>) -> ApiResult {
    let query = &context.query;
    let body = context.json_body_or_nothing()?;
    let sent = sent_config(&body)?;
    let reference = repo_and_tag(query.text("repo"), query.text("tag"))?;
    let container = find(context, query.text("container")).await?;
    check(&container)?;
    let own = run_config(&container.config)?;
    let base = sent.unwrap_or_else(|| own.clone());
    let mut config = changed(base, query.all("changes"))?;
    complete(&mut config, &own);
    match container.shape.runtime {
        Runtime::Microvm => {}
        Runtime::Function => return Err(ApiError::not_implemented(READ_ONLY)),
    }

    let control = context.control;
    let (answer, parts) = control.begin_answer(context.peer()?, Vec::new()).await?;
    let layer = layer_blob(&answer)?;
    let until = control.environment.now().plus(UPLOAD_LIMIT);
    let upload_url = control.blobs.upload_url(&layer, until).await;
    let upload_url = upload_url.map_err(EngineError::from)?;
    let pauses = match query.text("pause") {
        "" => true,
        _ => query.flag("pause"),
    };
    let live = container.lifecycle.current_run().map(|run| run.id.clone());
    let paused = match &live {
        Some(run) if pauses && container.lifecycle.phase == Phase::Running => control
            .host
            .freeze(run, true)
            .await
            .map_err(EngineError::from)?
            .then(|| run.clone()),
        Some(_) | None => None,
    };
    let pending = PendingCommand {
        command: Command::StoreLayer { upload_url },
        answer: Some(answer),
        commit: Some(Box::new(Commit {
            namespace: context.namespace.clone(),
            container: container.id.clone(),
            parent: container.shape.image.clone(),
            layer: layer.as_str().to_owned(),
            reference: reference.map(|reference| reference.to_string()),
            config: serde_json::to_value(&config).map_err(EngineError::from)?,
            container_config: container.config.clone(),
            author: query.text("author").to_owned(),
            comment: query.text("comment").to_owned(),
            paused: paused.clone(),
        })),
    };
    let begun = match &live {
        Some(run) => control.tell(run, pending).await,
        None => {
            let run = RunId::from_random(control.environment.random());
            control.visit_for_layer(&container, &run, &pending).await
        }
    };
    if let (Err(_), Some(run)) = (&begun, &paused)
        && let Err(error) = control.host.freeze(run, false).await
    {
        tracing::warn!(%error, "a container's processes could not be let go on");
    }
    begun?;
    Ok(parts)
}

/// The configuration that the client sent, if it sent any.
fn sent_config(body: &Value) -> Result<Option<RunConfig>, ApiError> {
    let Some(fields) = body.as_object() else {
        return match body {
            Value::Null => Ok(None),
            other => go_json::complete("", CONFIG, other).map(|_| None),
        };
    };
    let config = go_json::complete("", CONFIG, body)?;
    let known = |name: &str| {
        CONFIG
            .iter()
            .any(|field| field.name.eq_ignore_ascii_case(name))
    };
    if fields.keys().any(|name| known(name)) {
        run_config(&Value::Object(config)).map(Some)
    } else {
        Ok(None)
    }
}

fn run_config(config: &Value) -> Result<RunConfig, ApiError> {
    serde_json::from_value(config.clone()).map_err(|error| ApiError::new(400, error.to_string()))
}

fn check(container: &Container) -> Result<(), ApiError> {
    let id = &container.id;
    match container.lifecycle.phase {
        Phase::Dead => {
            return Err(ApiError::new(
                409,
                format!("You cannot commit container {id} which is Dead"),
            ));
        }
        Phase::Removing => {
            return Err(ApiError::new(
                409,
                format!("You cannot commit container {id} which is being removed"),
            ));
        }
        Phase::Created
        | Phase::Starting
        | Phase::Running
        | Phase::Paused
        | Phase::Restarting
        | Phase::Exited => {}
    }
    Ok(())
}

fn layer_blob(answer: &AnswerId) -> Result<BlobName, EngineError> {
    Ok(BlobName::new(format!("commits/{answer}"))?)
}

/// Carries out [`crate::ports::jobs::Job::Commit`].
///
/// # Errors
/// When the answer cannot be stored.
pub(crate) async fn carry_out(
    control: &Control,
    commit: &Commit,
    answer: AnswerId,
) -> Result<(), EngineError> {
    let layer = BlobName::new(commit.layer.clone())?;
    let made = make(control, commit, &layer).await;
    control.blobs.delete(&layer).await?;
    let mut writer = AnswerWriter::new(control, answer);
    match made {
        Ok(id) => {
            writer.head(head(201, "application/json")).await?;
            let body = json!({ "Id": id });
            writer.data(format!("{body}\n").as_bytes()).await?;
            writer.end().await
        }
        Err(error) => {
            tracing::info!(error = error.message, "a container was not committed");
            writer.fail(error).await
        }
    }
}

async fn make(control: &Control, commit: &Commit, layer: &BlobName) -> Result<String, ApiError> {
    let bad = |error: String| ApiError::new(500, error);
    let reference = commit
        .reference
        .as_deref()
        .map(Reference::parse)
        .transpose()
        .map_err(|error| bad(error.to_string()))?;
    let config = run_config(&commit.config)?;
    let body = control.blobs.get(layer).await.map_err(EngineError::from)?;
    let wanted = Committed {
        parent: (&commit.parent).into(),
        reference: reference.as_ref(),
        config: &config,
        container: commit.container.to_string(),
        container_config: &commit.container_config,
        author: commit.author.clone(),
        comment: commit.comment.clone(),
    };
    let made = control.images.commit(&commit.namespace, body, wanted).await;
    made.map(|id| id.to_string())
        .map_err(|error| bad(error.to_string()))
}
