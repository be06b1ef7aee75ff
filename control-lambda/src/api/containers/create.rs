//! `POST /containers/create` (Engine API, `ContainerCreate`).

use serde_json::{Map, Value, json};
use sockerless_shared::ids::{ContainerId, ImageDigest};
use sockerless_shared::lifecycle::Lifecycle;
use sockerless_shared::spec::Runtime;

use super::config::{CONFIG, HOST_CONFIG, MASKED_PATHS, READONLY_PATHS};
use super::{find, healthcheck, machine, mounts, names, restart_policy, spec, validate};
use crate::api::go_json::member;
use crate::api::version::ApiVersion;
use crate::api::{ApiError, ApiResult, Context, go_json, json, signal};
use crate::engine::Config;
use crate::engine::events::of_container;
use crate::engine::volumes::mounted;
use crate::images::platform::Platform;
use crate::ports::function_host::{Architecture, FunctionShape, Network};
use crate::ports::machine::{Machine, MountSource};
use crate::ports::table::Write;
use crate::store::StoreError;
use crate::store::containers::Container;

mod image_defaults;
mod networks;
mod platform;
mod refusals;
mod volumes;

/// How often a made-up name is tried.
const NAME_ATTEMPTS: usize = 8;

const MIB: i64 = 1024 * 1024;

/// The version that brought `platform`, which older ones overlook.
const PLATFORM_SINCE: ApiVersion = ApiVersion::new(1, 41);

/// Creates a container: its function is ensured, nothing runs yet.
///
/// # Errors
/// 400 for what is not valid, 404 for an unknown image, 409 for a name that is
/// taken, 501 for what is not there yet.
pub async fn create(context: &Context<'_>) -> ApiResult {
    let result = create_checked(context).await;
    let Err(error) = result else {
        return result;
    };
    // What Docker finds when it has the name already, it answers with 500; it has not got so
    // far where the name is taken.
    let name = names::check(context.query.text("name"));
    if error.status == 500
        && let Ok(name) = name
        && let store = &context.control.store
        && let Some(_) = store.container_id_by_name(context.namespace, name).await?
    {
        return Err(names::conflict(context, name).await?);
    }
    Err(error)
}

async fn create_checked(context: &Context<'_>) -> ApiResult {
    let name = match context.query.text("name") {
        "" => None,
        name => Some(names::check(name)?.to_owned()),
    };
    let body = context.json_body()?;
    let wanted = Wanted::parse(&body)?;
    let mut warnings = wanted.validate(&context.control.config)?;
    let networks = networks::networks(context, &wanted).await?;
    let control = context.control;
    let reference = wanted.text("Image");
    if reference.is_empty() {
        let error = if wanted.has_command() {
            ApiError::not_implemented(
                "a container without an image is not possible with sockerless: name one",
            )
        } else {
            ApiError::new(400, "no command specified")
        };
        return Err(error);
    }
    let platform = context
        .query
        .get("platform")
        .filter(|text| !text.is_empty() && context.version >= PLATFORM_SINCE)
        .map(platform::wanted)
        .transpose()?;
    let image = control
        .images
        .catalog
        .resolve(context.namespace, &reference, control.environment.now())
        .await?;
    let image_config = control.images.config(&image.id).await?;
    let (os, architecture) = (&image_config.os, &image_config.architecture);
    let found = Platform::of(os, architecture, &image_config.variant);
    let architectures = control.host.architectures();
    let architecture =
        Architecture::of_image(architecture).filter(|image| architectures.contains(image));
    warnings.extend(platform::compare(
        &reference,
        &found,
        platform.as_ref(),
        architecture.is_some(),
    )?);
    if architecture.is_none() && !architectures.is_empty() {
        return Err(platform::without_functions(
            &reference,
            &found,
            architectures,
        ));
    }
    let image_config = serde_json::to_value(&image_config.config).unwrap_or(Value::Null);
    let image_id = ImageDigest::from(image.id);

    let random: [u8; 32] = control.environment.random();
    let id = ContainerId::from_random(random);
    let runtime = wanted.runtime(control.config.default_runtime)?;
    refusals::check(&wanted, runtime)?;
    let (config, args) = image_defaults::merge(wanted.config.clone(), &image_config, &id)?;
    if runtime == Runtime::Function {
        warnings.extend(function_warnings(
            &wanted,
            &config,
            control.config.place.function_has_pty,
        ));
    }
    let host_config = wanted.host_config(&control.config, runtime);
    let mut shape = shape(&wanted, &image_id, runtime, &id, &control.config);
    shape.architecture = architecture;
    shape.network = networks.outbound;
    warnings.extend(networks.warnings);
    let mut made = Vec::new();
    if runtime == Runtime::Microvm {
        // What `start` will refuse is refused then, and an ordinary machine waits till then.
        let host = json!(host_config);
        let mut machine = machine::machine(&json!(config), &host).unwrap_or_default();
        machine.mounts = mounts::mounts(&host)?;
        take_volumes(context, &mut machine, &host).await?;
        if let Some(name) = name.as_deref()
            && machine.binds()
            && control
                .store
                .container_id_by_name(context.namespace, name)
                .await?
                .is_some()
        {
            // Before volumes are made for nothing.
            return Err(names::conflict(context, name).await?);
        }
        made = volumes::make(context, &mut machine, &json!(config), &host).await?;
        shape.machine = Some(Box::new(machine));
    }
    let function = match control.host.ensure(&shape).await {
        Ok(function) => function,
        Err(error) => {
            volumes::undo(context, &made).await;
            return Err(error.into());
        }
    };
    warnings.extend(function.warnings);

    let mut container = Container {
        id: id.clone(),
        namespace: context.namespace.clone(),
        name: String::new(),
        created: control.environment.now(),
        image_reference: reference,
        config: Value::Object(config),
        host_config: Value::Object(host_config),
        networks: networks.endpoints,
        args,
        shape,
        function: function.name,
        lifecycle: Lifecycle::created(
            wanted.host["AutoRemove"].as_bool().unwrap_or(false),
            restart_policy::parse(wanted.host("RestartPolicy"))?,
            false,
        ),
        unsaid: Vec::new(),
        live_mark: None,
        erased: None,
        files: None,
        runs: Vec::new(),
        remove_volumes: false,
    };
    container.lifecycle.probed = healthcheck::is_on(&container.config);
    if let Err(error) = store(context, &mut container, name).await {
        volumes::undo(context, &made).await;
        return Err(error);
    }
    control
        .tell_listeners_of(context.namespace, &container.id)
        .await;
    json(201, &json!({ "Id": id, "Warnings": warnings }))
}

/// Adds what is mounted in other containers (`--volumes-from`), where nothing of this
/// one's own is.
async fn take_volumes(
    context: &Context<'_>,
    machine: &mut Machine,
    host: &Value,
) -> Result<(), ApiError> {
    for text in spec::strings(&host["VolumesFrom"]) {
        let (reference, read_only) = mounts::volumes_from(&text)?;
        let other = find(context, reference)
            .await
            .map_err(|error| ApiError::new(400, error.message))?;
        let theirs = other.shape.machine.map(|machine| machine.mounts);
        for mut mount in theirs.into_iter().flatten().filter(|mount| mount.shown) {
            mount.read_only |= read_only;
            mount.mode.clear();
            if let MountSource::Volume(volume) = &mut mount.source {
                volume.copy = false;
            }
            if !machine.mounts.iter().any(|own| own.target == mount.target) {
                machine.mounts.push(mount);
            }
        }
    }
    Ok(())
}

/// Stores the container under its name, or one made up for it.
async fn store(
    context: &Context<'_>,
    container: &mut Container,
    name: Option<String>,
) -> Result<(), ApiError> {
    let control = context.control;
    if let Some(name) = name {
        container.name = name;
        let held = hold_volumes(context, container).await?;
        return match create_and_log(context, container, held).await {
            Err(error) if error.is_conflict() => {
                // Or else the name is what is taken.
                hold_volumes(context, container).await?;
                Err(names::conflict(context, &container.name).await?)
            }
            other => Ok(other?),
        };
    }
    for attempt in 0..NAME_ATTEMPTS {
        container.name = names::made_up(control.environment.random(), attempt);
        let held = hold_volumes(context, container).await?;
        match create_and_log(context, container, held).await {
            Err(error) if error.is_conflict() => {}
            other => return Ok(other?),
        }
    }
    container.name = container.id.short().to_owned();
    let held = hold_volumes(context, container).await?;
    Ok(create_and_log(context, container, held).await?)
}

/// What keeps the container's volumes from being removed before it is stored.
///
/// # Errors
/// 409 for one that is being removed.
async fn hold_volumes(
    context: &Context<'_>,
    container: &Container,
) -> Result<Vec<Write>, ApiError> {
    let mut held: Vec<Write> = Vec::new();
    for (_, volume) in mounted(container) {
        let store = &context.control.store;
        let write = store.hold_volume(context.namespace, &volume.name).await?;
        let write = write.ok_or_else(|| volumes::being_removed(&volume.name))?;
        // A volume may be mounted in two places.
        if !held.contains(&write) {
            held.push(write);
        }
    }
    Ok(held)
}

async fn create_and_log(
    context: &Context<'_>,
    container: &mut Container,
    held: Vec<Write>,
) -> Result<(), StoreError> {
    let event = of_container(container, "create", [], container.created);
    container.unsaid = vec![event];
    let store = &context.control.store;
    store.create_container(container, held).await
}

/// The request, with every field that Docker knows.
pub(super) struct Wanted {
    config: Map<String, Value>,
    host: Map<String, Value>,
    endpoints: Map<String, Value>,
}

impl Wanted {
    /// Whether the client says itself what is to run.
    fn has_command(&self) -> bool {
        ["Entrypoint", "Cmd"].iter().any(|name| {
            self.config
                .get(*name)
                .and_then(Value::as_array)
                .is_some_and(|words| !words.is_empty())
        })
    }

    fn parse(body: &Value) -> Result<Self, ApiError> {
        go_json::check_object(body, "container.CreateRequest")?;
        let config = go_json::complete("", CONFIG, body)?;
        let host = member(body, "HostConfig");
        if !host.is_object() && !host.is_null() {
            let go_type = "container.HostConfig";
            return Err(go_json::mismatch_at(".HostConfig", host, go_type));
        }
        let host = go_json::complete(".HostConfig", HOST_CONFIG, host)?;
        let networking = member(body, "NetworkingConfig");
        let place = ".NetworkingConfig";
        if !networking.is_object() && !networking.is_null() {
            let go_type = "network.NetworkingConfig";
            return Err(go_json::mismatch_at(place, networking, go_type));
        }
        let endpoints = match member(networking, "EndpointsConfig") {
            Value::Object(endpoints) => endpoints.clone(),
            Value::Null => Map::new(),
            other => {
                let place = format!("{place}.EndpointsConfig");
                let go_type = "map[string]*network.EndpointSettings";
                return Err(go_json::mismatch_at(&place, other, go_type));
            }
        };
        let known = |name: &String| {
            CONFIG
                .iter()
                .any(|field| field.name.eq_ignore_ascii_case(name))
        };
        if !body.as_object().is_some_and(|map| map.keys().any(known)) {
            return Err(ApiError::new(
                400,
                "config cannot be empty in order to create a container",
            ));
        }
        Ok(Self {
            config,
            host,
            endpoints,
        })
    }

    pub(super) fn text(&self, name: &str) -> String {
        self.config
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    }

    fn number(&self, name: &str) -> i64 {
        self.host.get(name).and_then(Value::as_i64).unwrap_or(0)
    }

    pub(super) fn host(&self, name: &str) -> &Value {
        self.host.get(name).unwrap_or(&Value::Null)
    }

    /// `HostConfig`, as the client wants it.
    pub(super) fn host_value(&self) -> Value {
        Value::Object(self.host.clone())
    }

    pub(super) fn config(&self, name: &str) -> &Value {
        self.config.get(name).unwrap_or(&Value::Null)
    }

    /// What Docker does not take, in its words; gives its warnings.
    fn validate(&self, config: &Config) -> Result<Vec<String>, ApiError> {
        let invalid = |message: String| Err(ApiError::new(400, message));
        let dir = self.text("WorkingDir");
        if !dir.is_empty() && !dir.starts_with('/') {
            return invalid(format!(
                "the working directory '{dir}' is invalid, it needs to be an absolute path"
            ));
        }
        if let Some(bad) = spec::strings(self.config("Env"))
            .iter()
            .find(|entry| entry.is_empty() || entry.starts_with('='))
        {
            return invalid(format!("invalid environment variable: {bad}"));
        }
        if let Some(signal) = self.config("StopSignal").as_str() {
            signal::parse(signal)?;
        }
        let restart = self.host("RestartPolicy")["Name"].as_str().unwrap_or("");
        if self.host("AutoRemove") == &Value::Bool(true) && !matches!(restart, "" | "no") {
            return invalid("can't create 'AutoRemove' container with restart policy".to_owned());
        }
        restart_policy::parse(self.host("RestartPolicy"))?;
        healthcheck::check(self.config("Healthcheck"))?;
        let memory = self.number("Memory");
        let most = *FunctionShape::MEMORY_MIB.end();
        if memory > i64::from(most) * MIB {
            return invalid(format!(
                "a function has at most {most} MiB of memory: ask for less with -m"
            ));
        }
        if self.number("NanoCpus") > i64::from(config.place.cpus.max(6)) * 1_000_000_000 {
            return invalid(format!(
                "range of CPUs is from 0.01 to {:.2}, as there are only {} CPUs available",
                f64::from(config.place.cpus),
                config.place.cpus
            ));
        }
        if !self.text("Hostname").is_empty() && self.host("UTSMode") == "host" {
            return invalid("conflicting options: hostname and the UTS mode".to_owned());
        }
        let host = self.host_value();
        let warnings = validate::check(&host, &config.place)?;
        validate::positive_shares(&host)?;
        Ok(warnings)
    }

    fn runtime(&self, default: Runtime) -> Result<Runtime, ApiError> {
        match self.host("Runtime").as_str().unwrap_or("") {
            "" => Ok(default),
            "function" => Ok(Runtime::Function),
            "microvm" => Ok(Runtime::Microvm),
            other => Err(ApiError::new(
                400,
                format!("unknown or invalid runtime name: {other}"),
            )),
        }
    }

    /// `HostConfig` as `inspect` shows it, with what Docker fills in.
    fn host_config(&self, config: &Config, runtime: Runtime) -> Map<String, Value> {
        let mut host = self.host.clone();
        // What means the same as nothing is nothing, as in Docker.
        for (name, nothing) in [
            ("MemorySwappiness", -1),
            ("PidsLimit", 0),
            ("PidsLimit", -1),
        ] {
            if host.get(name).and_then(Value::as_i64) == Some(nothing) {
                host.insert(name.to_owned(), Value::Null);
            }
        }
        let mut fill = |name: &str, value: Value| {
            let unset = match host.get(name) {
                None | Some(Value::Null) => true,
                Some(Value::String(text)) => text.is_empty(),
                Some(Value::Number(number)) => number.as_i64() == Some(0),
                Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => false,
            };
            if unset {
                host.insert(name.to_owned(), value);
            }
        };
        fill("ConsoleSize", json!([0, 0]));
        let host_cgroup = config.place.cgroup_version == "1";
        fill(
            "CgroupnsMode",
            json!(if host_cgroup { "host" } else { "private" }),
        );
        fill("IpcMode", json!("private"));
        fill("ShmSize", json!(64 * MIB));
        fill("Runtime", json!(runtime.name()));
        fill("MaskedPaths", json!(MASKED_PATHS));
        fill("ReadonlyPaths", json!(READONLY_PATHS));
        let memory = self.number("Memory");
        if memory > 0 {
            fill("MemorySwap", json!(memory * 2));
        }
        validate::discard(&mut host, &config.place);
        host.insert("NetworkMode".to_owned(), json!(self.network_mode()));
        if self.host("RestartPolicy")["Name"]
            .as_str()
            .unwrap_or("")
            .is_empty()
        {
            host.insert(
                "RestartPolicy".to_owned(),
                json!({"Name": "no", "MaximumRetryCount": 0}),
            );
        }
        let log = self.host("LogConfig");
        if log["Type"].as_str().unwrap_or("").is_empty() {
            let options = match &log["Config"] {
                Value::Object(options) => json!(options),
                _ => json!({}),
            };
            host.insert(
                "LogConfig".to_owned(),
                json!({"Type": "json-file", "Config": options}),
            );
        }
        host
    }

    pub(super) fn network_mode(&self) -> &str {
        match self.host("NetworkMode").as_str().unwrap_or("") {
            "" | "default" => "bridge",
            other => other,
        }
    }
}

/// Memory that comes with one vCPU, in MiB (AWS Lambda, "Configure function memory").
const MEMORY_PER_CPU_MIB: f64 = 1_769.0;

/// What the function has to be like: `-m` picks its memory and `--cpus` the
/// memory that has so many vCPUs; the larger wins.
fn shape(
    wanted: &Wanted,
    image: &ImageDigest,
    runtime: Runtime,
    id: &ContainerId,
    config: &Config,
) -> FunctionShape {
    let memory = memory_mib(&wanted.host_value(), config.default_memory_mib);
    FunctionShape {
        image: image.clone(),
        runtime,
        memory_mib: memory,
        tmp_mib: config.tmp_mib,
        network: Network::None,
        architecture: None,
        owner: (runtime == Runtime::Microvm || config.function_per_container).then(|| id.clone()),
        machine: None,
    }
}

/// Memory for what `HostConfig` asks for, in MiB; `usual` where it asks for nothing.
pub(super) fn memory_mib(host: &Value, usual: u32) -> u32 {
    let number = |name: &str| host[name].as_i64().unwrap_or(0);
    let asked = (number("Memory") + MIB - 1) / MIB;
    // At most 10,240 after validation, and far below 2^53.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    let for_cpus = (number("NanoCpus") as f64 / 1e9 * MEMORY_PER_CPU_MIB).ceil() as i64;
    match asked.max(for_cpus) {
        0 => usual,
        mib => u32::try_from(mib).unwrap_or(u32::MAX).clamp(
            *FunctionShape::MEMORY_MIB.start(),
            *FunctionShape::MEMORY_MIB.end(),
        ),
    }
}

/// What a function gives only in part: said, not passed over.
fn function_warnings(wanted: &Wanted, config: &Map<String, Value>, has_pty: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.get("Tty") == Some(&Value::Bool(true)) && !has_pty {
        warnings.push(
            "a function has no terminal device: -t is emulated on pipes; use --runtime microvm for a real one".to_owned(),
        );
    }
    let user = config.get("User").and_then(Value::as_str).unwrap_or("");
    if !matches!(user, "" | "0" | "root") {
        warnings.push(format!(
            "a function runs as one fixed unprivileged user: the image's user {user} is ignored; use --runtime microvm to run as it"
        ));
    }
    for (name, flag) in [("Hostname", "--hostname"), ("Domainname", "--domainname")] {
        if !wanted.text(name).is_empty() {
            warnings.push(format!(
                "a function's host name is the platform's: {flag} is shown by inspect and in HOSTNAME alone; use --runtime microvm for a host of that name"
            ));
        }
    }
    if wanted.host("ReadonlyRootfs") == &Value::Bool(true) {
        warnings.push(
            "a function's root is read-only anyway, and /tmp stays writable; use --runtime microvm for a container that cannot write at all".to_owned(),
        );
    }
    let options = &wanted.host("Tmpfs");
    if options
        .as_object()
        .is_some_and(|all| all.values().any(|one| one != ""))
    {
        warnings.push(
            "a function's /tmp has the platform's size and mode: the options of --tmpfs are ignored; use --runtime microvm for them".to_owned(),
        );
    }
    let unnamed = config.get("Volumes").and_then(Value::as_object);
    let places: Vec<&str> = unnamed
        .into_iter()
        .flatten()
        .map(|(path, _)| path.as_str())
        .collect();
    if !places.is_empty() {
        warnings.push(format!(
            "a function has no volumes: what the image declares as such ({}) is a part of its read-only root; use --runtime microvm for volumes",
            places.join(", ")
        ));
    }
    warnings
}
