//! Images that skopeo, umoci and buildah made.

use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use sockerless_tests::engines::{free_port, run_script};
use sockerless_tests::scenario::Runtime;
use sockerless_tests::subject::Subject;

use super::{digest_among, registry, registry_program, run};

/// Prints an extended attribute, which no program of the small image does.
const ATTRIBUTE: &str = r#"
#include <stdio.h>
#include <sys/xattr.h>
int main(int count, char **words) {
    char value[64];
    ssize_t size = count == 3 ? getxattr(words[1], words[2], value, sizeof value) : -1;
    return size < 0 || fwrite(value, 1, size, stdout) != (size_t)size;
}
"#;

/// The tools, with all that they keep in a folder.
struct Tools {
    programs: PathBuf,
    folder: PathBuf,
}

impl Tools {
    fn new(folder: &Path) -> Self {
        let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        fs::write(folder.join("policy.json"), policy).unwrap();
        Self {
            programs: Path::new(&run_script("image-tools", &[]).unwrap()).join("bin"),
            folder: folder.to_owned(),
        }
    }

    fn tool(&self, program: &str, line: &str) -> String {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.folder);
        if program == "skopeo" {
            command.args(["--policy", "policy.json"]);
        }
        run(command.args(line.split_whitespace()))
    }

    /// Copies an image, as it is, to a registry on this machine.
    fn publish(&self, from: &str, to: &str) {
        self.tool(
            "skopeo",
            &format!("copy --preserve-digests --dest-tls-verify=false {from} docker://{to}"),
        );
    }
}

/// Pulls, pushes elsewhere and pulls from there: the digest stays.
fn there_and_back(subject: &Subject, registry: &str, name: &str) {
    let digest = |name: &str| {
        let digests = subject.docker(&[
            "image",
            "inspect",
            name,
            "--format",
            "{{range .RepoDigests}}{{println .}}{{end}}",
        ]);
        digest_among(&digests, name)
    };
    let original = format!("{registry}/{name}");
    let copy = format!("{registry}/copies/{name}");
    subject.docker(&["pull", "--quiet", &original]);
    subject.docker(&["tag", &original, &copy]);
    subject.docker(&["push", "--quiet", &copy]);
    assert_eq!(digest(&copy), digest(&original));
    subject.docker(&["rmi", &copy]);
    subject.docker(&["pull", "--quiet", &copy]);
    assert_eq!(digest(&copy), digest(&original));
}

#[test]
fn images_of_every_make_are_pulled_run_pushed_and_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let tools = Tools::new(folder);
    let address = free_port().unwrap();
    let server = registry_program();
    let _registry = registry(folder, address, "", &mut Command::new(server));
    let subject = Subject::start(Runtime::Microvm);
    let plain = subject.fixture("plain.tar");
    // What has the same config is the same image, whichever way it came first.
    subject.docker(&["rmi", "busybox"]);
    let says = |name: &str, line: &str| {
        let name = format!("{address}/{name}");
        subject.docker(&["run", "--rm", &name, "sh", "-c", line])
    };

    // zstd, and what is not compressed.
    tools.tool(
        "skopeo",
        &format!("copy --dest-compress-format zstd --dest-tls-verify=false docker-archive:{plain} docker://{address}/zstd:v1"),
    );
    tools.tool(
        "skopeo",
        &format!("copy --dest-decompress docker-archive:{plain} dir:plain"),
    );
    tools.tool(
        "skopeo",
        &format!(
            "copy --dest-tls-verify=false --preserve-digests dir:plain docker://{address}/gzip:v1"
        ),
    );
    for name in ["zstd:v1", "gzip:v1"] {
        there_and_back(&subject, &address.to_string(), name);
        assert_eq!(says(name, "echo $((6 * 7))"), "42\n");
    }

    // umoci: a layer with everything that a file system has, and one that takes away.
    tools.tool(
        "skopeo",
        &format!("copy docker-archive:{plain} oci:layout:base"),
    );
    tools.tool("umoci", "unpack --image layout:base bundle");
    let root = folder.join("bundle/rootfs");
    let long = "n".repeat(200);
    let deep = root.join("deep").join(&long);
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join(&long), "long").unwrap();
    fs::write(root.join("deep/one"), "linked").unwrap();
    fs::hard_link(root.join("deep/one"), root.join("deep/two")).unwrap();
    symlink("one", root.join("deep/three")).unwrap();
    let sparse = fs::File::create(root.join("deep/sparse")).unwrap();
    sparse.write_all_at(b"end", 50 << 20).unwrap();
    run(Command::new("python3").args([
        "-c",
        "import os, sys; os.setxattr(sys.argv[1], 'user.kept', b'value')",
        root.join("deep/one").to_str().unwrap(),
    ]));
    fs::write(folder.join("attribute.c"), ATTRIBUTE).unwrap();
    run(Command::new("cc")
        .args([
            "-static",
            "-o",
            "bundle/rootfs/bin/attribute",
            "attribute.c",
        ])
        .current_dir(folder));
    fs::remove_file(root.join("etc/motd")).unwrap();
    tools.tool("umoci", "repack --image layout:full bundle");
    for number in 0..60 {
        let file = folder.join("file");
        fs::write(&file, number.to_string()).unwrap();
        let tag = if number == 0 { "base" } else { "many" };
        tools.tool(
            "umoci",
            &format!("insert --image layout:{tag} --tag many file /layers/{number}"),
        );
    }
    for tag in ["full", "many"] {
        tools.publish(
            &format!("oci:layout:{tag}"),
            &format!("{address}/umoci:{tag}"),
        );
        there_and_back(&subject, &address.to_string(), &format!("umoci:{tag}"));
    }
    let look = format!(
        "cat /deep/{long}/{long} /deep/two /deep/three; stat -c %h /deep/one; \
         tail -c 3 /deep/sparse; stat -c %s /deep/sparse; ls /etc/motd 2>&1 | grep -c 'No such'"
    );
    assert_eq!(
        says("umoci:full", &look),
        "longlinkedlinked2\nend52428803\n1\n"
    );
    assert_eq!(says("umoci:full", "attribute /deep/two user.kept"), "value");
    assert_eq!(
        says("umoci:many", "ls /layers | wc -l; cat /layers/0 /layers/59"),
        "60\n059"
    );

    // The whole layout as an archive, also compressed as a whole.
    run(Command::new("tar")
        .args(["-C", "layout", "-cf", "layout.tar", "."])
        .current_dir(folder));
    let zipped = zip(&folder.join("layout.tar"));
    for archive in [folder.join("layout.tar"), zipped] {
        let loaded = subject.docker(&["load", "--input", archive.to_str().unwrap()]);
        assert!(loaded.contains("Loaded image"), "{loaded}");
    }

    // buildah.
    let storage = "--storage-driver vfs --root store --runroot run";
    let container = tools.tool("buildah", &format!("{storage} from scratch"));
    let container = container.trim();
    fs::write(folder.join("made"), "by buildah").unwrap();
    tools.tool(
        "buildah",
        &format!("{storage} copy {container} bundle/rootfs/bin /bin"),
    );
    tools.tool("buildah", &format!("{storage} copy {container} made /made"));
    tools.tool(
        "buildah",
        &format!("{storage} config --cmd cat {container}"),
    );
    tools.tool(
        "buildah",
        &format!("{storage} commit --disable-compression --signature-policy policy.json {container} oci-archive:built.tar:built:v1"),
    );
    let loaded = subject.docker(&[
        "load",
        "--input",
        folder.join("built.tar").to_str().unwrap(),
    ]);
    let id = loaded.trim().rsplit(' ').next().unwrap();
    let made = format!("{address}/buildah:v1");
    subject.docker(&["tag", id, &made]);
    // Its layers are not compressed: it gets a manifest of its own where it is pushed to.
    subject.docker(&["push", "--quiet", &made]);
    assert_eq!(
        subject.docker(&["run", "--rm", &made, "/bin/cat", "/made"]),
        "by buildah"
    );
    let seen = tools.tool(
        "skopeo",
        &format!("inspect --tls-verify=false docker://{made}"),
    );
    assert!(seen.contains("\"Layers\""), "{seen}");

    subject.docker(&["load", "--quiet", "--input", &plain]);
    // And back out: what Sockerless saves, the others read.
    let saved = folder.join("saved.tar");
    let many = format!("{address}/umoci:many");
    subject.docker(&[
        "save",
        "--output",
        saved.to_str().unwrap(),
        &many,
        "busybox",
    ]);
    for kind in ["docker-archive", "oci-archive"] {
        let name = if kind == "docker-archive" {
            format!(":{many}")
        } else {
            ":latest".to_owned()
        };
        let seen = tools.tool("skopeo", &format!("inspect {kind}:saved.tar{name}"));
        assert!(seen.contains("\"Layers\""), "{seen}");
    }
    subject.is_well();
}

/// The same with gzip.
fn zip(path: &Path) -> PathBuf {
    let zipped = path.with_extension("tar.gz");
    let out = fs::File::create(&zipped).unwrap();
    let mut out = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
    std::io::copy(&mut fs::File::open(path).unwrap(), &mut out).unwrap();
    out.finish().unwrap();
    zipped
}
