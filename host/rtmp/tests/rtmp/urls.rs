//! RTMP URLs.

use restreamd_rtmp::url::{RtmpUrl, Scheme, UrlError};

fn url(text: &str) -> RtmpUrl {
    RtmpUrl::parse(text).unwrap()
}

#[test]
fn all_parts_are_found() {
    let full = "RTMPS://us%40er:p%3Aw@media.example.org:8443/live/_definst_/cam1?token=a/b?c&d";
    let url = url(full);
    assert_eq!(url.scheme(), Scheme::Rtmps);
    assert_eq!(url.user(), Some(("us@er", "p:w")));
    assert_eq!((url.host(), url.port()), ("media.example.org", 8443));
    assert_eq!(url.app(), "live/_definst_");
    assert_eq!(url.name(), "cam1?token=a/b?c&d");
    assert_eq!(
        url.tc_url(),
        "rtmps://media.example.org:8443/live/_definst_"
    );
    assert_eq!(url.full(), full);
}

#[test]
fn ports_default_by_scheme_and_are_left_out_then() {
    assert_eq!(url("rtmp://h/a/b").port(), 1935);
    assert_eq!(url("rtmps://h/a/b").port(), 443);
    assert_eq!(url("rtmp://h:1935/a/b").tc_url(), "rtmp://h/a");
    assert_eq!(url("rtmp://h:1936/a/b").tc_url(), "rtmp://h:1936/a");
}

#[test]
fn ipv6_hosts_lose_and_regain_their_brackets() {
    let url = url("rtmp://[2001:db8::1]:1936/live/cam");
    assert_eq!((url.host(), url.port()), ("2001:db8::1", 1936));
    assert_eq!(url.tc_url(), "rtmp://[2001:db8::1]:1936/live");
}

#[test]
fn user_info_and_query_are_hidden_wherever_a_url_is_shown() {
    let url = url("rtmp://user:pa55@host/live/stream1?token=s3cret&x=1");
    let masked = "rtmp://***@host/live/stream1?***";
    assert_eq!(url.masked(), masked);
    assert_eq!(url.to_string(), masked);
    assert_eq!(format!("{url:?}"), format!("RtmpUrl({masked})"));
    for text in [url.masked(), format!("{url:#?}"), url.tc_url()] {
        assert!(!text.contains("pa55") && !text.contains("s3cret") && !text.contains("user"));
    }
    assert_eq!(self::url("rtmp://h/a/b").masked(), "rtmp://h/a/b");
}

#[test]
fn what_is_wrong_is_named_and_nothing_is_repeated() {
    let long = format!("rtmp://h/a/{}", "n".repeat(2_048));
    let wrong: [(&str, UrlError); 27] = [
        (&long, UrlError::TooLong),
        ("rtmp://h/a/b c", UrlError::Character),
        ("rtmp://h/a/b\n", UrlError::Character),
        ("rtmp://h/a/\u{7f}b", UrlError::Character),
        ("rtmp://h/a/\u{a0}b", UrlError::Character),
        ("", UrlError::Scheme),
        ("http://h/a/b", UrlError::Scheme),
        ("rtmp:h/a/b", UrlError::Scheme),
        ("rtmpt://h/a/b", UrlError::Scheme),
        ("rtmp://%zz@h/a/b", UrlError::UserInfo),
        ("rtmp://%ff@h/a/b", UrlError::UserInfo),
        ("rtmp://u%0a@h/a/b", UrlError::UserInfo),
        ("rtmp:///a/b", UrlError::Host),
        ("rtmp://u@/a/b", UrlError::Host),
        ("rtmp://ex!ample/a/b", UrlError::Host),
        ("rtmp://[::zz]/a/b", UrlError::Host),
        ("rtmp://[::1]x/a/b", UrlError::Host),
        ("rtmp://h:/a/b", UrlError::Port),
        ("rtmp://h:0/a/b", UrlError::Port),
        ("rtmp://[::1]:65536/a/b", UrlError::Port),
        ("rtmp://h:+1/a/b", UrlError::Port),
        ("rtmp://h", UrlError::App),
        ("rtmp://h/", UrlError::App),
        ("rtmp://h//b", UrlError::App),
        ("rtmp://h/a", UrlError::Name),
        ("rtmp://h/a/", UrlError::Name),
        ("rtmp://h/a/?b", UrlError::Name),
    ];
    for (text, error) in wrong {
        assert_eq!(RtmpUrl::parse(text), Err(error), "{text}");
        assert!(!error.to_string().contains("h/a"));
    }
}

#[test]
fn ipv6_without_brackets_is_refused() {
    assert_eq!(
        RtmpUrl::parse("rtmp://2001:db8::1/a/b"),
        Err(UrlError::Port)
    );
}

#[test]
fn a_query_between_app_and_name_is_the_apps() {
    for (url, app, name) in [
        ("rtmp://h/live?k=1/cam", "live?k=1", "cam"),
        ("rtmp://h/live?k=a/b/cam", "live?k=a/b", "cam"),
        ("rtmp://h/live?k=1/cam?sig=x/y", "live?k=1", "cam?sig=x/y"),
        ("rtmp://h/live/cam?url=a/b", "live", "cam?url=a/b"),
    ] {
        let url = RtmpUrl::parse(url).expect("legal");
        assert_eq!((url.app(), url.name()), (app, name));
        assert!(!url.masked().contains("k=") && !url.masked().contains("sig"));
    }
    for bad in [
        "rtmp://h/?k=1/cam",
        "rtmp://h/live?k=1/",
        "rtmp://h/live?k=1",
    ] {
        assert!(RtmpUrl::parse(bad).is_err(), "{bad}");
    }
}
