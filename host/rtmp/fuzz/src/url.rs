//! URLs: any text, and text around a secret.

use restreamd_rtmp::url::{RtmpUrl, Scheme, UrlError};

/// No URL shows this unless it was in a part that is no secret.
const SECRET: &str = "S3cr3tS3cr3t";

/// The input is a URL, its path and query, or its user info.
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
    // Before a slash it is the host and not the user.
    if !text.contains(['/', '?', '#']) {
        hides(&format!("rtmp://{SECRET}:{text}@host/app/name"));
        hides(&format!("rtmp://{text}:{SECRET}@host/app/name"));
        hides(&format!("rtmp://{text}{SECRET}@host/app/name"));
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
    assert!(!url.app().is_empty() && !url.app().contains('?'));
    assert!(!url.name().is_empty());

    // What connect and play send names the same stream.
    let sent = format!("{}/{}", url.tc_url(), url.name());
    let again = RtmpUrl::parse(&sent).expect("its own parts make a url");
    assert_eq!(parts(&again), parts(&url));
    assert_eq!((again.user(), again.full()), (None, sent));

    match RtmpUrl::parse(&url.masked()) {
        Ok(masked) => {
            assert_eq!(masked.host(), url.host());
            assert_eq!((masked.port(), masked.app()), (url.port(), url.app()));
            assert_eq!(masked.masked(), url.masked());
        }
        Err(error) => assert_eq!(error, UrlError::TooLong),
    }
}

fn parts(url: &RtmpUrl) -> (Scheme, &str, u16, &str, &str) {
    (url.scheme(), url.host(), url.port(), url.app(), url.name())
}

fn hides(text: &str) {
    let shown = match RtmpUrl::parse(text) {
        Ok(url) => format!("{url} {url:?} {} {}", url.masked(), url.tc_url()),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!shown.contains(SECRET), "{shown}");
}
