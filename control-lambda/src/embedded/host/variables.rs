//! The environment variables that a Lambda function's runtime has.

use sockerless_shared::ids::FunctionName;

/// The region that functions believe to be in.
const REGION: &str = "us-east-1";
/// The account that functions believe to belong to.
const ACCOUNT: &str = "000000000000";

/// What distinguishes one environment's variables from another's.
pub(super) struct Facts<'a> {
    pub(super) function: &'a FunctionName,
    pub(super) memory_mib: u32,
    pub(super) log_stream: &'a str,
    pub(super) runtime_api: &'a str,
}

/// `KEY=value`, as AWS documents them under "Defined runtime environment
/// variables". The credentials are no credentials; they are there because they are
/// in Lambda, so that a test can show that containers do not see them.
pub(super) fn variables(facts: &Facts<'_>) -> Vec<String> {
    let Facts {
        function,
        memory_mib,
        log_stream,
        runtime_api,
    } = facts;
    vec![
        "AWS_ACCESS_KEY_ID=ASIA0000000000SANDBOX".to_owned(),
        format!("AWS_DEFAULT_REGION={REGION}"),
        "AWS_LAMBDA_FUNCTION_VERSION=$LATEST".to_owned(),
        format!("AWS_LAMBDA_FUNCTION_MEMORY_SIZE={memory_mib}"),
        format!("AWS_LAMBDA_FUNCTION_NAME={function}"),
        "AWS_LAMBDA_INITIALIZATION_TYPE=on-demand".to_owned(),
        format!("AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/{function}"),
        format!("AWS_LAMBDA_LOG_STREAM_NAME={log_stream}"),
        format!("AWS_LAMBDA_RUNTIME_API={runtime_api}"),
        format!("AWS_REGION={REGION}"),
        "AWS_SECRET_ACCESS_KEY=not-a-secret-of-the-local-sandbox".to_owned(),
        "AWS_SESSION_TOKEN=not-a-token-of-the-local-sandbox".to_owned(),
        "LAMBDA_RUNTIME_DIR=/var/runtime".to_owned(),
        "LAMBDA_TASK_ROOT=/var/task".to_owned(),
        "LANG=en_US.UTF-8".to_owned(),
        "PATH=/usr/local/bin:/usr/bin/:/bin:/opt/bin".to_owned(),
        "TZ=:UTC".to_owned(),
    ]
}

/// The function's ARN.
pub(super) fn arn(function: &FunctionName) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}")
}
