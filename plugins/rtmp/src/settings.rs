//! The properties of the `rtmp` type.

use restreamd_plugin::address::{Tls, rtmp_url};
use restreamd_plugin::rtmp::ConnectOptions;
use restreamd_plugin::sources::Wishes;
use restreamd_plugin::{Description, Direction, Problem, Properties, Property, property};

/// More sources than this are a mistake.
const MAX_SOURCES: usize = 16;
/// Shortest and default stall, milliseconds: below 500 a lost packet is a stall.
const STALL_MS: (u32, u32) = (500, 2_500);
/// Bounds and defaults of the waits, milliseconds.
const RETRY_MIN_MS: (u32, u32, u32) = (50, 60_000, 250);
const RETRY_MAX_MS: (u32, u32, u32) = (250, 3_600_000, 30_000);
const CONNECT_TIMEOUT_MS: (u32, u32, u32) = (500, 60_000, 10_000);

/// The properties, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where from, best first.
    pub(crate) urls: Vec<String>,
    /// A file of the media directory that plays while no source is live.
    pub(crate) slate: Option<String>,
    standby: bool,
    return_after_ms: u32,
    retry_min_ms: u32,
    retry_max_ms: u32,
    connect_timeout_ms: u32,
    stall_ms: Option<u32>,
    swf_url: Option<String>,
    page_url: Option<String>,
    flash_ver: Option<String>,
    fc_subscribe: bool,
    tls: Tls,
}

impl Settings {
    pub(crate) fn parse(properties: &Properties) -> Result<Self, Problem> {
        let text = |name| properties.get(&[name]).map(str::to_owned);
        let (min, max) = (RETRY_MIN_MS, RETRY_MAX_MS);
        let settings = Self {
            urls: source_urls(properties)?,
            slate: text("slate").filter(|name| !name.is_empty()),
            standby: properties.flag("standby", false)?,
            return_after_ms: properties.number("returnAfterMs", 0..=3_600_000, 10_000)?,
            retry_min_ms: properties.number("retryMinMs", min.0..=min.1, min.2)?,
            retry_max_ms: properties.number("retryMaxMs", max.0..=max.1, max.2)?,
            connect_timeout_ms: properties.number(
                "connectTimeoutMs",
                CONNECT_TIMEOUT_MS.0..=CONNECT_TIMEOUT_MS.1,
                CONNECT_TIMEOUT_MS.2,
            )?,
            stall_ms: stall(properties)?,
            swf_url: text("swfUrl"),
            page_url: text("pageUrl"),
            flash_ver: text("flashVer"),
            fc_subscribe: properties.flag("fcSubscribe", false)?,
            tls: Tls::parse(properties)?,
        };
        if settings.retry_min_ms > settings.retry_max_ms {
            return Err(problem("retryMinMs", "must not be greater than retryMaxMs"));
        }
        Ok(settings)
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions {
            connect_timeout_ms: self.connect_timeout_ms,
            stall_ms: self.stall_ms,
            swf_url: self.swf_url.clone(),
            page_url: self.page_url.clone(),
            flash_ver: self.flash_ver.clone(),
            fc_subscribe: self.fc_subscribe,
            tls: self.tls.check(),
        }
    }

    /// The same for settings whose sources are opened with the same options, in this
    /// build and in the next.
    pub(crate) fn options_mark(&self) -> u32 {
        let tls = match &self.tls {
            Tls::Verify => "",
            Tls::Pin(pin) => pin,
            Tls::Skip => "skip",
        };
        let number = |number: Option<u32>| number.map_or(String::new(), |n| n.to_string());
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let options = [
            number(Some(self.connect_timeout_ms)),
            number(self.stall_ms),
            text(&self.swf_url),
            text(&self.page_url),
            text(&self.flash_ver),
            number(Some(self.fc_subscribe.into())),
            tls.to_owned(),
        ];
        // FNV-1a; a newline is in none of them.
        options.join("\n").bytes().fold(0x811c_9dc5, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        })
    }

    /// What the plan is to do.
    pub(crate) fn wishes(&self) -> Wishes {
        Wishes {
            rungs: self.urls.len(),
            slate: self.slate.is_some(),
            return_after_ms: self.return_after_ms.into(),
            standby: self.standby,
            retry_ms: (self.retry_min_ms, self.retry_max_ms),
        }
    }
}

fn problem(key: &str, message: &str) -> Problem {
    Problem {
        key: key.to_owned(),
        message: message.to_owned(),
    }
}

/// `rtmpUri` first, then `rtmpUris`.
fn source_urls(properties: &Properties) -> Result<Vec<String>, Problem> {
    let one = properties
        .get(&["rtmpUri"])
        .map(|url| ("rtmpUri", url.to_owned()));
    let more = properties.get(&["rtmpUris"]).map(list).transpose()?;
    let more = more.unwrap_or_default();
    let mut urls: Vec<String> = Vec::new();
    for (key, url) in one
        .into_iter()
        .chain(more.into_iter().map(|url| ("rtmpUris", url)))
    {
        let url = rtmp_url(&url).map_err(|message| problem(key, message))?;
        if !urls.iter().any(|known| known == url) {
            urls.push(url.to_owned());
        }
    }
    match urls.len() {
        0 => Err(problem("rtmpUri", "is required, or rtmpUris")),
        1..=MAX_SOURCES => Ok(urls),
        _ => Err(problem("rtmpUris", "must not hold more than 16 sources")),
    }
}

/// A comma list, or the text of a JSON array.
fn list(text: &str) -> Result<Vec<String>, Problem> {
    let text = text.trim();
    if text.starts_with('[') {
        return array(text).ok_or_else(|| {
            problem(
                "rtmpUris",
                "must be a comma list or a JSON array of strings without escapes",
            )
        });
    }
    let items = text.split(',').map(str::trim);
    Ok(items
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect())
}

/// The strings of a JSON array. URLs need no escapes; those that some writers use for
/// slashes would hide a URL from whoever masks it.
fn array(text: &str) -> Option<Vec<String>> {
    let mut rest = text.strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut items = Vec::new();
    while !rest.is_empty() {
        let (item, after) = rest.strip_prefix('"')?.split_once('"')?;
        if item.contains('\\') {
            return None;
        }
        items.push(item.to_owned());
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) if !next.trim().is_empty() => next.trim_start(),
            None if after.is_empty() => after,
            _ => return None,
        };
    }
    Some(items)
}

fn stall(properties: &Properties) -> Result<Option<u32>, Problem> {
    if properties.get(&["stallMs"]) == Some("off") {
        return Ok(None);
    }
    properties
        .number("stallMs", STALL_MS.0..=600_000, STALL_MS.1)
        .map(Some)
        .map_err(|p| problem("stallMs", &format!("{} or off", p.message)))
}

pub(crate) fn describe() -> Description {
    let uri = property(
        "rtmpUri",
        "The stream to pull: rtmp[s]://[user:password@]host[:port]/app/name[?query].",
    );
    let with_default = |name, doc, default: &str| Property {
        default: Some(default.to_owned()),
        ..property(name, doc)
    };
    Description {
        doc: "Pulls one RTMP stream and tries again for ever, until the provision is deleted."
            .to_owned(),
        direction: Direction::Feeds,
        properties: vec![
            uri,
            property(
                "rtmpUris",
                "More sources in order of preference: a comma list or a JSON array.",
            ),
            with_default(
                "returnAfterMs",
                "A better source takes over again after it has held for so many milliseconds.",
                "10000",
            ),
            with_default(
                "standby",
                "true keeps the next source connected, so that a switch costs nothing.",
                "false",
            ),
            property(
                "slate",
                "An FLV or MP4 file of the media directory that plays while no source is live.",
            ),
            with_default(
                "stallMs",
                "Media that stops for so many milliseconds is a stall; off for quiet sources.",
                "2500",
            ),
            with_default(
                "connectTimeoutMs",
                "Milliseconds from dialing to the first media.",
                "10000",
            ),
            with_default(
                "retryMinMs",
                "The first wait between attempts, before jitter, in milliseconds.",
                "250",
            ),
            with_default(
                "retryMaxMs",
                "The longest wait between attempts, in milliseconds.",
                "30000",
            ),
            property("swfUrl", "swfUrl of connect, for servers that ask for it."),
            property(
                "pageUrl",
                "pageUrl of connect, for servers that ask for it.",
            ),
            property(
                "flashVer",
                "flashVer of connect: what to call ourselves, for servers that are choosy.",
            ),
            with_default(
                "fcSubscribe",
                "Send FCSubscribe before play, as some CDNs want it.",
                "false",
            ),
            with_default(
                "tlsVerify",
                "Check the certificate of an rtmps:// source; false lets anyone on the way listen in.",
                "true",
            ),
            property(
                "tlsPin",
                "The sha256 of the only certificate to accept, in hex, instead of checking it against trusted roots.",
            ),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(list: &[(&str, &str)]) -> Properties {
        Properties::new(
            list.iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    fn refused(list: &[(&str, &str)]) -> String {
        Settings::parse(&given(list))
            .expect_err("must be refused")
            .key
    }

    #[test]
    fn the_public_example_is_enough() {
        let settings = Settings::parse(&given(&[
            ("rtmpUri", "rtmp://localhost/live/stream1"),
            ("persist", "false"),
        ]));
        let settings = settings.expect("legal");
        assert_eq!(
            (settings.retry_min_ms, settings.retry_max_ms),
            (250, 30_000)
        );
        assert_eq!(settings.options().stall_ms, Some(2_500));
    }

    #[test]
    fn the_property_that_is_wrong_is_named() {
        let uri = ("rtmpUri", "rtmp://h/a/n");
        assert_eq!(refused(&[]), "rtmpUri");
        assert_eq!(refused(&[("rtmpUri", "http://h/a/n")]), "rtmpUri");
        assert_eq!(refused(&[("rtmpUri", "rtmp://h/a")]), "rtmpUri");
        assert_eq!(refused(&[uri, ("stallMs", "499")]), "stallMs");
        assert_eq!(
            refused(&[uri, ("retryMinMs", "5000"), ("retryMaxMs", "300")]),
            "retryMinMs"
        );
        assert_eq!(
            refused(&[uri, ("connectTimeoutMs", "soon")]),
            "connectTimeoutMs"
        );
    }

    #[test]
    fn a_certificate_is_verified_unless_it_is_pinned_or_told_otherwise() {
        let uri = ("rtmpUri", "RTMPS://h/a/n");
        let pin = "AB:".repeat(31) + "cd";
        let tls = |list: &[(&str, &str)]| Settings::parse(&given(list)).expect("legal").tls;
        assert_eq!(tls(&[uri]), Tls::Verify);
        assert_eq!(tls(&[uri, ("tlsVerify", "false")]), Tls::Skip);
        assert_eq!(
            tls(&[uri, ("tlsPin", &pin)]),
            Tls::Pin("AB".repeat(31) + "cd")
        );
        assert_eq!(refused(&[uri, ("tlsPin", "abcd")]), "tlsPin");
        assert_eq!(refused(&[uri, ("tlsVerify", "no")]), "tlsVerify");
        assert_eq!(
            refused(&[uri, ("tlsPin", &pin), ("tlsVerify", "false")]),
            "tlsVerify"
        );
    }

    #[test]
    fn what_servers_ask_for_is_passed_on() {
        let settings = Settings::parse(&given(&[
            ("rtmpUri", "rtmp://h/a/n"),
            ("flashVer", "WIN 1"),
            ("fcSubscribe", "true"),
        ]));
        let options = settings.expect("legal").options();
        assert_eq!(
            (options.flash_ver.as_deref(), options.fc_subscribe),
            (Some("WIN 1"), true)
        );
    }

    #[test]
    fn options_have_one_mark_whatever_the_plan_is() {
        let mark = |more: &[(&str, &str)]| {
            let list = [&[("rtmpUri", "rtmp://h/a/n")], more].concat();
            Settings::parse(&given(&list))
                .expect("legal")
                .options_mark()
        };
        assert_eq!(mark(&[]), mark(&[("standby", "true"), ("slate", "a.mp4")]));
        assert_eq!(mark(&[]), 0xc45d_ebdd, "in every build");
        let others = [
            ("stallMs", "off"),
            ("stallMs", "3000"),
            ("connectTimeoutMs", "3000"),
            ("swfUrl", "x"),
            ("pageUrl", "x"),
            ("flashVer", "x"),
            ("fcSubscribe", "true"),
            ("tlsVerify", "false"),
        ];
        let marks: std::collections::BTreeSet<u32> = others.map(|one| mark(&[one])).into();
        assert_eq!(marks.len(), others.len());
        assert!(!marks.contains(&mark(&[])));
    }

    #[test]
    fn stall_detection_can_be_off() {
        let settings = Settings::parse(&given(&[("rtmpUri", "rtmp://h/a/n"), ("stallMs", "off")]));
        assert_eq!(settings.expect("legal").options().stall_ms, None);
    }

    #[test]
    fn sources_come_as_a_list_or_as_json() {
        let urls = |list: &[(&str, &str)]| Settings::parse(&given(list)).expect("legal").urls;
        let both = ["rtmp://h/a/n", "rtmp://i/a/n"];
        assert_eq!(urls(&[("rtmpUris", "rtmp://h/a/n, rtmp://i/a/n")]), both);
        assert_eq!(
            urls(&[("rtmpUris", r#"["rtmp://h/a/n","rtmp://i/a/n"]"#)]),
            both
        );
        let comma = ["rtmp://h/a/n?at=1,2", "rtmp://i/a/n"];
        assert_eq!(
            urls(&[(
                "rtmpUris",
                r#" [ "rtmp://h/a/n?at=1,2" , "rtmp://i/a/n" ] "#
            )]),
            comma
        );
        for bad in [
            r#"["rtmp:\/\/h\/a\/n"]"#,
            r#"["rtmp://h/a/n""#,
            r#"["rtmp://h/a/n",]"#,
            r#"["rtmp://h/a/n" "rtmp://i/a/n"]"#,
            "[rtmp://h/a/n]",
        ] {
            assert_eq!(refused(&[("rtmpUris", bad)]), "rtmpUris", "{bad}");
        }
        let repeated = ("rtmpUris", "rtmp://h/a/n,rtmp://i/a/n");
        assert_eq!(urls(&[("rtmpUri", "rtmp://h/a/n"), repeated]), both);
        assert_eq!(
            refused(&[("rtmpUris", "rtmp://h/a/n,nonsense")]),
            "rtmpUris"
        );
        let many = (0..17)
            .map(|n| format!("rtmp://h{n}/a/n"))
            .collect::<Vec<_>>()
            .join(",");
        assert_eq!(refused(&[("rtmpUris", &many)]), "rtmpUris");
    }
}
