//! One operation asked of one engine, with what it is done to made beforehand and removed
//! afterwards.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sockerless_tests::engines::Engine;
use sockerless_tests::http::{Connection, Request, fetch};
use sockerless_tests::scenario::Runtime;

use crate::{On, Operation, Probe};

const VERSION: &str = "/v1.51";
const LIMIT: Duration = Duration::from_secs(60);
/// Names of what is made; the same with every engine, since words repeat them.
const CONTAINER: &str = "probe-container";
const OBJECT: &str = "probe-object";
const NEW: &str = "probe-new";
/// A repository of a registry that is not there.
const NOWHERE: &str = "127.0.0.1:1/x";
/// The end of an archive, which is all of an empty one.
const EMPTY_TAR: [u8; 1024] = [0; 1024];

/// What came back: of a success only the status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Docker's sentence, where it is no success.
    pub(crate) message: String,
}

/// What came of asking.
pub(crate) enum Asked {
    /// The operation was answered.
    Answered(Answer),
    /// What it is done to is refused already, with this sentence.
    Refused(String),
}

/// Loads an image archive.
pub(crate) fn load(engine: &Engine, archive: &[u8]) -> Result<(), String> {
    let request = Request {
        method: "POST".to_owned(),
        target: format!("{VERSION}/images/load?quiet=1"),
        headers: vec![("Content-Type".to_owned(), "application/x-tar".to_owned())],
        body: Some(archive.to_vec()),
        chunked: false,
    };
    let (head, body) =
        fetch(&engine.endpoint, &request, LIMIT).map_err(|error| error.to_string())?;
    if head.status == 200 {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&body).into_owned())
}

/// Asks, under a runtime of ours or as the Engine does by itself.
pub(crate) fn ask(
    engine: &Engine,
    operation: &Operation,
    probe: &Probe,
    runtime: Option<Runtime>,
) -> Result<Asked, String> {
    let scene = Scene { engine, runtime };
    let made = scene.make(probe.on);
    let asked = match made {
        Ok(target) => scene
            .request(operation, probe, &target)
            .map(Asked::Answered),
        Err(Failure::Refused(why)) => Ok(Asked::Refused(why)),
        Err(Failure::Broken(error)) => Err(error),
    };
    scene.clear()?;
    asked
}

enum Failure {
    Refused(String),
    Broken(String),
}

struct Scene<'a> {
    engine: &'a Engine,
    runtime: Option<Runtime>,
}

impl Scene<'_> {
    fn json(
        &self,
        method: &str,
        target: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), String> {
        let request = Request {
            method: method.to_owned(),
            target: format!("{VERSION}{target}"),
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body: body.map(|body| body.to_string().into_bytes()),
            chunked: false,
        };
        let (head, body) = fetch(&self.engine.endpoint, &request, LIMIT)
            .map_err(|error| format!("{method} {target}: {error}"))?;
        Ok((
            head.status,
            serde_json::from_slice(&body).unwrap_or_default(),
        ))
    }

    /// A step of the making, which has to succeed; what is not there yet is told apart.
    fn step(&self, method: &str, target: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let (status, value) = self.json(method, target, body).map_err(Failure::Broken)?;
        let message = value["message"].as_str().unwrap_or_default();
        match status {
            200..400 => Ok(value),
            501 => Err(Failure::Refused(message.to_owned())),
            _ => Err(Failure::Broken(format!(
                "{method} {target}: {status} {message}"
            ))),
        }
    }

    /// Makes what the operation is done to; gives its name or id.
    fn make(&self, on: On) -> Result<String, Failure> {
        let container = |suffix: &str| format!("/containers/{CONTAINER}/{suffix}");
        match on {
            On::Nothing => return Ok(OBJECT.to_owned()),
            On::Image => {
                self.step("POST", &format!("/images/busybox/tag?repo={OBJECT}"), None)?;
                return Ok(OBJECT.to_owned());
            }
            On::ImageOfNowhere => {
                self.step("POST", &format!("/images/busybox/tag?repo={NOWHERE}"), None)?;
                return Ok(NOWHERE.to_owned());
            }
            On::Volume => {
                self.step("POST", "/volumes/create", Some(&json!({"Name": OBJECT})))?;
                return Ok(OBJECT.to_owned());
            }
            On::Network | On::NetworkAndContainer | On::NetworkWithContainer => {
                self.step("POST", "/networks/create", Some(&json!({"Name": OBJECT})))?;
                if on == On::Network {
                    return Ok(OBJECT.to_owned());
                }
            }
            On::Created | On::Running | On::Paused | On::Exited | On::Exec | On::RunningExec => {}
        }
        let command = if on == On::Exited {
            json!(["true"])
        } else {
            json!(["sleep", "1000"])
        };
        let mut host = json!({});
        if let Some(runtime) = self.runtime {
            host["Runtime"] = runtime.name().into();
        }
        if on == On::NetworkWithContainer {
            host["NetworkMode"] = OBJECT.into();
        }
        let body = json!({"Image": "busybox", "Cmd": command, "HostConfig": host});
        self.step(
            "POST",
            &format!("/containers/create?name={CONTAINER}"),
            Some(&body),
        )?;
        match on {
            On::Running | On::Paused | On::Exited | On::Exec | On::RunningExec => {
                self.step("POST", &container("start"), None)?;
            }
            _ => {}
        }
        match on {
            On::Paused => {
                self.step("POST", &container("pause"), None)?;
            }
            On::Exited => {
                self.step("POST", &container("wait"), None)?;
            }
            On::Exec | On::RunningExec => {
                let body = json!({"Cmd": ["sleep", "1000"], "Tty": true});
                let made = self.step("POST", &container("exec"), Some(&body))?;
                let id = made["Id"].as_str().unwrap_or_default().to_owned();
                if on == On::RunningExec {
                    let body = json!({"Detach": true, "Tty": true});
                    self.step("POST", &format!("/exec/{id}/start"), Some(&body))?;
                }
                return Ok(id);
            }
            On::NetworkAndContainer | On::NetworkWithContainer => return Ok(OBJECT.to_owned()),
            _ => {}
        }
        Ok(CONTAINER.to_owned())
    }

    fn request(
        &self,
        operation: &Operation,
        probe: &Probe,
        target: &str,
    ) -> Result<Answer, String> {
        let name = probe.name.as_deref().unwrap_or(target);
        let filled = |text: &str| {
            text.replace("@id", target)
                .replace("@new", NEW)
                .replace("@container", CONTAINER)
        };
        let path = operation.path.replace("{id}", name).replace("{name}", name);
        let mut line = format!("{VERSION}{path}");
        if !probe.query.is_empty() {
            line.push('?');
            line.push_str(&filled(&probe.query));
        }
        let mut headers: Vec<_> = probe
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let body = if probe.tar {
            headers.push(("Content-Type".to_owned(), "application/x-tar".to_owned()));
            Some(EMPTY_TAR.to_vec())
        } else if let Some(body) = &probe.body {
            headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
            Some(filled(&body.to_string()).into_bytes())
        } else {
            None
        };
        let request = Request {
            method: operation.method.clone(),
            target: line,
            headers,
            body,
            chunked: false,
        };
        let answer = self.send(&request)?;
        if request.method != "HEAD" || answer.status < 400 {
            return Ok(answer);
        }
        // The words to a HEAD are those that a GET is given.
        let asked_aloud = Request {
            method: "GET".to_owned(),
            ..request
        };
        Ok(Answer {
            message: self.send(&asked_aloud)?.message,
            ..answer
        })
    }

    fn send(&self, request: &Request) -> Result<Answer, String> {
        let deadline = Instant::now() + LIMIT;
        let said = |error: std::io::Error| error.to_string();
        let mut connection = Connection::open(&self.engine.endpoint).map_err(said)?;
        connection.send(&request.head()).map_err(said)?;
        connection.send(&request.framed_body()).map_err(said)?;
        let head = connection
            .read_head(&request.method, deadline)
            .map_err(said)?;
        let message = if head.status >= 400 && request.method != "HEAD" {
            let body = connection.read_rest(deadline).map_err(said)?;
            let value: Value = serde_json::from_slice(&body).unwrap_or_default();
            value["message"]
                .as_str()
                .ok_or_else(|| {
                    format!(
                        "{} without Docker's message: {}",
                        head.status,
                        String::from_utf8_lossy(&body)
                    )
                })?
                .to_owned()
        } else {
            String::new()
        };
        Ok(Answer {
            status: head.status,
            message,
        })
    }

    /// Removes all that may have been made; what is not there cannot be removed.
    fn clear(&self) -> Result<(), String> {
        self.json(
            "DELETE",
            &format!("/containers/{CONTAINER}?force=1&v=1"),
            None,
        )?;
        // A rename leaves the container under the new name, a create one without any.
        self.json("DELETE", &format!("/containers/{NEW}?force=1&v=1"), None)?;
        let (_, created) = self.json(
            "GET",
            "/containers/json?all=1&filters=%7B%22status%22%3A%5B%22created%22%5D%7D",
            None,
        )?;
        for container in created.as_array().into_iter().flatten() {
            let id = container["Id"].as_str().unwrap_or_default();
            self.json("DELETE", &format!("/containers/{id}?force=1&v=1"), None)?;
        }
        for image in [OBJECT, NEW, NOWHERE] {
            self.json("DELETE", &format!("/images/{image}"), None)?;
        }
        for name in [OBJECT, NEW] {
            self.json("DELETE", &format!("/networks/{name}"), None)?;
            self.json("DELETE", &format!("/volumes/{name}?force=1"), None)?;
        }
        Ok(())
    }
}
