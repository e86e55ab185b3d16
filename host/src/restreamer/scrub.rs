//! The secrets of one restreamer, to be taken out of texts that others wrote.

use restreamd_rtmp::url::RtmpUrl;

use super::host::Properties;
use super::target;
pub use crate::rtmp::dial::Scrub;

/// User info and queries of all URLs among the properties, of what is pushed to the names
/// as well, and the values of the properties that the type calls secret.
pub fn of(properties: &Properties, pushed_to: bool, is_secret: impl Fn(&str) -> bool) -> Scrub {
    let mut scrub = Scrub::default();
    for (key, value) in properties {
        if is_secret(key) {
            scrub.add([value.clone()]);
        }
        let words = value.split(|c: char| c.is_whitespace() || matches!(c, ',' | '"' | '[' | ']'));
        for word in words.filter(|word| word.contains("://")) {
            match RtmpUrl::parse(word) {
                Ok(url) if pushed_to => target::hide(&url, &mut scrub),
                Ok(url) => scrub.add_url(&url),
                // A player's page or file.
                Err(_) => scrub.add_query_of(word),
            }
        }
    }
    scrub
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_other_peoples_words() {
        let properties = vec![
            (
                "rtmpUris".to_owned(),
                "rtmp://me:pass1@h/a/n?token=abc123&x=1,rtmp://i/a/m?k=zzz9".to_owned(),
            ),
            ("key".to_owned(), "hush-hush".to_owned()),
            (
                "pageUrl".to_owned(),
                "https://page/?sid=p4ge&x=1".to_owned(),
            ),
        ];
        let scrub = of(&properties, false, |key| key == "key");
        let text = scrub.apply(
            "n?token=abc123&x=1 failed, abc123 was wrong, pass1 too, zzz9, p4ge and hush-hush; h is fine",
        );
        assert_eq!(
            text,
            "n?*** failed, *** was wrong, *** too, ***, *** and ***; h is fine"
        );
    }

    #[test]
    fn the_name_that_is_pushed_to_is_a_secret() {
        let uri = "rtmp://twitch/app/live_123_key".to_owned();
        let properties = vec![("rtmpUri".to_owned(), uri)];
        let said = "no live_123_key at app";
        let scrubbed = |pushed_to| of(&properties, pushed_to, |_| false).apply(said);
        assert_eq!(scrubbed(true), "no *** at app");
        assert_eq!(scrubbed(false), said);
    }
}
