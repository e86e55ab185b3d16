//! Takes secrets out of texts that others wrote: peers repeat stream names with their
//! queries, and guests hold whole URLs.

use restreamd_rtmp::url::RtmpUrl;

/// A shorter value would take too much of an honest text with it.
const SHORTEST: usize = 3;

/// A set of secrets.
#[derive(Clone, Default)]
pub struct Scrub(Vec<String>);

impl std::fmt::Debug for Scrub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scrub(***)")
    }
}

impl Scrub {
    /// User info and query of one URL.
    pub fn of_url(url: &RtmpUrl) -> Self {
        let mut scrub = Self::default();
        scrub.add_url(url);
        scrub
    }

    /// Those of one more URL.
    pub fn add_url(&mut self, url: &RtmpUrl) {
        self.add(secrets_of(url));
    }

    /// The query of any URL, and its values.
    pub fn add_query_of(&mut self, url: &str) {
        if let Some((_, query)) = url.split_once('?') {
            self.add(values_of(query));
        }
    }

    /// More of them.
    pub fn add(&mut self, secrets: impl IntoIterator<Item = String>) {
        let secrets = secrets.into_iter();
        self.0.extend(secrets.filter(|one| one.len() >= SHORTEST));
        // The longest first: a part must not break the whole.
        self.0
            .sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.0.dedup();
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
    // Whoever holds the URL has them as they are written there.
    if let Some(written) = url.user_info() {
        secrets.extend(written.splitn(2, ':').map(str::to_owned));
    }
    for part in [url.app(), url.name()] {
        if let Some((_, query)) = part.split_once('?') {
            secrets.extend(values_of(query));
        }
    }
    secrets
}

/// A query and its values.
fn values_of(query: &str) -> impl Iterator<Item = String> {
    let values = query
        .split('&')
        .map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    [query].into_iter().chain(values).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_info_is_a_secret_as_it_is_written_and_as_it_is_meant() {
        let url = RtmpUrl::parse("rtmp://some%20one:p%40ss@h/a/n?sig=abc").expect("legal");
        let scrub = Scrub::of_url(&url);
        let text = scrub.apply("some%20one and some one gave p%40ss, p@ss and abc to h");
        assert_eq!(text, "*** and *** gave ***, *** and *** to h");
    }

    #[test]
    fn secrets_of_several_urls_are_one_set() {
        let url = |text| RtmpUrl::parse(text).expect("legal");
        let mut scrub = Scrub::of_url(&url("rtmp://h/a/n?token=secret"));
        scrub.add_url(&url("rtmp://edge/a/n?sig=secret-of-the-edge"));
        let text = scrub.apply("n?sig=secret-of-the-edge, once secret");
        assert_eq!(text, "n?***, once ***");
    }
}
