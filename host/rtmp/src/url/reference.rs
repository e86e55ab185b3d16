//! Where a server sends a client: a redirect or a reconnect, read beside the URL
//! that was asked for.
//!
//! Invariants: user and password go along only to the same scheme, host and port, and
//! the query of a name that was asked for over TLS only over TLS; the text of what
//! comes out is the same URL when it is read again.

use super::{MAX_LENGTH, Origin, RtmpUrl, Scheme, UrlError, parse_path};

impl RtmpUrl {
    /// The URL of a redirect (`ex.redirect`). Servers give the new tcUrl, some the
    /// whole URL with the name: it is one with a name when it ends in the name that
    /// was asked for, or has more segments than the app that was.
    pub fn redirected(&self, to: &str) -> Result<RtmpUrl, UrlError> {
        let (origin, path) = self.resolve(to)?;
        let segments = path.split('?').next().unwrap_or_default().trim_matches('/');
        let last = segments.rsplit('/').next().unwrap_or_default();
        let count = |path: &str| path.trim_matches('/').split('/').count();
        let asked = self.name.split('?').next().unwrap_or_default();
        let app = self.app.split('?').next().unwrap_or_default();
        let deeper = count(segments) > count(app) && last != "_definst_";
        match (last == asked || deeper, parse_path(&path)) {
            (true, Ok((app, name))) => self.moved(origin, app, name),
            _ => self.at(origin, &path),
        }
    }

    /// The URL of a reconnect request: a tcUrl, whole or relative, and the same name.
    pub fn reconnected(&self, tc_url: &str) -> Result<RtmpUrl, UrlError> {
        let (origin, path) = self.resolve(tc_url)?;
        self.at(origin, &path)
    }

    fn at(&self, origin: Origin, path: &str) -> Result<RtmpUrl, UrlError> {
        let app = path.trim_matches('/');
        if app.is_empty() || app.starts_with('?') {
            return Err(UrlError::App);
        }
        self.moved(origin, app, &self.name)
    }

    /// What a reference names, with a path that begins with a slash.
    fn resolve(&self, reference: &str) -> Result<(Origin, String), UrlError> {
        let scheme = self.scheme.as_str();
        let whole = if reference.contains("://") {
            reference.to_owned()
        } else if reference.starts_with("//") {
            format!("{scheme}:{reference}")
        } else if reference.is_empty() {
            return Err(UrlError::App);
        } else {
            let path = reference.trim_start_matches('/');
            format!("{scheme}://{}/{path}", self.authority())
        };
        let (origin, path) = Origin::parse(&whole)?;
        Ok((origin, path.to_owned()))
    }

    fn moved(&self, origin: Origin, app: &str, name: &str) -> Result<RtmpUrl, UrlError> {
        let bares = (self.scheme, origin.scheme) == (Scheme::Rtmps, Scheme::Rtmp);
        // A query of the server's own making is its to give away.
        if bares && name == self.name && name.contains('?') {
            return Err(UrlError::Downgrade);
        }
        let same = origin.scheme == self.scheme
            && origin.port == self.port
            && origin.host.eq_ignore_ascii_case(&self.host);
        let mut moved = RtmpUrl {
            full: String::new(),
            scheme: origin.scheme,
            user: origin.user.or_else(|| self.user.clone().filter(|_| same)),
            host: origin.host,
            port: origin.port,
            app: app.to_owned(),
            name: name.to_owned(),
        };
        moved.full = moved.written();
        if moved.full.len() > MAX_LENGTH {
            return Err(UrlError::TooLong);
        }
        // A query behind `a/b` ends the app there for whoever reads the text.
        match RtmpUrl::parse(&moved.full) {
            Ok(read) if read == moved => Ok(moved),
            _ => Err(UrlError::NoText),
        }
    }

    fn written(&self) -> String {
        let user = match &self.user {
            Some((user, password)) => format!("{}:{}@", encoded(user), encoded(password)),
            None => String::new(),
        };
        format!(
            "{}://{user}{}/{}/{}",
            self.scheme.as_str(),
            self.authority(),
            self.app,
            self.name
        )
    }
}

fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes()
        .map(|byte| match plain(&byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> RtmpUrl {
        RtmpUrl::parse(text).expect("legal")
    }

    #[test]
    fn redirects_name_a_connection_or_a_stream() {
        let from = url("rtmp://u:p@a/live/cam?t=1");
        for (to, then) in [
            ("rtmp://b/live", "rtmp://b/live/cam?t=1"),
            ("rtmp://b:1936/edge/", "rtmp://b:1936/edge/cam?t=1"),
            ("rtmp://b/live/_definst_", "rtmp://b/live/_definst_/cam?t=1"),
            ("rtmp://b/live/cam", "rtmp://b/live/cam"),
            ("rtmp://b/live/other?t=2", "rtmp://b/live/other?t=2"),
            ("rtmps://b/live?x=1", "rtmps://b/live?x=1/cam?t=1"),
            ("rtmp://a/edge", "rtmp://u:p@a/edge/cam?t=1"),
            ("rtmp://A:1935/live", "rtmp://u:p@A/live/cam?t=1"),
            ("rtmps://a/live", "rtmps://a/live/cam?t=1"),
            ("rtmp://a:1936/live", "rtmp://a:1936/live/cam?t=1"),
            ("rtmp://v:q@b/live", "rtmp://v:q@b/live/cam?t=1"),
        ] {
            assert_eq!(
                from.redirected(to).map(|url| url.full()).as_deref(),
                Ok(then),
                "{to}"
            );
        }
    }

    #[test]
    fn what_no_text_can_hold_is_refused() {
        let from = url("rtmp://a/live/inst/cam");
        for to in ["rtmp://b/live/inst?x=1", "rtmp://b/live?x=1?y=2"] {
            assert_eq!(from.redirected(to), Err(UrlError::NoText), "{to}");
            assert_eq!(from.reconnected(to), Err(UrlError::NoText), "{to}");
        }
    }

    #[test]
    fn a_query_that_came_over_tls_does_not_go_on_in_the_clear() {
        let from = url("rtmps://a/live/cam?t=1");
        for to in ["rtmp://b/live", "rtmp://a/live/cam?t=1"] {
            assert_eq!(from.redirected(to), Err(UrlError::Downgrade), "{to}");
        }
        assert_eq!(from.reconnected("rtmp://b/live"), Err(UrlError::Downgrade));
        for to in [
            "rtmps://b/live",
            "rtmp://b/live/cam",
            "rtmp://b/live/cam?own=1",
        ] {
            assert!(from.redirected(to).is_ok(), "{to}");
        }
        let bare = url("rtmps://a/live/cam");
        assert!(bare.redirected("rtmp://b/live").is_ok(), "nothing to hide");
    }

    #[test]
    fn reconnects_are_whole_or_relative() {
        let from = url("rtmp://u:p%40@a:99/live/inst/cam?t=1");
        for (to, then) in [
            ("rtmp://b/live/inst", "rtmp://b/live/inst/cam?t=1"),
            ("//b:77/other", "rtmp://b:77/other/cam?t=1"),
            ("/other", "rtmp://u:p%40@a:99/other/cam?t=1"),
            ("other/x", "rtmp://u:p%40@a:99/other/x/cam?t=1"),
        ] {
            assert_eq!(
                from.reconnected(to).map(|url| url.full()).as_deref(),
                Ok(then),
                "{to}"
            );
        }
        for bad in ["", "/", "http://a/b", "rtmp://b", "rtmp://b/?x", "//:0/x"] {
            assert!(from.reconnected(bad).is_err(), "{bad:?}");
        }
    }
}
