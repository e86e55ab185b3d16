//! What a client makes of the commands and status of a server.
//!
//! Invariant: one place decides which class a refusal has.

use bytes::Bytes;

use super::super::command::{Command, stream_id};
use super::{ClientEvent, ClientSession, End, Phase, Purpose, RejectClass, Rejection};
use crate::amf0::{self, Value};

impl ClientSession {
    pub(super) fn command(&mut self, command: &Command) {
        match command.name.as_str() {
            "_result" => self.on_result(command),
            "_error" => self.on_error(command),
            "onStatus" => self.on_status(command),
            "close" => self.on_close(),
            // Bandwidth checks wait for an answer.
            "_onbwcheck" | "onBWCheck" if command.transaction != 0.0 => {
                let transaction = Value::Number(command.transaction);
                let result = Value::from("_result");
                let values = [result, transaction, Value::Null, Value::Number(0.0)];
                self.link.command(0, &values);
            }
            _ => {}
        }
    }

    fn on_result(&mut self, command: &Command) {
        match self.phase {
            Phase::Connecting(sent) if is(command, sent) => {
                self.events.push_back(ClientEvent::Connected);
                self.connected();
            }
            Phase::Creating(sent) if is(command, sent) => {
                // The id comes after a null; some servers leave the null out.
                let id = command.arguments.first().and_then(stream_id);
                match id.or_else(|| stream_id(&command.object)) {
                    Some(id) => self.created(id),
                    None => self.reject_text("", "createStream gave no stream"),
                }
            }
            _ => {}
        }
    }

    fn on_error(&mut self, command: &Command) {
        let ours = match self.phase {
            Phase::Connecting(sent) | Phase::Creating(sent) => sent,
            Phase::Asked { transaction, .. } => transaction,
            _ => return,
        };
        // Refused releaseStream, FCPublish and FCSubscribe do not matter.
        if is(command, ours) {
            self.reject(command.information());
        }
    }

    fn on_status(&mut self, command: &Command) {
        let information = command.information();
        let code = text(information, "code").unwrap_or_default();
        match code {
            "NetStream.Play.Start" if self.config.purpose == Purpose::Play => {
                self.ended = false;
                self.started();
            }
            "NetStream.Publish.Start" if self.config.purpose == Purpose::Publish => self.started(),
            "NetStream.Play.UnpublishNotify" => self.end(End::UnpublishNotify),
            "NetStream.Play.Stop" => self.end(End::Stop),
            "NetStream.Play.Complete" => self.end(End::Complete),
            "NetStream.Unpublish.Success" => self.end(End::Closed),
            "NetConnection.Connect.Closed" => self.on_close(),
            "NetConnection.Connect.ReconnectRequest" => {
                let owned = |key| text(information, key).map(str::to_owned);
                self.events.push_back(ClientEvent::Reconnect {
                    tc_url: owned("tcUrl"),
                    description: owned("description"),
                });
            }
            _ if text(information, "level") == Some("error") || is_refusal(code) => {
                self.reject(information);
            }
            _ => {}
        }
    }

    /// Play or publish has begun; a second beginning says nothing new.
    pub(super) fn started(&mut self) {
        let Phase::Asked { stream_id, .. } = self.phase else {
            return;
        };
        self.phase = Phase::Running { stream_id };
        self.link.grant();
        self.events.push_back(match self.config.purpose {
            Purpose::Play => ClientEvent::PlayStarted,
            Purpose::Publish => ClientEvent::PublishAccepted,
        });
        let early = std::mem::take(&mut self.early);
        self.events
            .extend(early.into_iter().map(ClientEvent::Media));
    }

    fn on_close(&mut self) {
        match self.phase {
            Phase::Running { .. } => self.end(End::Closed),
            _ => self.reject_text("NetConnection.Connect.Closed", "closed by the server"),
        }
    }

    /// Data about the connection and not of the stream: handled here and not
    /// delivered.
    pub(super) fn connection_data(&mut self, payload: &Bytes) -> bool {
        if opens_with(payload, "onPlayStatus") {
            let values = amf0::decode(payload).unwrap_or_default();
            let complete = |value: &Value| {
                value.get("code").and_then(Value::as_str) == Some("NetStream.Play.Complete")
            };
            if values.iter().any(complete) {
                self.end(End::Complete);
            }
            return true;
        }
        opens_with(payload, "onStatus") || opens_with(payload, "|RtmpSampleAccess")
    }

    fn reject(&mut self, information: Option<&Value>) {
        let code = text(information, "code").unwrap_or_default();
        let description = text(information, "description").unwrap_or_default();
        let redirect = information
            .and_then(|information| information.get("ex"))
            .and_then(|ex| text(Some(ex), "redirect"));
        self.over(Rejection {
            class: classify(code, description, redirect),
            code: code.to_owned(),
            description: description.to_owned(),
        });
    }

    fn reject_text(&mut self, code: &str, description: &str) {
        self.over(Rejection {
            class: classify(code, description, None),
            code: code.to_owned(),
            description: description.to_owned(),
        });
    }

    fn over(&mut self, rejection: Rejection) {
        self.phase = Phase::Over;
        self.events.push_back(ClientEvent::Rejected(rejection));
    }
}

fn is(command: &Command, transaction: u32) -> bool {
    command.transaction == f64::from(transaction)
}

fn text<'a>(information: Option<&'a Value>, key: &str) -> Option<&'a str> {
    information?.get(key)?.as_str()
}

/// Codes that are a no, whatever level they come with.
fn is_refusal(code: &str) -> bool {
    matches!(
        code,
        "NetStream.Play.StreamNotFound"
            | "NetStream.Play.Failed"
            | "NetStream.Failed"
            | "NetStream.Publish.BadName"
            | "NetStream.Publish.Denied"
            | "NetStream.Publish.Failed"
            | "NetConnection.Connect.Rejected"
            | "NetConnection.Connect.Failed"
            | "NetConnection.Connect.InvalidApp"
    )
}

/// Servers agree on few codes, so the text decides as well.
fn classify(code: &str, description: &str, redirect: Option<&str>) -> RejectClass {
    if let Some(to) = redirect {
        return RejectClass::Redirected { to: to.to_owned() };
    }
    let said = format!("{code} {description}").to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    // A code that leaves no doubt beats words, which may be part of a stream's name.
    let absent = matches!(
        code,
        "NetStream.Play.StreamNotFound" | "NetConnection.Connect.InvalidApp"
    );
    if absent && !says(&["authmod"]) {
        return RejectClass::NotFound;
    }
    if says(&[
        "authmod",
        "unauthorized",
        "code=403",
        "code 403",
        "denied",
        "forbidden",
        "authentication",
    ]) {
        RejectClass::Auth
    } else if says(&[
        "streamnotfound",
        "invalidapp",
        "not found",
        "no such stream",
    ]) {
        RejectClass::NotFound
    } else {
        RejectClass::Rejected
    }
}

/// Whether a data message opens with this name.
fn opens_with(payload: &[u8], name: &str) -> bool {
    const SHORT_STRING: u8 = 0x02;
    payload
        .strip_prefix(&[SHORT_STRING, 0])
        .and_then(|rest| rest.split_first())
        .is_some_and(|(length, rest)| {
            usize::from(*length) == name.len() && rest.starts_with(name.as_bytes())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_beats_the_words_beside_it() {
        let class = |code, words| classify(code, words, None);
        let absent = "NetStream.Play.StreamNotFound";
        assert_eq!(
            class(absent, "stream denied-cam not found"),
            RejectClass::NotFound
        );
        assert_eq!(class(absent, "[ authmod=adobe ]"), RejectClass::Auth);
        let failed = "NetStream.Play.Failed";
        assert_eq!(class(failed, "access denied"), RejectClass::Auth);
        assert_eq!(class(failed, "no such stream"), RejectClass::NotFound);
        assert_eq!(class(failed, "busy"), RejectClass::Rejected);
    }
}
