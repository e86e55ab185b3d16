//! The real curl, where the bytes it sends are what is under test.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::proc::Running;

/// What curl got: the status and the body.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body as text.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none, with the body.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.body))
    }
}

/// Marks the status line that is added behind the body.
const MARK: &str = "status-of-curl:";

/// Runs curl with these arguments.
///
/// # Panics
/// When curl fails or takes longer than 20 s.
pub fn curl<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Answer {
    let mut command = Command::new("curl");
    command
        .args(arguments)
        .args(["--max-time", "15", "-w", &format!("\n{MARK}%{{http_code}}")]);
    finish(&mut command)
}

/// Runs one line of a shell script whose first word is curl, as a reader would
/// paste it, in `folder` and with these variables.
///
/// # Panics
/// As [`curl`], and when the line does not begin with `curl `.
pub fn shell_line(line: &str, folder: &std::path::Path, variables: &[(&str, &str)]) -> Answer {
    let rest = line
        .strip_prefix("curl ")
        .unwrap_or_else(|| panic!("no curl line: {line}"));
    // An option more; what is sent stays byte for byte the same.
    let line = format!("curl -w '\\n{MARK}%{{http_code}}' --max-time 15 {rest}");
    let mut command = Command::new("bash");
    command
        .args(["-c", &line])
        .current_dir(folder)
        .envs(variables.iter().copied());
    finish(&mut command)
}

fn finish(command: &mut Command) -> Answer {
    let mut running = Running::start(command, "curl");
    let status = running.wait(Duration::from_secs(20));
    let output = running.stdout.text();
    assert!(
        status.success(),
        "curl ended with {status}: {}\n{output}",
        running.stderr.text()
    );
    let (body, code) = output
        .rsplit_once(MARK)
        .unwrap_or_else(|| panic!("no status in {output}"));
    Answer {
        status: code.trim().parse().expect("curl prints three digits"),
        body: body.trim_end().to_owned(),
    }
}
