//! ARCHITECTURE.md against the tree, and the borders between the crates as far
//! as the sources show them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex_lite::Regex;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A folder's sections of the code map: its name and its text.
fn sections() -> Vec<(String, String)> {
    let map = text(&root().join("ARCHITECTURE.md"));
    let map = map.split("\n## ").find(|part| part.starts_with("Code map"));
    map.expect_part("## Code map")
        .split("\n### ")
        .skip(1)
        .map(|section| {
            let name = section.split('`').nth(1).expect_part(section);
            (name.trim_end_matches('/').to_owned(), section.to_owned())
        })
        .collect()
}

/// `Option::expect` with what was looked for.
trait ExpectPart<T> {
    fn expect_part(self, what: &str) -> T;
}

impl<T> ExpectPart<T> for Option<T> {
    fn expect_part(self, what: &str) -> T {
        self.unwrap_or_else(|| panic!("not found in ARCHITECTURE.md: {what}"))
    }
}

/// The names of a folder's entries, without hidden ones and what is not kept.
fn entries(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect()
}

/// All Rust sources below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in entries(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found
}

/// The lines of the sources below `folder` that `pattern` matches, but for those
/// of files whose path below `folder` begins with one of `but`.
fn lines_with(folder: &str, pattern: &str, but: &[&str]) -> Vec<String> {
    let folder = root().join(folder);
    let pattern = Regex::new(pattern).unwrap();
    let mut found = Vec::new();
    for path in sources(&folder) {
        let below = path
            .strip_prefix(&folder)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        if but.iter().any(|prefix| below.starts_with(prefix)) {
            continue;
        }
        for (index, line) in text(&path).lines().enumerate() {
            if pattern.is_match(line) {
                found.push(format!("{}:{}: {line}", path.display(), index + 1));
            }
        }
    }
    found
}

fn none(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The names of the dependencies, of any kind, in a manifest.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = text(&root().join(folder).join("Cargo.toml"));
    let mut within = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if let Some(table) = line.strip_prefix('[') {
            within = table.trim_end_matches(']').ends_with("dependencies");
        } else if within && let Some(name) = line.split(['=', '.', ' ']).next() {
            names.insert(name.to_owned());
        }
    }
    names.remove("");
    assert!(
        !names.is_empty(),
        "{folder}/Cargo.toml has no dependencies?"
    );
    names
}

#[test]
fn every_folder_is_on_the_map_and_has_an_invariant() {
    let on_map: BTreeSet<String> = sections().into_iter().map(|(name, _)| name).collect();
    let there = entries(&root())
        .into_iter()
        .filter(|name| root().join(name).is_dir())
        .collect();
    assert_eq!(on_map, there);
    for (name, section) in sections() {
        assert!(
            section.contains("\n*Invariant*: "),
            "{name} has no *Invariant*"
        );
    }
}

#[test]
fn every_module_is_on_the_map() {
    let names = Regex::new("`([a-z0-9_]+)`").unwrap();
    for (folder, section) in sections() {
        let source = root().join(&folder).join("src");
        if !source.is_dir() || folder == "tests" {
            continue;
        }
        let on_map: BTreeSet<String> = section
            .lines()
            .filter_map(|line| line.strip_prefix("- ")?.split(": ").next())
            .flat_map(|head| names.captures_iter(head).map(|name| name[1].to_owned()))
            .collect();
        let there: BTreeSet<String> = entries(&source)
            .iter()
            .map(|name| name.trim_end_matches(".rs").to_owned())
            .filter(|name| !["lib", "main"].contains(&name.as_str()))
            .collect();
        assert_eq!(on_map, there, "{folder}/src");
    }
}

#[test]
fn every_suite_is_on_the_map() {
    let (_, section) = sections()
        .into_iter()
        .find(|(name, _)| name == "tests")
        .expect_part("tests/");
    for name in entries(&root().join("tests")) {
        let folder = root().join("tests").join(&name);
        if folder.join("main.rs").is_file() {
            assert!(
                section.contains(&format!("`{name}`")),
                "{name} is not on the map"
            );
        }
    }
}

#[test]
fn paths_that_the_text_names_exist() {
    let architecture = text(&root().join("ARCHITECTURE.md"));
    let paths = Regex::new(
        "`((?:shared|control-lambda|agent|local-frontend|tests|scripts|terraform)/[^` ]+)`",
    )
    .unwrap();
    for path in paths.captures_iter(&architecture) {
        assert!(
            root().join(&path[1]).exists(),
            "{} does not exist",
            &path[1]
        );
    }
}

#[test]
fn only_the_aws_adapters_name_an_aws_sdk() {
    let sdk = r"\b(aws_sdk_|aws_config|aws_smithy_)";
    none(&lines_with("control-lambda/src", sdk, &["aws/"]));
    none(&lines_with(
        "control-lambda/src",
        r"\blambda_runtime::",
        &["aws/", "bin/"],
    ));
    none(&lines_with("control-lambda/tests", sdk, &["contract/aws/"]));
    for folder in ["shared/src", "agent/src", "local-frontend/src"] {
        // Signing a request takes credentials and a key, not a service's client.
        let sdk = r"\b(aws_sdk_|aws_smithy_runtime|lambda_runtime::)";
        none(&lines_with(folder, sdk, &[]));
    }
    for folder in ["shared", "agent"] {
        let aws: Vec<_> = dependencies(folder)
            .into_iter()
            .filter(|name| name.starts_with("aws") || name == "lambda_runtime")
            .collect();
        none(&aws);
    }
}

#[test]
fn nothing_outside_the_adapters_knows_which_are_in_use() {
    none(&lines_with(
        "control-lambda/src",
        r"\b(crate|super)::(aws|embedded)\b",
        &["aws/", "embedded/"],
    ));
    none(&lines_with(
        "control-lambda/src/aws",
        r"crate::embedded\b",
        &[],
    ));
    none(&lines_with(
        "control-lambda/src/embedded",
        r"crate::aws\b",
        &[],
    ));
}

#[test]
fn shared_has_no_runtime_no_clock_and_no_randomness() {
    // `quic` drives a transport whose library takes the instant; the tests around
    // it are a program of their own.
    none(&lines_with(
        "shared/src",
        r"\b(tokio::|SystemTime::now|Instant::now|getrandom|fastrand::)",
        &["quic/"],
    ));
}

#[test]
fn the_frontend_knows_no_docker_json() {
    none(&lines_with(
        "local-frontend/src",
        r#""(HostConfig|ExitCode|StatusCode|Mounts|NetworkSettings|AttachStdin)"#,
        &[],
    ));
}

#[test]
fn the_suites_depend_on_no_crate_of_the_workspace() {
    let ours: Vec<_> = dependencies("tests")
        .into_iter()
        .filter(|name| name.starts_with("sockerless"))
        .collect();
    none(&ours);
}

#[test]
fn policy_statements_tell_their_reason() {
    let folder = root().join("terraform/policies");
    let policies = entries(&folder);
    assert!(!policies.is_empty(), "no policies in {}", folder.display());
    for name in policies.iter().filter(|name| name.ends_with(".json")) {
        let policy: serde_json::Value = serde_json::from_str(&text(&folder.join(name))).unwrap();
        for statement in policy["Statement"].as_array().unwrap() {
            let sid = statement["Sid"].as_str().unwrap_or_default();
            assert!(sid.len() > 8, "{name}: a statement without a telling Sid");
        }
    }
}

#[test]
fn every_script_says_what_it_does() {
    for name in entries(&root().join("scripts")) {
        let path = root().join("scripts").join(&name);
        if path.is_file() {
            let script = text(&path);
            let mut lines = script.lines();
            assert!(
                lines.next().is_some_and(|line| line.starts_with("#!")),
                "{name}"
            );
            assert!(
                lines.next().is_some_and(|line| line.starts_with("# ")),
                "{name} says nothing"
            );
        }
    }
}
