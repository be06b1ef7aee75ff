//! What an environment wrote to its stdout and stderr, from CloudWatch Logs:
//! by the stream's name, never by a filter, and never to follow live output.

use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::operation::get_log_events::GetLogEventsError;

use crate::aws::sdk::{Sdk, describe};
use crate::ports::function_host::HostError;

/// The log group of containers.
#[derive(Debug, Clone)]
pub(super) struct ContainerLogs {
    client: Client,
    group: String,
}

impl ContainerLogs {
    pub(super) fn new(sdk: &Sdk, group: String) -> Self {
        Self {
            client: Client::new(sdk.config()),
            group,
        }
    }

    /// The last lines of a stream, at most so many bytes, oldest first.
    pub(super) async fn tail(&self, stream: &str, limit: usize) -> Result<Vec<u8>, HostError> {
        let mut pages: Vec<Vec<u8>> = Vec::new();
        let mut size = 0;
        let mut token: Option<String> = None;
        loop {
            let page = self
                .client
                .get_log_events()
                .log_group_name(&self.group)
                .log_stream_name(stream)
                .start_from_head(false)
                .set_next_token(token.clone())
                .send()
                .await;
            let page = match page {
                Ok(page) => page,
                Err(error) => match error.as_service_error() {
                    // Nothing of it has arrived yet; that can take minutes.
                    Some(GetLogEventsError::ResourceNotFoundException(_)) => break,
                    _ => {
                        return Err(HostError::Failed(format!(
                            "cannot read the log stream {stream} of {}: {}",
                            self.group,
                            describe(&error)
                        )));
                    }
                },
            };
            let mut text = Vec::new();
            for message in page.events().iter().filter_map(|event| event.message()) {
                text.extend_from_slice(message.trim_end_matches('\n').as_bytes());
                text.push(b'\n');
            }
            size += text.len();
            pages.push(text);
            // The same token again says that there is nothing before.
            let next = page.next_backward_token().map(str::to_owned);
            if size >= limit || next.is_none() || next == token {
                break;
            }
            token = next;
        }
        pages.reverse();
        let mut text = pages.concat();
        if text.len() > limit {
            text.drain(..text.len() - limit);
            // Not with half a line.
            let begin = text.iter().position(|byte| *byte == b'\n');
            text.drain(..begin.map_or(text.len(), |at| at + 1));
        }
        Ok(text)
    }
}
