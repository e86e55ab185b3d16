//! Errors of the host, for people.

use crate::IoError;

/// The class of an error, as the status shows it, and its text.
pub fn text(error: &IoError) -> String {
    let (class, text) = parts(error);
    match text {
        "" => class.to_owned(),
        text => format!("{class}: {text}"),
    }
}

fn parts(error: &IoError) -> (&'static str, &str) {
    match error {
        IoError::Dns(text) => ("dns", text),
        IoError::Refused(text) => ("refused", text),
        IoError::Unreachable(text) => ("unreachable", text),
        IoError::Timeout(text) => ("timeout", text),
        IoError::Tls(text) => ("tls", text),
        IoError::Handshake(text) => ("handshake", text),
        IoError::Protocol(text) => ("protocol", text),
        IoError::Auth(text) => ("auth", text),
        IoError::NotFound(text) => ("not-found", text),
        IoError::Rejected(text) => ("rejected", text),
        IoError::Redirected(text) => ("redirected", text),
        IoError::Closed(text) => ("closed", text),
        IoError::Ended(text) => ("ended", text),
        IoError::Stalled(text) => ("stalled", text),
        IoError::Blocked(text) => ("blocked", text),
        IoError::Invalid(text) => ("invalid", text),
        IoError::Unsupported(text) => ("unsupported", text),
        IoError::Limit(text) => ("limit", text),
        IoError::Cancelled => ("cancelled", ""),
        IoError::Other(text) => ("other", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_class_first() {
        let refused = IoError::Refused("connecting to 192.0.2.1:1935".to_owned());
        assert_eq!(text(&refused), "refused: connecting to 192.0.2.1:1935");
        assert_eq!(text(&IoError::Cancelled), "cancelled");
    }
}
