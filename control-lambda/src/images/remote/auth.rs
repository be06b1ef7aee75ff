//! How a client proves itself: what a registry asks for, and tokens.
//!
//! Source: distribution's token authentication, and the OAuth 2 form of it for
//! identity tokens. Credentials go to the registry that they are for, and to the
//! realm that this registry names, over TLS unless the registry itself is without.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::credentials::Credentials;
use super::error::{Asked, MAX_ANSWER_BYTES, RemoteError, bounded, reason, refusal};

/// As whom tokens are asked for; token servers know this one.
const CLIENT_ID: &str = "docker";
/// How long a token is good that does not say it (distribution's token specification).
const USUAL_LIFETIME_S: u64 = 60;
/// A token is not used any more so long before its end.
const MARGIN: Duration = Duration::from_secs(5);

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token from this place.
    Bearer {
        /// Where.
        realm: Url,
        /// For whom.
        service: Option<String>,
    },
}

impl Challenge {
    /// The one that is best answered, of those in an answer's head.
    ///
    /// # Errors
    /// When a realm is none, or would be asked without TLS although the registry has it.
    pub(super) fn read(
        headers: &HeaderMap,
        is_encrypted: bool,
    ) -> Result<Option<Self>, RemoteError> {
        let mut found = None;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let text = value.to_str().unwrap_or_default();
            for challenge in http_auth::parse_challenges(text).unwrap_or_default() {
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    found.get_or_insert(Self::Basic);
                }
                if !challenge.scheme.eq_ignore_ascii_case("bearer") {
                    continue;
                }
                let parameter = |name: &str| {
                    let mut found = challenge.params.iter();
                    let found = found.find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                let Some(realm) = parameter("realm") else {
                    continue;
                };
                let realm = Url::parse(&realm)
                    .map_err(|e| RemoteError::Wrong(format!("registry names no realm: {e}")))?;
                if realm.scheme() != "https" && is_encrypted {
                    return Err(RemoteError::Wrong(format!(
                        "registry wants a token from {realm}, which is not encrypted"
                    )));
                }
                let service = parameter("service");
                return Ok(Some(Self::Bearer { realm, service }));
            }
        }
        Ok(found)
    }
}

/// What is asked for, for errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose<'a> {
    /// As Go's client writes it: `Get`, `Head`, …
    pub(super) method: &'static str,
    pub(super) url: &'a str,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    scopes: BTreeSet<String>,
    until: Instant,
}

#[derive(Debug, Default)]
struct State {
    challenge: Option<Challenge>,
    token: Option<Token>,
}

/// One client's standing with one registry.
#[derive(Debug)]
pub(super) struct Authorizer {
    credentials: Credentials,
    is_encrypted: bool,
    state: Mutex<State>,
}

/// What a token server gave.
pub(super) struct Given {
    pub(super) token: String,
    /// A refresh token, if one was asked for and is given.
    pub(super) refresh: String,
    lifetime: Duration,
}

impl Authorizer {
    pub(super) fn new(credentials: Credentials, is_encrypted: bool) -> Self {
        Self {
            credentials,
            is_encrypted,
            state: Mutex::default(),
        }
    }

    /// The value of the `Authorization` header for a request, as far as it is known
    /// already that one is wanted.
    pub(super) async fn header(
        &self,
        client: &Client,
        scopes: &BTreeSet<String>,
        purpose: Purpose<'_>,
    ) -> Result<Option<String>, RemoteError> {
        let mut state = self.state.lock().await;
        match state.challenge.clone() {
            None => Ok(None),
            Some(Challenge::Basic) => self.basic(purpose).map(Some),
            Some(Challenge::Bearer { realm, service }) => {
                let good = state.token.as_ref().filter(|token| {
                    token.scopes.is_superset(scopes) && token.until > Instant::now()
                });
                if let Some(token) = good {
                    return Ok(Some(format!("Bearer {}", token.text)));
                }
                let token = self
                    .token(client, &realm, service.as_deref(), scopes, false, purpose)
                    .await?;
                let header = format!("Bearer {}", token.token);
                state.token = Some(Token {
                    text: token.token,
                    scopes: scopes.clone(),
                    until: Instant::now() + token.lifetime.saturating_sub(MARGIN),
                });
                Ok(Some(header))
            }
        }
    }

    /// Learns from a 401. Whether there is something to be tried that was not tried:
    /// `tried` is the header that was refused.
    pub(super) async fn refused(
        &self,
        headers: &HeaderMap,
        tried: Option<&str>,
    ) -> Result<bool, RemoteError> {
        let challenge = Challenge::read(headers, self.is_encrypted)?;
        let mut state = self.state.lock().await;
        let may_help = match &challenge {
            None => false,
            // The same name and password would be refused again.
            Some(Challenge::Basic) => tried.is_none(),
            Some(Challenge::Bearer { .. }) => true,
        };
        if let (Some(token), Some(tried)) = (&state.token, tried)
            && tried.strip_prefix("Bearer ") == Some(token.text.as_str())
        {
            state.token = None;
        }
        if challenge.is_some() {
            state.challenge = challenge;
        }
        Ok(may_help)
    }

    /// Name and password, if they are what the registry wants.
    pub(super) fn basic(&self, purpose: Purpose<'_>) -> Result<String, RemoteError> {
        if self.credentials.has_password() {
            Ok(self.credentials.basic())
        } else {
            Err(RemoteError::NoCredentials {
                method: purpose.method,
                url: purpose.url.to_owned(),
            })
        }
    }

    /// Asks a token server. With `offline` it may give a refresh token too.
    pub(super) async fn token(
        &self,
        client: &Client,
        realm: &Url,
        service: Option<&str>,
        scopes: &BTreeSet<String>,
        offline: bool,
        purpose: Purpose<'_>,
    ) -> Result<Given, RemoteError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            token: String,
            #[serde(default)]
            access_token: String,
            #[serde(default)]
            refresh_token: String,
            #[serde(default)]
            expires_in: Option<u64>,
        }
        if !self.credentials.registry_token.is_empty() {
            return Ok(Given {
                token: self.credentials.registry_token.clone(),
                refresh: String::new(),
                lifetime: Duration::from_secs(u64::from(u32::MAX)),
            });
        }
        let request = if self.credentials.identity_token.is_empty() {
            let mut url = realm.clone();
            {
                let mut query = url.query_pairs_mut();
                if !self.credentials.username.is_empty() {
                    query.append_pair("account", &self.credentials.username);
                }
                if offline {
                    query.append_pair("client_id", CLIENT_ID);
                    query.append_pair("offline_token", "true");
                }
                for scope in scopes {
                    query.append_pair("scope", scope);
                }
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
            }
            let request = client.get(url);
            if self.credentials.has_password() {
                request.header(reqwest::header::AUTHORIZATION, self.credentials.basic())
            } else {
                request
            }
        } else {
            let mut form = form_urlencoded::Serializer::new(String::new());
            let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
            form.append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", &self.credentials.identity_token)
                .append_pair("client_id", CLIENT_ID)
                .append_pair("service", service.unwrap_or_default())
                .append_pair("scope", &scopes.join(" "));
            client
                .post(realm.clone())
                .header(
                    reqwest::header::CONTENT_TYPE,
                    "application/x-www-form-urlencoded",
                )
                .body(form.finish())
        };
        let no_token = |cause: String| RemoteError::NoToken {
            method: purpose.method,
            url: purpose.url.to_owned(),
            cause,
            throttled: false,
        };
        let answer = request.send().await.map_err(|e| {
            let why = reason(realm.as_str(), &e);
            no_token(format!("Get \"{realm}\": {why}"))
        })?;
        if !answer.status().is_success() {
            let asked = Asked {
                repository: realm.host_str().unwrap_or_default(),
                reference: None,
            };
            return Err(match refusal(answer, asked).await {
                passing @ RemoteError::Unreachable(_) => passing,
                refused => RemoteError::NoToken {
                    method: purpose.method,
                    url: purpose.url.to_owned(),
                    cause: refused.bare(),
                    throttled: refused.is_throttled(),
                },
            });
        }
        let bytes = bounded(answer, MAX_ANSWER_BYTES).await?;
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|e| no_token(format!("unable to decode token response: {e}")))?;
        let token = if answer.token.is_empty() {
            answer.access_token
        } else {
            answer.token
        };
        if token.is_empty() {
            return Err(no_token(
                "authorization server did not include a token in the response".to_owned(),
            ));
        }
        let lifetime = answer.expires_in.unwrap_or(USUAL_LIFETIME_S);
        Ok(Given {
            token,
            refresh: answer.refresh_token,
            // As in Docker, one that says too little is good for a minute all the same.
            lifetime: Duration::from_secs(lifetime.clamp(USUAL_LIFETIME_S, 86_400)),
        })
    }
}
