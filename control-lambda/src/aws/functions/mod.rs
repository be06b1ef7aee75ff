//! Functions in Lambda: one for each image and shape, shared by containers;
//! one asynchronous invocation for each run.

pub mod ended;
mod logs;
mod name;
mod records;
mod wait;
mod worker;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use bytes::Bytes;
use sockerless_shared::ids::{ContainerId, FunctionName, ImageDigest, RunId};
use sockerless_shared::protocol::invocation::MAX_PAYLOAD_BYTES;
use sockerless_shared::spec::Runtime;
use sockerless_shared::timestamp::Timestamp;
use tokio::time::Instant;

use self::logs::ContainerLogs;
use self::records::{Function, Records, Work};
use self::wait::State;
use self::worker::Worker;
use super::jobs::OwnEvent;
use super::sdk::{Sdk, describe};
use crate::ports::function_host::{
    Architecture, EnsuredFunction, FunctionShape, HostError, Network,
};
use crate::ports::{Environment, FunctionHost, Table};

/// A function that nobody has asked for in this time is deleted.
pub const GRACE: Duration = Duration::from_secs(60 * 60);

/// A function's last use is written down again when what is written is so old.
/// Together with Lambda's longest run this is less than the grace.
const USE_IS_NOTED_EVERY: Duration = Duration::from_secs(30 * 60);

/// So long after the worker was woken by the sweep, the sweep sees whether anything was left.
const WORK_IS_LOOKED_AFTER: Duration = Duration::from_secs(10 * 60);

/// Makes images ready to be functions: the agent is in them, and Lambda can
/// pull them.
#[async_trait]
pub trait RunnableImages: Send + Sync {
    /// The architectures of which there are agents.
    fn architectures(&self) -> &[Architecture];

    /// Where Lambda pulls the image with this config, the agent for these
    /// processors included. It is made, unless a layer has to be packed anew.
    ///
    /// # Errors
    /// A sentence.
    async fn find(
        &self,
        image: &ImageDigest,
        architecture: Architecture,
    ) -> Result<Runnable, HostError>;

    /// Makes it, however long that takes. Idempotent.
    ///
    /// # Errors
    /// A sentence.
    async fn make(&self, image: &ImageDigest, architecture: Architecture) -> Result<(), HostError>;

    /// Looks again when it is asked the next time: the registry may have lost it.
    fn forget(&self, image: &ImageDigest);
}

/// An image with its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runnable {
    /// The URI under which Lambda pulls it.
    pub uri: String,
    /// Whether it is there; otherwise it has to be made.
    pub ready: bool,
}

/// What functions are made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSettings {
    /// ARN of the role that containers' functions have.
    pub role: String,
    /// Where agents find the relay (`wss://…/<stage>`).
    pub relay_url: String,
    /// ARN of the control function, which is told of invocations that failed, and in
    /// invocations of its own makes images ready.
    pub control: String,
    /// ARN of the function that makes and deletes functions.
    pub worker: String,
    /// Which processors a container runs on whose image is for others than there are.
    pub architecture: Architecture,
    /// Time limit of an invocation in seconds, 1–900.
    pub time_limit_s: i32,
    /// The log group of containers.
    pub log_group: String,
    /// Subnets in which containers run; none for Lambda's own network.
    pub subnets: Vec<String>,
    /// Their security groups.
    pub security_groups: Vec<String>,
    /// Tags of every function.
    pub tags: BTreeMap<String, String>,
}

/// [`FunctionHost`] on Lambda.
pub struct LambdaHost {
    client: Client,
    images: Arc<dyn RunnableImages>,
    settings: FunctionSettings,
    records: Records,
    logs: ContainerLogs,
    /// Functions that this process has seen ready to be invoked.
    ready: Mutex<HashSet<FunctionName>>,
}

impl LambdaHost {
    /// A host that makes functions of these images, in this way, with records in this table.
    #[must_use]
    pub fn new(
        sdk: &Sdk,
        table: Arc<dyn Table>,
        environment: Arc<dyn Environment>,
        images: Arc<dyn RunnableImages>,
        settings: FunctionSettings,
    ) -> Self {
        Self {
            client: Client::new(sdk.config()),
            images,
            logs: ContainerLogs::new(sdk, settings.log_group.clone()),
            settings,
            records: Records::new(table, environment),
            ready: Mutex::default(),
        }
    }

    /// Makes and deletes the functions that this was asked for, until nothing is left
    /// or so much time has passed; what is left then is gone on with in another
    /// invocation. Only the worker may.
    ///
    /// # Errors
    /// See [`HostError`]; what was not done stays asked for.
    pub async fn work(&self, limit: Duration) -> Result<(), HostError> {
        let until = Instant::now() + limit;
        // Where no execution is reserved for it, each that asks for something wakes one. Whoever
        // has the turn does what the others were woken for, too.
        while self.records.take_turn().await? {
            let worked = self.worker().run(until).await;
            self.records.end_turn().await?;
            if !worked? {
                return self.wake_worker().await;
            }
            // Asked for after the last look, by those whose worker found the turn taken.
            if self.records.work_after(None, 1).await?.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Deletes all functions of containers. Only the worker may.
    ///
    /// # Errors
    /// See [`HostError`].
    pub async fn delete_all(&self, limit: Duration) -> Result<(), HostError> {
        self.worker().ask_to_delete_all().await?;
        self.work(limit).await
    }

    /// Makes the image of a function ready, and has the function made then: what
    /// [`FunctionHost::ensure`] leaves to an invocation of its own.
    ///
    /// # Errors
    /// When the table fails; another attempt goes on where this one stopped.
    pub async fn prepare(&self, shape: &FunctionShape) -> Result<(), HostError> {
        let architecture = self.architecture(shape);
        let Runnable { uri, .. } = self.images.find(&shape.image, architecture).await?;
        let name = name::of(shape, &uri, &self.settings)?;
        self.records.renew_preparation(&name).await?;
        let made = self.images.make(&shape.image, architecture).await;
        let outcome = made
            .map(|()| make_of(shape, uri, architecture))
            .map_err(|error| error.to_string());
        self.records.end_preparation(&name, outcome).await?;
        self.wake_worker().await
    }

    /// Has an image made ready in an invocation of the control function, unless that is
    /// being done.
    async fn begin_preparation(
        &self,
        name: &FunctionName,
        shape: &FunctionShape,
    ) -> Result<(), HostError> {
        if !self.records.begin_preparation(name).await? {
            return Ok(());
        }
        let shape = Box::new(shape.clone());
        let told = self
            .tell(&self.settings.control, &OwnEvent::Prepare { shape })
            .await;
        if told.is_err() {
            self.records.forget_preparation(name).await?;
        }
        told
    }

    fn architecture(&self, shape: &FunctionShape) -> Architecture {
        shape.architecture.unwrap_or(self.settings.architecture)
    }

    /// Asks the worker to delete all functions of containers.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn ask_to_delete_all(&self) -> Result<(), HostError> {
        self.records.ask_to_find(true).await?;
        self.tell_worker(&OwnEvent::DeleteFunctions).await
    }

    /// How many functions there are, and how many are still to be made or deleted.
    ///
    /// # Errors
    /// When the table fails.
    pub async fn count(&self) -> Result<(usize, usize), HostError> {
        let made = self.records.made().await?.len();
        let finding = usize::from(self.records.is_to_find().await?);
        let waiting = self.records.work_after(None, usize::MAX).await?.len();
        Ok((made, waiting + finding))
    }

    /// Whether functions can be looked at and invoked.
    ///
    /// # Errors
    /// See [`HostError`]: where they cannot.
    pub async fn check_functions(&self) -> Result<(), HostError> {
        let nobody = "skls-check"
            .parse()
            .map_err(|_| HostError::Failed("no name of a function".to_owned()))?;
        wait::look(&self.client, &nobody).await?;
        for function in [&self.settings.control, &self.settings.worker] {
            self.client
                .invoke()
                .function_name(function)
                .invocation_type(InvocationType::DryRun)
                .send()
                .await
                .map_err(|error| failed("invoke", function, &error))?;
        }
        Ok(())
    }

    /// Whether the logs of containers can be read.
    ///
    /// # Errors
    /// See [`HostError`]: where they cannot.
    pub async fn check_logs(&self) -> Result<(), HostError> {
        self.logs.tail("check", 1).await.map(|_| ())
    }

    fn worker(&self) -> Worker<'_> {
        Worker {
            client: &self.client,
            records: &self.records,
            settings: &self.settings,
            kept: Mutex::new(Instant::now()),
        }
    }

    /// The worker may be at work already: it is not left before nothing is left to do.
    async fn wake_worker(&self) -> Result<(), HostError> {
        self.tell_worker(&OwnEvent::Work).await
    }

    async fn tell_worker(&self, event: &OwnEvent) -> Result<(), HostError> {
        self.tell(&self.settings.worker, event).await
    }

    async fn tell(&self, function: &str, event: &OwnEvent) -> Result<(), HostError> {
        let payload =
            serde_json::to_vec(event).map_err(|error| HostError::Failed(error.to_string()))?;
        self.client
            .invoke()
            .function_name(function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(payload))
            .send()
            .await
            .map_err(|error| failed("invoke", function, &error))?;
        Ok(())
    }

    fn is_ready(&self, function: &FunctionName) -> bool {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(function)
    }

    fn set_ready(&self, function: &FunctionName, ready: bool) {
        let mut known = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready {
            known.insert(function.clone());
        } else {
            known.remove(function);
        }
    }

    /// Whether the worker has made a function and set its rules; an error where it never will.
    async fn is_made(&self, function: &FunctionName) -> Result<bool, HostError> {
        let known = self.records.function(function).await?;
        if let Some(Function::Made { .. }) = known {
            return Ok(true);
        }
        if self.is_being_made(function).await? {
            return Ok(false);
        }
        // Again, since it may have been made between the two.
        match self.records.function(function).await? {
            Some(Function::Made { .. }) => Ok(true),
            Some(Function::Failed { reason, .. }) => Err(HostError::Failed(reason)),
            None => Err(HostError::NoSuchFunction(function.clone())),
        }
    }

    async fn is_being_made(&self, function: &FunctionName) -> Result<bool, HostError> {
        Ok(self.records.work(function).await?.is_some()
            || self.records.is_being_prepared(function).await?)
    }

    /// What it means that Lambda does not know a function: an error, unless it is yet to be
    /// made.
    async fn explain_absence(&self, function: &FunctionName) -> Result<(), HostError> {
        if self.is_being_made(function).await? {
            return Ok(());
        }
        if self.is_made(function).await? {
            // Somebody else has deleted it: the next who asks has it made again.
            self.records.forget(function).await?;
        }
        Err(HostError::NoSuchFunction(function.clone()))
    }
}

/// What is said of the other runtime.
const NO_MICROVM: &str =
    "--runtime microvm is not available on AWS yet: use --runtime function, or sockerless local";

/// What is said of containers that are to reach nothing.
const NO_ISOLATION: &str = "--network none cannot be had on AWS Lambda, whose functions always reach the network: \
                            leave it out, or use sockerless local";

#[async_trait]
impl FunctionHost for LambdaHost {
    async fn ensure(&self, shape: &FunctionShape) -> Result<EnsuredFunction, HostError> {
        match shape.runtime {
            Runtime::Function => {}
            Runtime::Microvm => {
                return Err(HostError::Unsupported(NO_MICROVM.to_owned()));
            }
        }
        match shape.network {
            Network::Outbound => {}
            Network::None => {
                return Err(HostError::Unsupported(NO_ISOLATION.to_owned()));
            }
        }
        shape.check_sizes()?;
        let architecture = self.architecture(shape);
        let mut image = self.images.find(&shape.image, architecture).await?;
        let name = name::of(shape, &image.uri, &self.settings)?;
        let mut known = self.records.function(&name).await?;
        if let Some(Function::Failed {
            image_is_lost: true,
            ..
        }) = known
        {
            self.images.forget(&shape.image);
            image = self.images.find(&shape.image, architecture).await?;
            known = None;
        }
        if let Some(Function::Made { used }) = &known
            && self.records.now() > used.plus(USE_IS_NOTED_EVERY)
            && !self.records.used(&name).await?
        {
            // The sweep was quicker.
            known = None;
        }
        if known.is_none() {
            self.set_ready(&name, false);
        }
        match known {
            Some(Function::Made { .. }) => {}
            Some(Function::Failed { reason, .. }) => return Err(HostError::Failed(reason)),
            None if image.ready => {
                let work = make_of(shape, image.uri, architecture);
                self.records.ask_to_make(&name, &work).await?;
                self.wake_worker().await?;
            }
            None => self.begin_preparation(&name, shape).await?,
        }
        Ok(EnsuredFunction {
            name,
            warnings: Vec::new(),
        })
    }

    fn architectures(&self) -> &[Architecture] {
        self.images.architectures()
    }

    async fn prepared(
        &self,
        function: &FunctionName,
        patience: Duration,
    ) -> Result<bool, HostError> {
        if self.is_ready(function) {
            return Ok(true);
        }
        let until = Instant::now() + patience;
        let mut pauses = wait::Pauses::new();
        loop {
            // Lambda may call it active before it has the rules for its invocations, without which
            // a run that fails would be repeated, and nobody told of it.
            if self.is_made(function).await? {
                match wait::look(&self.client, function).await? {
                    State::Active => return Ok(true),
                    State::Absent => {
                        self.explain_absence(function).await?;
                    }
                    State::Pending => {}
                    State::Failed(reason) => {
                        // Of no use to anybody: whoever tries again gets another.
                        self.delete(function).await?;
                        return Err(HostError::Failed(cannot_run(&reason)));
                    }
                }
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(pauses.next()).await;
        }
    }

    async fn invoke(
        &self,
        function: &FunctionName,
        run: &RunId,
        payload: Bytes,
    ) -> Result<(), HostError> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(HostError::PayloadTooLarge(payload.len()));
        }
        let sent = self
            .client
            .invoke()
            .function_name(function.as_str())
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(payload))
            .send()
            .await;
        let Err(error) = sent else {
            self.set_ready(function, true);
            tracing::debug!(%function, %run, "invocation accepted");
            return Ok(());
        };
        self.set_ready(function, false);
        Err(match error.as_service_error() {
            Some(InvokeError::ResourceNotFoundException(_)) => {
                match self.explain_absence(function).await {
                    Ok(()) => HostError::Preparing(function.clone()),
                    Err(error) => error,
                }
            }
            Some(InvokeError::TooManyRequestsException(_)) => throttled(),
            // It is still being made, or fell asleep after weeks without an
            // invocation, and this one has woken it.
            Some(
                InvokeError::ResourceConflictException(_)
                | InvokeError::ResourceNotReadyException(_),
            ) => HostError::Preparing(function.clone()),
            Some(InvokeError::RequestTooLargeException(_)) => {
                HostError::PayloadTooLarge(MAX_PAYLOAD_BYTES)
            }
            _ => failed("invoke", function.as_str(), &error),
        })
    }

    async fn delete(&self, function: &FunctionName) -> Result<(), HostError> {
        self.set_ready(function, false);
        self.records.ask(function, &Work::Delete).await?;
        self.wake_worker().await
    }

    fn lets_finish(&self) -> bool {
        // Lambda promises nothing of the first, and tells of failures alone.
        false
    }

    async fn remove_writable(&self, _: &ContainerId) -> Result<(), HostError> {
        // A function's writable place is its environment's, and goes with it.
        Ok(())
    }

    async fn sweep(&self) -> Result<Option<Timestamp>, HostError> {
        let now = self.records.now();
        let mut next: Option<Timestamp> = None;
        let mut asked = false;
        for made in self.records.made().await? {
            let end = made.used.plus(GRACE);
            if end > now {
                next = sooner(next, end);
            } else if self.records.ask_to_delete(&made).await? {
                self.set_ready(&made.name, false);
                asked = true;
            } else {
                // Somebody has used it meanwhile.
                next = sooner(next, now.plus(GRACE));
            }
        }
        // Whoever was to do it may have died.
        if asked || !self.records.work_after(None, 1).await?.is_empty() {
            self.wake_worker().await?;
            next = sooner(next, now.plus(WORK_IS_LOOKED_AFTER));
        }
        Ok(next)
    }

    async fn operator_log(
        &self,
        run: &RunId,
        stream: Option<&str>,
        limit: usize,
    ) -> Result<Bytes, HostError> {
        match stream {
            Some(stream) => Ok(self.logs.tail(stream, limit).await?.into()),
            None => {
                tracing::info!(%run, "the run's agent never said where it logs");
                Ok(Bytes::new())
            }
        }
    }

    fn relay_url(&self) -> String {
        self.settings.relay_url.clone()
    }

    fn relay_is_far(&self) -> bool {
        true
    }
}

fn sooner(one: Option<Timestamp>, other: Timestamp) -> Option<Timestamp> {
    Some(one.map_or(other, |one| one.min(other)))
}

fn make_of(shape: &FunctionShape, uri: String, architecture: Architecture) -> Work {
    Work::Make {
        uri,
        architecture: Some(architecture),
        memory_mib: shape.memory_mib,
        tmp_mib: shape.tmp_mib,
    }
}

/// What is said of a function that Lambda calls failed.
fn cannot_run(reason: &str) -> String {
    format!(
        "Lambda cannot run the image ({reason}): start the container again, and another function is made of it"
    )
}

fn in_mib(mib: u32) -> i32 {
    i32::try_from(mib).unwrap_or(i32::MAX)
}

fn throttled() -> HostError {
    HostError::Throttled(
        "Lambda takes no more requests at the moment (15 a second for the whole account to create and delete, \
         and the account's concurrency to run): try again in a few seconds, or ask AWS for more (Service Quotas, \
         \"Concurrent executions\")"
            .to_owned(),
    )
}

fn failed<E, R>(what: &str, function: &str, error: &SdkError<E, R>) -> HostError
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    HostError::Failed(format!(
        "cannot {what} function {function}: {}",
        describe(error)
    ))
}
