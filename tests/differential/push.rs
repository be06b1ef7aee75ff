//! Giving images away, and what else a registry is asked: login, push, inspect, search.

use serde_json::json;
use sockerless_tests::scenario::{Gone, Scenario, Step, api, docker, gone, query};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        login(),
        login_tokens(),
        push(),
        push_errors(),
        push_guarded(),
        pull_guarded(),
        pull_all(),
        manifests(),
        distribution(),
        search(),
        history(),
        save(),
    ]
}

/// `{"username":"bob","password":"secret"}`
const GOOD: &str = "eyJ1c2VybmFtZSI6ImJvYiIsInBhc3N3b3JkIjoic2VjcmV0In0=";
/// `{"username":"bob","password":"wrong"}`
const WRONG: &str = "eyJ1c2VybmFtZSI6ImJvYiIsInBhc3N3b3JkIjoid3JvbmcifQ==";

/// Sent by somebody with these credentials.
fn auth(step: Step, credentials: &str) -> Step {
    step.header("X-Registry-Auth", credentials)
}

/// The client with a configuration of this scenario's own, where it keeps passwords.
fn with_login(line: &str) -> Step {
    docker(line).env("DOCKER_CONFIG", "login")
}

fn login() -> Scenario {
    let ask = |body: serde_json::Value| api("POST /auth").json(&body);
    Scenario::new(
        "login",
        [
            with_login("login @A --username bob --password-stdin")
                .input("secret")
                .gives(0),
            with_login("login @A --username bob --password-stdin")
                .input("wrong")
                .gives(1),
            with_login("logout @A"),
            ask(json!({"username": "bob", "password": "secret", "serveraddress": "@A"})).gives(200),
            ask(json!({"username": "bob", "password": "secret", "serveraddress": "http://@A/v2/"}))
                .gives(200),
            ask(json!({"username": "bob", "password": "wrong", "serveraddress": "@A"})).gives(500),
            ask(json!({"username": "bob", "password": "any", "serveraddress": "@R"})).gives(200),
            ask(json!({"serveraddress": "@A"})).gives(500),
            ask(json!({"identitytoken": "token", "serveraddress": "@A"})).gives(500),
            ask(json!({"username": "bob", "password": "x", "serveraddress": "127.0.0.1:1"}))
                .gives(500),
            ask(json!({"username": "bob", "password": "x", "serveraddress": "no such/x y"}))
                .gives(400),
            ask(json!({"username": 5})).gives(500),
            api("POST /auth").body(b"nonsense").gives(500),
            api("POST /auth").gives(500),
            gone(Gone::BeforeAnswer, "POST /auth").json(&json!({"serveraddress": "@R"})),
        ],
    )
}

/// At a registry whose tokens another server gives, or refuses.
fn login_tokens() -> Scenario {
    let ask = |body: serde_json::Value| api("POST /auth").json(&body);
    Scenario::new(
        "login-tokens",
        [
            ask(json!({"username": "bob", "password": "secret", "serveraddress": "@T"})).gives(200),
            ask(json!({"username": "bob", "password": "wrong", "serveraddress": "@T"})).gives(401),
            ask(json!({"identitytoken": "renewed", "serveraddress": "@T"})).gives(200),
            ask(json!({"identitytoken": "stale", "serveraddress": "@T"})).gives(401),
            ask(json!({"username": "bob", "serveraddress": "@T"})).gives(401),
            with_login("login @T --username bob --password-stdin")
                .input("wrong")
                .gives(1),
            with_login("login @T --username bob --password-stdin")
                .input("secret")
                .gives(0),
            // With what was kept.
            with_login("login @T"),
            with_login("logout @T").gives(0),
            auth(api("POST /images/create?fromImage=@T/none&tag=v1"), WRONG).gives(401),
            auth(api("GET /distribution/@T/none:v1/json"), WRONG).gives(401),
            auth(api("POST /images/create?fromImage=@T/none&tag=v1"), GOOD).gives(404),
        ],
    )
}

/// Of layers that no other scenario has: an engine remembers where it has seen a layer.
fn push() -> Scenario {
    Scenario::new(
        "push",
        [
            docker("load --quiet --input fixtures/pushed.tar").gives(0),
            docker("tag pushed:one @R/@N/a:v1").gives(0),
            docker("tag pushed:two @R/@N/a:v2").gives(0),
            docker("tag pushed:one @R/@N/b").gives(0),
            api("POST /images/@R/@N/a/push?tag=v1").gives(200),
            docker("push @R/@N/a:v1").gives(0),
            // One layer is there, the other is new.
            api("POST /images/@R/@N/a/push").gives(200),
            docker("push --all-tags @R/@N/a").sorted().gives(0),
            // From the one repository to the other, without being sent.
            api("POST /images/@R/@N/b/push?tag=latest").gives(200),
            docker("push --quiet @R/@N/b").gives(0),
            // Whichever is listed first.
            docker("image inspect @R/@N/a:v1 @R/@N/a:v2 --format '{{.Id}}'").gives(0),
            docker("images --digests @R/@N/a").table().sorted().gives(0),
            docker("rmi @R/@N/b").gives(0),
            docker("pull @R/@N/b").gives(0),
            docker("image inspect @R/@N/b --format '{{.Id}} {{.RepoTags}} {{.RepoDigests}}'")
                .gives(0),
            docker("rmi @R/@N/a:v1 @R/@N/a:v2 @R/@N/b pushed:one pushed:two").gives(0),
            docker("pull --quiet @R/@N/a:v2").gives(0),
            docker("rmi @R/@N/a:v2").gives(0),
            gone(Gone::BeforeAnswer, "POST /images/@R/@N/c/push?tag=v1"),
        ],
    )
    .alone()
}

fn push_errors() -> Scenario {
    Scenario::new(
        "push-errors",
        [
            docker("tag busybox @R/@N/a:v1").gives(0),
            docker("tag busybox 127.0.0.1:1/@N:v1").gives(0),
            docker("push @R/@N/a:none").gives(1),
            docker("push @R/@N/none").gives(1),
            docker("push 127.0.0.1:1/@N:v1").gives(1),
            api("POST /images/@R/@N/a/push?tag=none").gives(200),
            api("POST /images/@R/@N/none/push").gives(200),
            api("POST /images/127.0.0.1:1/@N/push?tag=v1").gives(200),
            api("POST /images/BAD/push").gives(400),
            api("POST /images/@R/@N/a/push?tag=%20").gives(400),
            api("POST /images/@R/@N/a/push?tag=v1&platform=bad").gives(400),
            api("POST /images/@R/@N/a/push?tag=v1&platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22s390x%22%7D")
                .gives(404),
            docker("rmi @R/@N/a:v1 127.0.0.1:1/@N:v1").gives(0),
        ],
    )
    .alone()
}

fn push_guarded() -> Scenario {
    Scenario::new(
        "push-guarded",
        [
            docker("load --quiet --input fixtures/pushed.tar").gives(0),
            docker("tag pushed:one @A/@N:v1").gives(0),
            docker("push @A/@N:v1").gives(1),
            api("POST /images/@A/@N/push?tag=v1").gives(200),
            auth(api("POST /images/@A/@N/push?tag=v1"), WRONG).gives(200),
            auth(api("POST /images/@A/@N/push?tag=v1"), GOOD).gives(200),
            with_login("login @A --username bob --password-stdin")
                .input("secret")
                .gives(0),
            with_login("push @A/@N:v1").gives(0),
            docker("rmi @A/@N:v1").gives(0),
            with_login("pull --quiet @A/@N:v1").gives(0),
            docker("image inspect @A/@N:v1 --format '{{.Id}} {{.RepoTags}}'").gives(0),
            // Of layers that each packs in its own way.
            with_login("manifest inspect --insecure @A/@N:v1")
                .head_only()
                .gives(0),
            docker("rmi @A/@N:v1 pushed:one pushed:two").gives(0),
        ],
    )
    .alone()
}

fn pull_guarded() -> Scenario {
    let pull = || api("POST /images/create?fromImage=@A/test/single&tag=v1");
    Scenario::new(
        "pull-guarded",
        [
            docker("pull --quiet @R/test/single:v1").gives(0),
            docker("pull @A/test/single:v1").gives(1),
            pull().gives(500),
            pull().header("X-Registry-Auth", "!!!").gives(500),
            auth(pull(), WRONG).gives(401),
            auth(pull(), GOOD).gives(200),
            docker("rmi @A/test/single:v1 @R/test/single:v1").gives(0),
        ],
    )
    .alone()
}

fn pull_all() -> Scenario {
    Scenario::new(
        "pull-all",
        [
            docker("pull --quiet --all-tags @R/test/single").gives(0),
            docker("pull --all-tags @R/test/single").gives(0),
            docker("pull --all-tags @R/test/none").gives(1),
            api("POST /images/create?fromImage=@R/test/single").gives(200),
            api("POST /images/create?fromImage=@R/test/none").gives(404),
            docker("images @R/test/single --format '{{.Repository}}:{{.Tag}}'")
                .sorted()
                .gives(0),
            docker("pull --platform linux/s390x @R/test/single:v1").gives(0),
            docker("rmi @R/test/single:v1 @R/test/single:v2").gives(0),
        ],
    )
    .alone()
}

/// What the client reads by itself, with the daemon's word on which registries are insecure.
fn manifests() -> Scenario {
    let inspect = |what: &str| with_login(&format!("manifest inspect --insecure {what}"));
    Scenario::new(
        "manifests",
        [
            inspect("@A/test/single:v1").gives(1),
            with_login("login @A --username bob --password-stdin")
                .input("secret")
                .gives(0),
            inspect("@A/test/single:v1").gives(0),
            inspect("--verbose @A/test/single:v1").gives(0),
            inspect("@A/test/multi:v1").gives(0),
            inspect("@A/test/none:v1").gives(1),
        ],
    )
}

fn distribution() -> Scenario {
    let guarded = || api("GET /distribution/@A/test/single:v1/json");
    Scenario::new(
        "distribution",
        [
            api("GET /distribution/@R/test/single:v1/json").gives(200),
            api("GET /distribution/@R/test/multi:v1/json").gives(200),
            api("GET /distribution/@R/test/single/json").gives(404),
            api("GET /distribution/@R/test/none:v1/json").gives(404),
            api("GET /distribution/BAD/json").gives(400),
            api(&format!("GET /distribution/{}/json", "7".repeat(64))).gives(500),
            api("GET /distribution/127.0.0.1:1/a:v1/json").gives(500),
            guarded().gives(500),
            auth(guarded(), WRONG).gives(401),
            auth(guarded(), GOOD).gives(200),
            gone(
                Gone::BeforeAnswer,
                "GET /distribution/@R/test/single:v1/json",
            ),
        ],
    )
}

fn search() -> Scenario {
    let filtered = |filters: serde_json::Value| {
        api(&format!(
            "GET /images/search?term=@S%2Fbusybox&filters={}",
            query(&filters)
        ))
    };
    Scenario::new(
        "search",
        [
            api("GET /images/search?term=@S%2Fbusybox").gives(200),
            docker("search @S/busybox").table().gives(0),
            docker("search --filter is-official=true @S/busybox")
                .table()
                .gives(0),
            docker("search --limit x @S/busybox"),
            filtered(json!({"stars": ["3"]})).gives(200),
            filtered(json!({"is-official": ["false"]})).gives(200),
            filtered(json!({"stars": ["many"]})).gives(400),
            filtered(json!({"is-official": ["maybe"]})).gives(400),
            filtered(json!({"nonsense": ["x"]})).gives(400),
            api("GET /images/search?term=a&limit=x").gives(400),
            api("GET /images/search?term=a&limit=1000").gives(400),
            // A registry that knows no search, and one that is not there.
            api("GET /images/search?term=@R%2Fbusybox").gives(500),
            docker("search @R/busybox").gives(1),
            api("GET /images/search?term=127.0.0.1:1%2Fbusybox").gives(400),
            gone(Gone::BeforeAnswer, "GET /images/search?term=@S%2Fbusybox"),
        ],
    )
}

fn history() -> Scenario {
    const OTHER: &str = "%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22s390x%22%7D";
    Scenario::new(
        "history",
        [
            docker("tag configured @N:a").gives(0),
            docker("tag configured @N:b").gives(0),
            docker("history @N:a").table().gives(0),
            docker("history --quiet --no-trunc @N:a").gives(0),
            api("GET /images/@N:a/history").gives(200),
            api("GET /images/@N:a/history").version("1.24").gives(200),
            api("GET /images/@N-none/history").gives(404),
            api("GET /images/BAD/history").gives(400),
            api("GET /images/@N:a/history?platform=bad").gives(400),
            api(&format!("GET /images/@N:a/history?platform={OTHER}")).gives(404),
            docker("history @N-none").gives(1),
            gone(Gone::BeforeAnswer, "GET /images/@N:a/history"),
            docker("rmi @N:a @N:b").gives(0),
        ],
    )
    .alone()
}

fn save() -> Scenario {
    const OTHER: &str = "%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22s390x%22%7D";
    Scenario::new(
        "save",
        [
            docker("tag configured @N:a").gives(0),
            docker("tag busybox @N:b").gives(0),
            docker("save --output saved.tar @N:a @N:b").gives(0),
            docker("rmi @N:a @N:b").gives(0),
            docker("load --input saved.tar").sorted().gives(0),
            docker("run --rm @N:a").gives(0),
            docker("save --output repository.tar @N").gives(0),
            docker("load --quiet --input repository.tar")
                .sorted()
                .gives(0),
            docker("save @N-none").gives(1),
            docker("save --output none.tar @N:a @N-none").gives(1),
            api("GET /images/@N:a/get").head_only().gives(200),
            api("GET /images/get?names=@N:a&names=@N:b")
                .head_only()
                .gives(200),
            api("GET /images/@N-none/get").gives(404),
            api("GET /images/get?names=@N-none").gives(404),
            api("GET /images/BAD/get").gives(500),
            api("GET /images/get?names=BAD").gives(500),
            api("GET /images/@N:a/get?platform=bad").gives(400),
            api(&format!("GET /images/@N:a/get?platform={OTHER}")).gives(500),
            gone(Gone::AfterHead, "GET /images/@N:a/get"),
            gone(Gone::AfterHead, "GET /images/get?names=@N:b"),
            docker("rmi @N:a @N:b").gives(0),
        ],
    )
    .alone()
}
