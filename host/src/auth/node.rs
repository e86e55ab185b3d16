//! What one node of a cluster shows another.
//!
//! Signed with the secret that all of them have, for one errand, and short-lived: the one
//! for media may cross a network in the clear. Invariant: its audience is `node`, so it
//! is no admin's and no stream's token, and none of these is a node's.

use std::time::Duration;

use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};

use super::{Auth, MAX_TOKEN, TokenError, expiry};
use crate::id::NodeId;

/// Whom such a token is for.
const AUDIENCE: &str = "node";
/// Used at once; the clocks of two nodes may be apart by as much.
const TTL: Duration = Duration::from_secs(60);
/// Seconds that it is taken for longer, for clocks that are apart the other way.
const LEEWAY: u64 = 30;

/// What a node comes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Errand {
    /// To play a stream for its own viewers.
    Play,
    /// To follow figures.
    Figures,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: String,
    sub: NodeId,
    errand: Errand,
    exp: u64,
}

pub(super) fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = LEEWAY;
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "sub", "aud"]);
    validation
}

impl Auth {
    /// A token with which a node shows another who it is.
    pub fn node_token(&self, node: &NodeId, errand: Errand) -> String {
        let claims = Claims {
            aud: AUDIENCE.to_owned(),
            sub: node.clone(),
            errand,
            exp: expiry(TTL),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.0.encoding)
            .expect("these claims are plain JSON and the key fits the algorithm")
    }

    /// The node that comes with this token, for this errand.
    pub fn verify_node(&self, token: &str, errand: Errand) -> Result<NodeId, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid);
        }
        let (decoding, of_nodes) = (&self.0.decoding, &self.0.of_nodes);
        let claims = jsonwebtoken::decode::<Claims>(token, decoding, of_nodes);
        match claims.map_err(|_| TokenError::Invalid)?.claims {
            claims if claims.errand == errand => Ok(claims.sub),
            _ => Err(TokenError::Forbidden),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{auth, foreign, guid, signed};
    use super::super::{ADMIN_ROLE, Act};
    use super::*;

    #[test]
    fn a_node_token_is_good_for_its_errand_and_for_nothing_else() {
        let auth = auth();
        let node: NodeId = "n1".parse().expect("legal");
        let play = auth.node_token(&node, Errand::Play);
        assert_eq!(auth.verify_node(&play, Errand::Play), Ok(node.clone()));
        let other = auth.verify_node(&play, Errand::Figures);
        assert_eq!(other, Err(TokenError::Forbidden));
        let stream = auth.verify_stream(&play, Act::Play, &guid("live/a"));
        assert_eq!(stream, Err(TokenError::Invalid));
        assert_eq!(auth.verify_admin(&play), Err(TokenError::Invalid));
        let foreign = foreign().verify_node(&play, Errand::Play);
        assert_eq!(foreign, Err(TokenError::Invalid), "another cluster's");
    }

    #[test]
    fn tokens_of_admins_and_streams_and_those_past_their_time_are_no_nodes() {
        let auth = auth();
        let exp = u64::from(u32::MAX);
        let bad = [
            auth.admin_token(),
            auth.stream_token("p", Act::Play, "*", TTL),
            signed(serde_json::json!({"sub":"n1","errand":"play","exp":exp})),
            signed(serde_json::json!({"aud":"node","errand":"play","exp":exp})),
            signed(serde_json::json!({"aud":"node","sub":"n1","errand":"play"})),
            signed(serde_json::json!({"aud":"node","sub":"n1","errand":"play","exp":1})),
            signed(serde_json::json!({"aud":"node","sub":"a b","errand":"play","exp":exp})),
            signed(serde_json::json!({"sub":"n1","roles":ADMIN_ROLE,"errand":"play","exp":exp})),
            String::new(),
            "a".repeat(MAX_TOKEN + 1),
        ];
        for token in bad {
            let verified = auth.verify_node(&token, Errand::Play);
            assert_eq!(verified, Err(TokenError::Invalid), "{token}");
        }
        let good = serde_json::json!({"aud":"node","sub":"n1","errand":"play","exp":exp});
        assert!(auth.verify_node(&signed(good), Errand::Play).is_ok());
    }
}
