//! From method and path to the operation.

use std::sync::atomic::AtomicBool;

use sockerless_shared::answer::{Answer, Body, Request};
use sockerless_shared::ids::{AnswerId, Namespace, PeerId};

use super::error::Form;
use super::plugins::{self, Plugins};
use super::query::Query;
use super::version::ApiVersion;
use super::{
    ApiError, ApiResult, Context, build, containers, distribution, exec, images, networks, swarm,
    system, volumes,
};
use crate::engine::jobs::AnswerWriter;
use crate::engine::{Control, EngineError};
use crate::ports::jobs::Job;

/// Finds the operation and carries it out.
///
/// # Errors
/// The operation's own, and those of versions and paths that do not exist.
pub async fn route(
    control: &Control,
    namespace: &Namespace,
    request: &Request,
    body_taken: &AtomicBool,
) -> ApiResult {
    let (path, query) = request
        .path_and_query
        .split_once('?')
        .unwrap_or((&request.path_and_query, ""));
    let segments = decode_segments(path)?;
    let mut segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let asked = segments
        .first()
        .and_then(|segment| ApiVersion::text_of_segment(segment));
    if asked.is_some() {
        segments.remove(0);
    }
    let Some(operation) = Operation::find(&request.method, &segments) else {
        return Err(ApiError {
            form: Form::Bare,
            ..ApiError::new(404, "page not found")
        });
    };
    if operation.may_take_long()
        && control.jobs.request_limit().is_some()
        && let Some(peer) = &request.peer
        && matches!(&request.body, Body::Inline(body) if body.is_empty())
    {
        return defer(control, namespace, request, peer).await;
    }
    let version = asked.map_or(Ok(ApiVersion::NEWEST), ApiVersion::served)?;
    let context = Context {
        control,
        namespace,
        request,
        version,
        query: Query::parse(query),
        body_taken,
    };
    operation.run(&context).await
}

/// Leaves a request to a job, which answers over the relay.
async fn defer(
    control: &Control,
    namespace: &Namespace,
    request: &Request,
    peer: &PeerId,
) -> ApiResult {
    let (answer, parts) = control.begin_answer(peer, Vec::new()).await?;
    let job = Job::Request {
        namespace: namespace.clone(),
        method: request.method.clone(),
        path_and_query: request.path_and_query.clone(),
        answer,
    };
    control.jobs.submit(job).await.map_err(EngineError::from)?;
    Ok(parts)
}

/// Carries out [`Job::Request`]: done twice, the second finds the answer begun.
///
/// # Errors
/// When the answer cannot be stored.
pub(crate) async fn carry_out(
    control: &Control,
    namespace: &Namespace,
    request: Request,
    answer: AnswerId,
) -> Result<(), EngineError> {
    let mut writer = AnswerWriter::resume(control, answer).await?;
    if writer.head_sent() || !writer.is_wanted().await? {
        return Ok(());
    }
    match control.handle(namespace, request).await {
        Answer::Final(response) => {
            writer.head(response.head).await?;
            writer.data(&response.body).await?;
            writer.end().await
        }
        Answer::Parts { .. } | Answer::SendBody => {
            let error = ApiError::new(
                500,
                "the request was answered otherwise than it can be told",
            );
            writer.fail(error).await
        }
    }
}

/// What a request asks for.
enum Operation<'a> {
    Ping,
    Version,
    Info,
    Events,
    ContainerCreate,
    ContainerList,
    ContainerInspect(&'a str),
    ContainerStart(&'a str),
    ContainerStop(&'a str),
    ContainerRestart(&'a str),
    ContainerKill(&'a str),
    ContainerWait(&'a str),
    ContainerAttach(&'a str),
    ContainerAttachWebsocket(&'a str),
    ContainerLogs(&'a str),
    ContainerArchive(&'a str),
    ContainerArchiveInfo(&'a str),
    PutContainerArchive(&'a str),
    ContainerExport(&'a str),
    ContainerChanges(&'a str),
    ImageCommit,
    ContainerStats(&'a str),
    ContainerTop(&'a str),
    ContainerRename(&'a str),
    ContainerRemove(&'a str),
    ContainerResize(&'a str),
    ContainerPause(&'a str),
    ContainerUnpause(&'a str),
    ContainerUpdate(&'a str),
    ExecCreate(&'a str),
    ExecStart(&'a str),
    ExecInspect(&'a str),
    ExecResize(&'a str),
    ImageList,
    ImageLoad,
    ImageCreate,
    ImageInspect(String),
    ImageTag(String),
    ImageRemove(String),
    ImagePrune,
    ContainerPrune,
    SystemDf,
    BuildPrune,
    VolumeList,
    VolumeCreate,
    VolumePrune,
    VolumeInspect(String),
    VolumeRemove(String),
    NetworkList,
    NetworkCreate,
    NetworkPrune,
    NetworkInspect(String),
    NetworkRemove(String),
    NetworkConnect(String),
    NetworkDisconnect(String),
    ImageHistory(String),
    ImageGet(String),
    ImageGetAll,
    ImagePush(String),
    ImageSearch,
    SystemAuth,
    DistributionInspect(String),
    Build,
    BuildKit,
    Plugins(Plugins),
    /// What there is not, and will not be.
    Refused(ApiError),
    /// An object of a kind of which there is none, named by a client.
    Absent {
        status: u16,
        message: String,
    },
    Checkpoints(&'a str),
}

impl<'a> Operation<'a> {
    fn find(method: &str, segments: &[&'a str]) -> Option<Self> {
        let found = match (method, segments) {
            ("GET" | "HEAD", ["_ping"]) => Self::Ping,
            ("GET", ["version"]) => Self::Version,
            ("GET", ["info"]) => Self::Info,
            ("POST", ["containers", "create"]) => Self::ContainerCreate,
            ("GET", ["containers", "json"]) => Self::ContainerList,
            ("GET", ["containers", id, "json"]) => Self::ContainerInspect(id),
            ("POST", ["containers", id, "start"]) => Self::ContainerStart(id),
            ("POST", ["containers", id, "stop"]) => Self::ContainerStop(id),
            ("POST", ["containers", id, "restart"]) => Self::ContainerRestart(id),
            ("POST", ["containers", id, "kill"]) => Self::ContainerKill(id),
            ("POST", ["containers", id, "wait"]) => Self::ContainerWait(id),
            ("POST", ["containers", id, "attach"]) => Self::ContainerAttach(id),
            ("GET", ["containers", id, "logs"]) => Self::ContainerLogs(id),
            ("GET", ["containers", id, "archive"]) => Self::ContainerArchive(id),
            ("HEAD", ["containers", id, "archive"]) => Self::ContainerArchiveInfo(id),
            ("PUT", ["containers", id, "archive"]) => Self::PutContainerArchive(id),
            ("GET", ["containers", id, "export"]) => Self::ContainerExport(id),
            ("GET", ["containers", id, "changes"]) => Self::ContainerChanges(id),
            ("POST", ["commit"]) => Self::ImageCommit,
            ("GET", ["containers", id, "stats"]) => Self::ContainerStats(id),
            ("GET", ["containers", id, "top"]) => Self::ContainerTop(id),
            ("POST", ["containers", id, "rename"]) => Self::ContainerRename(id),
            ("DELETE", ["containers", id]) => Self::ContainerRemove(id),
            ("POST", ["containers", id, "resize"]) => Self::ContainerResize(id),
            ("POST", ["containers", id, "pause"]) => Self::ContainerPause(id),
            ("POST", ["containers", id, "unpause"]) => Self::ContainerUnpause(id),
            ("POST", ["containers", id, "exec"]) => Self::ExecCreate(id),
            ("GET", ["images", "json"]) => Self::ImageList,
            ("POST", ["images", "load"]) => Self::ImageLoad,
            ("POST", ["images", "create"]) => Self::ImageCreate,
            ("GET", ["images", "search"]) => Self::ImageSearch,
            ("POST", ["images", "prune"]) => Self::ImagePrune,
            ("GET", ["images", "get"]) => Self::ImageGetAll,
            ("GET", ["images", name @ .., "history"]) => Self::ImageHistory(name.join("/")),
            ("GET", ["images", name @ .., "get"]) => Self::ImageGet(name.join("/")),
            ("POST", ["images", name @ .., "push"]) => Self::ImagePush(name.join("/")),
            ("GET", ["images", name @ .., "json"]) => Self::ImageInspect(name.join("/")),
            ("POST", ["images", name @ .., "tag"]) => Self::ImageTag(name.join("/")),
            ("DELETE", ["images", name @ ..]) => Self::ImageRemove(name.join("/")),
            ("POST", ["exec", id, "start"]) => Self::ExecStart(id),
            ("GET", ["exec", id, "json"]) => Self::ExecInspect(id),
            ("POST", ["exec", id, "resize"]) => Self::ExecResize(id),
            ("GET", ["containers", id, "checkpoints"]) => Self::Checkpoints(id),
            ("GET", ["containers", id, "attach", "ws"]) => Self::ContainerAttachWebsocket(id),
            ("POST", ["containers", id, "update"]) => Self::ContainerUpdate(id),
            ("GET", ["networks"]) => Self::NetworkList,
            ("POST", ["networks", "create"]) => Self::NetworkCreate,
            ("POST", ["networks", "prune"]) => Self::NetworkPrune,
            ("POST", ["networks", id @ .., "connect"]) => Self::NetworkConnect(id.join("/")),
            ("POST", ["networks", id @ .., "disconnect"]) => Self::NetworkDisconnect(id.join("/")),
            ("GET", ["networks", id @ ..]) => Self::NetworkInspect(id.join("/")),
            ("DELETE", ["networks", id @ ..]) => Self::NetworkRemove(id.join("/")),
            ("GET", ["volumes"]) => Self::VolumeList,
            ("POST", ["volumes", "create"]) => Self::VolumeCreate,
            ("POST", ["volumes", "prune"]) => Self::VolumePrune,
            ("PUT", ["volumes", ..]) => Self::absent(503, NO_CLUSTER_VOLUMES.to_owned()),
            ("GET", ["volumes", name @ ..]) => Self::VolumeInspect(name.join("/")),
            ("DELETE", ["volumes", name @ ..]) => Self::VolumeRemove(name.join("/")),
            ("POST", ["containers", "prune"]) => Self::ContainerPrune,
            ("GET", ["events"]) => Self::Events,
            ("GET", ["system", "df"]) => Self::SystemDf,
            ("POST", ["build", "prune"]) => Self::BuildPrune,
            ("POST", ["auth"]) => Self::SystemAuth,
            ("POST", ["build"]) => Self::Build,
            ("POST", ["session" | "grpc"]) => Self::BuildKit,
            (_, ["plugins", ..]) => Self::Plugins(plugins::find(method, segments)?),
            (
                _,
                [
                    "swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs",
                    ..,
                ],
            ) => Self::Refused(swarm::refusal(method, segments)?),
            ("GET", ["distribution", name @ .., "json"]) => {
                Self::DistributionInspect(name.join("/"))
            }
            _ => return None,
        };
        Some(found)
    }

    /// Whether it looks at, or removes, as many things as there are.
    const fn may_take_long(&self) -> bool {
        matches!(
            self,
            Self::ContainerPrune
                | Self::ImagePrune
                | Self::ImageRemove(_)
                | Self::NetworkPrune
                | Self::VolumePrune
                | Self::SystemDf
        )
    }

    const fn absent(status: u16, message: String) -> Self {
        Self::Absent { status, message }
    }

    async fn run(self, context: &Context<'_>) -> ApiResult {
        match self {
            Self::Ping => system::ping::ping(context),
            Self::Version => system::version::version(context),
            Self::Info => system::info::info(context).await,
            Self::Events => system::events::events(context).await,
            Self::ContainerCreate => containers::create::create(context).await,
            Self::ContainerList => containers::list::list(context).await,
            Self::ContainerInspect(id) => containers::inspect::inspect(context, id).await,
            Self::ContainerStart(id) => containers::start::start(context, id).await,
            Self::ContainerStop(id) => containers::stop::stop(context, id).await,
            Self::ContainerRestart(id) => containers::restart::restart(context, id).await,
            Self::ContainerKill(id) => containers::kill::kill(context, id).await,
            Self::ContainerWait(id) => containers::wait::wait(context, id).await,
            Self::ContainerAttachWebsocket(id) => containers::attach::websocket(context, id).await,
            Self::ContainerAttach(id) => containers::attach::attach(context, id).await,
            Self::ContainerLogs(id) => containers::logs::logs(context, id).await,
            Self::ContainerArchive(id) => containers::archive::get(context, id).await,
            Self::ContainerArchiveInfo(id) => containers::archive::info(context, id).await,
            Self::PutContainerArchive(id) => containers::archive::put(context, id).await,
            Self::ContainerExport(id) => containers::archive::export(context, id).await,
            Self::ContainerChanges(id) => containers::archive::changes(context, id).await,
            Self::ImageCommit => images::commit::commit(context).await,
            Self::ContainerStats(id) => containers::stats::stats(context, id).await,
            Self::ContainerTop(id) => containers::top::top(context, id).await,
            Self::ContainerRename(id) => containers::rename::rename(context, id).await,
            Self::ContainerRemove(id) => containers::remove::remove(context, id).await,
            Self::ContainerResize(id) => containers::resize::resize(context, id).await,
            Self::ContainerPause(id) => containers::pause::pause(context, id).await,
            Self::ContainerUnpause(id) => containers::pause::unpause(context, id).await,
            Self::ContainerUpdate(id) => containers::update::update(context, id).await,
            Self::ExecCreate(id) => exec::create::create(context, id).await,
            Self::ExecStart(id) => exec::start::start(context, id).await,
            Self::ExecInspect(id) => exec::inspect::inspect(context, id).await,
            Self::ExecResize(id) => exec::resize::resize(context, id).await,
            Self::ImageList => images::list::list(context).await,
            Self::ImageLoad => images::load::load(context).await,
            Self::ImageCreate => images::create::create(context).await,
            Self::ImageInspect(name) => images::inspect::inspect(context, &name).await,
            Self::ImageTag(name) => images::tag::tag(context, &name).await,
            Self::ImageRemove(name) => images::remove::remove(context, &name).await,
            Self::ImagePrune => images::prune::prune(context).await,
            Self::ContainerPrune => containers::prune::prune(context).await,
            Self::SystemDf => system::df::df(context).await,
            Self::BuildPrune => system::build_prune::prune(context).await,
            Self::VolumeList => volumes::list::list(context).await,
            Self::VolumeCreate => volumes::create::create(context).await,
            Self::VolumePrune => volumes::prune::prune(context).await,
            Self::VolumeInspect(name) => volumes::inspect::inspect(context, &name).await,
            Self::VolumeRemove(name) => volumes::remove::remove(context, &name).await,
            Self::NetworkList => networks::list::list(context).await,
            Self::NetworkCreate => networks::create::create(context).await,
            Self::NetworkPrune => networks::prune::prune(context).await,
            Self::NetworkInspect(id) => networks::inspect::inspect(context, &id).await,
            Self::NetworkRemove(id) => networks::remove::remove(context, &id).await,
            Self::NetworkConnect(id) => networks::connect::connect(context, &id).await,
            Self::NetworkDisconnect(id) => networks::disconnect::disconnect(context, &id).await,
            Self::ImageHistory(name) => images::history::history(context, &name).await,
            Self::ImageGet(name) => images::save::save(context, vec![name]).await,
            Self::ImageGetAll => {
                let names = context.query.all("names").map(ToOwned::to_owned);
                images::save::save(context, names.collect()).await
            }
            Self::ImagePush(name) => images::push::push(context, &name).await,
            Self::ImageSearch => images::search::search(context).await,
            Self::SystemAuth => system::auth::auth(context).await,
            Self::DistributionInspect(name) => distribution::inspect(context, &name).await,
            Self::Build => build::classic(),
            Self::BuildKit => build::buildkit(context),
            Self::Plugins(plugins) => plugins::answer(context, &plugins),
            Self::Refused(refusal) => Err(refusal),
            Self::Absent { status, message } => Err(ApiError::new(status, message)),
            Self::Checkpoints(id) => {
                containers::find(context, id).await?;
                Err(ApiError::not_implemented(
                    "checkpoint is not implemented by sockerless: there is no substitute yet",
                ))
            }
        }
    }
}

/// Docker's words where there is no swarm, whose volumes alone can be changed.
const NO_CLUSTER_VOLUMES: &str =
    "volume update only valid for cluster volumes, but swarm is unavailable";

/// The path's segments, percent-decoded; a slash that was encoded stays within its segment.
fn decode_segments(path: &str) -> Result<Vec<String>, ApiError> {
    path.split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| {
            percent_encoding::percent_decode_str(segment)
                .decode_utf8()
                .map(std::borrow::Cow::into_owned)
                .map_err(|_| ApiError::new(400, "the path is not UTF-8"))
        })
        .collect()
}
