//! The files of containers that do not run, and what containers changed.

use serde_json::json;
use sockerless_tests::scenario::{Gone, Scenario, Step, api, docker, file, gone, read_file};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        created(),
        exited(),
        kept(),
        archives(),
        elsewhere(),
        export(),
        changes(),
        commit(),
        commit_stopped(),
        commit_errors(),
    ]
}

/// Something to copy.
fn given() -> [Step; 2] {
    [
        file("given", b"from outside\n"),
        file("folder/sub/z", b"deep\n"),
    ]
}

/// Into and out of a container that was never started, all in `/tmp`.
fn created() -> Scenario {
    Scenario::new(
        "files-created",
        given().into_iter().chain([
            docker("create --name @N busybox sh -c 'cd /tmp; cat taken folder/sub/z; rm taken; echo more >more'")
                .gives(0),
            docker("cp @N:/etc/passwd passwd").gives(0),
            read_file("passwd"),
            docker("cp given @N:/tmp/taken").gives(0),
            docker("cp folder @N:/tmp").gives(0),
            docker("cp @N:/tmp/taken back").gives(0),
            read_file("back"),
            docker("cp @N:/tmp/folder again").gives(0),
            read_file("again/sub/z"),
            docker("diff @N").gives(0).sorted(),
            docker("cp @N:/nowhere .").gives(1),
            docker("cp given @N:/no/such/folder").gives(1),
            docker("start --attach @N").gives(0),
            docker("cp @N:/tmp/taken .").gives(1),
            docker("cp @N:/tmp/more more").gives(0),
            read_file("more"),
            docker("rm @N").gives(0),
        ]),
    )
}

/// Out of and into one that has exited.
fn exited() -> Scenario {
    Scenario::new(
        "files-exited",
        given().into_iter().chain([
            docker(
                "run --name @N busybox sh -c 'cd /tmp; mkdir -p d/sub; echo one >d/f; ln -s f d/l; ln -s /tmp/d ld; \
                 echo deep >d/sub/z; chmod 600 d/f; exit 3'",
            )
            .gives(3),
            docker("cp @N:/tmp/d/f f").gives(0),
            read_file("f"),
            docker("cp --follow-link @N:/tmp/d/l followed").gives(0),
            read_file("followed"),
            docker("cp @N:/tmp/ld/sub through").gives(0),
            read_file("through/z"),
            docker("cp @N:/tmp/d/. inside").gives(0),
            read_file("inside/sub/z"),
            docker("cp given @N:/tmp/ld/taken").gives(0),
            docker("cp --archive given @N:/tmp/archived").gives(0),
            docker("cp @N:/tmp/d/taken taken").gives(0),
            read_file("taken"),
            docker("cp @N:/tmp/archived archived").gives(0),
            read_file("archived"),
            docker("cp @N:/nowhere .").gives(1),
            docker("cp @N:/tmp/d/f/x .").gives(1),
            docker("diff @N").gives(0).sorted(),
            docker("rm @N").gives(0),
            docker("cp @N:/tmp/d/f .").gives(1),
        ]),
    )
}

/// What a container wrote is there when it is started again.
fn kept() -> Scenario {
    Scenario::new(
        "files-kept",
        given().into_iter().chain([
            docker(
                "run --name @N busybox sh -c 'cd /tmp; echo run >>runs; cat runs; mkdir -p shut; \
                 test -e shut/in || echo in >shut/in; cat shut/in; ls; chmod 500 shut; chmod 0 shut/in 2>/dev/null; \
                 chmod 400 shut/in'",
            )
            .gives(0),
            docker("start --attach @N").gives(0),
            docker("cp given @N:/tmp/taken").gives(0),
            docker("start --attach @N").gives(0),
            docker("restart @N").gives(0),
            docker("wait @N").gives(0),
            docker("cp @N:/tmp/runs runs").gives(0),
            read_file("runs"),
            docker("rm @N").gives(0),
        ]),
    )
}

/// The operations themselves, of a container that was created and one that has exited.
fn archives() -> Scenario {
    let tar = "application/x-tar";
    let put = |target: &str, body: &[u8]| {
        api(&format!("PUT /containers/@N/archive{target}"))
            .header("Content-Type", tar)
            .body(body)
    };
    let of_both = move || {
        [
            api("GET /containers/@N/archive").gives(400),
            api("HEAD /containers/@N/archive").gives(400),
            put("", b"").gives(400),
            api("GET /containers/@N/archive?path=/nowhere").gives(404),
            api("HEAD /containers/@N/archive?path=/nowhere").gives(404),
            api("HEAD /containers/@N/archive?path=/etc/passwd").gives(200),
            api("GET /containers/@N/archive?path=/etc/passwd")
                .gives(200)
                .head_only(),
            api("GET /containers/@N/archive?path=/etc/passwd/x").gives(500),
            api("GET /containers/@N/archive?path=/etc/passwd/").gives(500),
            api("GET /containers/@N/archive?path=/proc/1/environ").gives(404),
            put("?path=/nowhere", b"").gives(404),
            put("?path=/etc/passwd", b"").gives(400),
            put("?path=/tmp", b"garbage").gives(500),
            put("?path=/tmp", b"").gives(200),
            api("GET /containers/@N/export").gives(200).head_only(),
        ]
    };
    Scenario::new(
        "files-archives",
        [docker("create --name @N busybox true").gives(0)]
            .into_iter()
            .chain(of_both())
            .chain([
                api("GET /containers/@N/changes").gives(200),
                docker("start --attach @N").gives(0),
            ])
            .chain(of_both())
            .chain([
                api("GET /containers/@N/changes").gives(200),
                api("GET /containers/@N-none/changes").gives(404),
                gone(Gone::BeforeAnswer, "GET /containers/@N/archive?path=/bin"),
                gone(Gone::AfterHead, "GET /containers/@N/archive?path=/bin"),
                gone(Gone::BeforeAnswer, "HEAD /containers/@N/archive?path=/bin"),
                gone(Gone::InBody, "PUT /containers/@N/archive?path=/tmp").body(&[b'x'; 512]),
                gone(Gone::AfterHead, "GET /containers/@N/export"),
                gone(Gone::BeforeAnswer, "GET /containers/@N/changes"),
                api("GET /containers/@N/changes").gives(200),
                docker("diff @N-none").gives(1),
                docker("rm @N").gives(0),
                api("GET /containers/@N/export").gives(404),
            ]),
    )
}

/// The same anywhere in a root that can be written to.
fn elsewhere() -> Scenario {
    Scenario::new(
        "files-elsewhere",
        given().into_iter().chain([
            docker("create --name @N busybox sh -c 'cat /etc/taken; rm -r /etc/taken /home; echo n >/new'").gives(0),
            docker("cp given @N:/etc/taken").gives(0),
            docker("cp folder @N:/made").gives(0),
            docker("diff @N").gives(0).sorted(),
            docker("start --attach @N").gives(0),
            docker("cp @N:/new new").gives(0),
            read_file("new"),
            docker("cp @N:/home .").gives(1),
            docker("cp folder/. @N:/made/sub").gives(0),
            docker("cp @N:/made/sub/sub/z z").gives(0),
            read_file("z"),
            docker("diff @N").gives(0).sorted(),
            docker("rm @N").gives(0),
            docker("create --name @N-ro --read-only busybox true").gives(0),
            docker("cp given @N-ro:/taken").gives(1),
            docker("rm @N-ro").gives(0),
            docker("create --name @N-user --user 1000:1001 busybox ls -ln /tmp/mine").gives(0),
            docker("cp --archive given @N-user:/tmp/mine").gives(0),
            docker("rm @N-user").gives(0),
        ]),
    )
    .microvm_only()
}

/// What is exported is a root to import.
fn export() -> Scenario {
    Scenario::new(
        "files-export",
        [
            docker("create --name @N busybox true").gives(0),
            docker("export --output created.tar @N").gives(0),
            docker("import created.tar @N-created").gives(0),
            docker("run --rm @N-created cat /etc/passwd").gives(0),
            docker("start --attach @N").gives(0),
            docker("export --output exited.tar @N").gives(0),
            docker("import exited.tar @N-exited").gives(0),
            docker("run --rm @N-exited ls /").gives(0),
            api("DELETE /images/@N-created").gives(200).head_only(),
            api("DELETE /images/@N-exited").gives(200).head_only(),
            docker("rm @N").gives(0),
            docker("export --output none.tar @N").gives(1),
        ],
    )
}

/// What a container changed while it runs, and after.
fn changes() -> Scenario {
    Scenario::new(
        "files-changes",
        [
            docker(
                "run --detach --name @N busybox sh -c 'echo x >/etc/passwd; rm /etc/group; chmod 700 /home; mkdir -p /a/b/c; \
                 touch /a/b/f; rm -r /var; mkdir /var; echo y >/var/y; touch -d @0 /root; ln -s x /link; \
                 rm -r /usr; echo file >/usr; echo ready >/tmp/ready; exec sleep 1000'",
            )
            .gives(0),
            docker("exec @N sh -c 'until test -e /tmp/ready; do usleep 10000; done'").gives(0),
            docker("diff @N").gives(0).sorted(),
            docker("exec @N sh -c 'rm -r /a; cp -p /bin/busybox /tmp/b; mv /tmp/b /bin/busybox'").gives(0),
            docker("diff @N").gives(0).sorted(),
            docker("kill @N").gives(0),
            docker("wait @N").gives(0),
            docker("diff @N").gives(0).sorted(),
            docker("rm @N").gives(0),
        ],
    )
    .microvm_only()
}

fn made_of(image: &str) -> [Step; 2] {
    [
        docker(&format!(
            "image inspect --format '{{{{json .Config}}}} {{{{.Author}}}} {{{{.Comment}}}} {{{{.Architecture}}}} {{{{.Os}}}} \
             {{{{len .RootFS.Layers}}}} {{{{json .RepoTags}}}}' {image}"
        ))
        .gives(0),
        docker(&format!("run --rm {image} cat /made /etc/conf")).gives(0),
    ]
}

fn commit() -> Scenario {
    Scenario::new(
        "files-commit",
        [
            docker(
                "run --detach --name @N --env A=1 --label l=1 busybox sh -c 'echo made >/made; echo new >/etc/conf; rm /etc/group; \
                 echo ready >/tmp/ready; exec sleep 1000'",
            )
            .gives(0),
            docker("exec @N sh -c 'until test -e /tmp/ready; do usleep 10000; done'").gives(0),
            docker(
                "commit --author me --message why --change 'ENV B=2' --change 'CMD [\"cat\", \"/made\"]' --change 'LABEL m=2' \
                 @N @N-image:one",
            )
            .gives(0)
            ,
        ]
        .into_iter()
        .chain(made_of("@N-image:one"))
        .chain([
            docker("run --rm @N-image:one").gives(0),
            docker("run --rm @N-image:one cat /etc/group").gives(1),
            docker("inspect --format '{{.State.Status}}' @N").gives(0),
            docker("exec @N cat /made").gives(0),
            docker("commit --pause=false @N @N-image:two").gives(0),
            docker("exec @N sh -c 'rm /made; mkdir /made; ln /etc/conf /made/linked'").gives(0),
            api("POST /commit?container=@N&repo=@N-image&tag=three&changes=ENTRYPOINT%20%5B%22ls%22%5D")
                .json(&json!({"Env": ["C=3"], "Cmd": ["/made"], "WorkingDir": "/home"}))
                .gives(201)
                .head_only(),
            docker("image inspect --format '{{json .Config}}' @N-image:three").gives(0),
            docker("run --rm --entrypoint cat @N-image:three /made/linked").gives(0),
            docker("run --name @N-second @N-image:one sh -c 'rm /etc/conf'").gives(0),
            docker("commit @N-second @N-image:four").gives(0),
            docker("image inspect --format '{{len .RootFS.Layers}}' @N-image:four").gives(0),
            docker("run --rm @N-image:four cat /etc/conf").gives(1),
            docker("rm --force @N @N-second").gives(0),
            docker("rmi @N-image:four @N-image:three @N-image:two @N-image:one").gives(0),
        ]),
    )
    .microvm_only()
}

fn commit_stopped() -> Scenario {
    Scenario::new(
        "files-commit-stopped",
        [
            docker("create --name @N busybox sh -c 'echo made >/made; echo new >/etc/conf'").gives(0),
            docker("commit @N @N-image:created").gives(0),
            docker("image inspect --format '{{len .RootFS.Layers}} {{json .Config.Cmd}}' @N-image:created").gives(0),
            docker("start --attach @N").gives(0),
            docker("commit @N @N-image:exited").gives(0),
        ]
        .into_iter()
        .chain(made_of("@N-image:exited"))
        .chain([
            docker("rm @N").gives(0),
            docker("rmi @N-image:created @N-image:exited").gives(0),
            docker("create --name @N-gone busybox true").gives(0),
            gone(Gone::InBody, "POST /commit?container=@N-gone&repo=@N-gone").json(&json!({"Env": ["A=1"]})),
            docker("rm @N-gone").gives(0),
        ]),
    )
    .microvm_only()
}

fn commit_errors() -> Scenario {
    Scenario::new(
        "files-commit-errors",
        [
            docker("create --name @N busybox true").gives(0),
            docker("commit @N-none").gives(1),
            docker("commit @N BAD").gives(1),
            docker("commit --change 'NOPE x' @N").gives(1),
            api("POST /commit?container=@N-none").gives(404),
            api("POST /commit?container=@N&repo=UPPER").gives(400),
            api("POST /commit?container=@N&changes=NOPE%20x").gives(400),
            api("POST /commit?container=@N")
                .json(&json!({"Env": 5}))
                .gives(400),
            api("POST /commit?container=@N")
                .header("Content-Type", "text/plain")
                .body(b"{}")
                .gives(400),
            docker("rm @N").gives(0),
        ],
    )
    .microvm_only()
}
