//! Who may do what: the admin's login, and the tokens of admins and streams.
//!
//! Knows passwords and claims; knows neither HTTP nor RTMP. Invariant: a
//! token is either an admin's or a stream's. One that says both is neither, so
//! nothing made for a player opens the REST API, and the reverse. What nodes show each
//! other has an audience of its own and is neither of these.

mod check;
mod node;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

pub use node::Errand;

use crate::id::StreamGuid;

/// HMAC-SHA256 gains nothing from a longer key and loses strength with a shorter one (RFC 7518, 3.2).
const MIN_JWT_SECRET: usize = 32;
/// No token of ours is longer; anything longer is not worth an HMAC.
const MAX_TOKEN: usize = 4096;
/// An argon2 run takes 19 MiB and tens of milliseconds: two at a time keep a flood of logins off the media's cores.
const PARALLEL_CHECKS: usize = 2;
const ADMIN_ROLE: &str = "ROLE_ADMIN";

/// Text that is never shown: its `Debug` is masked and it has no `Display`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What [`Auth`] is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The only user there is.
    pub admin_user: String,
    /// The password, or its argon2 hash as a PHC string (`$argon2id$…`).
    pub admin_password: Secret,
    /// The key of every token, 32 bytes or more.
    pub jwt_secret: Secret,
    /// How long an admin's token is good for.
    pub token_ttl: Duration,
}

/// Why [`Auth::new`] refused its settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key is too short to sign with.
    #[error("jwt_secret must be at least {MIN_JWT_SECRET} bytes long")]
    ShortSecret,
    /// An empty password would let anyone in.
    #[error("admin_password must not be empty")]
    EmptyPassword,
    /// The password begins like a PHC string and is none, or could not be hashed.
    #[error("admin_password is no usable argon2 hash: {0}")]
    Hash(argon2::password_hash::Error),
    /// The password's hash has no salt or no hash in it.
    #[error("admin_password is an argon2 hash without its salt or its hash")]
    HalfHash,
}

/// The user is unknown or the password is wrong; which of them is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wrong user or password")]
pub struct Denied;

/// Why a token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not signed by us, expired, without `exp`, or no token at all.
    #[error("the token is invalid or has expired")]
    Invalid,
    /// Good, but for something else.
    #[error("the token does not allow this")]
    Forbidden,
}

/// What a stream token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// Send a stream in.
    Publish,
    /// Watch a stream.
    Play,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    roles: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    act: Option<Act>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    exp: u64,
}

/// Checks logins and tokens, and makes tokens. A cheap clone.
#[derive(Clone)]
pub struct Auth(Arc<Inner>);

struct Inner {
    user: [u8; 32],
    user_name: String,
    password: PasswordHash,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    of_nodes: Validation,
    token_ttl: Duration,
    checks: Arc<Semaphore>,
    memory: check::Checks,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    /// Hashes the password unless it is a hash already; takes tens of milliseconds.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let key = settings.jwt_secret.expose().as_bytes();
        if key.len() < MIN_JWT_SECRET {
            return Err(Error::ShortSecret);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.set_required_spec_claims(&["exp", "sub"]);
        Ok(Self(Arc::new(Inner {
            user: Sha256::digest(&settings.admin_user).into(),
            user_name: settings.admin_user.clone(),
            password: hashed(&settings.admin_password)?,
            encoding: EncodingKey::from_secret(key),
            decoding: DecodingKey::from_secret(key),
            validation,
            of_nodes: node::validation(),
            token_ttl: settings.token_ttl,
            checks: Arc::new(Semaphore::new(PARALLEL_CHECKS)),
            memory: check::Checks::default(),
        })))
    }

    /// An admin's token for the right user and password. An unknown user costs as much time as a
    /// wrong password. How often someone may try is for the caller to say.
    pub async fn login(&self, user: &str, password: Secret) -> Result<String, Denied> {
        let known = same(&self.0.user, &Sha256::digest(user).into());
        if !(self.password_is(password).await & known) {
            return Err(Denied);
        }
        Ok(self.admin_token())
    }

    /// Runs argon2 off the runtime. The permit goes along, so a caller who hangs up frees no slot early.
    async fn password_is(&self, password: Secret) -> bool {
        let permit = Arc::clone(&self.0.checks)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let inner = self.0.clone();
        let check = move || {
            let _permit = permit;
            inner.memory.matches(password.expose(), &inner.password)
        };
        tokio::task::spawn_blocking(check).await.unwrap_or(false)
    }

    /// A token that opens the REST API.
    pub fn admin_token(&self) -> String {
        self.sign(&Claims {
            sub: self.0.user_name.clone(),
            roles: Some(ADMIN_ROLE.into()),
            act: None,
            stream: None,
            exp: expiry(self.0.token_ttl),
        })
    }

    /// A token that publishes or plays the streams `glob` matches; see [`glob_matches`].
    pub fn stream_token(&self, subject: &str, act: Act, glob: &str, ttl: Duration) -> String {
        self.sign(&Claims {
            sub: subject.into(),
            roles: None,
            act: Some(act),
            stream: Some(glob.into()),
            exp: expiry(ttl),
        })
    }

    /// Whether `token` is an admin's.
    pub fn verify_admin(&self, token: &str) -> Result<(), TokenError> {
        match self.claims(token)? {
            Claims {
                roles: Some(role),
                act: None,
                stream: None,
                ..
            } if role == ADMIN_ROLE => Ok(()),
            _ => Err(TokenError::Forbidden),
        }
    }

    /// Whether `token` allows `act` on `stream`.
    pub fn verify_stream(
        &self,
        token: &str,
        act: Act,
        stream: &StreamGuid,
    ) -> Result<(), TokenError> {
        match self.claims(token)? {
            Claims {
                roles: None,
                act: Some(granted),
                stream: Some(glob),
                ..
            } if granted == act && glob_matches(&glob, stream.as_str()) => Ok(()),
            _ => Err(TokenError::Forbidden),
        }
    }

    fn sign(&self, claims: &Claims) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.0.encoding)
            .expect("these claims are plain JSON and the key fits the algorithm")
    }

    fn claims(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid);
        }
        jsonwebtoken::decode(token, &self.0.decoding, &self.0.validation)
            .map(|data| data.claims)
            .map_err(|_| TokenError::Invalid)
    }
}

/// Whether `glob` covers all of `text`. `*` stands for any run of characters, slashes included.
pub fn glob_matches(glob: &str, text: &str) -> bool {
    let Some((head, rest)) = glob.split_once('*') else {
        return glob == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        // The earliest fit leaves the most for what follows.
        let Some(at) = text.find(part) else {
            return false;
        };
        text = &text[at + part.len()..];
    }
    text.ends_with(tail)
}

/// Whether a password, or the hash of one, can be used; see [`Error`].
pub fn usable(password: &Secret) -> Result<(), Error> {
    let text = password.expose();
    if text.is_empty() {
        return Err(Error::EmptyPassword);
    }
    match text.starts_with("$argon2") {
        true => parsed(text).map(drop),
        false => Ok(()),
    }
}

fn parsed(text: &str) -> Result<PasswordHash, Error> {
    let hash = PasswordHash::new(text).map_err(|cause| Error::Hash(cause.into()))?;
    match hash.salt.is_some() && hash.hash.is_some() {
        true => Ok(hash),
        false => Err(Error::HalfHash),
    }
}

fn hashed(password: &Secret) -> Result<PasswordHash, Error> {
    let text = password.expose();
    if text.is_empty() {
        return Err(Error::EmptyPassword);
    }
    if text.starts_with("$argon2") {
        return parsed(text);
    }
    Argon2::default()
        .hash_password(text.as_bytes())
        .map_err(Error::Hash)
}

/// Compares without leaving early.
fn same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.iter()
        .zip(right)
        .fold(0, |differing, (a, b)| differing | (a ^ b))
        == 0
}

fn expiry(ttl: Duration) -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    now.saturating_add(ttl).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn settings() -> Settings {
        Settings {
            admin_user: "admin".into(),
            admin_password: Secret::new("right"),
            jwt_secret: Secret::new(KEY),
            token_ttl: Duration::from_secs(60),
        }
    }

    pub(super) fn auth() -> Auth {
        Auth::new(&settings()).expect("good settings")
    }

    pub(super) fn guid(text: &str) -> StreamGuid {
        text.parse().expect("legal")
    }

    /// With another cluster's secret.
    pub(super) fn foreign() -> Auth {
        let settings = Settings {
            jwt_secret: Secret::new("f".repeat(32)),
            ..settings()
        };
        Auth::new(&settings).expect("good")
    }

    pub(super) fn signed(claims: serde_json::Value) -> String {
        signed_by(claims, Algorithm::HS256)
    }

    fn signed_by(claims: serde_json::Value, algorithm: Algorithm) -> String {
        jsonwebtoken::encode(
            &Header::new(algorithm),
            &claims,
            &EncodingKey::from_secret(KEY.as_bytes()),
        )
        .expect("signs")
    }

    #[test]
    fn short_keys_and_empty_passwords_are_refused() {
        let short = Settings {
            jwt_secret: Secret::new("short"),
            ..settings()
        };
        assert!(matches!(Auth::new(&short), Err(Error::ShortSecret)));
        let empty = Settings {
            admin_password: Secret::new(""),
            ..settings()
        };
        assert!(matches!(Auth::new(&empty), Err(Error::EmptyPassword)));
        let broken = Settings {
            admin_password: Secret::new("$argon2id$nonsense"),
            ..settings()
        };
        assert!(matches!(Auth::new(&broken), Err(Error::Hash(_))));
    }

    #[tokio::test]
    async fn login_wants_the_right_user_and_the_right_password() {
        let auth = auth();
        let token = auth
            .login("admin", Secret::new("right"))
            .await
            .expect("lets in");
        assert_eq!(auth.verify_admin(&token), Ok(()));
        assert_eq!(auth.login("admin", Secret::new("wrong")).await, Err(Denied));
        assert_eq!(auth.login("other", Secret::new("right")).await, Err(Denied));
    }

    #[tokio::test]
    async fn a_phc_string_is_taken_as_the_hash() {
        let phc = hashed(&Secret::new("right")).expect("hashes").to_string();
        let auth = Auth::new(&Settings {
            admin_password: Secret::new(phc.as_str()),
            ..settings()
        })
        .expect("good");
        assert!(auth.login("admin", Secret::new("right")).await.is_ok());
        assert!(auth.login("admin", Secret::new(phc)).await.is_err());
    }

    #[test]
    fn admin_and_stream_tokens_do_not_stand_in_for_each_other() {
        let auth = auth();
        let play = auth.stream_token("p", Act::Play, "live/*", Duration::from_secs(60));
        assert_eq!(
            auth.verify_stream(&play, Act::Play, &guid("live/a")),
            Ok(())
        );
        assert_eq!(
            auth.verify_stream(&play, Act::Publish, &guid("live/a")),
            Err(TokenError::Forbidden)
        );
        assert_eq!(
            auth.verify_stream(&play, Act::Play, &guid("vod/a")),
            Err(TokenError::Forbidden)
        );
        assert_eq!(auth.verify_admin(&play), Err(TokenError::Forbidden));
        let admin = auth.admin_token();
        assert_eq!(
            auth.verify_stream(&admin, Act::Play, &guid("live/a")),
            Err(TokenError::Forbidden)
        );
        let both = serde_json::json!({"sub":"x","roles":ADMIN_ROLE,"act":"play","stream":"*","exp":u32::MAX});
        let both = signed(both);
        assert_eq!(auth.verify_admin(&both), Err(TokenError::Forbidden));
        assert_eq!(
            auth.verify_stream(&both, Act::Play, &guid("live/a")),
            Err(TokenError::Forbidden)
        );
    }

    #[test]
    fn other_algorithms_missing_or_past_expiry_and_foreign_keys_are_refused() {
        let auth = auth();
        let admin = |exp: u64| serde_json::json!({"sub":"admin","roles":ADMIN_ROLE,"exp":exp});
        let future = u64::from(u32::MAX);
        assert_eq!(auth.verify_admin(&signed(admin(future))), Ok(()));
        let no_exp = serde_json::json!({"sub":"admin","roles":ADMIN_ROLE});
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiIsInJvbGVzIjoiUk9MRV9BRE1JTiIsImV4cCI6NDI5NDk2NzI5NX0.";
        let bad = [
            signed_by(admin(future), Algorithm::HS512),
            signed(admin(1)),
            signed(no_exp),
            foreign().admin_token(),
            unsigned.into(),
            String::new(),
            "a".repeat(MAX_TOKEN + 1),
        ];
        for token in bad {
            assert_eq!(
                auth.verify_admin(&token),
                Err(TokenError::Invalid),
                "{token}"
            );
        }
    }

    #[test]
    fn globs_cover_the_whole_name() {
        for (glob, text) in [
            ("live/*", "live/a/b"),
            ("*", "x/y"),
            ("live/a", "live/a"),
            ("*/cam*1", "live/cam-21"),
        ] {
            assert!(glob_matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in [
            ("live/*", "alive/a"),
            ("live/a", "live/ab"),
            ("a*a", "a"),
            ("", "x/y"),
            ("*x", "live/y"),
        ] {
            assert!(!glob_matches(glob, text), "{glob} {text}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        assert!(!format!("{:?} {:?}", settings(), auth()).contains("right"));
    }
}
