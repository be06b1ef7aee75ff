//! `docker build` is not there yet: every builder of the real client says so, and what to do.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use sockerless_tests::engines::run_script;
use sockerless_tests::scenario::Runtime;
use sockerless_tests::subject::Subject;

const SENTENCE: &str = "docker build is not implemented by sockerless yet: build elsewhere and \
     bring the image with `docker save | docker load`, or push it to a registry and pull it here";

#[test]
fn every_builder_says_what_to_do_instead() {
    let subject = Subject::start(Runtime::Function);
    let context = subject.folder().join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), "FROM busybox\nCOPY large /\n").unwrap();
    // Larger than what travels within a request.
    fs::write(context.join("large"), vec![7; 20 << 20]).unwrap();
    let context = context.to_str().unwrap();
    let plugins = subject.folder().join("client/cli-plugins");
    fs::create_dir_all(&plugins).unwrap();
    let buildx = run_script("docker-buildx", &[]).unwrap();
    symlink(buildx, plugins.join("docker-buildx")).unwrap();

    let bake = format!("--set=*.context={context}");
    let file = subject.folder().join("docker-bake.hcl");
    fs::write(&file, "target \"default\" {}\n").unwrap();
    let file = format!("--file={}", file.display());
    for (buildkit, arguments) in [
        ("0", &["build", "--tag", "x", context][..]),
        ("1", &["build", "--tag", "x", context]),
        ("1", &["buildx", "build", context]),
        ("1", &["buildx", "build", "--load", "--tag", "x", context]),
        (
            "1",
            &[
                "buildx",
                "build",
                "--push",
                "--tag",
                "127.0.0.1:1/x",
                context,
            ],
        ),
        ("1", &["buildx", "bake", &file, &bake]),
        ("1", &["buildx", "du"]),
    ] {
        let output = subject
            .command(arguments)
            .env("DOCKER_BUILDKIT", buildkit)
            .env("BUILDX_GIT_INFO", "false")
            .env("BUILDX_BAKE_ENTITLEMENTS_FS", "0")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains(SENTENCE), "{arguments:?}: {stderr}");
        // Nobody makes a builder of their own in a container instead.
        assert_eq!(subject.docker(&["ps", "--all", "--quiet"]), "");
    }
    subject.is_well();
}
