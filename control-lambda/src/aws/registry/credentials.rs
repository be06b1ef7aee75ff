//! Basic credentials for the Distribution API, which ECR gives for twelve hours.

use std::time::{Duration, SystemTime};

use aws_sdk_ecr::Client as Ecr;
use http::HeaderValue;
use tokio::sync::Mutex;

use super::failed;
use crate::ports::registry::RegistryError;

/// A token is not used any more so long before its end.
const MARGIN: Duration = Duration::from_secs(10 * 60);

const NONE: &str = "ECR gave no credentials";

/// Keeps one token as long as it is good.
#[derive(Debug)]
pub(super) struct Credentials {
    ecr: Ecr,
    present: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    /// `base64(name:password)`.
    text: String,
    until: SystemTime,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Credentials {
    pub(super) fn new(ecr: Ecr) -> Self {
        Self {
            ecr,
            present: Mutex::default(),
        }
    }

    /// The value of the `Authorization` header.
    pub(super) async fn header(&self) -> Result<HeaderValue, RegistryError> {
        let text = self.text().await?;
        let mut header = HeaderValue::try_from(format!("Basic {text}"))
            .map_err(|_| RegistryError::Unavailable(NONE.to_owned()))?;
        header.set_sensitive(true);
        Ok(header)
    }

    /// Does not use the token of this header any more.
    pub(super) async fn forget(&self, header: &HeaderValue) {
        let mut present = self.present.lock().await;
        let is_it = |token: &Token| {
            header.as_bytes().strip_prefix(b"Basic ") == Some(token.text.as_bytes())
        };
        if present.as_ref().is_some_and(is_it) {
            *present = None;
        }
    }

    /// Name and password, as `base64(name:password)`.
    pub(super) async fn text(&self) -> Result<String, RegistryError> {
        let mut present = self.present.lock().await;
        if let Some(token) = &*present
            && token.until > SystemTime::now()
        {
            return Ok(token.text.clone());
        }
        let token = self.fetch().await?;
        Ok(present.insert(token).text.clone())
    }

    async fn fetch(&self) -> Result<Token, RegistryError> {
        let answer = self
            .ecr
            .get_authorization_token()
            .send()
            .await
            .map_err(|error| failed("get credentials for the registry", &error))?;
        let missing = || RegistryError::Unavailable(NONE.to_owned());
        let data = answer.authorization_data().first().ok_or_else(missing)?;
        let text = data.authorization_token().ok_or_else(missing)?;
        let until = data
            .expires_at()
            .and_then(|at| SystemTime::try_from(*at).ok())
            .and_then(|at| at.checked_sub(MARGIN))
            .unwrap_or_else(SystemTime::now);
        Ok(Token {
            text: text.to_owned(),
            until,
        })
    }
}
