//! `GET /containers/{id}/logs` (Engine API, `ContainerLogs`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use regex_lite::Regex;
use sockerless_shared::answer::{Answer, Head, MAX_INLINE_BODY_BYTES, Part, Response};
use sockerless_shared::ids::{AnswerId, BlobId, RunId};
use sockerless_shared::logs::render::LineAssembler;
use sockerless_shared::logs::{LogQuery, Record, render, spool};
use sockerless_shared::protocol::grant::Operation;
use sockerless_shared::timestamp::Timestamp;

use super::{find, log_options};
use crate::api::query::{Query, go_quote};
use crate::api::version::ApiVersion;
use crate::api::{ApiError, ApiResult, Context, head};
use crate::engine::Control;
use crate::ports::blobs::BlobName;
use crate::store::containers::Container;

/// Largest log that is sent, in bytes.
const MAX_RENDERED_BYTES: u64 = 4 << 30;

/// Most lines of earlier runs that travel with a grant, in bytes: with base64, half of the
/// largest grant.
const MAX_EARLIER_BYTES: usize = 768 * 1024;

/// A container's output: of the runs that are over from where it was stored,
/// of the present one from its agent.
///
/// # Errors
/// 400 when no stream is chosen or a time or number is not one, 404.
pub async fn logs(context: &Context<'_>, reference: &str) -> ApiResult {
    streams(&context.query)?;
    let container = find(context, reference).await?;
    let tty = container.config["Tty"].as_bool().unwrap_or(false);
    let mut query = parse(&context.query, tty)?;
    if log_options::driver(&container.host_config["LogConfig"]) == "none" {
        return Err(ApiError::new(
            501,
            "configured logging driver does not support reading",
        ));
    }
    if context.query.flag("details") {
        query.details = Some(attributes(&container));
    }
    let follow = context.query.flag("follow");
    let multiplexed = !tty && context.version >= ApiVersion::new(1, 42);
    let content_type = if multiplexed {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    };
    let head = head(200, content_type);
    let Some(run) = container.lifecycle.current_run().map(|run| run.id.clone()) else {
        return finished(context, &container, head, &query).await;
    };
    let control = context.control;
    let earlier = earlier_records(context, &container, Some(&run)).await?;
    let Some(record) = control.store.run(&run).await? else {
        return respond(context, head, render::render(&earlier, &query)).await;
    };
    let tail = query.tail.and_then(|tail| last_lines(&earlier, tail));
    if let Some(lines) = &tail {
        query.earlier.clone_from(lines);
    }
    let operation = Operation::Logs {
        query: query.clone(),
        follow,
    };
    // Either there is nothing before this run, or its agent shows that too.
    if tail.is_some() || earlier.iter().all(Vec::is_empty) {
        return super::attach::open(context, &container, Some(head), operation).await;
    }
    match control
        .stream_target(&run, &record, context.peer()?, operation)
        .await?
    {
        Some(target) => {
            let data = Bytes::from(render::render(&earlier, &query));
            let first = vec![
                Part::Head(head),
                Part::Data { data },
                Part::Stream(target),
                Part::End,
            ];
            let id = AnswerId::from_random(control.environment.random());
            Ok(Answer::Parts { id, first })
        }
        None => respond(context, head, render::render(&earlier, &query)).await,
    }
}

/// What `attach` with `logs=1` and without `stream=1` shows of a container that does not run.
pub(super) async fn history(
    context: &Context<'_>,
    container: &Container,
    head: Head,
    parameters: &Query,
    raw: bool,
) -> ApiResult {
    let query = LogQuery {
        stdout: parameters.flag("stdout"),
        stderr: parameters.flag("stderr"),
        raw: raw || container.config["Tty"].as_bool().unwrap_or(false),
        ..LogQuery::default()
    };
    let data = if parameters.flag("logs") {
        render::render(&earlier_records(context, container, None).await?, &query)
    } else {
        Vec::new()
    };
    let first = vec![
        Part::Head(head),
        Part::Data { data: data.into() },
        Part::End,
    ];
    Ok(Answer::Parts {
        id: AnswerId::from_random(context.control.environment.random()),
        first,
    })
}

async fn finished(
    context: &Context<'_>,
    container: &Container,
    head: Head,
    query: &LogQuery,
) -> ApiResult {
    let runs = earlier_records(context, container, None).await?;
    respond(context, head, render::render(&runs, query)).await
}

/// The records of all runs that are over, but one; run by run.
async fn earlier_records(
    context: &Context<'_>,
    container: &Container,
    except: Option<&RunId>,
) -> Result<Vec<Vec<Record>>, ApiError> {
    let mut runs = Vec::new();
    for run in &container.runs {
        if Some(run) != except {
            runs.push(context.control.finished_log(run).await?);
        }
    }
    Ok(runs)
}

/// The last lines of earlier runs, for the agent of the present one, which alone knows
/// how many lines that has. `None` when they are more than travels with a grant; then
/// the earlier runs and the present one show so many lines each.
fn last_lines(runs: &[Vec<Record>], tail: u64) -> Option<String> {
    let mut lines = Vec::new();
    for records in runs {
        let mut assembler = LineAssembler::default();
        for record in records {
            assembler.push(record, |line| lines.push(line));
        }
        assembler.finish(|line| lines.push(line));
    }
    let tail = usize::try_from(tail).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    for line in lines.get(lines.len().saturating_sub(tail)..)? {
        spool::encode(&mut bytes, line.stream, line.time, &line.data);
    }
    (bytes.len() <= MAX_EARLIER_BYTES).then(|| STANDARD.encode(bytes))
}

/// A body that may be large: inline, or by way of the blob store.
pub(crate) async fn respond(context: &Context<'_>, head: Head, body: Vec<u8>) -> ApiResult {
    let response = Response {
        head,
        body: body.into(),
        cache_s: 0,
    };
    by_way_of_a_blob(context.control, response).await
}

/// The response as it is, unless its body is too large to travel with it: then by way of the
/// blob store.
///
/// # Errors
/// When the blob store fails.
pub async fn by_way_of_a_blob(control: &Control, response: Response) -> ApiResult {
    if response.body.len() <= MAX_INLINE_BODY_BYTES {
        return Ok(Answer::Final(response));
    }
    let Response { head, body, .. } = response;
    let blob = BlobId::from_random(control.environment.random());
    let name = blob_name(&blob)?;
    let bytes = stream::iter([Ok(body)]);
    control
        .blobs
        .put(&name, Box::pin(bytes), MAX_RENDERED_BYTES)
        .await
        .map_err(crate::engine::EngineError::from)?;
    let id = AnswerId::from_random(control.environment.random());
    Ok(Answer::Parts {
        id,
        first: vec![Part::Head(head), Part::Blob { blob }, Part::End],
    })
}

/// Where a large body is kept.
///
/// # Errors
/// Never in practice.
pub fn blob_name(blob: &BlobId) -> Result<BlobName, ApiError> {
    BlobName::new(format!("bodies/{blob}")).map_err(|error| ApiError::new(500, error.to_string()))
}

/// Whether stdout and stderr are wanted. Docker asks this first of all.
fn streams(query: &Query) -> Result<(bool, bool), ApiError> {
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if stdout || stderr {
        return Ok((stdout, stderr));
    }
    Err(ApiError::new(
        400,
        "Bad parameters: you must choose at least one stream",
    ))
}

fn parse(query: &Query, tty: bool) -> Result<LogQuery, ApiError> {
    let (stdout, stderr) = streams(query)?;
    Ok(LogQuery {
        stdout,
        stderr,
        since: time(query, "since")?,
        until: time(query, "until")?,
        tail: tail(query.text("tail")),
        timestamps: query.flag("timestamps"),
        details: None,
        raw: tty,
        earlier: String::new(),
    })
}

/// The labels and variables that the container's log options name, as Docker's
/// `--details` shows them.
fn attributes(container: &Container) -> String {
    let options = &container.host_config["LogConfig"]["Config"];
    let wanted = |option: &str, name: &str| {
        let names = options[option].as_str().unwrap_or("");
        let pattern = options[format!("{option}-regex")].as_str();
        names.split(',').any(|wanted| wanted == name)
            // What is no expression was refused when the container was to start.
            || pattern.is_some_and(|p| Regex::new(p).is_ok_and(|regex| regex.is_match(name)))
    };
    let labels = container.config["Labels"].as_object();
    let labels = labels.into_iter().flatten().filter_map(|(name, value)| {
        let value = value.as_str()?;
        wanted("labels", name).then_some((name.as_str(), value))
    });
    let variables = container.config["Env"].as_array();
    let variables = variables.into_iter().flatten().filter_map(|variable| {
        let (name, value) = variable.as_str()?.split_once('=')?;
        wanted("env", name).then_some((name, value))
    });
    let sorted: BTreeMap<&str, &str> = labels.chain(variables).collect();
    let pairs: Vec<String> = sorted
        .into_iter()
        .map(|(name, value)| format!("{}={}", query_escape(name), query_escape(value)))
        .collect();
    pairs.join(",")
}

/// Go's `url.QueryEscape`.
fn query_escape(text: &str) -> String {
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    utf8_percent_encode(text, RESERVED)
        .to_string()
        .replace("%20", "+")
}

/// Docker reads a tail that is no number as all of it.
fn tail(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// Unix seconds with an optional fraction; zero and nothing are no limit.
pub(crate) fn time(query: &Query, name: &str) -> Result<Option<Timestamp>, ApiError> {
    let text = query.text(name);
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let invalid = |part: &str| {
        ApiError::new(
            500,
            format!(
                "strconv.ParseInt: parsing {}: invalid syntax",
                go_quote(part)
            ),
        )
    };
    let whole: i64 = seconds.parse().map_err(|_| invalid(seconds))?;
    let nanos: i64 = match fraction {
        "" => 0,
        digits => format!("{digits:0<9}")
            .get(..9)
            .and_then(|nine| nine.parse().ok())
            .ok_or_else(|| invalid(digits))?,
    };
    Ok(Some(Timestamp::from_nanos(
        whole.saturating_mul(1_000_000_000).saturating_add(nanos),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions() {
        let query = Query::parse("stdout=1&since=12.5&until=0&tail=all");
        let parsed = parse(&query, false).unwrap();
        assert_eq!(parsed.since, Some(Timestamp::from_millis(12_500)));
        assert_eq!((parsed.until, parsed.tail), (None, None));
        assert!(parse(&Query::parse("stdout=1&since=x"), false).is_err());
        assert!(parse(&Query::parse("tail=1"), false).is_err());
    }
}
