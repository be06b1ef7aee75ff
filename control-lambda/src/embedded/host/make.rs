//! Everything that an environment needs before the warden is told to make it.

use std::sync::Arc;

use sockerless_shared::ids::FunctionName;
use sockerless_shared::spec::Runtime;
use time::OffsetDateTime;
use tokio::net::unix::pipe;

use super::base::AGENT;
use super::cgroup::{EnvironmentCgroup, FUNCTION_PROCESSES, Limits};
use super::environment::{Log, Output, Phase};
use super::etc::{self, SLIRP_ADDRESS};
use super::shared::{Shared, lock};
use super::variables::{Facts, variables};
use super::wire::{Blueprint, EnvironmentId, Order, Profile, Uplink};
use crate::ports::function_host::{FunctionShape, Network};

/// Where the runtime API listens, inside.
const RUNTIME_API: &str = "127.0.0.1:9001";

impl Shared {
    /// Prepares everything that an environment needs and orders it.
    pub(super) async fn make(
        &self,
        id: EnvironmentId,
        function: &FunctionName,
    ) -> Result<(), String> {
        let Some(shape) = lock(&self.pool).shape(function).cloned() else {
            return Err("the function was deleted".to_owned());
        };
        let mut layers = self.layers.layers(&shape.image).await?;
        layers.push(self.base.layer(shape.network));
        let cgroup = self.limit(id, &shape)?;
        let stream = self
            .streams
            .create(OffsetDateTime::now_utc())
            .map_err(|error| format!("make its log stream: {error}"))?;
        let no_pipe = |error| format!("make a pipe for its output: {error}");
        let (theirs, ours) = pipe::pipe().map_err(no_pipe)?;
        let theirs = theirs.into_blocking_fd().map_err(no_pipe)?;
        let blueprint = Blueprint {
            environment: id,
            layers,
            mount_point: self.data_dir.join("scratch/mnt"),
            profile: match &shape.owner {
                Some(owner) => {
                    let machine = shape.machine.clone().unwrap_or_default();
                    let (address, servers) = match (shape.network, &self.outside.uplink) {
                        (Network::Outbound, Uplink::Slirp4netns(_)) => {
                            (Some(SLIRP_ADDRESS), &self.outside.name_servers[..])
                        }
                        (Network::None | Network::Outbound, _) => (None, &[][..]),
                    };
                    Profile::Microvm {
                        writable: self.writable(owner),
                        files: etc::files(&machine, address, servers),
                        machine,
                    }
                }
                None => Profile::Function {
                    tmp_mib: shape.tmp_mib,
                },
            },
            hostname: match &shape.machine {
                Some(machine) if !machine.hostname.is_empty() => machine.hostname.clone(),
                Some(_) | None => "localhost".to_owned(),
            },
            cgroup_procs: cgroup.as_ref().map_or_else(Vec::new, |c| c.procs.clone()),
            container_procs: cgroup
                .as_ref()
                .map_or_else(Vec::new, |c| c.container_procs.clone()),
            thawing: cgroup.as_ref().and_then(|c| {
                let (file, word) = c.freezer.as_ref()?.thawing();
                Some((file, word.to_owned()))
            }),
            oom_counter: cgroup.as_ref().map(|c| c.oom_counter.clone()),
            command: vec![AGENT.to_owned()],
            variables: variables(&Facts {
                function,
                memory_mib: shape.memory_mib,
                log_stream: stream.name(),
                runtime_api: RUNTIME_API,
            }),
            uplink: match shape.network {
                Network::None => Uplink::None,
                Network::Outbound => self.outside.uplink.clone(),
            },
        };
        let output = Arc::new(Output::new(ours, stream));
        let connected = blueprint.uplink == Uplink::None;
        let mut live = lock(&self.live);
        let Some(environment) = live.get_mut(&id) else {
            return Err("it is gone".to_owned());
        };
        environment.cgroup = cgroup;
        if environment.phase != Phase::Planned {
            return Err("it is not needed any more".to_owned());
        }
        environment.phase = Phase::Ordered;
        environment.connected.send_replace(connected);
        environment.log = Some(Log {
            copying: Some(tokio::spawn({
                let output = Arc::clone(&output);
                async move { output.copy().await }
            })),
            output,
        });
        environment.timer = Some(self.init_timer(id));
        self.order(Order::Create(Box::new(blueprint)), vec![theirs]);
        Ok(())
    }

    fn limit(
        &self,
        id: EnvironmentId,
        shape: &FunctionShape,
    ) -> Result<Option<EnvironmentCgroup>, String> {
        let Ok(cgroups) = &self.cgroups else {
            return Ok(None);
        };
        let limits = Limits {
            memory_mib: shape.memory_mib,
            processes: (shape.runtime == Runtime::Function).then_some(FUNCTION_PROCESSES),
        };
        cgroups
            .create(
                id,
                limits,
                shape.machine.as_ref().map(|machine| &machine.resources),
            )
            .map(Some)
            .map_err(|error| format!("make its control group: {error}"))
    }
}
