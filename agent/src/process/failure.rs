//! From a reason why a process cannot be started to Docker's exit code for it.

use sockerless_shared::protocol::control::StartFailure;

/// Longest message that is reported, in bytes: it has to fit one message of the
/// relay, whatever name a client gave its program.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;

const NOT_A_FOLDER: &str = "not a directory";

/// What Docker adds, whatever it was that is no folder.
const MOUNTED: &str = ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type";

const RELATIVE: &str = "Cwd must be an absolute path";

/// A start failure with the exit code that Docker derives from the message
/// (`translateContainerdStartErr` in moby's `daemon/errors.go`).
pub(crate) fn start_failure(mut message: String) -> StartFailure {
    if message.len() > MAX_MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        message.push('…');
    }
    let text = message.to_ascii_lowercase();
    let any = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    let code = if any(&[NOT_A_FOLDER]) {
        127
    } else if any(&["permission denied"]) {
        126
    } else if any(&["executable file not found", "no such file or directory"]) {
        127
    } else {
        128
    };
    if code == 127 && text.contains(NOT_A_FOLDER) {
        message.push_str(MOUNTED);
    }
    StartFailure { code, message }
}

/// An exec's working folder that is a relative path; it is runc that refuses it.
pub(crate) fn relative_folder() -> StartFailure {
    StartFailure {
        code: 128,
        message: RELATIVE.to_owned(),
    }
}

/// Docker's sentence for an exec that could not be started.
pub(crate) fn exec_sentence(failure: &StartFailure) -> String {
    // Found before there is anything to start.
    let step = if failure.message == RELATIVE {
        ""
    } else {
        "unable to start container process: "
    };
    format!(
        "OCI runtime exec failed: exec failed: {step}{}",
        failure.message
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dockers() {
        let cases = [
            (r#"exec: "foo": executable file not found in $PATH"#, 127),
            (r#"exec: "/foo": stat /foo: no such file or directory"#, 127),
            (r#"exec: "/etc/passwd": permission denied"#, 126),
            (
                r#"chdir to cwd ("/x") set in config.json failed: no such file or directory"#,
                127,
            ),
            (
                "unable to find user foo: no matching entries in passwd file",
                128,
            ),
        ];
        for (message, code) in cases {
            assert_eq!(start_failure(message.to_owned()).code, code, "{message}");
        }
    }
}
