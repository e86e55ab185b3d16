//! The `resolve` type: asks an HTTP server of the operator for the URL before every attempt.
//!
//! For streams whose URLs hold tokens that expire. The server is asked with the stream's
//! name and answers with one URL as text. Shows how a policy uses an import that has to be
//! granted: `[plugins.overrides.resolve.grants] http = ["host:port"]`.

use restreamd_plugin::media::Source;
use restreamd_plugin::retry::{Class, Retry};
use restreamd_plugin::runtime::{self, Phase, Wake};
use restreamd_plugin::{
    Description, Direction, Handover, IoError, Job, Outcome, Problem, Properties, Property,
    Restreamer, TlsCheck, error, http, property, rtmp,
};

/// The first and the longest wait between attempts.
const RETRY_MS: (u32, u32) = (250, 30_000);
/// Media that stops for so long has stopped.
const STALL_MS: u32 = 2_500;

/// The type.
#[derive(Debug)]
pub struct Resolve;

restreamd_plugin::export!(Resolve);

impl Restreamer for Resolve {
    fn describe() -> Description {
        Description {
            doc: "Pulls an RTMP stream whose URL an HTTP server gives, asked before every attempt."
                .to_owned(),
            direction: Direction::Feeds,
            properties: vec![
                Property {
                    required: true,
                    ..property(
                        "endpoint",
                        "Whom to ask: http[s]://host[:port]/path. It gets ?streamGuid=… and answers 200 with one URL as text.",
                    )
                },
                Property {
                    secret: true,
                    ..property("authorization", "Sent to it as the Authorization header.")
                },
                Property {
                    default: Some("5000".to_owned()),
                    ..property("timeoutMs", "Milliseconds it may take to answer.")
                },
            ],
        }
    }

    fn check(properties: &Properties) -> Vec<Problem> {
        let mut problems = properties.problems(&Self::describe());
        if properties.get(&["endpoint"]).is_some() {
            problems.extend(Settings::parse(properties).err());
        }
        problems
    }

    fn run(job: Job, former: Option<Handover>) -> Outcome {
        let mut settings = match Settings::parse(&Properties::new(job.properties)) {
            Ok(settings) => settings,
            Err(problem) => {
                return Outcome::GaveUp(format!("{}: {}", problem.key, problem.message));
            }
        };
        let now = runtime::now_ms();
        let mut retry = Retry::new(RETRY_MS.0, RETRY_MS.1, now);
        let mut due = now;
        let mut source = former.and_then(|former| {
            if let Some((wait, rest)) = former.state.split_first_chunk() {
                due = now.saturating_add(u32::from_le_bytes(*wait).into());
                retry.restore(rest, now);
            }
            former.sources.into_iter().next()
        });
        loop {
            let mut failure = None;
            if source.is_none() && runtime::now_ms() >= due {
                match pull(&settings, &job.stream_guid) {
                    Ok(opened) => source = Some(opened),
                    Err(IoError::Cancelled) => {} // `wait` says why
                    Err(error) => failure = Some(error),
                }
            }
            if failure.is_none() {
                let left = due.saturating_sub(runtime::now_ms());
                failure = match runtime::wait(source.is_none().then_some(left as u32)) {
                    Wake::Stop => return Outcome::Stopped,
                    Wake::Upgrade => {
                        return Outcome::HandedOver(Handover {
                            sources: source.into_iter().collect(),
                            targets: Vec::new(),
                            state: state(due, &retry),
                        });
                    }
                    Wake::SourceEnded((_, error)) => Some(error),
                    Wake::Facts(_) => stalled(source.as_ref(), &mut retry),
                    Wake::Reachable => {
                        due = runtime::now_ms();
                        None
                    }
                    Wake::Reconfigured(properties) => {
                        // What plays goes on; the next attempt asks the new server.
                        if let Ok(new) = Settings::parse(&Properties::new(properties)) {
                            (settings, due) = (new, runtime::now_ms());
                        }
                        None
                    }
                    _ => None,
                };
            }
            if let Some(error) = failure {
                // News of what plays well are seldom: until now it was live.
                let _ = stalled(source.as_ref(), &mut retry);
                source = None;
                let now = runtime::now_ms();
                let wait = retry.failed(Class::from(&error), now, runtime::random_u32());
                due = now + u64::from(wait);
                runtime::set_status(Phase::BackingOff, &error::text(&error), Some(wait));
                runtime::checkpoint(&state(due, &retry));
            }
        }
    }
}

/// What an instance after this one has to know: the wait that is left, the waits' memory.
fn state(due: u64, retry: &Retry) -> Vec<u8> {
    let now = runtime::now_ms();
    let left = due.saturating_sub(now) as u32;
    [&left.to_le_bytes()[..], &retry.save(now)].concat()
}

/// Asks, and dials what was answered.
fn pull(settings: &Settings, stream: &str) -> Result<Source, IoError> {
    let url = settings.ask(stream)?;
    let source = rtmp::connect(&url, &OPTIONS)?;
    source.attach()?;
    Ok(source)
}

/// The end of a source that stalled, if it did.
fn stalled(source: Option<&Source>, retry: &mut Retry) -> Option<IoError> {
    let facts = source?.facts();
    if facts.flowing_ms > 0 {
        retry.media(runtime::now_ms(), facts.flowing_ms);
    }
    facts
        .stall
        .map(|kind| IoError::Stalled(format!("{kind:?}")))
}

/// What the properties say.
struct Settings {
    endpoint: String,
    authorization: Option<String>,
    timeout_ms: u32,
}

impl Settings {
    fn parse(properties: &Properties) -> Result<Self, Problem> {
        let endpoint = properties.url("endpoint", &["http", "https"])?;
        let endpoint = endpoint.ok_or_else(|| Problem {
            key: "endpoint".to_owned(),
            message: "is required".to_owned(),
        })?;
        Ok(Self {
            endpoint: endpoint.to_owned(),
            authorization: properties.get(&["authorization"]).map(str::to_owned),
            timeout_ms: properties.number("timeoutMs", 100..=30_000, 5_000)?,
        })
    }

    fn ask(&self, stream: &str) -> Result<String, IoError> {
        let mark = if self.endpoint.contains('?') {
            '&'
        } else {
            '?'
        };
        let authorization = self.authorization.iter();
        let response = http::fetch(&http::Request {
            method: http::Method::Get,
            url: format!("{}{mark}streamGuid={}", self.endpoint, escaped(stream)),
            headers: authorization
                .map(|value| ("authorization".to_owned(), value.clone()))
                .collect(),
            body: Vec::new(),
            timeout_ms: self.timeout_ms,
            tls: TlsCheck::Verify,
        })?;
        let said = || format!("the endpoint answered {}", response.status);
        match response.status {
            200 => match str::from_utf8(&response.body).map(str::trim) {
                Ok(url) if !url.is_empty() => Ok(url.to_owned()),
                _ => Err(IoError::Protocol("the endpoint gave no URL".to_owned())),
            },
            401 | 403 => Err(IoError::Auth(said())),
            404 => Err(IoError::NotFound(said())),
            _ => Err(IoError::Rejected(said())),
        }
    }
}

/// As a query holds it.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

const OPTIONS: rtmp::ConnectOptions = rtmp::ConnectOptions {
    connect_timeout_ms: 10_000,
    stall_ms: Some(STALL_MS),
    swf_url: None,
    page_url: None,
    flash_ver: None,
    fc_subscribe: false,
    tls: TlsCheck::Verify,
};
