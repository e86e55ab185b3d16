//! User and password, in the two ways that servers ask for them within connect.
//!
//! Both refuse connect and say in the description what they want: first that the
//! client names scheme and user, then that it answers a challenge. The answer goes
//! into the query of app and tcUrl, on a new connection each time. There is no
//! public specification; librtmp and ffmpeg are what servers are tested with, so
//! hashes are made as theirs. Pure. Invariant: the password never shows, neither in
//! an answer nor in an error.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

/// Why a challenge is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It names neither adobe nor llnw.
    #[error("the peer asks for a scheme of authentication that is not known")]
    Scheme,
    /// It says that user or password are wrong.
    #[error("the peer refuses user or password")]
    Denied,
    /// It asks for nothing that could be answered.
    #[error("the peer asks for authentication but sends no challenge")]
    Challenge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Adobe,
    Llnw,
}

impl Scheme {
    fn of(description: &str) -> Option<Scheme> {
        [
            ("authmod=adobe", Scheme::Adobe),
            ("authmod=llnw", Scheme::Llnw),
        ]
        .into_iter()
        .find_map(|(name, scheme)| description.contains(name).then_some(scheme))
    }

    fn name(self) -> &'static str {
        match self {
            Scheme::Adobe => "adobe",
            Scheme::Llnw => "llnw",
        }
    }
}

/// Whether a refusal asks for user and password in a way that [`answer`] knows.
#[must_use]
pub fn is_challenge(description: &str) -> bool {
    Scheme::of(description).is_some()
}

/// The query, from its `?` on, that answers a refusal's description. `app` is the
/// one of the URL, `nonce` a random number.
pub fn answer(
    description: &str,
    user: &str,
    password: &str,
    app: &str,
    nonce: u32,
) -> Result<String, AuthError> {
    let scheme = Scheme::of(description).ok_or(AuthError::Scheme)?;
    let reason = |name: &str| description.contains(&format!("?reason={name}"));
    if reason("authfailed") || reason("nosuchuser") {
        return Err(AuthError::Denied);
    }
    let opening = format!("?authmod={}&user={}", scheme.name(), encoded(user));
    if description.contains("code=403 need auth") {
        return Ok(opening);
    }
    let (_, challenge) = description
        .split_once("?reason=needauth")
        .ok_or(AuthError::Challenge)?;
    let nonce = format!("{nonce:08x}");
    Ok(match scheme {
        Scheme::Adobe => opening + &adobe(challenge, user, password, &nonce),
        Scheme::Llnw => opening + &llnw(challenge, user, password, app, &nonce),
    })
}

fn adobe(challenge: &str, user: &str, password: &str, nonce: &str) -> String {
    let opaque = value(challenge, "opaque");
    let salt = value(challenge, "salt").unwrap_or_default();
    let given = opaque.or_else(|| value(challenge, "challenge"));
    let secret = STANDARD.encode(md5(&[user, salt, password]));
    let response = STANDARD.encode(md5(&[&secret, given.unwrap_or_default(), nonce]));
    let mut answer = format!("&challenge={nonce}&response={response}");
    if let Some(opaque) = opaque {
        answer.push_str("&opaque=");
        answer.push_str(opaque);
    }
    answer
}

/// HTTP's digest with fixed words: also players say `publish`.
fn llnw(challenge: &str, user: &str, password: &str, app: &str, cnonce: &str) -> String {
    const COUNT: &str = "00000001";
    let nonce = value(challenge, "nonce").unwrap_or_default();
    let app = app.split('?').next().unwrap_or(app);
    let instance = if app.contains('/') { "" } else { "/_definst_" };
    let who = hex(&md5(&[user, ":live:", password]));
    let what = hex(&md5(&["publish:/", app, instance]));
    let response = hex(&md5(&[
        &who, ":", nonce, ":", COUNT, ":", cnonce, ":auth:", &what,
    ]));
    format!("&nonce={nonce}&cnonce={cnonce}&nc={COUNT}&response={response}")
}

/// A value of `&name=value&…`, as sent.
fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn md5(parts: &[&str]) -> [u8; 16] {
    let mut hash = Md5::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A user name within a query. Only what would break the query is encoded: some
/// servers compare names without decoding them.
fn encoded(user: &str) -> String {
    user.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'%' | b'&' | b'#' | b'?' | b'+' | b'=' | b'/' | b' ' | 0x80.. => {
                let _ = write!(text, "%{byte:02X}");
            }
            _ => text.push(char::from(byte)),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";

    #[test]
    fn the_first_step_names_scheme_and_user() {
        let answered = |text: &str, user| answer(text, user, "p", "live", 1);
        assert_eq!(
            answered(FIRST, "camera 1&2@x=ü").as_deref(),
            Ok("?authmod=adobe&user=camera%201%262@x%3D%C3%BC")
        );
        let llnw = FIRST.replace("adobe", "llnw");
        assert_eq!(answered(&llnw, "u").as_deref(), Ok("?authmod=llnw&user=u"));
    }

    /// The expected values of this and the next test are made by Python's hashlib.
    #[test]
    fn adobe_hashes_as_librtmp_and_ffmpeg_do() {
        let asked = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=user&salt=c2FsdA==&challenge=Y2hhbA==&opaque=b3BhcXVl";
        let answered = answer(asked, "user", "secret", "live", 0x1234_abcd);
        assert_eq!(
            answered.as_deref(),
            Ok(
                "?authmod=adobe&user=user&challenge=1234abcd&response=1D3rjeY+r9SOkHivdH0+SA==&opaque=b3BhcXVl"
            )
        );
    }

    #[test]
    fn llnw_hashes_as_librtmp_and_ffmpeg_do() {
        let asked = "authmod=llnw : ?reason=needauth&user=user&nonce=abc=";
        let answered = answer(asked, "user", "secret", "live?x=1", 0x1234_abcd);
        assert_eq!(
            answered.as_deref(),
            Ok(
                "?authmod=llnw&user=user&nonce=abc=&cnonce=1234abcd&nc=00000001&response=45295329b90748112b5d4a354756de63"
            )
        );
    }

    #[test]
    fn refusals_are_told_from_challenges() {
        let answered = |text: &str| answer(text, "u", "p", "live", 1).unwrap_err();
        assert_eq!(
            answered("authmod=adobe : ?reason=authfailed&x"),
            AuthError::Denied
        );
        assert_eq!(
            answered("authmod=llnw ?reason=nosuchuser"),
            AuthError::Denied
        );
        assert_eq!(
            answered("authmod=basic ?reason=needauth"),
            AuthError::Scheme
        );
        assert_eq!(answered("authmod=adobe"), AuthError::Challenge);
        assert!(!is_challenge("denied"));
    }
}
