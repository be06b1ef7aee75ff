//! Images without a registry: load, import, list, inspect, tag, remove.

use serde_json::json;
use sockerless_tests::scenario::{Gone, Scenario, api, docker, gone, query};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        load(),
        load_broken(),
        import(),
        import_changes(),
        import_url(),
        import_broken(),
        list(),
        dangling(),
        inspect(),
        tag(),
        remove(),
    ]
}

fn load() -> Scenario {
    Scenario::new(
        "image-load",
        [
            docker("load --input fixtures/plain.tar").gives(0),
            docker("load --quiet --input fixtures/configured.tar").gives(0),
            docker("load --input fixtures/missing").gives(1),
            api("POST /images/load")
                .header("Content-Type", "application/x-tar")
                .fixture("plain.tar")
                .gives(200),
            api("POST /images/load?quiet=1")
                .header("Content-Type", "application/x-tar")
                .fixture("plain.tar")
                .chunked()
                .gives(200),
            gone(Gone::InBody, "POST /images/load").fixture("plain.tar"),
            gone(Gone::BeforeAnswer, "POST /images/load").fixture("plain.tar"),
            docker("image inspect busybox --format '{{.Id}} {{.RepoTags}}'").gives(0),
        ],
    )
    .alone()
}

fn load_broken() -> Scenario {
    Scenario::new(
        "image-load-broken",
        [
            docker("load --input fixtures/garbage.tar").gives(1),
            docker("load --input fixtures/cut.tar").gives(1),
            docker("load --input fixtures/no-manifest.tar").gives(1),
            docker("load --input fixtures/bad-manifest.tar").gives(1),
            docker("load --input fixtures/missing-layer.tar").gives(1),
            docker("load --input fixtures/wrong-digest.tar").gives(1),
            docker("load --input fixtures/escape.tar").gives(1),
            docker("image inspect broken").gives(1),
            api("POST /images/load").body(b"").gives(200),
            api("POST /images/load").fixture("garbage.tar").gives(200),
        ],
    )
}

fn import() -> Scenario {
    Scenario::new(
        "image-import",
        [
            docker("import fixtures/rootfs.tar @N:v1").gives(0),
            docker("image inspect @N:v1 --format '{{.RepoTags}} {{json .Config.Cmd}} {{.RootFS.Layers}} {{.Architecture}}'")
                .gives(0),
            docker("import --change 'CMD [\"echo\", \"changed\"]' --change 'ENV A=b' --message said fixtures/rootfs.tar.gz @N:v2")
                .gives(0),
            docker("image inspect @N:v2 --format '{{json .Config.Cmd}} {{.Config.Env}} {{.Comment}}'")
                .gives(0),
            docker("run --rm @N:v2").gives(0),
            docker("run --rm @N:v1").gives(125),
            docker("import fixtures/missing @N:v3").gives(1),
            api("POST /images/create?fromSrc=-&repo=@N&tag=v4")
                .header("Content-Type", "application/x-tar")
                .fixture("rootfs.tar")
                .gives(200),
            docker("images --filter reference=@N --format '{{.Repository}}:{{.Tag}}'")
                .sorted()
                .gives(0),
            gone(Gone::InBody, "POST /images/create?fromSrc=-&repo=@N&tag=half")
                .fixture("rootfs.tar"),
            docker("rmi @N:v1 @N:v2 @N:v4").sorted().gives(0),
        ],
    )
}

/// Every instruction that changes an image, in the forms that it has.
fn import_changes() -> Scenario {
    const SHOWN: &str =
        "image inspect @N --format '{{json .Config}} {{.Comment}} {{.Architecture}} {{.Os}}'";
    let with = |changes: &[&str]| {
        let changes: String = changes
            .iter()
            .map(|change| format!(" --change '{change}'"))
            .collect();
        docker(&format!("import{changes} fixtures/rootfs.tar @N"))
    };
    let refused = |change: &str| {
        let change = query(&json!(change)).replace("%22", "");
        api(&format!(
            "POST /images/create?fromSrc=-&repo=@N&changes={change}"
        ))
        .fixture("rootfs.tar")
        .gives(400)
    };
    Scenario::new(
        "image-import-changes",
        [
            with(&[
                "CMD echo $HOME",
                "ENTRYPOINT [\"/bin/sh\", \"-c\"]",
                "ENV A=1 B=\"two words\" C=a\\ b",
                "ENV old style",
                "EXPOSE 80 443/udp",
                "LABEL one=1 \"two\"=\"2 2\"",
                "ONBUILD RUN true",
                "STOPSIGNAL SIGUSR2",
                "USER 7:8",
                "VOLUME /a [\"/b\"]",
                "WORKDIR /srv",
                "WORKDIR below",
                "HEALTHCHECK --interval=1.5s --timeout=1m30s --start-period=0 --retries=2 CMD true",
            ])
            .gives(0),
            docker(SHOWN).gives(0),
            with(&[
                "HEALTHCHECK NONE",
                "VOLUME [\"/c\", \"/d\"]",
                "cmd [\"ls\"]",
            ])
            .gives(0),
            docker(SHOWN).gives(0),
            docker("import --platform linux/arm64 --message why fixtures/rootfs.tar @N").gives(0),
            docker(SHOWN).gives(0),
            refused("RUN true"),
            refused("COPY a b"),
            refused("FROM busybox"),
            refused("ENV"),
            refused("EXPOSE many"),
            refused("STOPSIGNAL SIGNONE"),
            refused("HEALTHCHECK --interval=x CMD true"),
            refused("HEALTHCHECK --interval=5 CMD true"),
            refused("HEALTHCHECK --interval=5q CMD true"),
            refused("HEALTHCHECK --interval=1us CMD true"),
            refused("HEALTHCHECK --retries=x CMD true"),
            refused("HEALTHCHECK --retries=-1 CMD true"),
            refused("HEALTHCHECK --nope=1 CMD true"),
            refused("HEALTHCHECK WHAT true"),
            refused("HEALTHCHECK"),
            refused("ONBUILD FROM x"),
            docker("rmi @N").gives(0),
        ],
    )
    .alone()
}

/// What is at a URL.
fn import_url() -> Scenario {
    Scenario::new(
        "image-import-url",
        [
            docker("import http://@S/rootfs.tar @N:v1").gives(0),
            docker("run --rm @N:v1 /bin/echo from a URL").gives(0),
            api("POST /images/create?fromSrc=http%3A%2F%2F@S%2Frootfs.tar&repo=@N&tag=v2")
                .gives(200),
            // Without a scheme it is http.
            api("POST /images/create?fromSrc=@S%2Frootfs.tar&repo=@N&tag=v3").gives(200),
            docker("images @N --format '{{.Repository}}:{{.Tag}} {{.Size}}'")
                .sorted()
                .gives(0),
            docker("import http://127.0.0.1:1/none.tar @N:v4").gives(1),
            // A page is no tar.
            docker("import http://@S/v1/search @N:v4").gives(1),
            docker("rmi @N:v1 @N:v2 @N:v3").gives(0),
        ],
    )
    .alone()
}

fn import_broken() -> Scenario {
    Scenario::new(
        "image-import-broken",
        [
            api("POST /images/create?fromSrc=-&repo=BAD")
                .body(b"x")
                .gives(400),
            api("POST /images/create?fromSrc=-&repo=@N&tag=@@")
                .body(b"x")
                .gives(400),
            api("POST /images/create?fromSrc=http%3A%2F%2F127.0.0.1%3A1%2Fx&repo=@N").gives(500),
            api("POST /images/create?fromSrc=http%3A%2F%2F@R%2Fnone&repo=@N").gives(404),
            api("POST /images/create?fromSrc=-&repo=@N&changes=NONSENSE")
                .fixture("rootfs.tar")
                .gives(400),
            api("POST /images/create?fromSrc=-&repo=@N&platform=a%2Fb%2Fc%2Fd")
                .fixture("rootfs.tar")
                .gives(400),
        ],
    )
}

fn list() -> Scenario {
    let filtered =
        |filters: &serde_json::Value| api(&format!("GET /images/json?filters={}", query(filters)));
    Scenario::new(
        "image-list",
        [
            docker("tag busybox @N:one").gives(0),
            docker("tag busybox @N:two").gives(0),
            docker("tag configured @N:three").gives(0),
            filtered(&json!({"reference": ["@N:one"]})).gives(200),
            filtered(&json!({"reference": {"@N:three": true}})).gives(200),
            filtered(&json!({"reference": ["@N:none"]})).gives(200),
            filtered(&json!({"label": ["org.example.purpose=test"], "reference": ["@N:three"]}))
                .gives(200),
            filtered(&json!({"label": ["org.example.purpose"], "reference": ["@N:three"]}))
                .gives(200),
            filtered(&json!({"label": ["nowhere"]})).gives(200),
            filtered(&json!({"nonsense": ["x"]})).gives(400),
            filtered(&json!({"dangling": ["x"]})).gives(400),
            filtered(&json!({"before": ["@N:none"]})).gives(404),
            filtered(&json!({"reference": ["["]})).gives(500),
            api("GET /images/json?filters=nonsense").gives(400),
            docker("images @N").table().sorted().gives(0),
            docker("images @N:two --quiet").gives(0),
            docker("images @N --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}}'")
                .sorted()
                .gives(0),
            docker("images --filter nonsense=x").gives(1),
            gone(Gone::BeforeAnswer, "GET /images/json"),
            docker("rmi @N:one @N:two @N:three").gives(0),
        ],
    )
    .alone()
}

/// An image whose name another one has taken, and filters by age.
fn dangling() -> Scenario {
    let filtered =
        |filters: &serde_json::Value| api(&format!("GET /images/json?filters={}", query(filters)));
    let names = "--format '{{.Repository}}:{{.Tag}}'";
    let list = |options: &str| {
        docker(&format!("images {options} {names}"))
            .sorted()
            .gives(0)
    };
    let import = || {
        api("POST /images/create?fromSrc=-&repo=image-dangling&tag=x&changes=LABEL%20of%3Ddangling")
            .fixture("rootfs.tar")
            .gives(200)
    };
    Scenario::new(
        "image-dangling",
        [
            // What others have left would come in any order.
            docker("image prune --force").head_only().gives(0),
            import(),
            docker("tag busybox image-dangling:x").gives(0),
            list(""),
            list("--all"),
            list("--digests"),
            list("--filter dangling=true"),
            list("--filter dangling=false"),
            list("--filter dangling=true --filter label=of=dangling"),
            list("--filter dangling=true --filter label=of=other"),
            list("--filter dangling=1"),
            filtered(&json!({"dangling": ["true"]}))
                .save("id", "/0/Id")
                .gives(200),
            list("--filter before=@{id}"),
            list("--filter since=@{id}"),
            list("--filter since=busybox"),
            list("--filter before=busybox"),
            list("--filter before=busybox --filter since=configured"),
            list("--filter until=24h"),
            list("--filter until=2001-01-01T00:00:00"),
            list("--filter until=2101-01-01"),
            docker("images --filter until=nonsense").gives(1),
            docker("inspect @{id} --format '{{.RepoTags}} {{.RepoDigests}} {{.Config.Labels}}'")
                .gives(0),
            docker("rmi @{id}").gives(0),
            list("--filter dangling=true"),
            import(),
            docker("tag busybox image-dangling:x").gives(0),
            docker("create --name @N image-dangling:x true").gives(0),
            docker("image prune --force").gives(0),
            list("--filter dangling=true"),
            docker("rm @N").gives(0),
            docker("rmi image-dangling:x").gives(0),
        ],
    )
    .alone()
}

fn inspect() -> Scenario {
    Scenario::new(
        "image-inspect",
        [
            docker("tag configured @N").gives(0),
            api("GET /images/@N/json").gives(200),
            api("GET /images/@N:latest/json").version("1.24").gives(200),
            api("GET /images/docker.io%2Flibrary%2F@N:latest/json").gives(200),
            api("GET /images/@N/json").save("id", "/Id").gives(200),
            api("GET /images/@{id}/json").gives(200),
            docker("inspect --type image @N --format '{{.Config.User}} {{.Config.WorkingDir}} {{json .Config.Env}} {{json .Config.Entrypoint}} {{json .Config.Cmd}} {{.Config.StopSignal}} {{json .Config.Labels}}'")
                .gives(0),
            api("GET /images/@N-none/json").gives(404),
            api("GET /images/BAD/json").gives(400),
            api("GET /images/sha256:0000/json").gives(404),
            docker("image inspect @N-none").gives(1),
            docker("inspect @N-none").gives(1),
            gone(Gone::BeforeAnswer, "GET /images/@N/json"),
            docker("rmi @N").gives(0),
        ],
    )
    .alone()
}

fn tag() -> Scenario {
    Scenario::new(
        "image-tag",
        [
            docker("tag busybox @N:a").gives(0),
            docker("tag busybox:latest @N").gives(0),
            api("POST /images/busybox/tag?repo=@N&tag=b").gives(201),
            api("POST /images/busybox/tag?repo=example.com%2Fdeep%2F@N&tag=b").gives(201),
            api("POST /images/busybox/tag?repo=@N:c").gives(201),
            docker("images --filter reference=*@N* --format '{{.Repository}}:{{.Tag}}'")
                .sorted()
                .gives(0),
            docker("images example.com/deep/@N --format '{{.Repository}}:{{.Tag}}'").gives(0),
            api("POST /images/busybox/tag?repo=BAD").gives(400),
            api("POST /images/busybox/tag?repo=@N&tag=%20").gives(400),
            api("POST /images/@N-none/tag?repo=@N").gives(404),
            docker("tag @N-none @N:x").gives(1),
            docker("tag busybox BAD").gives(1),
            gone(
                Gone::BeforeAnswer,
                "POST /images/busybox/tag?repo=@N&tag=gone",
            ),
            docker("rmi @N:a @N:b @N:c @N:latest example.com/deep/@N:b").gives(0),
        ],
    )
    .alone()
}

fn remove() -> Scenario {
    Scenario::new(
        "image-remove",
        [
            docker("import fixtures/rootfs.tar @N:v1").gives(0),
            docker("tag @N:v1 @N:v2").gives(0),
            api("DELETE /images/@N:v2").gives(200),
            docker("create --name @N @N:v1 true").gives(0),
            api("DELETE /images/@N:v1").gives(409),
            docker("rmi @N:v1").gives(1),
            docker("rm @N").gives(0),
            docker("rmi @N:v1").gives(0),
            api("DELETE /images/@N:v1").gives(404),
            docker("rmi @N:v1").gives(1),
            docker("rmi --force @N:v1").gives(0),
            api("DELETE /images/BAD").gives(400),
            docker("import --message two fixtures/rootfs.tar @N:v3")
                .save("id", "")
                .gives(0),
            docker("tag @N:v3 @N:v4").gives(0),
            api("DELETE /images/@{id}").gives(409),
            docker("run --detach --name @N-xrun @N:v3 sleep 1000").gives(0),
            api("DELETE /images/@{id}?force=1").gives(409),
            docker("rm --force @N-xrun").gives(0),
            api("DELETE /images/@{id}?force=1").gives(200),
            gone(Gone::BeforeAnswer, "DELETE /images/@N:v5"),
        ],
    )
}
