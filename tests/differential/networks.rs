//! Networks as objects, and containers in them.

use serde_json::{Value, json};
use sockerless_tests::scenario::{Gone, Scenario, Step, api, docker, gone, query};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        create(),
        create_errors(),
        ranges(),
        range_errors(),
        options(),
        list(),
        connect(),
        connect_errors(),
        containers(),
        container_errors(),
        start_errors(),
        prune(),
        client(),
        gone_half_way(),
    ]
}

fn post(body: &Value) -> Step {
    api("POST /networks/create").json(body)
}

fn remove(names: &[&str]) -> Vec<Step> {
    let one = |name: &&str| api(&format!("DELETE /networks/{name}")).gives(204);
    names.iter().map(one).collect()
}

fn create() -> Scenario {
    let mut steps = vec![
        post(&json!({"Name": "@N"})).gives(201).save("id", "/Id"),
        api("GET /networks/@N").gives(200),
        api("GET /networks/@{id}").gives(200),
        api("GET /networks/@N?scope=local&verbose=true").gives(200),
        api("GET /networks/@N?scope=swarm").gives(404),
        api("GET /networks/@N?verbose=zz").gives(400),
        api("GET /networks/@N-xnone").gives(404),
        post(&json!({"Name": "@N"})).gives(409),
        post(&json!({"Name": "@N", "CheckDuplicate": true})).gives(409),
        post(&json!({
            "Name": "@N-xsecond", "Internal": true, "Attachable": true,
            "Labels": {"a": "b", "c": ""}, "Options": {"x": "y"},
        }))
        .gives(201),
        api("GET /networks/@N-xsecond").gives(200),
        post(&json!({"name": "@N-x/slash", "scope": "zz"})).gives(201),
        api("GET /networks/@N-x/slash").gives(200),
        api("GET /networks/@N-x%2Fslash").gives(200),
        api("DELETE /networks/@N-x/slash").gives(204),
    ];
    steps.extend(remove(&["@N-xsecond", "@{id}"]));
    steps.push(api("DELETE /networks/@N").gives(404));
    Scenario::new("network-create", steps)
}

fn create_errors() -> Scenario {
    let mut steps: Vec<Step> = [
        (json!({}), 400),
        (json!({"Name": " "}), 400),
        (json!([]), 400),
        (json!({"Name": 1}), 400),
        (json!({"Name": "@N", "Labels": []}), 400),
        (json!({"Name": "@N", "IPAM": []}), 400),
        (json!({"Name": "@N", "Options": {"a": 1}}), 400),
        (json!({"Name": "bridge"}), 403),
        (json!({"Name": "host"}), 403),
        (json!({"Name": "none"}), 403),
        (json!({"Name": "default"}), 403),
        (json!({"Name": "@N", "Driver": "zz"}), 404),
        (json!({"Name": "@N", "Driver": "host"}), 403),
        (json!({"Name": "@N", "Driver": "null"}), 403),
        (json!({"Name": "@N", "Driver": "overlay"}), 403),
        (json!({"Name": "@N", "Scope": "swarm"}), 403),
        (json!({"Name": "@N", "Ingress": true}), 403),
        (
            json!({"Name": "@N", "ConfigFrom": {"Network": "nope"}}),
            404,
        ),
        (json!({"Name": "@N", "EnableIPv4": false}), 400),
        (json!({"Name": "@N", "IPAM": {"Driver": "zz"}}), 404),
        (json!({"Name": "@N", "IPAM": {"Driver": "null"}}), 400),
    ]
    .iter()
    .map(|(body, status)| post(body).gives(*status))
    .collect();
    steps.extend([
        api("POST /networks/create").gives(400),
        api("POST /networks/create")
            .body(b"{}")
            .header("Content-Type", "text/plain")
            .gives(400),
        api("DELETE /networks/bridge").gives(403),
        api("DELETE /networks/none").gives(403),
        api("DELETE /networks/host").gives(403),
        api("POST /networks/bridge").gives(404),
        api("PUT /networks/bridge").gives(404),
    ]);
    Scenario::new("network-create-errors", steps)
}

fn ranges() -> Scenario {
    let mut steps = Vec::new();
    for (index, ipam) in [
        json!({"Config": [{"Subnet": "10.181.0.0/24"}]}),
        json!({
            "Config": [{
                "Subnet": "10.182.0.0/24", "Gateway": "10.182.0.9", "IPRange": "10.182.0.128/25",
                "AuxiliaryAddresses": {"h": "10.182.0.3"},
            }],
            "Options": {"a": "b"},
        }),
        json!({"Config": [{"Subnet": "10.183.0.0/31"}]}),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("@N-x{index}");
        steps.push(post(&json!({"Name": name, "IPAM": ipam})).gives(201));
        steps.push(api(&format!("GET /networks/{name}")).gives(200));
        steps.push(
            docker(&format!(
                "network inspect {name} --format '{{{{json .IPAM}}}}'"
            ))
            .gives(0),
        );
    }
    steps.push(
        post(&json!({"Name": "@N-xover", "IPAM": {"Config": [{"Subnet": "10.181.0.0/25"}]}}))
            .gives(403),
    );
    steps.extend(remove(&["@N-x0", "@N-x1", "@N-x2"]));
    Scenario::new("network-ranges", steps)
}

fn range_errors() -> Scenario {
    let whole = "10.184.0.0/24";
    let bad = [
        (json!([{}]), 400),
        (json!([{"Subnet": "10.184.0.5/24"}]), 400),
        (json!([{"Subnet": "zz"}]), 400),
        (json!([{"Subnet": "10.184.0.0/33"}]), 400),
        (json!([{"Gateway": "10.184.0.1"}]), 400),
        (json!([{"Subnet": whole, "Gateway": "10.5.0.1"}]), 400),
        (json!([{"Subnet": whole, "Gateway": "zz"}]), 400),
        (json!([{"Subnet": whole, "Gateway": "10.184.0.2/24"}]), 400),
        (json!([{"Subnet": whole, "IPRange": "10.5.0.0/25"}]), 400),
        (json!([{"Subnet": whole, "IPRange": "10.184.0.0/16"}]), 400),
        (json!([{"Subnet": whole, "IPRange": "10.184.0.5/25"}]), 400),
        (
            json!([{"Subnet": whole, "IPRange": "zz", "Gateway": "zz"}]),
            400,
        ),
        (
            json!([{"Subnet": whole, "AuxiliaryAddresses": {"a": "10.9.0.1"}}]),
            400,
        ),
        (json!([{"Subnet": whole}, {"Subnet": "10.185.0.0/24"}]), 403),
        (json!([{"Subnet": "172.17.0.0/24"}]), 403),
        (json!([{"Subnet": whole, "Gateway": "10.184.0.0"}]), 500),
        (json!([{"Subnet": whole, "Gateway": "10.184.0.255"}]), 500),
        (
            json!([{"Subnet": whole, "Gateway": "10.184.0.2", "AuxiliaryAddresses": {"a": "10.184.0.2"}}]),
            500,
        ),
    ];
    let steps = bad.iter().map(|(config, status)| {
        post(&json!({"Name": "@N", "IPAM": {"Config": config}})).gives(*status)
    });
    Scenario::new("network-range-errors", steps)
}

fn options() -> Scenario {
    let bridge = |name: &str| format!("com.docker.network.bridge.{name}");
    let bad = [
        (bridge("enable_icc"), "zz", 400),
        (bridge("enable_ip_masquerade"), "zz", 400),
        (bridge("inhibit_ipv4"), "zz", 400),
        (bridge("default_bridge"), "zz", 400),
        (bridge("host_binding_ipv4"), "zz", 400),
        (bridge("gateway_mode_ipv4"), "zz", 400),
        (bridge("name"), "averyverylongname0", 500),
        (bridge("name"), "docker0", 403),
        ("com.docker.network.driver.mtu".to_owned(), "zz", 400),
        ("com.docker.network.driver.mtu".to_owned(), "-1", 400),
    ];
    let steps = bad.iter().map(|(name, value, status)| {
        post(&json!({"Name": "@N", "Options": {name.as_str(): value}})).gives(*status)
    });
    Scenario::new("network-options", steps)
}

fn list() -> Scenario {
    let mut steps = vec![
        post(&json!({"Name": "@N", "Labels": {"of": "@N"}}))
            .gives(201)
            .save("id", "/Id"),
    ];
    for (filters, status) in [
        (json!({"name": ["@N"]}), 200),
        (json!({"name": ["^@N$"]}), 200),
        (json!({"name": ["["]}), 200),
        (json!({"id": ["@{id}"]}), 200),
        (json!({"label": ["of=@N"]}), 200),
        (json!({"label": ["of=zz"]}), 200),
        (json!({"driver": ["null"]}), 200),
        (json!({"driver": ["nul"]}), 200),
        (json!({"scope": ["zz"], "name": ["^@N$"]}), 200),
        (json!({"type": ["custom"], "name": ["^@N$"]}), 200),
        (json!({"type": ["builtin"], "name": ["^host$"]}), 200),
        (
            json!({"type": ["builtin", "custom"], "name": ["^host$"]}),
            200,
        ),
        (json!({"type": []}), 200),
        (json!({"dangling": ["true"], "name": ["^@N$"]}), 200),
        (json!({"dangling": ["0"], "name": ["^@N$"]}), 200),
        (json!({"dangling": [], "name": ["^@N$"]}), 200),
        (json!({"type": ["zz"]}), 500),
        (json!({"dangling": ["zz"]}), 400),
        (json!({"zz": ["a"]}), 400),
        (json!([]), 400),
    ] {
        let target = format!("GET /networks?filters={}", query(&filters));
        steps.push(api(&target).gives(status));
    }
    steps.extend([
        docker("network ls --filter name=^@N$").table().gives(0),
        docker("network ls --filter name=^(bridge|host|none)$ --format '{{.Name}} {{.Driver}} {{.Scope}}'")
            .sorted()
            .gives(0),
        docker("network ls --filter zz=1").gives(1),
    ]);
    steps.extend(remove(&["@N"]));
    Scenario::new("network-list", steps)
}

fn connection(network: &str, verb: &str, body: &Value) -> Step {
    api(&format!("POST /networks/{network}/{verb}")).json(body)
}

fn in_network() -> Step {
    api("GET /containers/@N/json").gives(200)
}

fn connect() -> Scenario {
    let it = json!({"Container": "@N"});
    let mut steps = vec![
        post(&json!({"Name": "@N-xfirst"})).gives(201),
        post(&json!({"Name": "@N-xsecond"})).gives(201),
        docker("create --quiet --name @N --network @N-xfirst --network-alias al busybox sleep 1000")
            .head_only()
            .gives(0),
        in_network(),
        connection("@N-xfirst", "connect", &it).gives(200),
        connection(
            "@N-xsecond",
            "connect",
            &json!({"Container": "@N", "EndpointConfig": {"Aliases": ["q"], "Gateway": "1.1.1.1"}}),
        )
        .gives(200),
        in_network(),
        connection("@N-xsecond", "connect", &it).gives(200),
        in_network(),
        connection("@N-xsecond", "connect", &json!({"Container": "@N", "EndpointConfig": {"Aliases": ["r"]}}))
            .gives(200),
        in_network(),
        docker("start @N").gives(0),
        in_network(),
        api(&format!(
            "GET /containers/json?filters={}",
            query(&json!({"network": ["@N-xsecond"]}))
        ))
        .gives(200),
        api("GET /networks/@N-xfirst").gives(200),
        api("DELETE /networks/@N-xfirst").gives(403),
        connection("@N-xfirst", "connect", &it).gives(403),
        connection("@N-xnonet", "connect", &it).gives(404),
        connection("@N-xnonet", "disconnect", &it).gives(404),
        connection("@N-xsecond", "disconnect", &it).gives(200),
        connection("@N-xsecond", "disconnect", &it).gives(500),
        connection("@N-xsecond", "connect", &it).gives(200),
        connection("bridge", "connect", &it).gives(200),
        in_network(),
        connection("bridge", "disconnect", &json!({"Container": "@N", "Force": true})).gives(200),
        connection("bridge", "disconnect", &json!({"Container": "@N", "Force": true})).gives(500),
        docker("rename @N @N-xother").gives(0),
        docker("inspect @N-xother --format '{{json (index .NetworkSettings.Networks \"@N-xsecond\").Aliases}} {{(index (index .NetworkSettings.Networks \"@N-xfirst\").DNSNames 1)}}'")
            .gives(0),
        docker("rename @N-xother @N").gives(0),
        docker("kill @N").gives(0),
        in_network(),
        api("GET /networks/@N-xfirst").gives(200),
        connection("@N-xfirst", "disconnect", &it).gives(200),
        connection("@N-xfirst", "disconnect", &it).gives(500),
        connection("@N-xsecond", "disconnect", &it).gives(200),
        in_network(),
        connection("none", "connect", &it).gives(200),
        connection("@N-xfirst", "connect", &it).gives(400),
        docker("start @N").gives(0),
        docker("inspect @N --format '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}'").gives(0),
        docker("exec @N sh -c 'tail -n +3 /proc/net/dev | grep -c -v lo:'").gives(1),
    ];
    steps.extend(remove(&["@N-xfirst", "@N-xsecond"]));
    steps.push(docker("rm --force @N").gives(0));
    Scenario::new("network-connect", steps)
}

fn connect_errors() -> Scenario {
    let it = json!({"Container": "@N"});
    let nobody = json!({"Container": "@N-xnone"});
    let endpoint = |settings: Value| json!({"Container": "@N", "EndpointConfig": settings});
    let mut steps = vec![
        post(&json!({"Name": "@N-xnet"})).gives(201),
        docker("create --quiet --name @N busybox true").gives(0),
    ];
    for (network, body, status) in [
        ("@N-xnet", nobody.clone(), 404),
        ("@N-xnonet", it.clone(), 200),
        ("@N-xnonet", nobody.clone(), 404),
        ("host", it.clone(), 400),
        ("none", it.clone(), 400),
        ("@N-xnet", json!({}), 400),
        ("@N-xnet", json!([]), 400),
        ("@N-xnet", json!({"Container": 1}), 400),
        ("@N-xnet", endpoint(json!(1)), 400),
        ("@N-xnet", endpoint(json!({"MacAddress": "zz"})), 400),
        (
            "@N-xnet",
            endpoint(json!({"IPAMConfig": {"IPv4Address": "zz"}})),
            400,
        ),
        (
            "@N-xnet",
            endpoint(json!({"IPAMConfig": {"IPv4Address": "10.99.0.77"}})),
            400,
        ),
        ("bridge", endpoint(json!({"Aliases": ["x"]})), 400),
    ] {
        steps.push(connection(network, "connect", &body).gives(status));
    }
    for (network, body, status) in [
        ("@N-xnet", nobody.clone(), 404),
        (
            "@N-xnet",
            json!({"Container": "@N-xnone", "Force": true}),
            404,
        ),
        ("@N-xnonet", it.clone(), 200),
        ("@N-xnonet", it.clone(), 500),
        ("@N-xnonet", nobody, 404),
        ("@N-xnet", it.clone(), 500),
        ("host", it.clone(), 500),
        ("@N-xnet", json!({}), 400),
        ("@N-xnet", json!([]), 400),
    ] {
        steps.push(connection(network, "disconnect", &body).gives(status));
    }
    steps.extend([
        api("POST /networks/@N-xnet/connect").gives(400),
        docker("rm @N").gives(0),
    ]);
    steps.extend(remove(&["@N-xnet"]));
    Scenario::new("network-connect-errors", steps)
}

fn container(host: &Value, endpoints: &Value) -> Step {
    api("POST /containers/create?name=@N").json(&json!({
        "Image": "busybox", "Cmd": ["sleep", "1000"],
        "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": endpoints},
    }))
}

fn containers() -> Scenario {
    let mut steps = vec![
        post(&json!({"Name": "@N-xone"}))
            .gives(201)
            .save("one", "/Id"),
        post(&json!({"Name": "@N-xtwo", "Internal": true})).gives(201),
    ];
    for (mode, endpoints) in [
        ("@N-xone", json!({})),
        (
            "@N-xone",
            json!({"@N-xone": {"Aliases": ["a", "a"]}, "@N-xtwo": {}}),
        ),
        ("@N-xone", json!({"@N-xtwo": {}})),
        (
            "",
            json!({"@N-xtwo": {"GwPriority": 7, "DriverOpts": {"a": "b"}}}),
        ),
        ("@{one}", json!({"@{one}": {"Aliases": ["x"]}})),
        ("default", json!({"default": {}})),
        ("none", json!({})),
    ] {
        // Ours warns that containers cannot reach each other; the status is compared.
        steps.push(
            container(&json!({"NetworkMode": mode}), &endpoints)
                .head_only()
                .gives(201),
        );
        steps.push(in_network());
        steps.push(api("POST /containers/@N/start").gives(204));
        steps.push(in_network());
        steps.push(docker("rm --force @N").gives(0));
    }
    steps.push(
        api("POST /containers/create?name=@N")
            .json(&json!({
                "Image": "busybox", "NetworkDisabled": true, "HostConfig": {"NetworkMode": "@N-xone"},
            }))
            .gives(201),
    );
    steps.push(in_network());
    steps.push(docker("rm --force @N").gives(0));
    steps.extend(remove(&["@N-xone", "@N-xtwo"]));
    Scenario::new("network-containers", steps)
}

fn container_errors() -> Scenario {
    let mut steps = vec![post(&json!({"Name": "@N-xone"})).gives(201)];
    for (host, endpoints) in [
        (json!({}), json!({"@N-xone": null})),
        (json!({}), json!({"@N-xone": 1})),
        (json!({}), json!([])),
        (json!({"NetworkMode": "container:"}), json!({})),
        (json!({}), json!({"bridge": {"Aliases": ["x"]}})),
        (json!({}), json!({"@N-xone": {"Aliases": "x"}})),
        (
            json!({"NetworkMode": "@N-xone"}),
            json!({"@N-xone": {"IPAMConfig": {"IPv4Address": "zz", "IPv6Address": "zz", "LinkLocalIPs": ["zz"]}}}),
        ),
    ] {
        steps.push(container(&host, &endpoints).gives(400));
    }
    steps.extend(remove(&["@N-xone"]));
    Scenario::new("network-container-errors", steps)
}

fn start_errors() -> Scenario {
    Scenario::new(
        "network-start-errors",
        [
            container(&json!({"NetworkMode": "@N-xnone"}), &json!({})).gives(201),
            in_network(),
            api("POST /containers/@N/start").gives(404),
            in_network(),
            post(&json!({"Name": "@N-xnone"})).gives(201),
            api("POST /containers/@N/start").gives(204),
            docker("kill @N").gives(0),
            api("DELETE /networks/@N-xnone").gives(204),
            docker("start @N").gives(1),
            docker("rm @N").gives(0),
            container(
                &json!({"NetworkMode": "none"}),
                &json!({"none": {}, "bridge": {}}),
            )
            .gives(201),
            api("POST /containers/@N/start").gives(400),
            docker("rm @N").gives(0),
            docker("run --rm --name @N --network @N-xnone busybox true").gives(125),
            api("GET /containers/@N/json").gives(404),
        ],
    )
}

fn prune() -> Scenario {
    let prune = |filters: Value| api(&format!("POST /networks/prune?filters={}", query(&filters)));
    Scenario::new(
        "network-prune",
        [
            post(&json!({"Name": "@N", "Labels": {"of": "@N"}})).gives(201),
            post(&json!({"Name": "@N-xused", "Labels": {"of": "@N"}})).gives(201),
            docker("run --quiet --detach --name @N --network @N-xused busybox sleep 1000")
                .head_only()
                .gives(0),
            prune(json!({"until": ["zz"]})).gives(400),
            prune(json!({"until": ["1h", "2h"]})).gives(400),
            prune(json!({"dangling": ["true"]})).gives(400),
            prune(json!([])).gives(400),
            prune(json!({"label": ["of=@N"], "until": ["24h"]})).gives(200),
            prune(json!({"label": ["of=@N"], "label!": ["of"]})).gives(200),
            prune(json!({"label": ["of=@N"]})).gives(200),
            prune(json!({"label": ["of=@N"]})).gives(200),
            docker("rm --force @N").gives(0),
            docker("network prune --force --filter label=of=@N").gives(0),
            docker("network prune --force --filter zz=1").gives(1),
        ],
    )
}

fn client() -> Scenario {
    Scenario::new(
        "network-client",
        [
            docker("network create --label l=m --internal --opt a=b @N").gives(0),
            docker("network create @N").gives(1),
            docker("network inspect @N --format '{{.Name}} {{.Internal}} {{json .Labels}} {{json .Options}}'").gives(0),
            docker("network inspect @N-xnone").gives(1),
            docker("create --quiet --name @N busybox true").gives(0),
            docker("network connect --alias x @N @N").gives(0),
            docker("network connect @N @N-xnone").gives(1),
            docker("network disconnect @N @N").gives(0),
            docker("network disconnect @N @N").gives(1),
            docker("network rm @N").gives(0),
            docker("network rm @N").gives(1),
            docker("network rm --force @N").gives(0),
            docker("rm @N").gives(0),
            docker("run --rm --network bridge --network-alias x busybox true").gives(125),
        ],
    )
}

fn gone_half_way() -> Scenario {
    Scenario::new(
        "network-gone",
        [
            post(&json!({"Name": "@N"})).gives(201),
            gone(Gone::BeforeAnswer, "GET /networks"),
            gone(Gone::InHead, "POST /networks/create"),
            gone(Gone::InHead, "POST /networks/prune"),
            gone(Gone::AfterHead, "GET /networks/@N"),
            gone(Gone::InHead, "POST /networks/@N/connect"),
            gone(Gone::InHead, "POST /networks/@N/disconnect"),
            gone(Gone::InHead, "DELETE /networks/@N"),
            api("DELETE /networks/@N").gives(204),
        ],
    )
}
