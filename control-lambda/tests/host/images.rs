//! Images of many layers, and of strange ones.

use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use sockerless_control::embedded::host::Policy;
use sockerless_control::ports::function_host::InvocationEnd;

use crate::fixture::{Fixture, answer, function_shape, microvm_shape};
use crate::trial;

/// Docker allows images of at most 127 layers.
const LAYERS: usize = 127;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("an_image_of_many_layers_runs", many_layers),
        trial("an_image_cannot_redirect_what_is_mounted", redirecting),
        trial("a_layer_that_is_missing_is_said", missing_layer),
    ]
}

async fn many_layers() {
    let folder = tempfile::tempdir().unwrap();
    // Names with everything that separates overlayfs's options.
    let parent = folder.path().join(r"a,b:c\d e,lowerdir=x");
    let layers: Vec<PathBuf> = (0..LAYERS)
        .map(|index| {
            let layer = parent.join(format!("{index}:{}", "x".repeat(100)));
            std::fs::create_dir_all(&layer).unwrap();
            std::fs::write(layer.join(format!("only-{index}")), "").unwrap();
            std::fs::write(layer.join("index"), index.to_string()).unwrap();
            layer
        })
        .collect();
    let data = folder.path().join("data");
    let fixture = Fixture::open(&data, Policy::default(), layers).await;
    for shape in [function_shape(), microvm_shape(1)] {
        let function = fixture.ensure(&shape).await;
        let report = fixture.ask(&function, "read /index\nlist /").await;
        assert_eq!(answer(&report, "read /index"), "\"126\"");
        let names = answer(&report, "list /");
        for index in 0..LAYERS {
            assert!(names.contains(&format!("only-{index} ")), "{names}");
        }
    }
}

async fn redirecting() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let layer = folder.path().join("layer");
    std::fs::create_dir(&layer).unwrap();
    for name in ["proc", "dev", "tmp", "sys", "etc", ".sockerless"] {
        std::os::unix::fs::symlink(&outside, layer.join(name)).unwrap();
    }
    let data = folder.path().join("data");
    let fixture = Fixture::open(&data, Policy::default(), vec![layer]).await;
    for (shape, name) in [(function_shape(), "localhost"), (microvm_shape(1), "host1")] {
        let function = fixture.ensure(&shape).await;
        let report = fixture
            .ask(&function, "write /tmp/x y\nread /etc/hostname")
            .await;
        assert_eq!(answer(&report, "write /tmp/x y"), "()");
        assert_eq!(
            answer(&report, "read /etc/hostname"),
            format!("\"{name}\\n\"")
        );
    }
    assert!(is_empty(&outside));
}

async fn missing_layer() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let layers = vec![folder.path().join("nowhere")];
    let fixture = Fixture::open(&data, Policy::default(), layers).await;
    let function = fixture.function().await;
    let end = fixture.run(&function, "").await;
    let InvocationEnd::Crashed { reason } = end else {
        panic!("{end:?}");
    };
    assert!(reason.contains("nowhere"), "{reason}");
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}
