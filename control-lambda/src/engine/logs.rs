//! Logs of runs that are over.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use futures_util::TryStreamExt as _;
use sockerless_shared::ids::RunId;
use sockerless_shared::logs::{Record, spool};
use sockerless_shared::protocol::control::LogSpool;
use sockerless_shared::protocol::stdcopy::OutputStream;

use super::settle::log_blob;
use super::{Control, EngineError};

/// Most bytes of one run's log that are unpacked.
const MAX_LOG_BYTES: u64 = 1 << 30;

/// Most bytes of an operator's log that are looked at for a run without a spool.
const OPERATOR_LOG_BYTES: usize = 4 * 1024 * 1024;

impl Control {
    /// The records of a run that is over.
    ///
    /// # Errors
    /// When the store or the blob store fails.
    pub(crate) async fn finished_log(&self, run: &RunId) -> Result<Vec<Record>, EngineError> {
        let Some(record) = self.store.run(run).await? else {
            return Ok(Vec::new());
        };
        match record.logs {
            Some(LogSpool::Inline { data }) if data.is_empty() => Ok(Vec::new()),
            Some(LogSpool::Inline { data }) => Ok(match STANDARD.decode(data) {
                Ok(compressed) => unpack(&compressed),
                Err(_) => vec![notice("its log was stored in a form that cannot be read")],
            }),
            Some(LogSpool::Uploaded { .. }) => {
                let mut stream = self.blobs.get(&log_blob(run)?).await?;
                let mut compressed = Vec::new();
                while let Some(bytes) = stream.try_next().await? {
                    compressed.extend_from_slice(&bytes);
                }
                Ok(unpack(&compressed))
            }
            Some(LogSpool::Lost { reason }) => {
                let mut records = self.operator_log(run, record.log_stream.as_deref()).await?;
                records.push(notice(&format!(
                    "the end of the log may be missing: {reason}"
                )));
                Ok(records)
            }
            // No agent has ever come: no process has written anything.
            None if record.certificate_sha256.is_none() => Ok(Vec::new()),
            None => {
                let mut records = self.operator_log(run, record.log_stream.as_deref()).await?;
                records.push(notice(
                    "the end of the log may be missing: the agent ended without storing it",
                ));
                Ok(records)
            }
        }
    }

    async fn operator_log(
        &self,
        run: &RunId,
        stream: Option<&str>,
    ) -> Result<Vec<Record>, EngineError> {
        let text = self
            .host
            .operator_log(run, stream, OPERATOR_LOG_BYTES)
            .await?;
        Ok(text
            .split(|byte| *byte == b'\n')
            .filter_map(|line| operator_record(run, line))
            .collect())
    }
}

/// A line that the agent wrote to its own stdout about this run's output.
fn operator_record(run: &RunId, line: &[u8]) -> Option<Record> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    if value.get("run")?.as_str()? != run.as_str() {
        return None;
    }
    let stream = match value.get("stream")?.as_str()? {
        "stdout" => OutputStream::Stdout,
        "stderr" => OutputStream::Stderr,
        _ => return None,
    };
    let time =
        sockerless_shared::timestamp::Timestamp::parse_rfc3339(value.get("time")?.as_str()?)?;
    Some(Record {
        stream,
        time,
        data: value.get("log")?.as_str()?.as_bytes().to_vec(),
    })
}

fn unpack(compressed: &[u8]) -> Vec<Record> {
    let mut bytes = Vec::new();
    let complete = ZlibDecoder::new(compressed)
        .take(MAX_LOG_BYTES)
        .read_to_end(&mut bytes)
        .is_ok();
    let (mut records, readable) = match spool::decode_all(&bytes) {
        Ok(records) => (records, true),
        Err(_) => (Vec::new(), false),
    };
    if !complete || !readable {
        records.push(notice(
            "the stored log is damaged; the rest of it cannot be read",
        ));
    }
    records
}

/// A line of ours among the container's own, on stderr, so that it is not taken for its output.
fn notice(text: &str) -> Record {
    Record {
        stream: OutputStream::Stderr,
        time: sockerless_shared::timestamp::Timestamp::default(),
        data: format!("[sockerless] {text}\n").into_bytes(),
    }
}
