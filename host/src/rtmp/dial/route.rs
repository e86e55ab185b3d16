//! Where a dial goes next after a server said no: on to another server, or back to
//! the same one with what it asked for.
//!
//! Pure: randomness is an argument. Invariants: it ends after [`MAX_REDIRECTS`] redirects and the
//! two steps of authentication at each server; user and password never leave the host
//! they were given for.

use restreamd_rtmp::auth::{self, AuthError};
use restreamd_rtmp::session::{RejectClass, Rejection};
use restreamd_rtmp::url::RtmpUrl;

use super::failure::{Class, Failure};

/// Redirects followed: a balancer in front of an edge in front of an origin.
const MAX_REDIRECTS: usize = 3;
/// The scheme is named, then its challenge is answered.
const MAX_AUTH_STEPS: usize = 2;

/// Where to dial, and what to bring.
#[derive(Debug)]
pub(super) struct Route {
    url: RtmpUrl,
    /// Appended to app and tcUrl; holds the answer to a challenge.
    query: Option<Secret>,
    redirects: usize,
    auth_steps: usize,
}

struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Route {
    pub(super) fn new(url: RtmpUrl) -> Self {
        Self {
            url,
            query: None,
            redirects: 0,
            auth_steps: 0,
        }
    }

    pub(super) fn url(&self) -> &RtmpUrl {
        &self.url
    }

    pub(super) fn query(&self) -> Option<&str> {
        self.query.as_ref().map(|query| query.0.as_str())
    }

    /// Takes a server's no: either there is somewhere to dial now, or this is the end.
    pub(super) fn rejected(&mut self, rejection: &Rejection, nonce: u32) -> Result<(), Failure> {
        match &rejection.class {
            RejectClass::Redirected { to } => self.redirected(to),
            RejectClass::Auth => self.challenged(rejection, nonce),
            RejectClass::NotFound | RejectClass::Rejected => Err(Failure::rejected(rejection)),
        }
    }

    fn redirected(&mut self, to: &str) -> Result<(), Failure> {
        let fail = |text: String| Failure::new(Class::Redirected, text);
        let next = self.url.redirected(to);
        let next = next.map_err(|error| fail(format!("redirected somewhere unusable: {error}")))?;
        if self.redirects == MAX_REDIRECTS {
            return Err(fail(format!(
                "redirected more than {MAX_REDIRECTS} times, at last to {next}"
            )));
        }
        *self = Self {
            redirects: self.redirects + 1,
            ..Self::new(next)
        };
        Ok(())
    }

    fn challenged(&mut self, rejection: &Rejection, nonce: u32) -> Result<(), Failure> {
        let fail = |text: &str| Failure::new(Class::Auth, text);
        let asked = &rejection.description;
        let Some((user, password)) = self.url.user() else {
            return Err(match auth::is_challenge(asked) {
                true => fail("the peer asks for a user and a password; the URL has none"),
                false => Failure::rejected(rejection),
            });
        };
        let answer = auth::answer(asked, user, password, self.url.app(), nonce);
        match answer {
            Ok(query) if self.auth_steps < MAX_AUTH_STEPS => {
                self.auth_steps += 1;
                self.query = Some(Secret(query));
                Ok(())
            }
            Ok(_) | Err(AuthError::Denied) => Err(fail("the peer refuses user or password")),
            Err(AuthError::Scheme) => Err(Failure::rejected(rejection)),
            Err(error @ AuthError::Challenge) => Err(fail(&error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(url: &str) -> Route {
        Route::new(RtmpUrl::parse(url).expect("legal"))
    }

    fn no(class: RejectClass, description: &str) -> Rejection {
        Rejection {
            class,
            code: "NetConnection.Connect.Rejected".to_owned(),
            description: description.to_owned(),
        }
    }

    fn to(url: &str) -> Rejection {
        no(RejectClass::Redirected { to: url.to_owned() }, "elsewhere")
    }

    #[test]
    fn redirects_end_after_the_third() {
        let mut route = route("rtmp://a/live/s");
        for host in ["b", "c", "d"] {
            route
                .rejected(&to(&format!("rtmp://{host}/live")), 0)
                .expect("followed");
            assert_eq!((route.url().host(), route.url().name()), (host, "s"));
        }
        let failure = route
            .rejected(&to("rtmp://u:p@e/live?t=1"), 0)
            .expect_err("the fourth");
        assert_eq!(failure.class, Class::Redirected);
        assert!(
            !failure.text.contains("u:p") && !failure.text.contains("t=1"),
            "{failure}"
        );
    }

    #[test]
    fn credentials_stay_with_their_host() {
        let mut route = route("rtmp://u:p@a/live/s");
        let ask = no(RejectClass::Auth, "[ code=403 need auth; authmod=adobe ]");
        route.rejected(&ask, 0).expect("answered");
        assert_eq!(route.query(), Some("?authmod=adobe&user=u"));
        route.rejected(&to("rtmp://a/other"), 0).expect("followed");
        assert!(route.url().user().is_some() && route.query().is_none());
        route.rejected(&to("rtmp://b/live"), 0).expect("followed");
        assert!(route.url().user().is_none());
        let failure = route.rejected(&ask, 0).expect_err("nothing to answer with");
        assert_eq!(failure.class, Class::Auth);
    }

    #[test]
    fn a_server_that_asks_for_ever_is_left_after_two_steps() {
        let mut route = route("rtmp://u:p@a/live/s");
        let ask = no(RejectClass::Auth, "authmod=llnw : ?reason=needauth&nonce=x");
        assert!(route.rejected(&ask, 0).is_ok() && route.rejected(&ask, 0).is_ok());
        let failure = route.rejected(&ask, 0).expect_err("the third");
        assert_eq!(failure.class, Class::Auth);
    }

    #[test]
    fn a_redirect_that_is_no_url_is_the_end() {
        for bad in [
            "",
            "http://a/b",
            "rtmp://",
            "rtmp://a",
            "rtmp:// a/b",
            "rtmp://a/\u{7}",
        ] {
            let failure = route("rtmp://a/live/s").rejected(&to(bad), 0);
            assert_eq!(failure.expect_err(bad).class, Class::Redirected, "{bad:?}");
        }
    }
}
