//! An image that a real Docker Engine has built, at a registry that wants a password: pulled, run
//! and pushed back, and the Engine has the same again.

use std::fs;
use std::process::Command;

use sockerless_tests::engines::free_port;
use sockerless_tests::scenario::Runtime;
use sockerless_tests::subject::Subject;
use sockerless_tests::suite::{PASSWORDS, guard};

use super::theirs::Theirs;
use super::{digest_among, log_in, registry, registry_program};

const DOCKERFILE: &str = "FROM busybox
COPY file /old/file
RUN ln /old/file /old/twin && mkdir -p /new/deep && mv /old/twin /new/deep/file && rm -r /old
ENV MADE=there
WORKDIR /new
USER 1000
ENTRYPOINT [\"sh\", \"-c\"]
CMD [\"cat deep/file; echo $MADE $(id -u); ls -d /old\"]
";

#[test]
fn what_an_engine_built_goes_through_a_guarded_registry_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let passwords = folder.join("passwords");
    fs::write(&passwords, PASSWORDS).unwrap();
    let guard = guard(&passwords);
    let address = free_port().unwrap();
    let server = registry_program();
    let _registry = registry(folder, address, &guard, &mut Command::new(&server));
    let subject = Subject::start(Runtime::Microvm);
    let theirs = Theirs::start();
    // The Engine has a loopback of its own, and on it the same registry: what is in the one is in
    // the other.
    let mut beside = theirs.beside(&server);
    let _same = registry(folder, address, &guard, &mut beside);
    let host = address.to_string();
    let [original, copy] = ["made", "copies/made"].map(|name| format!("{host}/{name}:v1"));

    let context = folder.join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    fs::write(context.join("file"), "kept\n").unwrap();
    theirs.docker(&["load", "--quiet", "--input", &subject.fixture("plain.tar")]);
    let context = context.to_str().unwrap();
    let line = ["build", "--network", "none", "--tag", &original, context];
    super::run(theirs.command(&line).env("DOCKER_BUILDKIT", "0"));
    let login = ["login", "--username", "bob", "--password-stdin", &host];
    log_in(theirs.command(&login), "secret");
    theirs.docker(&["push", "--quiet", &original]);

    let (code, _, stderr) = subject.try_docker(&["pull", &original]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("no basic auth credentials"), "{stderr}");
    log_in(subject.command(&login), "secret");
    subject.docker(&["pull", "--quiet", &original]);
    let seen = |name: &str| {
        let what = "{{.Id}} {{range .RepoDigests}}{{println .}}{{end}}";
        let line = ["image", "inspect", "--format", what, name];
        [subject.docker(&line), theirs.docker(&line)].map(|said| {
            let (id, digests) = said.split_once(' ').unwrap();
            (id.to_owned(), digest_among(digests, name))
        })
    };
    let [ours, of_engine] = seen(&original);
    assert_eq!(ours, of_engine);
    let run = ["run", "--rm", "--network", "none", &original];
    let (code, stdout, stderr) = subject.try_docker(&run);
    assert_eq!(stdout, "kept\nthere 1000\n", "{stderr}");
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("/old: No such file"), "{stderr}");
    let output = theirs.command(&run).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(output.status.code(), code);

    // Back, under another name.
    subject.docker(&["tag", &original, &copy]);
    subject.docker(&["push", "--quiet", &copy]);
    subject.docker(&["rmi", &copy, &original]);
    subject.docker(&["pull", "--quiet", &copy]);
    theirs.docker(&["pull", "--quiet", &copy]);
    let [ours_again, of_engine_again] = seen(&copy);
    assert_eq!(ours_again, ours);
    assert_eq!(of_engine_again, ours);
    let run = ["run", "--rm", "--network", "none", &copy];
    assert_eq!(subject.try_docker(&run).1, stdout);
    subject.is_well();
}
