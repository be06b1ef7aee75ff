//! Docker's progress messages (`jsonmessage.JSONMessage`).

use async_trait::async_trait;
use serde::Serialize;

use super::digest::Digest;

/// One message of a `load`, `import` or `pull`, in Docker's order of fields.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Message {
    /// Plain text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// What is happening.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// How far it is.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
    /// How far it is, drawn.
    #[serde(rename = "progress", skip_serializing_if = "String::is_empty")]
    pub drawn: String,
    /// To what.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// For programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Aux>,
    /// What failed.
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// The same as text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// `progressDetail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Detail {
    /// Bytes so far.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// Bytes in all.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
}

/// `aux` of a push: what was pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Aux {
    /// Under which tag.
    pub tag: String,
    /// The manifest's digest.
    pub digest: String,
    /// The manifest's size in bytes.
    pub size: u64,
}

/// `errorDetail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorDetail {
    /// The text.
    pub message: String,
}

impl Message {
    /// Plain text.
    #[must_use]
    pub fn stream(text: impl Into<String>) -> Self {
        Self {
            stream: text.into(),
            ..Self::default()
        }
    }

    /// A status without progress; `id` may be empty.
    #[must_use]
    pub fn status(id: &str, status: impl Into<String>) -> Self {
        Self {
            id: id.to_owned(),
            status: status.into(),
            ..Self::default()
        }
    }

    /// A step of something that has progress, without numbers.
    #[must_use]
    pub fn step(id: &str, status: &str) -> Self {
        Self {
            detail: Some(Detail::default()),
            ..Self::status(id, status)
        }
    }

    /// A step with numbers.
    #[must_use]
    pub fn progress(id: &str, status: &str, current: u64, total: u64) -> Self {
        Self {
            detail: Some(Detail { current, total }),
            drawn: bar(current, total),
            ..Self::status(id, status)
        }
    }

    /// Something for programs.
    #[must_use]
    pub fn aux(aux: Aux) -> Self {
        Self {
            detail: Some(Detail::default()),
            aux: Some(aux),
            ..Self::default()
        }
    }

    /// What failed.
    #[must_use]
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            error_detail: Some(ErrorDetail {
                message: message.clone(),
            }),
            error: message,
            ..Self::default()
        }
    }

    /// Its line, as Docker sends it.
    #[must_use]
    pub fn line(&self) -> String {
        // Plain strings and numbers serialise.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push_str("\r\n");
        line
    }
}

/// Where messages go. Whoever waits for it waits for the client.
#[async_trait]
pub trait Progress: Send {
    /// Sends one message. A client that has gone is found out elsewhere.
    async fn message(&mut self, message: Message);

    /// An image is there, with its names.
    async fn loaded(&mut self, _image: &Digest) {}
}

/// Keeps all messages.
#[async_trait]
impl Progress for Vec<Message> {
    async fn message(&mut self, message: Message) {
        self.push(message);
    }
}

/// Docker's bar for a terminal of unknown width.
fn bar(current: u64, total: u64) -> String {
    if current == 0 && total == 0 {
        return String::new();
    }
    let now = human_size(current);
    if total == 0 {
        return format!("{now:>8}");
    }
    let percent = u128::from(current) * 100 / u128::from(total);
    let done = usize::try_from(percent / 2).unwrap_or(50).min(50);
    let numbers = if current > total {
        format!("{now:>8}")
    } else {
        format!("{now:>8}/{}", human_size(total))
    };
    format!("[{}>{}] {numbers}", "=".repeat(done), " ".repeat(50 - done))
}

/// Four significant digits and a decimal unit: `1.234MB` (go-units' `HumanSize`).
#[must_use]
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit < UNITS.len() - 1 {
        size /= 1000.0;
        unit += 1;
    }
    format!("{}{}", four_digits(size), UNITS[unit])
}

/// `%.4g` for numbers from 0 up to 10,000.
fn four_digits(number: f64) -> String {
    let before = if number < 1.0 {
        1
    } else {
        number.log10().floor() as usize + 1
    };
    let text = format!("{number:.*}", 4usize.saturating_sub(before));
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dockers() {
        let check = |message: Message, line: &str| {
            assert_eq!(message.line(), format!("{line}\r\n"));
        };
        check(
            Message::stream("Loaded image: busybox:latest\n"),
            r#"{"stream":"Loaded image: busybox:latest\n"}"#,
        );
        check(
            Message::status("latest", "Pulling from library/x"),
            r#"{"status":"Pulling from library/x","id":"latest"}"#,
        );
        check(
            Message::step("0123456789ab", "Pulling fs layer"),
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"0123456789ab"}"#,
        );
        check(
            Message::progress("0123456789ab", "Downloading", 32768, 1_234_567),
            r#"{"status":"Downloading","progressDetail":{"current":32768,"total":1234567},"progress":"[=>                                                 ]  32.77kB/1.235MB","id":"0123456789ab"}"#,
        );
        check(
            Message::failure("no"),
            r#"{"errorDetail":{"message":"no"},"error":"no"}"#,
        );
    }

    #[test]
    fn sizes_are_dockers() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (999, "999B"),
            (1000, "1kB"),
            (1024, "1.024kB"),
            (123_456, "123.5kB"),
            (1_000_000, "1MB"),
            (10_000_000_000, "10GB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }
}
