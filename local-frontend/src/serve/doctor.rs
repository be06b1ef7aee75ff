//! `sockerless doctor`: what is between this machine and its containers on AWS.

use std::cmp::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::DATE;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full};
use sockerless_shared::protocol::VERSION;
use sockerless_shared::protocol::control::{ConnectQuery, ControlToFrontend, FrontendMessage};
use sockerless_shared::wire::{self, Check, Status};
use thiserror::Error;

use super::{ConnectError, Connection, HttpControlPlane, WebSocketDial, control_plane};
use crate::config::ControlConfig;
use crate::control_plane::ControlPlane as _;
use crate::process::random_peer;
use crate::relay::Dial as _;

/// Beyond this the signature of a request is not good any more (Signature Version 4
/// allows five minutes).
const MAX_SKEW: Duration = Duration::from_secs(240);

/// So long the relay may take to welcome.
const WELCOME: Duration = Duration::from_secs(15);

/// Something is wrong; what, has been printed.
#[derive(Debug, Error)]
#[error("not everything is as it should be")]
pub struct DoctorError;

/// Prints a line for each check.
struct Findings {
    failed: bool,
}

impl Findings {
    fn note<T>(&mut self, what: &str, outcome: Result<(String, T), String>) -> Option<T> {
        match outcome {
            Ok((text, value)) => {
                println!("ok    {what}: {text}");
                Some(value)
            }
            Err(text) => {
                self.failed = true;
                println!("FAIL  {what}: {text}");
                None
            }
        }
    }
}

/// Looks at everything, one thing after the other.
///
/// # Errors
/// When something is wrong.
pub async fn doctor(config: &ControlConfig) -> Result<(), DoctorError> {
    let mut findings = Findings { failed: false };
    let plane = control_plane(config)
        .await
        .map_err(|error: ConnectError| error.to_string());
    let plane = plane.map(|plane| (config.url.clone(), plane));
    let Some((control, connection)) = findings.note("settings", plane) else {
        return Err(DoctorError);
    };
    findings.note("credentials", credentials(&control).await);
    // What follows needs what is before it.
    if let Some(date) = findings.note("reachability", reach(&connection, &config.url).await) {
        findings.note("clock", skew(date, SystemTime::now()));
        let status = findings.note("permission and versions", status(&control).await);
        if status.is_some() {
            may_do(&mut findings, &control).await;
            findings.note("relay", relay(&control, connection).await);
        }
    }
    if findings.failed {
        Err(DoctorError)
    } else {
        Ok(())
    }
}

async fn credentials(control: &HttpControlPlane) -> Result<(String, ()), String> {
    let credentials = control.identity().credentials().await?;
    let until = match credentials.expiry() {
        None => "do not expire".to_owned(),
        Some(expiry) => match expiry.duration_since(SystemTime::now()) {
            Ok(left) => format!(
                "good for {} more minutes, then fetched again",
                left.as_secs() / 60
            ),
            Err(_) => {
                return Err(
                    "they have expired: sign on again (`aws sso login`), or set new ones"
                        .to_owned(),
                );
            }
        },
    };
    Ok((format!("key {}, {until}", credentials.access_key_id()), ()))
}

/// Asks without a signature: whoever answers, even with a refusal, is there.
async fn reach(connection: &Connection, url: &str) -> Result<(String, Option<String>), String> {
    let uri: Uri = format!("{}/_ping", url.trim_end_matches('/'))
        .parse()
        .map_err(|_| format!("{url} is not a URL"))?;
    let body = Full::new(Bytes::new())
        .map_err(|never| match never {})
        .boxed_unsync();
    let request = Request::get(uri)
        .body(body)
        .map_err(|error| error.to_string())?;
    let begun = std::time::Instant::now();
    let response = connection.send(request).await.map_err(|error| {
        format!("{error}: is the URL what `terraform output control_url` prints, and does this machine reach the internet?")
    })?;
    let date = response
        .headers()
        .get(DATE)
        .and_then(|date| date.to_str().ok())
        .map(str::to_owned);
    Ok((
        format!("it answers in {} ms", begun.elapsed().as_millis()),
        date,
    ))
}

fn skew(date: Option<String>, now: SystemTime) -> Result<(String, ()), String> {
    let Some(theirs) = date
        .as_deref()
        .and_then(|date| httpdate::parse_http_date(date).ok())
    else {
        return Err(
            "whoever answers does not say what time it is, as AWS does: is the URL what `terraform output control_url` prints?"
                .to_owned(),
        );
    };
    let (skew, ahead) = match now.duration_since(theirs) {
        Ok(skew) => (skew, "ahead"),
        Err(error) => (error.duration(), "behind"),
    };
    if skew > MAX_SKEW {
        return Err(format!(
            "this machine is {} s {ahead}, and AWS takes no signature that is five minutes off: set the clock (`timedatectl set-ntp true`)",
            skew.as_secs()
        ));
    }
    Ok((format!("within {} s of AWS's", skew.as_secs() + 1), ()))
}

async fn status(control: &HttpControlPlane) -> Result<(String, Status), String> {
    let status: Status = control
        .own("GET", wire::STATUS_PATH, Bytes::new())
        .await
        .map_err(|error| error.to_string())?;
    let ours = env!("CARGO_PKG_VERSION");
    let text = format!(
        "control plane {} and this {ours}, protocol {} and {VERSION}; namespace {}, {} containers run on {}, {} functions",
        status.version,
        status.protocol,
        status.namespace,
        status.running,
        status.architecture,
        status.functions,
    );
    match status.protocol.cmp(&VERSION) {
        Ordering::Less => Err(format!("{text}: the control plane is older: deploy again")),
        Ordering::Greater => Err(format!(
            "{text}: this is older: install the `sockerless` that the control plane was deployed from"
        )),
        Ordering::Equal => Ok((text, status)),
    }
}

/// What the control function may do, tried there.
async fn may_do(findings: &mut Findings, control: &HttpControlPlane) {
    let checks: Result<Vec<Check>, _> = control.own("GET", wire::CHECKS_PATH, Bytes::new()).await;
    let checks = match checks {
        Ok(checks) => checks,
        Err(error) => {
            findings.note::<()>("control function", Err(error.to_string()));
            return;
        }
    };
    for Check { what, problem } in checks {
        let outcome = match problem {
            None => Ok(("the control function may use it".to_owned(), ())),
            Some(problem) => Err(format!(
                "{problem}: deploy again, which gives the control function the policies of the \
                 deployment (`terraform plan` shows what else has changed)"
            )),
        };
        findings.note(&what, outcome);
    }
}

/// Connects as `serve` does, and waits for the control plane's word over the relay.
async fn relay(control: &HttpControlPlane, connection: Connection) -> Result<(String, ()), String> {
    let peer = random_peer().map_err(|error| error.to_string())?;
    let token = control
        .relay_token(&peer)
        .await
        .map_err(|error| error.to_string())?;
    let dial = WebSocketDial::new(connection, control.relay_url());
    let begun = std::time::Instant::now();
    let mut link = dial
        .dial(ConnectQuery::Frontend {
            peer,
            token,
            version: VERSION,
        })
        .await
        .map_err(|error| format!("{error}: does a proxy on the way let WebSockets through?"))?;
    let hello = serde_json::to_string(&FrontendMessage::Hello { version: VERSION })
        .map_err(|error| error.to_string())?;
    link.outgoing
        .send(hello)
        .await
        .map_err(|error| error.to_string())?;
    let welcome = async {
        while let Some(text) = link.incoming.next().await {
            let text = text.map_err(|error| error.to_string())?;
            if let Ok(ControlToFrontend::Welcome { .. }) = serde_json::from_str(&text) {
                return Ok(());
            }
        }
        Err("the gateway closed the connection".to_owned())
    };
    match tokio::time::timeout(WELCOME, welcome).await {
        Ok(outcome) => outcome?,
        Err(_) => {
            return Err(
                "connected, but the control plane does not answer there: may the control function post to connections (execute-api:ManageConnections)? Deploy again"
                    .to_owned(),
            );
        }
    }
    Ok((
        format!("welcomed in {} ms", begun.elapsed().as_millis()),
        (),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_noticed_before_signatures_are_refused() {
        let noon = httpdate::parse_http_date("Thu, 01 Jan 2026 12:00:00 GMT").unwrap();
        let date = || Some("Thu, 01 Jan 2026 12:00:00 GMT".to_owned());
        assert!(skew(date(), noon + Duration::from_secs(2)).is_ok());
        assert!(skew(date(), noon - Duration::from_secs(200)).is_ok());
        let behind = skew(date(), noon - Duration::from_secs(600)).unwrap_err();
        assert!(behind.contains("600 s behind"), "{behind}");
        let ahead = skew(date(), noon + Duration::from_secs(3600)).unwrap_err();
        assert!(ahead.contains("3600 s ahead"), "{ahead}");
        assert!(skew(None, noon).is_err());
    }
}
