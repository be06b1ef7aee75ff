//! How long a pull takes of an image that cannot be compressed, from a registry on the same
//! machine: beside the Engine's, and beside `skopeo copy` into an OCI layout.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sockerless_tests::engines::{free_port, run_script};
use sockerless_tests::large;

use crate::latency::Times;
use crate::pair::{Pair, Side};

/// What the rows' names begin with.
pub(crate) const NAME: &str = "`docker pull`";

/// What is pulled, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) layers: u64,
    pub(crate) layer_mib: u64,
    pub(crate) rounds: usize,
}

impl Size {
    /// The rows' names: beside the Engine, beside skopeo.
    pub(crate) fn names(self) -> [String; 2] {
        let Self {
            layers, layer_mib, ..
        } = self;
        let mib = layers * layer_mib;
        [
            format!("{NAME} of {mib} MiB in {layers} layers"),
            format!("{NAME} of {mib} MiB in {layers} layers, beside `skopeo copy`"),
        ]
    }
}

fn pull(side: &Side, name: &str) -> Result<Duration, String> {
    let begin = Instant::now();
    side.docker(&["pull", "--quiet", name])?;
    let took = begin.elapsed();
    side.docker(&["rmi", name])?;
    Ok(took)
}

fn copy(skopeo: &Path, folder: &Path, name: &str) -> Result<Duration, String> {
    let target = folder.join("copied");
    let begin = Instant::now();
    let output = Command::new(skopeo)
        .args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--src-tls-verify=false",
        ])
        .arg(format!("docker://{name}"))
        .arg(format!("oci:{}:copied", target.display()))
        .output()
        .map_err(|error| format!("skopeo: {error}"))?;
    let took = begin.elapsed();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    std::fs::remove_dir_all(&target).map_err(|error| error.to_string())?;
    Ok(took)
}

/// Rounds in turns: the Engine's and ours, skopeo's and ours.
pub(crate) fn measure(pair: &Pair, size: Size) -> Result<(Times, Times), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = folder.path();
    let skopeo = Path::new(&run_script("image-tools", &[])?).join("bin/skopeo");
    let registry = run_script("test-registry", &[])?;
    let address = free_port()?;
    let configuration = folder.join("registry.yml");
    std::fs::write(
        &configuration,
        format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            folder.join("registry").display()
        ),
    )
    .map_err(|error| error.to_string())?;
    // The same content behind the same address in each engine's network.
    let _registries: Vec<_> = pair
        .sides()
        .into_iter()
        .map(|side| side.engine.registry(Path::new(&registry), &configuration))
        .collect::<Result<_, _>>()?;
    let name = format!("{address}/large:v1");
    let archive =
        large::archive(folder, size.layers, size.layer_mib << 20).map_err(|e| e.to_string())?;
    let rounds = size.rounds;
    pair.ours
        .docker(&["load", "--quiet", "--input", &archive.display().to_string()])?;
    pair.ours.docker(&["tag", "large:v1", &name])?;
    pair.ours.docker(&["push", "--quiet", &name])?;
    pair.ours.docker(&["rmi", "large:v1", &name])?;
    let (mut engine, mut beside) = (Times::default(), Times::default());
    for _ in 0..rounds {
        engine.theirs.push(pull(&pair.theirs, &name)?);
        let ours = pull(&pair.ours, &name)?;
        engine.ours.push(ours);
        beside.ours.push(ours);
        beside.theirs.push(copy(&skopeo, folder, &name)?);
    }
    Ok((engine, beside))
}
