//! ECR as a registry like any other: an emulator's, with the credentials that ECR gives.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;

use sockerless_tests::engines::{run_script, scripts};
use sockerless_tests::scenario::Runtime;
use sockerless_tests::subject::Subject;

use super::{log_in, run};

/// The emulator, until it is dropped.
struct Emulator {
    folder: tempfile::TempDir,
}

impl Emulator {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let emulator = Self { folder };
        emulator.script("start");
        emulator
    }

    /// What a command says, as variables.
    fn script(&self, command: &str) -> HashMap<String, String> {
        let said = run(Command::new(scripts().join("ministack"))
            .arg(command)
            .arg(self.folder.path()));
        said.split_whitespace()
            .filter_map(|word| word.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let folder = self.folder.path().display().to_string();
        if let Err(error) = run_script("ministack", &["stop", &folder]) {
            eprintln!("{error}");
        }
    }
}

/// What `aws ecr get-login-password` prints.
fn password(variables: &HashMap<String, String>) -> String {
    let python = PathBuf::from(run_script("ministack", &["install"]).unwrap());
    let script = "import base64, botocore.session\n\
                  ecr = botocore.session.get_session().create_client('ecr')\n\
                  token = ecr.get_authorization_token()['authorizationData'][0]\n\
                  print(base64.b64decode(token['authorizationToken']).decode().split(':', 1)[1])";
    let said = run(Command::new(python)
        .args(["-B", "-c", script])
        .envs(variables));
    said.trim().to_owned()
}

#[test]
fn an_image_goes_to_ecr_and_comes_back_the_same() {
    let emulator = Emulator::start();
    let variables = emulator.script("resources");
    let repository = &variables["SOCKERLESS_TEST_REPOSITORY"];
    let host = repository.split('/').next().unwrap();
    let mut environment: HashMap<String, String> = [
        ("AWS_ENDPOINT_URL", format!("http://{host}")),
        ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    environment.insert("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned());
    let password = password(&environment);

    let subject = Subject::start(Runtime::Microvm);
    let login = ["login", "--username", "AWS", "--password-stdin", host];
    log_in(subject.command(&login), &password);

    subject.docker(&[
        "load",
        "--quiet",
        "--input",
        &subject.fixture("configured.tar"),
    ]);
    let [one, two] = ["v1", "v2"].map(|tag| format!("{repository}:{tag}"));
    subject.docker(&["tag", "configured", &one]);
    let digest = |name: &str| {
        let format = "{{index .RepoDigests 0}} {{.Id}}";
        subject.docker(&["image", "inspect", "--format", format, name])
    };
    subject.docker(&["push", "--quiet", &one]);
    let pushed = digest(&one);
    subject.docker(&["rmi", &one, "configured"]);
    subject.docker(&["pull", "--quiet", &one]);
    assert_eq!(digest(&one), pushed);
    assert_eq!(
        subject.docker(&["run", "--rm", &one]),
        "hello from /srv/app\n"
    );
    // Again, under another tag: nothing is sent anew, and the digest stays.
    subject.docker(&["tag", &one, &two]);
    let told = subject.docker(&["push", &two]);
    assert_eq!(told.matches("Layer already exists").count(), 2, "{told}");
    subject.docker(&["rmi", &one, &two]);
    subject.docker(&["pull", "--quiet", &two]);
    assert_eq!(digest(&two), pushed);
    // What is not there.
    let none = format!("{repository}:none");
    let (code, _, stderr) = subject.try_docker(&["pull", &none]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("not found"), "{stderr}");
    subject.is_well();
}
