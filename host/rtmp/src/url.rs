//! RTMP URLs, with their secrets kept out of logs.
//!
//! Responsible for `rtmp[s]://[user[:password]@]host[:port]/app[/instance]/name[?query]`.
//! It does not know which hosts may be dialled. Invariants: a value holds all
//! its parts; `Debug`, `Display` and errors never show user info or query.

mod reference;

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Longer than any real URL with a signed token; bounds what logs and
/// commands carry.
const MAX_LENGTH: usize = 2_048;

/// The transport of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain TCP, port 1935 by default.
    Rtmp,
    /// TLS, port 443 by default.
    Rtmps,
}

impl Scheme {
    /// The name in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Rtmp => "rtmp",
            Scheme::Rtmps => "rtmps",
        }
    }

    /// The port when a URL names none.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Rtmp => 1935,
            Scheme::Rtmps => 443,
        }
    }
}

/// What is wrong with a URL; never repeats any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Too long.
    #[error("url is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// Control characters or white space.
    #[error("url has control characters or white space")]
    Character,
    /// Neither rtmp nor rtmps.
    #[error("url does not begin with rtmp:// or rtmps://")]
    Scheme,
    /// User info that is not percent-encoded UTF-8.
    #[error("url has user info that is not valid percent-encoding")]
    UserInfo,
    /// No host, or one that is neither a name nor an address.
    #[error("url has no valid host")]
    Host,
    /// A port that is not 1 to 65535.
    #[error("url has no valid port")]
    Port,
    /// No app.
    #[error("url has no app")]
    App,
    /// No stream name.
    #[error("url has no stream name")]
    Name,
    /// Its parts are legal, but their text would be read as other parts.
    #[error("url has a query in its app that no text can hold")]
    NoText,
    /// From TLS to plain TCP, with something to hide.
    #[error("url would send the query of an rtmps:// url in the clear")]
    Downgrade,
}

/// A parsed RTMP URL.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RtmpUrl {
    full: String,
    scheme: Scheme,
    user: Option<(String, String)>,
    host: String,
    port: u16,
    app: String,
    name: String,
}

impl RtmpUrl {
    /// Parses a URL. The last path segment with the query is the name, all
    /// segments before it are the app. A query between app and name, as in
    /// `rtmp://host/app?token=1/name`, is the app's.
    pub fn parse(url: &str) -> Result<RtmpUrl, UrlError> {
        let (origin, path) = Origin::parse(url)?;
        let (app, name) = parse_path(path)?;
        Ok(RtmpUrl {
            full: url.to_owned(),
            scheme: origin.scheme,
            user: origin.user,
            host: origin.host,
            port: origin.port,
            app: app.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The transport.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host name or address; an IPv6 address has no brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the default of the scheme when none is named.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// User and password, decoded; the password may be empty. A secret.
    #[must_use]
    pub fn user(&self) -> Option<(&str, &str)> {
        self.user.as_ref().map(|(u, p)| (u.as_str(), p.as_str()))
    }

    /// User and password as the URL has them, before they are decoded. A secret.
    #[must_use]
    pub fn user_info(&self) -> Option<&str> {
        let (_, rest) = self.full.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        authority.rsplit_once('@').map(|(user, _)| user)
    }

    /// The app, with its instance when there is one, and its query. A secret when
    /// it has a query.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The stream name with its query, as play and publish send it. A secret
    /// when it has a query.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `scheme://host[:port]/app`, as connect sends it: no user info, but the
    /// app's query.
    #[must_use]
    pub fn tc_url(&self) -> String {
        format!(
            "{}://{}/{}",
            self.scheme.as_str(),
            self.authority(),
            self.app
        )
    }

    /// The URL with user info and query hidden, fit for logs and APIs.
    #[must_use]
    pub fn masked(&self) -> String {
        let user = if self.user.is_some() { "***@" } else { "" };
        let hidden = |text: &str| match text.split_once('?') {
            Some((text, _)) => format!("{text}?***"),
            None => text.to_owned(),
        };
        format!(
            "{}://{user}{}/{}/{}",
            self.scheme.as_str(),
            self.authority(),
            hidden(&self.app),
            hidden(&self.name)
        )
    }

    /// The URL as it was given, secrets included.
    #[must_use]
    pub fn full(&self) -> String {
        self.full.clone()
    }

    fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port == self.scheme.default_port() {
            true => host,
            false => format!("{host}:{}", self.port),
        }
    }
}

/// What a URL has before its path.
struct Origin {
    scheme: Scheme,
    user: Option<(String, String)>,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of a URL and the rest of it.
    fn parse(url: &str) -> Result<(Origin, &str), UrlError> {
        if url.len() > MAX_LENGTH {
            return Err(UrlError::TooLong);
        }
        if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(UrlError::Character);
        }
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = match scheme {
            s if s.eq_ignore_ascii_case("rtmp") => Scheme::Rtmp,
            s if s.eq_ignore_ascii_case("rtmps") => Scheme::Rtmps,
            _ => return Err(UrlError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(parse_user(user)?), address),
            None => (None, authority),
        };
        let (host, port) = parse_address(address)?;
        let origin = Origin {
            scheme,
            user,
            host: host.to_owned(),
            port: port.unwrap_or(scheme.default_port()),
        };
        Ok((origin, path))
    }
}

impl FromStr for RtmpUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        RtmpUrl::parse(url)
    }
}

impl fmt::Display for RtmpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Debug for RtmpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RtmpUrl({})", self.masked())
    }
}

fn parse_user(user: &str) -> Result<(String, String), UrlError> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    Ok((percent_decode(name)?, percent_decode(password)?))
}

fn percent_decode(text: &str) -> Result<String, UrlError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
        let value = value.and_then(|value| u8::try_from(value).ok());
        decoded.push(value.ok_or(UrlError::UserInfo)?);
    }
    let decoded = String::from_utf8(decoded).map_err(|_| UrlError::UserInfo)?;
    match decoded.chars().any(char::is_control) {
        true => Err(UrlError::UserInfo),
        false => Ok(decoded),
    }
}

fn parse_address(address: &str) -> Result<(&str, Option<u16>), UrlError> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or(UrlError::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| UrlError::Host)?;
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':').ok_or(UrlError::Host)?),
        };
        (host, port)
    } else {
        let (host, port) = match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if host.is_empty() || !host.chars().all(fits) {
            return Err(UrlError::Host);
        }
        (host, port)
    };
    let port = match port {
        None => None,
        Some(digits) => {
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            let number = digits.parse().ok().filter(|number| plain && *number != 0);
            Some(number.ok_or(UrlError::Port)?)
        }
    };
    Ok((host, port))
}

fn parse_path(path: &str) -> Result<(&str, &str), UrlError> {
    let path = path.strip_prefix('/').ok_or(UrlError::App)?;
    let query = path.find('?').unwrap_or(path.len());
    let segments = &path[..query];
    // The app's query ends where the name begins, and the name may have one too.
    let own = path.get(query + 1..).unwrap_or_default();
    let own = own.split('?').next().unwrap_or_default();
    if !segments.contains('/')
        && let Some(slash) = own.rfind('/').map(|at| at + 1)
    {
        let (app, name) = (&path[..query + slash], &path[query + slash + 1..]);
        return match (segments.is_empty(), name.is_empty()) {
            (true, _) => Err(UrlError::App),
            (_, true) => Err(UrlError::Name),
            _ => Ok((app, name)),
        };
    }
    let slash = segments.rfind('/').ok_or(match segments.is_empty() {
        true => UrlError::App,
        false => UrlError::Name,
    })?;
    let (app, name) = (&path[..slash], &path[slash + 1..]);
    if app.trim_matches('/').is_empty() {
        return Err(UrlError::App);
    }
    if name.is_empty() || name.starts_with('?') {
        return Err(UrlError::Name);
    }
    Ok((app, name))
}
