//! What a microvm has and a function has not.

use std::path::Path;

use libtest_mimic::Trial;
use sockerless_control::ports::FunctionHost;
use sockerless_control::ports::machine::{Mount, MountSource, VolumeMount};

use crate::fixture::{Fixture, answer, microvm_shape};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_microvm_is_root_with_terminals", root_with_terminals),
        trial("a_microvm_keeps_what_it_wrote", keeps_what_it_wrote),
        trial(
            "a_microvm_tells_its_image_from_what_it_wrote",
            tells_its_halves,
        ),
        trial("a_microvm_serves_one_run", serves_one_run),
        trial("a_volume_outlives_the_microvms_that_use_it", volume),
        trial("restarting_waits_for_the_end_of_the_run_before", restart),
    ]
}

async fn root_with_terminals() {
    let fixture = Fixture::new().await;
    let function = fixture.ensure(&microvm_shape(1)).await;
    let report = fixture
        .ask(
            &function,
            "openpty\nread /proc/self/status\nwrite /root-file x\nwrite /dev/shm/x y\n\
             write /proc/sys/kernel/hostname x\nwrite /proc/sysrq-trigger h\nunshare-user\n\
             read /proc/sys/kernel/hostname\nchmod /dev/null\nread /proc/timer_list",
        )
        .await;
    assert_eq!(answer(&report, "openpty"), "ok");
    let status = answer(&report, "read /proc/self/status");
    assert!(status.contains(r"Uid:\t0\t0\t0\t0\n"), "{status}");
    // Docker's default set.
    assert!(status.contains(r"CapEff:\t00000000a80425fb\n"), "{status}");
    assert!(status.contains(r"NoNewPrivs:\t0\n"), "{status}");
    assert_eq!(answer(&report, "write /root-file x"), "()");
    assert_eq!(answer(&report, "write /dev/shm/x y"), "()");
    for command in [
        "write /proc/sys/kernel/hostname x",
        "write /proc/sysrq-trigger h",
        "unshare-user",
    ] {
        assert!(answer(&report, command).starts_with("error"), "{report}");
    }
    assert_eq!(
        answer(&report, "read /proc/sys/kernel/hostname"),
        r#""host1\n""#
    );
    assert_eq!(answer(&report, "read /proc/timer_list"), r#""""#);
}

async fn keeps_what_it_wrote() {
    let fixture = Fixture::new().await;
    let (one, other) = (microvm_shape(1), microvm_shape(2));
    let function = fixture.ensure(&one).await;
    fixture.ask(&function, "write /kept text").await;
    let report = fixture.ask(&function, "read /kept").await;
    assert_eq!(answer(&report, "read /kept"), "\"text\"");
    let elsewhere = fixture.ensure(&other).await;
    let report = fixture.ask(&elsewhere, "read /kept").await;
    assert!(answer(&report, "read /kept").starts_with("error No such file"));

    let owner = one.owner.clone().unwrap();
    fixture.host.remove_writable(&owner).await.unwrap();
    fixture.host.remove_writable(&owner).await.unwrap();
    assert!(!fixture.data.join("writable").join(owner.as_str()).exists());
    let report = fixture.ask(&function, "read /kept").await;
    assert!(answer(&report, "read /kept").starts_with("error No such file"));
}

/// What `docker diff` and `docker commit` stand on: both halves of the root by descriptor, and
/// nothing of them in sight of anybody else.
async fn tells_its_halves() {
    let fixture = Fixture::new().await;
    let function = fixture.ensure(&microvm_shape(1)).await;
    let report = fixture
        .ask(
            &function,
            "environment\nwrite /etc/hosts mine\nwrite /made x\nread /proc/self/mounts",
        )
        .await;
    let (_, halves) = report.split_once(r#"("SOCKERLESS_LAYERS", ""#).unwrap();
    let (halves, _) = halves.split_once('"').unwrap();
    let halves: Vec<_> = halves.split(',').collect();
    let [image, written, whole] = halves.as_slice() else {
        panic!("three descriptors: {halves:?}")
    };
    let mounts = answer(&report, "read /proc/self/mounts");
    assert_eq!(
        mounts.matches("overlay").count(),
        2,
        "one overlay: {mounts}"
    );
    // Another environment of the same container opens the same descriptors.
    let commands = [
        format!("read /proc/self/fd/{written}/made"),
        format!("read /proc/self/fd/{image}/made"),
        format!("write /proc/self/fd/{image}/made y"),
        format!("list /proc/self/fd/{image}/etc"),
        format!("read /proc/self/fd/{whole}/made"),
        format!("list /proc/self/fd/{whole}/proc"),
    ];
    let report = fixture.ask(&function, &commands.join("\n")).await;
    assert_eq!(answer(&report, &commands[0]), "\"x\"");
    assert!(
        answer(&report, &commands[1]).starts_with("error No such file"),
        "{report}"
    );
    assert!(
        answer(&report, &commands[2]).starts_with("error Read-only"),
        "{report}"
    );
    assert!(answer(&report, &commands[3]).contains("hosts"), "{report}");
    assert_eq!(answer(&report, &commands[4]), "\"x\"");
    assert!(!answer(&report, &commands[5]).contains("self"), "{report}");
}

async fn volume() {
    let fixture = Fixture::new().await;
    // Of all names a namespace can have, the one that could lead elsewhere.
    let namespace = "..".parse().unwrap();
    let host = &fixture.host;
    let path = host.make_volume(&namespace, "data").await.unwrap();
    assert_eq!(host.make_volume(&namespace, "data").await.unwrap(), path);
    assert!(Path::new(&path).starts_with(fixture.data.join("volumes")));
    assert_eq!(host.volume_size(&namespace, "data").await.unwrap(), 0);
    let shape = |id| {
        let mut shape = microvm_shape(id);
        let source = MountSource::Volume(VolumeMount {
            name: "data".to_owned(),
            path: path.clone(),
            copy: true,
            ..VolumeMount::default()
        });
        let mount = Mount {
            target: "/made/for/it".to_owned(),
            source,
            read_only: false,
            mode: String::new(),
            shown: true,
        };
        shape.machine.get_or_insert_default().mounts.push(mount);
        shape
    };
    let one = fixture.ensure(&shape(1)).await;
    let report = fixture.ask(&one, "write /made/for/it/file text").await;
    assert_eq!(answer(&report, "write /made/for/it/file text"), "()");
    let other = fixture.ensure(&shape(2)).await;
    let report = fixture.ask(&other, "read /made/for/it/file").await;
    assert_eq!(answer(&report, "read /made/for/it/file"), "\"text\"");
    assert_eq!(host.volume_size(&namespace, "data").await.unwrap(), 4);

    host.remove_volume(&namespace, "data").await.unwrap();
    host.remove_volume(&namespace, "data").await.unwrap();
    assert!(!Path::new(&path).exists());
    assert_eq!(host.volume_size(&namespace, "data").await.unwrap(), 0);
}

async fn serves_one_run() {
    let fixture = Fixture::new().await;
    let function = fixture.ensure(&microvm_shape(1)).await;
    for _ in 0..2 {
        let report = fixture.ask(&function, "listen 80").await;
        assert!(report.starts_with("served 1\n"), "{report}");
        assert_eq!(answer(&report, "listen 80"), "ok");
    }
}

async fn restart() {
    let fixture = Fixture::new().await;
    let function = fixture.ensure(&microvm_shape(1)).await;
    let first = fixture.start(&function, "wait 1\nwrite /order first").await;
    let second = fixture.start(&function, "read /order").await;
    assert_eq!(fixture.end().await.0, first);
    fixture.report().await;
    assert_eq!(fixture.end().await.0, second);
    let report = fixture.report().await;
    assert_eq!(answer(&report, "read /order"), "\"first\"");
}
