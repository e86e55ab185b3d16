//! What a source says to connect: come in, who are you, or go elsewhere.
//!
//! Written after what librtmp and ffmpeg expect, and proven with ffmpeg's client; it
//! shares no code with the host's side of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use restreamd_rtmp::amf0::Value;

const SALT: &str = "c2FsdHk=";
const CHALLENGE: &str = "Y2hhbGw=";
const OPAQUE: &str = "b3BhcQ==";
const NONCE: &str = "bm9uY2U=";

/// Who is let in.
#[derive(Clone, Debug, Default)]
pub enum Gate {
    /// Everybody.
    #[default]
    Open,
    /// Who knows user and password, by the scheme of Adobe's servers.
    Adobe(&'static str, &'static str),
    /// Who knows user and password, by the scheme of Limelight.
    Llnw(&'static str, &'static str),
    /// Nobody: all are sent to this URL.
    Redirect(String),
}

impl Gate {
    /// The information object of a refusal, or `None` for who may come in.
    pub(super) fn refusal(&self, app: &str) -> Option<Value> {
        let (app, query) = app.split_once('?').unwrap_or((app, ""));
        let sent = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let text = match self {
            Self::Open => return None,
            Self::Redirect(to) => return Some(redirect(to)),
            Self::Adobe(user, password) => judge("adobe", user, &sent, &|ours| {
                let secret = STANDARD.encode(md5(&format!("{user}{SALT}{password}")));
                STANDARD.encode(md5(&format!("{secret}{OPAQUE}{ours}")))
            }),
            Self::Llnw(user, password) => judge("llnw", user, &sent, &|ours| {
                let instance = if app.contains('/') { "" } else { "/_definst_" };
                let who = hex(md5(&format!("{user}:live:{password}")));
                let what = hex(md5(&format!("publish:/{app}{instance}")));
                hex(md5(&format!("{who}:{NONCE}:00000001:{ours}:auth:{what}")))
            }),
        };
        text.map(|text| information(&text, None))
    }
}

/// `None` when the answer is right. `response` makes the right one of the client's own nonce.
fn judge<'a>(
    scheme: &str,
    user: &str,
    sent: &dyn Fn(&str) -> Option<&'a str>,
    response: &dyn Fn(&str) -> String,
) -> Option<String> {
    let reject = |what: &str| {
        let text = format!("[ AccessManager.Reject ] : [ authmod={scheme} ] : ?reason={what}");
        Some(text)
    };
    if sent("authmod") != Some(scheme) {
        let text =
            format!("[ AccessManager.Reject ] : [ code=403 need auth; authmod={scheme} ] : ");
        return Some(text);
    }
    if sent("user").map(decoded).as_deref() != Some(user) {
        return reject("nosuchuser");
    }
    let ours = sent("challenge").or_else(|| sent("cnonce"));
    match (sent("response"), ours) {
        (Some(given), Some(ours)) if given == response(ours) => None,
        (Some(_), _) => reject(&format!("authfailed&opaque={OPAQUE}")),
        (None, _) => reject(&format!(
            "needauth&user={}&salt={SALT}&challenge={CHALLENGE}&opaque={OPAQUE}&nonce={NONCE}",
            sent("user").unwrap_or_default()
        )),
    }
}

fn information(description: &str, ex: Option<Value>) -> Value {
    let named = [
        ("level", Value::from("error")),
        ("code", Value::from("NetConnection.Connect.Rejected")),
        ("description", Value::from(description)),
    ];
    Value::object(named.into_iter().chain(ex.map(|ex| ("ex", ex))))
}

fn redirect(to: &str) -> Value {
    let ex = Value::object([
        ("code", Value::Number(302.0)),
        ("redirect", Value::from(to)),
    ]);
    information("Connection failed: go elsewhere.", Some(ex))
}

fn md5(text: &str) -> [u8; 16] {
    Md5::digest(text).into()
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Percent-decoded, as servers read a query.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, code.map(|hex| u8::from_str_radix(hex, 16))) {
            (b'%', Some(Ok(byte))) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
