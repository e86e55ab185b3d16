//! Takes a restreamer's secrets out of texts that others wrote: peers repeat
//! stream names with their queries, and guests hold whole URLs.

use restreamd_rtmp::url::RtmpUrl;

use super::host::Properties;

/// A shorter value would take too much of an honest text with it.
const SHORTEST: usize = 3;

/// The secrets of one restreamer.
#[derive(Clone, Default)]
pub struct Scrub(Vec<String>);

impl std::fmt::Debug for Scrub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scrub(***)")
    }
}

impl Scrub {
    /// User info and queries of all URLs among the properties, and the values of the
    /// properties that the type calls secret.
    pub fn of(properties: &Properties, is_secret: impl Fn(&str) -> bool) -> Self {
        let mut secrets = Vec::new();
        for (key, value) in properties {
            if is_secret(key) {
                secrets.push(value.clone());
            }
            let words =
                value.split(|c: char| c.is_whitespace() || matches!(c, ',' | '"' | '[' | ']'));
            for url in words.filter_map(|word| RtmpUrl::parse(word).ok()) {
                secrets.extend(secrets_of(&url));
            }
        }
        Self::from_list(secrets)
    }

    /// User info and query of one URL.
    pub fn of_url(url: &RtmpUrl) -> Self {
        Self::from_list(secrets_of(url))
    }

    fn from_list(mut secrets: Vec<String>) -> Self {
        secrets.retain(|secret| secret.len() >= SHORTEST);
        // The longest first: a part must not break the whole.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self(secrets)
    }

    /// The text without them.
    pub fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), "***")
        })
    }
}

fn secrets_of(url: &RtmpUrl) -> Vec<String> {
    let mut secrets = Vec::new();
    if let Some((user, password)) = url.user() {
        secrets.extend([user.to_owned(), password.to_owned()]);
    }
    for part in [url.app(), url.name()] {
        if let Some((_, query)) = part.split_once('?') {
            secrets.push(query.to_owned());
            let values = query
                .split('&')
                .map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
            secrets.extend(values.map(str::to_owned));
        }
    }
    secrets
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
        ];
        let scrub = Scrub::of(&properties, |key| key == "key");
        let text = scrub.apply(
            "n?token=abc123&x=1 failed, abc123 was wrong, pass1 too, zzz9 and hush-hush; h is fine",
        );
        assert_eq!(
            text,
            "n?*** failed, *** was wrong, *** too, *** and ***; h is fine"
        );
    }
}
