//! Images as Lambda is given them: made of images of every make, checked by a program that is
//! not ours. `scripts/test-preparation` makes the images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use sockerless_control::aws::functions::{Runnable, RunnableImages as _};
use sockerless_control::images::Digest;
use sockerless_control::images::progress::{Message, Progress};
use sockerless_control::ports::Registry as _;
use sockerless_control::ports::function_host::Architecture::{Arm64, X86_64};
use sockerless_shared::ids::ImageDigest;

use super::archives::{Tar, config, docker_archive, gzip};
use super::invocation::{self, Invocation, emulator, namespace};
use super::meter::Meter;
use super::{noise, variable};

/// Stands for the agent: what it is does not matter here.
const AGENT: &[u8] = b"\x7fELF agent";

#[derive(Default)]
struct Loaded(Vec<Digest>);

#[async_trait::async_trait]
impl Progress for Loaded {
    async fn message(&mut self, _: Message) {}

    async fn loaded(&mut self, image: &Digest) {
        self.0.push(*image);
    }
}

async fn load(invocation: &Invocation, archive: Vec<u8>) -> ImageDigest {
    let bytes = Bytes::from(archive);
    let body = Box::pin(futures_util::stream::iter([Ok(bytes)]));
    let mut loaded = Loaded::default();
    invocation
        .images
        .load(&namespace(), body, None, true, &mut loaded)
        .await
        .unwrap();
    loaded.0[0].into()
}

fn run(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program:?} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Copies an image to `folder` and unpacks it there, with tools of others.
fn unpack(image: &str, folder: &Path, more: &[&str]) {
    let tools = PathBuf::from(variable("SOCKERLESS_TEST_TOOLS"));
    std::fs::create_dir_all(folder).unwrap();
    let layout = folder.join("layout").display().to_string();
    let target = format!("oci:{layout}:image");
    let mut arguments = vec!["--insecure-policy", "copy", "--quiet"];
    arguments.extend(more);
    arguments.extend([image, &target]);
    run(&tools.join("skopeo"), &arguments);
    let image = format!("{layout}:image");
    let bundle = folder.join("bundle").display().to_string();
    run(
        &tools.join("umoci"),
        &["unpack", "--image", &image, &bundle],
    );
}

/// The digest of the prepared image behind a URI.
fn check(uri: &str, archive: &Path, folder: &Path) -> Value {
    let (_, name) = uri.split_once('/').unwrap();
    let (prepared, original) = (folder.join("prepared"), folder.join("original"));
    unpack(
        &format!("docker://{}/{name}", emulator()),
        &prepared,
        &[
            "--preserve-digests",
            "--src-tls-verify=false",
            "--src-creds=AWS:any",
        ],
    );
    unpack(
        &format!("oci-archive:{}", archive.display()),
        &original,
        // umoci knows no zstd.
        &["--dest-compress-format", "gzip"],
    );
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/lib/check_prepared.py");
    let [checker, prepared, original] =
        [&checker, &prepared, &original].map(|path| path.display().to_string());
    let seen = run(Path::new("python3"), &[&checker, &prepared, &original]);
    serde_json::from_str(&seen).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the images and tools of scripts/test-preparation"]
async fn images_of_every_make_keep_lambdas_rules() {
    let samples = PathBuf::from(variable("SOCKERLESS_TEST_SAMPLES"));
    let meter = Meter::before(&emulator()).await;
    let mut seen = BTreeMap::new();
    for name in ["docker", "buildah", "zstd", "full", "many", "raw"] {
        let archive = samples.join(format!("{name}.tar"));
        let folder = tempfile::tempdir().unwrap();
        let first = invocation::at(&meter.address, AGENT).await;
        let image = load(&first, std::fs::read(&archive).unwrap()).await;
        // What has to be packed anew is left to an invocation of its own.
        let found = first.runnable.find(&image, X86_64).await.unwrap();
        assert_eq!(found.ready, name == "docker", "{name}");
        first.runnable.make(&image, X86_64).await.unwrap();
        let ready = Runnable {
            ready: true,
            ..found
        };
        let checked = check(&ready.uri, &archive, folder.path());

        // Another invocation finds it, by one question.
        let second = invocation::at(&meter.address, AGENT).await;
        meter.asked();
        assert_eq!(
            second.runnable.find(&image, X86_64).await,
            Ok(ready.clone())
        );
        let asked = meter.asked();
        assert_eq!(asked.len(), 1, "{name}: {asked:?}");
        assert!(asked[0].starts_with("HEAD "), "{name}: {asked:?}");
        // It knows that for as long as it lives.
        assert_eq!(
            second.runnable.find(&image, X86_64).await,
            Ok(ready.clone())
        );
        assert_eq!(meter.asked(), Vec::<String>::new(), "{name}");

        // It is no garbage while its image is there.
        second.images.collect_garbage().await.unwrap();
        let digest: Digest = checked["digest"].as_str().unwrap().parse().unwrap();
        second.registry.get_manifest(&digest).await.unwrap();

        // Made again, it is the same to the byte, and nothing is packed a second time.
        second.registry.delete_manifest(&digest).await.unwrap();
        let third = invocation::at(&meter.address, AGENT).await;
        assert_eq!(third.runnable.find(&image, X86_64).await, Ok(ready.clone()));
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            check(&ready.uri, &archive, folder.path()),
            checked,
            "{name}"
        );

        // Another agent makes another image, and moves none.
        let other = invocation::at(&meter.address, b"\x7fELF another").await;
        let other = other.runnable.find(&image, X86_64).await.unwrap().uri;
        assert_ne!(other, ready.uri);
        let folder = tempfile::tempdir().unwrap();
        let of_other = check(&other, &archive, folder.path());
        assert_ne!(of_other["digest"], checked["digest"]);

        // So does the agent for other processors.
        let other = second.runnable.find(&image, Arm64).await.unwrap();
        assert!(other.ready && other.uri != ready.uri, "{name}");
        seen.insert(name, checked);
    }
    assert_eq!(seen["many"]["layers"], 62);
    println!("{seen:?}");
}

/// A number that the environment may set.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number"))
    })
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// An invocation that has its credentials, which are fetched once for twelve hours.
async fn with_credentials(agent: &[u8]) -> Invocation {
    let invocation = invocation::at(&emulator(), agent).await;
    let nothing = Digest::of(b"");
    invocation.registry.stat_blob(&nothing).await.unwrap();
    invocation
}

/// How long it takes from the creation of a container of an image that was never seen to the
/// manifest that Lambda is given; rows for the table of `scripts/bench`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, which scripts/bench-preparation takes"]
async fn how_long_it_takes() {
    let mib = number("SOCKERLESS_BENCH_PREPARATION_MIB", 64);
    let rounds = number("SOCKERLESS_BENCH_PREPARATION_ROUNDS", 5);
    let agent = std::fs::read(variable("SOCKERLESS_BENCH_AGENT")).unwrap();
    let mut seed = 0x2545_f491_4f6c_dd1d;
    let mut noise = || {
        seed += 1;
        noise(seed, mib << 20)
    };
    for (folder, what) in [
        (true, "whose layers keep Lambda's rules"),
        (false, "whose layer is packed anew"),
    ] {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let tar = if folder {
                Tar::new().folder("a/")
            } else {
                Tar::new()
            };
            let layer = tar.file("a/noise", &noise()).end();
            let config = config(std::slice::from_ref(&layer));
            let archive = docker_archive(&config, &["measured:v1"], &[gzip(&layer)]);
            let invocation = with_credentials(&agent).await;
            let image = load(&invocation, archive).await;
            let begin = Instant::now();
            if !invocation
                .runnable
                .find(&image, X86_64)
                .await
                .unwrap()
                .ready
            {
                invocation.runnable.make(&image, X86_64).await.unwrap();
            }
            first.push(begin.elapsed());
            let invocation = with_credentials(&agent).await;
            let begin = Instant::now();
            assert!(
                invocation
                    .runnable
                    .find(&image, X86_64)
                    .await
                    .unwrap()
                    .ready
            );
            second.push(begin.elapsed());
        }
        let name = format!("from `create` to a prepared manifest, image of {mib} MiB {what}");
        println!(
            "| {name} | never seen, median | | {:.0} ms | |",
            median(first)
        );
        println!("| {name} | seen, median | | {:.1} ms | |", median(second));
    }
}
