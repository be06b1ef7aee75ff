//! Pulling from a registry on the loopback.

use sockerless_tests::scenario::{Gone, Scenario, api, docker, gone};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![pull(), pull_errors(), pull_gone()]
}

/// One scenario, since the second pull of a layer says that it is there.
fn pull() -> Scenario {
    Scenario::new(
        "pull",
        [
            docker("pull @R/test/single:v1").gives(0),
            docker("image inspect @R/test/single:v1 --format '{{.Id}} {{.RepoTags}} {{.RepoDigests}}'")
                .gives(0),
            docker("pull @R/test/single:v1").gives(0),
            docker("pull --quiet @R/test/single:v2").gives(0),
            docker("image inspect @R/test/single:v1 --format '{{.RepoTags}}'").gives(0),
            docker("run --rm @R/test/single:v1 echo pulled").gives(0),
            docker("pull @R/test/multi:v1").gives(0),
            docker("image inspect @R/test/multi:v1 --format '{{.Id}} {{.RepoDigests}} {{.Architecture}} {{json .Config.Labels}}'")
                .gives(0),
            api("POST /images/create?fromImage=@R/test/multi&tag=v1").gives(200),
            api("POST /images/create?fromImage=@R/test/multi:v1").gives(200),
            docker("images --digests @R/test/multi").table().gives(0),
            docker("rmi @R/test/single:v2 @R/test/multi:v1").gives(0),
            docker("run --rm --pull always @R/test/single:v1 echo pulled again").gives(0),
            docker("run --rm --pull missing @R/test/multi:v1 echo as needed").gives(0),
            docker("rmi @R/test/single:v1 @R/test/multi:v1").gives(0),
        ],
    )
    .alone()
}

fn pull_errors() -> Scenario {
    Scenario::new(
        "pull-errors",
        [
            docker("pull @R/test/single:none").gives(1),
            docker("pull @R/test/none:v1").gives(1),
            docker("pull BAD").gives(1),
            api("POST /images/create?fromImage=@R/test/single&tag=none").gives(404),
            api("POST /images/create?fromImage=@R/test/none&tag=v1").gives(404),
            api("POST /images/create?fromImage=BAD&tag=v1").gives(400),
            api("POST /images/create?fromImage=127.0.0.1:1/a&tag=v1").gives(500),
            api("POST /images/create?fromImage=@R/test/single&tag=v1&platform=a%2Fb%2Fc%2Fd")
                .gives(400),
        ],
    )
}

fn pull_gone() -> Scenario {
    Scenario::new(
        "pull-gone",
        [
            gone(
                Gone::AfterHead,
                "POST /images/create?fromImage=@R/test/large&tag=v1",
            ),
            docker("pull --quiet @R/test/large:v1").gives(0),
            docker("image inspect @R/test/large:v1 --format '{{.Id}} {{.RepoTags}}'").gives(0),
            docker("rmi @R/test/large:v1").gives(0),
        ],
    )
}
