//! URLs: any text, text around a secret, and text a server sends us to.

use restreamd_rtmp::url::{RtmpUrl, Scheme, UrlError};

/// No URL shows this unless it was in a part that is no secret.
const SECRET: &str = "S3cr3tS3cr3t";
/// No URL is longer.
const MAX_LENGTH: usize = 2_048;

/// Where a client was when a server sends it elsewhere.
const FROM: &[&str] = &[
    "rtmp://user:S3cr3tS3cr3t@host/live/cam?key=S3cr3tS3cr3t",
    "rtmps://user:S3cr3tS3cr3t@[2001:db8::1]:1936/live/inst/cam",
    "rtmp://host/live?key=S3cr3tS3cr3t/cam",
];

/// The input is a URL, its path and query, its user info, or a redirect.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    parse(&text);
    parse(&format!("rtmp://{text}"));
    parse(&format!("rtmps://[2001:db8::1]:1936/{text}"));
    if text.contains(SECRET) {
        return;
    }
    hides(&format!("rtmp://host/app/name?{SECRET}{text}"));
    hides(&format!("rtmp://host/{text}?{SECRET}"));
    hides(&format!("rtmp://host/app?{SECRET}{text}/name"));
    // Before a slash it is the host and not the user.
    if !text.contains(['/', '?', '#']) {
        hides(&format!("rtmp://{SECRET}:{text}@host/app/name"));
        hides(&format!("rtmp://{text}:{SECRET}@host/app/name"));
        hides(&format!("rtmp://{text}{SECRET}@host/app/name"));
    }
    for from in FROM {
        let from = RtmpUrl::parse(from).expect("it is one");
        let to = format!("{}://{text}", from.scheme().as_str());
        for to in [&*text, &to] {
            sent(&from, from.redirected(to));
            sent(&from, from.reconnected(to));
        }
    }
}

fn parse(text: &str) {
    let url = match RtmpUrl::parse(text) {
        Ok(url) => url,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(url.full(), text);
    assert_eq!(text.parse(), Ok(url.clone()));
    assert!(!url.host().is_empty() && url.port() != 0);
    assert!(!open(url.app()).is_empty() && !url.name().is_empty());

    // What connect and play send names the same stream.
    let sent = format!("{}/{}", url.tc_url(), url.name());
    let again = RtmpUrl::parse(&sent).expect("its own parts make a url");
    assert_eq!(parts(&again), parts(&url));
    assert_eq!((again.user(), again.full()), (None, sent));

    match RtmpUrl::parse(&url.masked()) {
        Ok(masked) => {
            assert_eq!((masked.host(), masked.port()), (url.host(), url.port()));
            assert_eq!(open(masked.app()), open(url.app()));
            assert_eq!(open(masked.name()), open(url.name()));
            assert_eq!(masked.masked(), url.masked());
        }
        Err(error) => assert_eq!(error, UrlError::TooLong),
    }
}

/// The part without a query.
fn open(text: &str) -> &str {
    text.split('?').next().unwrap_or_default()
}

fn parts(url: &RtmpUrl) -> (Scheme, &str, u16, &str, &str) {
    (url.scheme(), url.host(), url.port(), url.app(), url.name())
}

fn hides(text: &str) {
    let shown = match RtmpUrl::parse(text) {
        Ok(url) => shown(&url),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!shown.contains(SECRET), "{shown}");
}

fn shown(url: &RtmpUrl) -> String {
    format!("{url} {url:?} {}", url.masked())
}

/// A redirect takes no password to another host and shows none. Its text is the
/// same URL when it is read again.
fn sent(from: &RtmpUrl, to: Result<RtmpUrl, UrlError>) {
    let Ok(to) = to else { return };
    let same = (from.scheme(), from.port()) == (to.scheme(), to.port())
        && from.host().eq_ignore_ascii_case(to.host());
    assert!(same || to.user().is_none_or(|(_, password)| password != SECRET));
    assert!(!shown(&to).contains(SECRET), "{to}");
    assert!(to.full().len() <= MAX_LENGTH);
    assert_eq!(RtmpUrl::parse(&to.full()), Ok(to));
}
