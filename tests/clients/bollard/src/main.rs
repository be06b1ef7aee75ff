//! What bollard's README shows, with what has to come of it. DOCKER_HOST names the engine,
//! which has the image busybox, PULLED an image that a registry has.

use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ExecConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, ListContainersOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{StreamExt as _, TryStreamExt as _};

type Failure = Box<dyn std::error::Error>;

fn strings(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let host = std::env::var("DOCKER_HOST")?;
    let docker = Docker::connect_with_unix(&host, 60, API_DEFAULT_VERSION)?;
    version_and_pull(&docker, &std::env::var("PULLED")?).await?;
    container(&docker).await?;
    exec(&docker).await
}

async fn version_and_pull(docker: &Docker, image: &str) -> Result<(), Failure> {
    assert_eq!(docker.version().await?.os.as_deref(), Some("linux"));
    let options = CreateImageOptionsBuilder::default()
        .from_image(image)
        .build();
    let steps: Vec<_> = docker
        .create_image(Some(options), None, None)
        .try_collect()
        .await?;
    assert!(!steps.is_empty());
    let found = docker.inspect_image(image).await?;
    assert!(
        found
            .repo_tags
            .is_some_and(|tags| tags.contains(&image.to_owned()))
    );
    Ok(())
}

async fn container(docker: &Docker) -> Result<(), Failure> {
    let body = ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: strings(&["sh", "-c", "echo out; echo err >&2; exit 6"]),
        ..ContainerCreateBody::default()
    };
    let named = CreateContainerOptionsBuilder::default()
        .name("bollard")
        .build();
    docker.create_container(Some(named), body).await?;
    docker
        .start_container("bollard", None::<StartContainerOptions>)
        .await?;
    // bollard makes an error of an exit code that is not zero.
    let waited: Result<Vec<_>, _> = docker
        .wait_container("bollard", None::<WaitContainerOptions>)
        .try_collect()
        .await;
    match waited {
        Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => assert_eq!(code, 6),
        other => panic!("{other:?}"),
    }
    let options = LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .build();
    let logs: Vec<_> = docker.logs("bollard", Some(options)).try_collect().await?;
    let of = |stderr: bool| {
        logs.iter()
            .filter(|record| matches!(record, LogOutput::StdErr { .. }) == stderr)
            .map(ToString::to_string)
            .collect::<String>()
    };
    assert_eq!(
        (of(false), of(true)),
        ("out\n".to_owned(), "err\n".to_owned())
    );
    let all = ListContainersOptionsBuilder::default().all(true).build();
    let names: Vec<_> = docker
        .list_containers(Some(all))
        .await?
        .into_iter()
        .filter_map(|container| container.names)
        .collect();
    assert_eq!(names, [["/bollard"]]);
    let force = RemoveContainerOptionsBuilder::default().force(true).build();
    docker.remove_container("bollard", Some(force)).await?;
    Ok(())
}

async fn exec(docker: &Docker) -> Result<(), Failure> {
    let body = ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: strings(&["sleep", "1000"]),
        ..ContainerCreateBody::default()
    };
    let id = docker
        .create_container(
            None::<bollard::query_parameters::CreateContainerOptions>,
            body,
        )
        .await?
        .id;
    docker
        .start_container(&id, None::<StartContainerOptions>)
        .await?;
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: strings(&["ls", "-l", "/bin/busybox"]),
        ..ExecConfig::default()
    };
    let exec = docker.create_exec(&id, config).await?.id;
    let StartExecResults::Attached { mut output, .. } =
        docker.start_exec(&exec, None::<StartExecOptions>).await?
    else {
        panic!("not attached");
    };
    let mut text = String::new();
    while let Some(piece) = output.next().await {
        text.push_str(&piece?.to_string());
    }
    assert!(text.ends_with("/bin/busybox\n"), "{text}");
    assert_eq!(docker.inspect_exec(&exec).await?.exit_code, Some(0));
    let force = RemoveContainerOptionsBuilder::default().force(true).build();
    docker.remove_container(&id, Some(force)).await?;
    Ok(())
}
