//! The properties of a push.

use restreamd_plugin::address::{Tls, rtmp_url};
use restreamd_plugin::retry::Retry;
use restreamd_plugin::{Description, Direction, Problem, Properties, Property, property, rtmp};

/// Bounds of the waits of a standing order.
const RETRY_MS: (u32, u32) = (250, 30_000);

/// What the properties say.
pub(crate) struct Settings {
    pub(crate) url: String,
    /// Whenever the stream is live, for ever.
    pub(crate) persist: bool,
    /// Attempts of a round.
    pub(crate) attempts: u32,
    delay_s: u32,
    connect_timeout_ms: u32,
    max_lag_ms: u32,
    tls: Tls,
}

impl Settings {
    pub(crate) fn parse(properties: &Properties) -> Result<Self, Problem> {
        let immediate = properties.flag("immediate", false)?;
        let attempts = properties.number("attempts", 1..=1_000_000, 12)?;
        let url = properties.get(&["rtmpUri"]).unwrap_or_default();
        let url = rtmp_url(url).map_err(|message| Problem {
            key: "rtmpUri".to_owned(),
            message: message.to_owned(),
        })?;
        Ok(Self {
            url: url.to_owned(),
            persist: properties.flag("persist", false)?,
            // Now or never.
            attempts: if immediate { 1 } else { attempts },
            delay_s: properties.number("delayS", 1..=86_400, 10)?,
            connect_timeout_ms: properties.number("connectTimeoutMs", 100..=600_000, 10_000)?,
            max_lag_ms: properties.number("maxLagMs", 500..=60_000, 5_000)?,
            tls: Tls::parse(properties)?,
        })
    }

    pub(crate) fn delay_ms(&self) -> u64 {
        u64::from(self.delay_s) * 1_000
    }

    pub(crate) fn retry(&self, now_ms: u64) -> Retry {
        Retry::new(RETRY_MS.0, RETRY_MS.1, now_ms)
    }

    pub(crate) fn options(&self) -> rtmp::PublishOptions {
        rtmp::PublishOptions {
            connect_timeout_ms: self.connect_timeout_ms,
            stall_ms: 0,
            max_lag_ms: self.max_lag_ms,
            swf_url: None,
            page_url: None,
            flash_ver: None,
            tls: self.tls.check(),
        }
    }
}

pub(crate) fn describe() -> Description {
    let with_default = |name, doc, default: &str| Property {
        default: Some(default.to_owned()),
        ..property(name, doc)
    };
    Description {
        doc: "Pushes the stream to an RTMP server: once, some times, or whenever it is live."
            .to_owned(),
        direction: Direction::Reads,
        properties: vec![
            Property {
                required: true,
                ..property(
                    "rtmpUri",
                    "Where to: rtmp[s]://[user:password@]host[:port]/app/name[?query].",
                )
            },
            with_default(
                "immediate",
                "true makes one attempt, at once; attempts and delayS do not count then.",
                "false",
            ),
            with_default(
                "attempts",
                "Failed attempts after which it gives up, also those without a stream.",
                "12",
            ),
            with_default("delayS", "Seconds between attempts.", "10"),
            with_default(
                "persist",
                "true pushes whenever the stream is live, for ever; nothing else counts then.",
                "false",
            ),
            with_default(
                "connectTimeoutMs",
                "Milliseconds from dialing to the server's consent.",
                "10000",
            ),
            with_default(
                "maxLagMs",
                "A server that is more milliseconds behind goes on at the newest keyframe.",
                "5000",
            ),
            with_default(
                "tlsVerify",
                "Check the certificate of an rtmps:// server; false lets anyone on the way listen in.",
                "true",
            ),
            property(
                "tlsPin",
                "The sha256 of the only certificate to accept, in hex, instead of checking it against trusted roots.",
            ),
        ],
    }
}
