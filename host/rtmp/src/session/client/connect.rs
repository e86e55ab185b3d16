//! What a client is to do, and the commands that open it.
//!
//! Invariant: user info of the URL is never sent here; authentication is the
//! caller's, through the app query.

use super::{ClientSession, Phase};
use crate::amf0::Value;
use crate::rml::Control;
use crate::session::link::DEFAULT_WINDOW;
use crate::url::RtmpUrl;

/// What the session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Pull a stream.
    Play,
    /// Publish a stream.
    Publish,
}

/// What a client session is to do.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// The stream.
    pub url: RtmpUrl,
    /// What for.
    pub purpose: Purpose,
    /// What to call ourselves; some servers let only some players in.
    pub flash_ver: Option<String>,
    /// The player's file, for servers that check it.
    pub swf_url: Option<String>,
    /// The player's page, for servers that check it.
    pub page_url: Option<String>,
    /// Send FCSubscribe before play, as some networks want it.
    pub fc_subscribe: bool,
}

// URLs of a player's page and file hold tokens, so `Debug` does not show them.
impl std::fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientConfig")
            .field("url", &self.url)
            .field("purpose", &self.purpose)
            .field("fc_subscribe", &self.fc_subscribe)
            .finish_non_exhaustive()
    }
}

const PLAYER: &str = "LNX 9,0,124,2";
const PUBLISHER: &str = "FMLE/3.0 (compatible; restreamd)";

/// All audio codecs of the specification but the unused bit (section 7.2.1.1).
const AUDIO_CODECS: f64 = 4_071.0;
/// All video codecs of the specification but the obsolete ones.
const VIDEO_CODECS: f64 = 252.0;
/// Bits players in the field give.
const CAPABILITIES: f64 = 239.0;
/// Frame-accurate seeks, as all players say; colour info and other metadata packets,
/// which are passed on.
const VIDEO_FUNCTION: f64 = 7.0;
/// Enhanced RTMP: we forward what we do not decode.
const CAN_FORWARD: f64 = 4.0;
/// Enhanced RTMP `capsEx`: multitrack, modifiers, nanosecond offsets.
const CAPS_EX: u8 = 14;
/// Enhanced RTMP `capsEx`: requests to reconnect are obeyed.
const CAPS_EX_RECONNECT: u8 = 1;
/// Live only: a recording of the same name is not what a restream wants.
const START_LIVE: f64 = -1_000.0;
/// A live player's buffer; servers send at once, whatever it says.
const BUFFER_MS: u32 = 3_000;

impl ClientSession {
    pub(super) fn send_connect(&mut self) {
        let object = self.connect_object();
        let transaction = self.call("connect", &[object]);
        self.phase = Phase::Connecting(transaction);
    }

    fn connect_object(&self) -> Value {
        let config = &self.config;
        let query = |to: &str| match (to.contains('?'), self.app_query.strip_prefix('?')) {
            (true, Some(more)) => format!("{to}&{more}"),
            _ => format!("{to}{}", self.app_query),
        };
        let flash_ver = config.flash_ver.clone().unwrap_or_else(|| {
            let default = match config.purpose {
                Purpose::Play => PLAYER,
                Purpose::Publish => PUBLISHER,
            };
            default.to_owned()
        });
        let any = || Value::object([("*", Value::Number(CAN_FORWARD))]);
        // A publish is not moved on: whoever feeds it would have to begin anew.
        let caps_ex = match config.purpose {
            Purpose::Play => CAPS_EX | CAPS_EX_RECONNECT,
            Purpose::Publish => CAPS_EX,
        };
        let mut named = vec![
            ("app", Value::from(query(config.url.app()))),
            ("flashVer", Value::from(flash_ver)),
        ];
        if config.purpose == Purpose::Publish {
            named.push(("type", Value::from("nonprivate")));
        }
        for (key, value) in [("swfUrl", &config.swf_url), ("pageUrl", &config.page_url)] {
            named.extend(value.clone().map(|value| (key, Value::from(value))));
        }
        named.extend([
            ("tcUrl", Value::from(query(&config.url.tc_url()))),
            ("fpad", Value::Boolean(false)),
            ("capabilities", Value::Number(CAPABILITIES)),
            ("audioCodecs", Value::Number(AUDIO_CODECS)),
            ("videoCodecs", Value::Number(VIDEO_CODECS)),
            ("videoFunction", Value::Number(VIDEO_FUNCTION)),
            ("objectEncoding", Value::Number(0.0)),
            // The first version knew the list only, later ones recommend the maps.
            ("fourCcList", Value::StrictArray(vec![Value::from("*")])),
            ("videoFourCcInfoMap", any()),
            ("audioFourCcInfoMap", any()),
            ("capsEx", Value::Number(caps_ex.into())),
        ]);
        Value::object(named)
    }

    /// Connect was accepted: prepare a stream.
    pub(super) fn connected(&mut self) {
        let name = Value::from(self.config.url.name());
        if self.window_sent.is_none() {
            self.window_sent = Some(DEFAULT_WINDOW);
            self.link.control(Control::WindowAckSize(DEFAULT_WINDOW));
        }
        match self.config.purpose {
            Purpose::Publish => {
                self.link.announce_chunk_size();
                self.call("releaseStream", &[Value::Null, name.clone()]);
                self.call("FCPublish", &[Value::Null, name]);
            }
            Purpose::Play if self.config.fc_subscribe => {
                self.call("FCSubscribe", &[Value::Null, name]);
            }
            Purpose::Play => {}
        }
        let transaction = self.call("createStream", &[Value::Null]);
        self.phase = Phase::Creating(transaction);
    }

    /// The stream was created: play or publish on it.
    pub(super) fn created(&mut self, stream_id: u32) {
        let name = Value::from(self.config.url.name());
        let transaction = match self.config.purpose {
            Purpose::Play => {
                let start = Value::Number(START_LIVE);
                self.call_on(stream_id, "play", &[Value::Null, name, start])
            }
            Purpose::Publish => {
                let mode = Value::from("live");
                self.call_on(stream_id, "publish", &[Value::Null, name, mode])
            }
        };
        if self.config.purpose == Purpose::Play {
            self.link.control(Control::SetBufferLength {
                stream_id,
                milliseconds: BUFFER_MS,
            });
        }
        self.phase = Phase::Asked {
            transaction,
            stream_id,
        };
    }

    pub(super) fn call(&mut self, name: &str, values: &[Value]) -> u32 {
        self.call_on(0, name, values)
    }

    fn call_on(&mut self, stream_id: u32, name: &str, values: &[Value]) -> u32 {
        self.transaction += 1;
        let transaction = Value::Number(f64::from(self.transaction));
        let mut all = vec![Value::from(name), transaction];
        all.extend_from_slice(values);
        self.link.command(stream_id, &all);
        self.transaction
    }
}
