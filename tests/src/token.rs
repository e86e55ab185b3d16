//! Tokens a client would hold: good ones, stale ones and forged ones.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// Seconds since 1970, moved by `offset`.
pub fn unix_time(offset: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    i64::try_from(now.as_secs()).expect("seconds fit in 63 bits") + offset
}

/// An HS256 token with these claims.
pub fn sign(secret: &str, claims: &Value) -> String {
    sign_with(Algorithm::HS256, secret, claims)
}

/// A token of another algorithm of the same family.
pub fn sign_with(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(algorithm), claims, &key).expect("plain claims encode")
}

/// Claims of an admin token that expires `seconds` from now.
pub fn admin_claims(seconds: i64) -> Value {
    json!({"sub": "admin", "roles": "ROLE_ADMIN", "exp": unix_time(seconds)})
}

/// Claims of a stream token: `act` is `publish` or `play`.
pub fn stream_claims(act: &str, glob: &str, seconds: i64) -> Value {
    json!({"sub": "test", "act": act, "stream": glob, "exp": unix_time(seconds)})
}
