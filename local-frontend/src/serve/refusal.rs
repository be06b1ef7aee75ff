//! What API Gateway and Lambda say when a request did not reach the control plane,
//! as a sentence that names the cause and the next step.

use serde::Deserialize;

/// The most that is repeated of an answer which is none.
const MOST: usize = 500;

/// What AWS writes.
#[derive(Deserialize)]
struct Said {
    #[serde(alias = "Message")]
    message: String,
}

/// The words in the body of a response.
pub(super) fn message(body: &[u8]) -> String {
    match serde_json::from_slice::<Said>(body) {
        Ok(said) => said.message,
        Err(_) => String::from_utf8_lossy(body).chars().take(MOST).collect(),
    }
}

/// The sentence.
pub(super) fn explain(status: u16, message: &str) -> String {
    let what = match status {
        403 if message.contains("expired") && message.contains("token") => {
            "the AWS credentials have expired: sign on again (`aws sso login`), or set new ones"
        }
        403 if message.contains("Signature expired")
            || message.contains("Signature not yet current") =>
        {
            "this machine's clock is wrong: set it (`timedatectl set-ntp true`)"
        }
        403 if message.contains("signature we calculated") => {
            "the secret key does not belong to the key id, or --region is not the control plane's"
        }
        403 if message.contains("security token") || message.contains("Access Key") => {
            "AWS does not know these credentials: are they of the account where this was deployed? `aws sts get-caller-identity` says whose they are"
        }
        403 if message.contains("scoped to a valid region") => {
            "the control plane is in another region: give --region"
        }
        403 => {
            "these AWS credentials may not use the control plane: attach the policy that Terraform's user_policy_arn names, and see that --region is the control plane's"
        }
        404 => "there is no such API: is --control what `terraform output control_url` prints?",
        429 => {
            "API Gateway or Lambda takes no more requests at the moment; try again in some seconds"
        }
        500 | 502 => {
            "the control function failed: its log is in CloudWatch, in the group /aws/lambda/ and its name"
        }
        503 | 504 => "the control function did not answer in time; try again",
        _ => "what answered is not the control plane",
    };
    format!("{what} (HTTP {status}: {message})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_names_its_cause_and_the_next_step() {
        for (status, body, words) in [
            (403, r#"{"message":"Forbidden"}"#, "user_policy_arn"),
            (
                403,
                r#"{"Message":"User: arn:aws:iam::1:user/ann is not authorized to perform: execute-api:Invoke"}"#,
                "user_policy_arn",
            ),
            (
                403,
                r#"{"message":"The security token included in the request is expired"}"#,
                "sso login",
            ),
            (
                403,
                r#"{"message":"The security token included in the request is invalid."}"#,
                "get-caller-identity",
            ),
            (
                403,
                r#"{"message":"Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z"}"#,
                "clock",
            ),
            (
                403,
                r#"{"message":"Credential should be scoped to a valid region, not 'us-east-1'."}"#,
                "--region",
            ),
            (
                403,
                r#"{"message":"The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method."}"#,
                "secret key",
            ),
            (404, r#"{"message":"Not Found"}"#, "control_url"),
            (429, r#"{"message":"Too Many Requests"}"#, "try again"),
            (500, r#"{"message":"Internal Server Error"}"#, "CloudWatch"),
            (302, "<html>", "not the control plane"),
        ] {
            let sentence = explain(status, &message(body.as_bytes()));
            assert!(sentence.contains(words), "{body}: {sentence}");
            assert!(sentence.contains(&status.to_string()), "{sentence}");
        }
    }
}
