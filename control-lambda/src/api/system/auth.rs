//! `POST /auth` (Engine API, `SystemAuth`): `docker login`.

use serde_json::{Value, json};

use crate::api::{ApiError, ApiResult, Context, go_json, json};
use crate::images::remote::Credentials;

/// Asks a registry whether it takes a name and a password. Nothing is kept: the client
/// keeps them, and sends them with what needs them.
///
/// # Errors
/// 400 for an address that is none; 500 (as in Docker) for a registry that says no, and
/// for a body that is none.
pub async fn auth(context: &Context<'_>) -> ApiResult {
    let body = context.inline_body()?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::new(500, "EOF"));
    }
    let bad = |error: ApiError| ApiError::new(500, go_json::bare(&error));
    let body = go_json::parse(body).map_err(bad)?;
    let fields = Fields::read(&body)?;
    let remote = context.control.images.remote().await;
    let remote = remote.map_err(|error| ApiError::new(error.status(), error.to_string()))?;
    let login = remote
        .login(fields.server, &fields.credentials.complete())
        .await
        .map_err(|error| ApiError::new(error.status(), error.to_string()))?;
    json(
        200,
        &json!({"IdentityToken": login.identity_token, "Status": "Login Succeeded"}),
    )
}

struct Fields<'a> {
    server: &'a str,
    credentials: Credentials,
}

impl<'a> Fields<'a> {
    fn read(body: &'a Value) -> Result<Self, ApiError> {
        if !matches!(body, Value::Null | Value::Object(_)) {
            return Err(ApiError::new(
                500,
                format!(
                    "json: cannot unmarshal {} into Go value of type registry.AuthConfig",
                    go_json::go_name(body)
                ),
            ));
        }
        let text = |name: &str| -> Result<&'a str, ApiError> {
            let found = match body {
                // Go's decoder minds no case.
                Value::Object(map) => map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)),
                _ => None,
            };
            match found.map(|(_, value)| value) {
                None | Some(Value::Null) => Ok(""),
                Some(Value::String(text)) => Ok(text),
                Some(other) => Err(ApiError::new(
                    500,
                    format!(
                        "json: cannot unmarshal {} into Go struct field .{name} of type string",
                        go_json::go_name(other)
                    ),
                )),
            }
        };
        Ok(Self {
            credentials: Credentials {
                username: text("username")?.to_owned(),
                password: text("password")?.to_owned(),
                auth: text("auth")?.to_owned(),
                identity_token: text("identitytoken")?.to_owned(),
                registry_token: text("registrytoken")?.to_owned(),
            },
            server: text("serveraddress")?,
        })
    }
}
