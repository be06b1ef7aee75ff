//! Transfers as jobs: with an answer that arrives part by part, and over more than one
//! invocation.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sockerless_control::embedded::blobs::FolderBlobs;
use sockerless_control::embedded::table::SqliteTable;
use sockerless_control::engine::jobs::Outcome;
use sockerless_control::engine::{Control, Parts};
use sockerless_control::environment::SystemEnvironment;
use sockerless_control::images::Digest;
use sockerless_control::images::remote::Credentials;
use sockerless_control::ports::Environment;
use sockerless_control::ports::blobs::{BlobError, BlobName};
use sockerless_control::ports::jobs::{Import, Job};
use sockerless_control::store::Store;
use sockerless_shared::answer::{Answer, Body, Part, Request};
use sockerless_shared::ids::{AnswerId, BlobId, PeerId};
use sockerless_shared::protocol::mac::Key;

use super::archives::{Tar, image};
use super::registry::Registry;
use super::setup::{Place, body, place};
use super::transfer::{kept, registry};
use super::world::{self, World};

/// Longer than any of these takes.
const ENOUGH: Duration = Duration::from_secs(120);

fn control(place: &Place) -> Arc<Control> {
    // Whose random numbers differ.
    let environment: Arc<dyn Environment> = Arc::new(SystemEnvironment);
    let key = Key::from_random([7; 32]);
    let blobs = FolderBlobs::open(
        &place.folder.path().join("bodies"),
        "http://127.0.0.1:9/blobs",
        key.derive("blob URLs"),
        Arc::clone(&environment),
    );
    let world = Arc::new(World::default());
    let parts = Parts {
        store: Store::new(
            Arc::new(SqliteTable::in_memory().unwrap()),
            Arc::clone(&environment),
        ),
        environment,
        host: Arc::clone(&world) as Arc<_>,
        relay: Arc::clone(&world) as Arc<_>,
        blobs: Arc::new(blobs.unwrap()),
        jobs: world,
        images: place.images.clone(),
    };
    Arc::new(Control::new(parts, world::config(key)))
}

async fn answer(control: &Control) -> AnswerId {
    let peer = PeerId::from_random([1; 14]);
    let (id, _) = control.begin_answer(&peer, Vec::new()).await.unwrap();
    id
}

/// Status and body of an answer that is complete.
async fn told(control: &Control, id: &AnswerId) -> (u16, String) {
    let store = control.store();
    let meta = store.answer(id).await.unwrap().unwrap();
    let parts = store.parts_from(id, &meta, 0).await.unwrap();
    let (mut status, mut text, mut ended) = (Vec::new(), Vec::new(), false);
    for (_, part) in parts {
        assert!(!ended, "a part after the end");
        match part {
            Part::Head(head) => status.push(head.status),
            Part::Data { data } => text.extend_from_slice(&data),
            Part::End => ended = true,
            other => panic!("{other:?}"),
        }
    }
    assert!(ended, "{}", String::from_utf8_lossy(&text));
    assert_eq!(status.len(), 1, "one head");
    (status[0], String::from_utf8(text).unwrap())
}

fn pull_of(place: &Place, registry: &Registry, answer: &AnswerId) -> Job {
    Job::Pull {
        namespace: place.namespace.clone(),
        reference: format!("{}/r:v1", registry.address),
        all_tags: false,
        platform: None,
        credentials: Credentials::default(),
        answer: answer.clone(),
    }
}

#[tokio::test]
async fn a_request_that_is_left_to_a_job_is_answered_once() {
    let place = place();
    let control = control(&place);
    let request = |path: &str, answer: &AnswerId| Job::Request {
        namespace: place.namespace.clone(),
        method: "POST".to_owned(),
        path_and_query: path.to_owned(),
        answer: answer.clone(),
    };
    let pruned = answer(&control).await;
    let nothing = r#"{"ContainersDeleted":null,"SpaceReclaimed":0}"#;
    // Its invocation may be delivered twice.
    for _ in 0..2 {
        let job = request("/v1.51/containers/prune", &pruned);
        control.run_job(job).await.unwrap();
        let (status, text) = told(&control, &pruned).await;
        assert_eq!((status, text.trim_end()), (200, nothing));
    }
    let refused = answer(&control).await;
    let job = request("/v1.51/containers/prune?filters=x", &refused);
    control.run_job(job).await.unwrap();
    let (status, text) = told(&control, &refused).await;
    assert_eq!(status, 400, "{text}");
    assert!(text.starts_with(r#"{"message":"#), "{text}");
}

/// Invocations until the first half of the layer is there; what is left to do.
async fn half_done(control: &Control, place: &Place, job: Job, half: u64) -> Job {
    let mut job = job;
    let begun = std::time::Instant::now();
    loop {
        let limit = Duration::from_millis(300);
        match control.run_job_within(job, limit, 0).await {
            Outcome::GoesOn(left) => job = *left,
            ended @ (Outcome::Done | Outcome::Failed(_)) => {
                panic!("it ended, although the registry did not answer: {ended:?}")
            }
        }
        if kept(place) >= half {
            return job;
        }
        assert!(begun.elapsed() < ENOUGH, "nothing comes");
    }
}

#[tokio::test]
async fn a_pull_that_outlasts_its_invocation_goes_on_in_the_next() {
    let (registry, path, size) = registry().await;
    registry.stall(&path, size / 2);
    let place = place();
    let control = control(&place);
    let answer = answer(&control).await;
    let job = pull_of(&place, &registry, &answer);
    let left = half_done(&control, &place, job, size as u64 / 2).await;
    registry.release();
    registry.asked();
    // What the one passes to the other is a text.
    let text = serde_json::to_string(&left).unwrap();
    let left: Job = serde_json::from_str(&text).unwrap();
    let done = control.run_job_within(left, ENOUGH, 1).await;
    assert_eq!(done, Outcome::Done);
    let asked = registry.asked();
    assert!(
        asked.contains(&format!("{path} from {}", size / 2)),
        "{asked:?}"
    );
    assert!(!asked.contains(&path), "{asked:?}");
    // The client sees one answer.
    let (status, text) = told(&control, &answer).await;
    assert_eq!(status, 200);
    assert!(text.contains("Pull complete"), "{text}");
    assert!(text.contains("Status: Downloaded newer image"), "{text}");
    assert!(!text.contains("error"), "{text}");
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_or_that_never_ends_is_given_up() {
    let (registry, path, size) = registry().await;
    registry.stall(&path, size / 2);
    let place = place();
    let control = control(&place);
    let id = answer(&control).await;
    let job = pull_of(&place, &registry, &id);
    let left = half_done(&control, &place, job, size as u64 / 2).await;
    registry.stall(&path, 0);
    let moment = Duration::from_millis(50);
    let last = control.run_job_within(left.clone(), moment, 24).await;
    assert_eq!(last, Outcome::Done);
    let (_, text) = told(&control, &id).await;
    assert!(text.contains("did not end within six hours"), "{text}");
    // What came is there for the next who tries.
    assert_eq!(kept(&place), size as u64 / 2);
    control.store().erase_answer(&id).await.unwrap();
    let unwanted = control.run_job_within(left, moment, 0).await;
    assert_eq!(unwanted, Outcome::Done);
}

/// Puts a body where a frontend puts a large one.
async fn send(control: &Control, bytes: &[u8]) -> (BlobId, BlobName) {
    let blob = BlobId::from_random([9; 16]);
    let name = BlobName::new(format!("bodies/{blob}")).unwrap();
    control
        .blobs()
        .put(&name, body(bytes), u64::MAX)
        .await
        .unwrap();
    (blob, name)
}

async fn is_gone(control: &Control, name: &BlobName) {
    match control.blobs().get(name).await {
        Err(BlobError::NotFound(_)) => {}
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the body is still there"),
    }
}

fn request(path: &str, body: Body) -> Request {
    Request {
        method: "POST".to_owned(),
        path_and_query: path.to_owned(),
        headers: Vec::new(),
        body,
        peer: Some(PeerId::from_random([1; 14])),
    }
}

#[tokio::test]
async fn a_large_archive_is_loaded_by_a_job_which_also_removes_it() {
    let place = place();
    let control = control(&place);
    let layer = Tar::new().file("f", &vec![1; 100_000]).end();
    for (archive, says) in [
        (image("x", &[layer]), "Loaded image: x:latest"),
        (b"no archive".to_vec(), "unexpected EOF"),
    ] {
        let (blob, name) = send(&control, &archive).await;
        let request = request("/images/load?quiet=1", Body::Blob(blob.clone()));
        let Answer::Parts { id, first } = control.handle(&place.namespace, request).await else {
            panic!("it is not deferred");
        };
        assert_eq!(first, Vec::new());
        // The request is over, and its body is there for the job.
        drop(control.blobs().get(&name).await.unwrap());
        let job = Job::Load {
            namespace: place.namespace.clone(),
            body: blob,
            platform: None,
            quiet: true,
            answer: id.clone(),
        };
        control.run_job(job).await.unwrap();
        let (status, text) = told(&control, &id).await;
        // Docker has begun to answer before it reads.
        assert_eq!(status, 200);
        assert!(text.contains(says), "{text}");
        is_gone(&control, &name).await;
    }
    // One that needs no job still answers at once.
    let small = image("y", &[Tar::new().file("f", b"y").end()]);
    let request = request("/images/load?quiet=1", Body::Inline(Bytes::from(small)));
    let Answer::Final(response) = control.handle(&place.namespace, request).await else {
        panic!("it is deferred");
    };
    assert!(String::from_utf8_lossy(&response.body).contains("Loaded image: y:latest"));
}

#[tokio::test]
async fn imports_of_what_is_large_or_elsewhere_are_jobs() {
    let place = place();
    let control = control(&place);
    let registry = Registry::start().await;
    let tar = Tar::new().file("f", b"x").end();
    registry.answer("/root.tar", 200, "application/x-tar", &tar);
    let (blob, name) = send(&control, &tar).await;
    let import = |body: Option<BlobId>, source: &str| Import {
        body,
        source: source.to_owned(),
        repo: "made".to_owned(),
        tag: "v1".to_owned(),
        changes: vec!["CMD [\"true\"]".to_owned()],
        message: String::new(),
        platform: None,
    };
    let url = format!("http://{}/root.tar", registry.address);
    let missing = format!("http://{}/none.tar", registry.address);
    for (import, status, says) in [
        (import(Some(blob), "-"), 200, "sha256:"),
        (import(None, &url), 200, "Downloading from"),
        (import(None, &missing), 404, "404"),
    ] {
        let id = answer(&control).await;
        let job = Job::Import {
            namespace: place.namespace.clone(),
            import: Box::new(import),
            answer: id.clone(),
        };
        control.run_job(job).await.unwrap();
        let (got, text) = told(&control, &id).await;
        assert_eq!(got, status, "{text}");
        assert!(text.contains(says), "{text}");
    }
    is_gone(&control, &name).await;
    let now = place.now();
    let made = place
        .images
        .catalog
        .resolve(&place.namespace, "made:v1", now)
        .await
        .unwrap();
    assert_ne!(made.id, Digest::of(b""));

    // What can be refused at once is, before a job has it; then the body goes with the request.
    let (blob, name) = send(&control, &tar).await;
    let bad = request(
        "/images/create?fromSrc=-&changes=NONSENSE",
        Body::Blob(blob),
    );
    let Answer::Final(response) = control.handle(&place.namespace, bad).await else {
        panic!("it is deferred");
    };
    assert_eq!(response.head.status, 400);
    is_gone(&control, &name).await;
}

#[tokio::test]
async fn an_archive_that_another_invocation_began_breaks_off() {
    let (registry, _, _) = registry().await;
    let place = place();
    let control = control(&place);
    let pulled = answer(&control).await;
    control
        .run_job(pull_of(&place, &registry, &pulled))
        .await
        .unwrap();
    let save = |answer: &AnswerId| Job::Save {
        namespace: place.namespace.clone(),
        names: vec![format!("{}/r:v1", registry.address)],
        platform: None,
        answer: answer.clone(),
    };

    let whole = answer(&control).await;
    control.run_job(save(&whole)).await.unwrap();
    let parts = |meta| {
        let store = control.store();
        let whole = &whole;
        async move { store.parts_from(whole, &meta, 0).await.unwrap() }
    };
    let meta = control.store().answer(&whole).await.unwrap().unwrap();
    let before = parts(meta.clone()).await;
    assert!(matches!(before.last(), Some((_, Part::End))), "{before:?}");
    // Lambda may deliver a job that was done once more.
    control.run_job(save(&whole)).await.unwrap();
    assert_eq!(parts(meta).await, before);

    let begun = answer(&control).await;
    let head = before.into_iter().map(|(_, part)| part).take(1).collect();
    control.deliver(&begun, head).await.unwrap();
    control.run_job(save(&begun)).await.unwrap();
    assert_eq!(control.store().answer(&begun).await, Ok(None));
}
