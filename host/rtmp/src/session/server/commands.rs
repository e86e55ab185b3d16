//! What a server does with each command of a client.
//!
//! It does not decide on connect, publish and play; it raises the events.
//! Invariants: transaction 0 is never answered; no command but a broken or
//! misplaced one ends the session.

use super::super::SessionError;
use super::super::command::{Command, stream_id};
use super::streams::Use;
use super::{Connect, Offer, ServerEvent, ServerSession};
use crate::amf0::Value;

/// Publish and play requests on one connection. Each makes the caller look
/// something up; a client that changes streams this often can reconnect.
const MAX_REQUESTS: usize = 64;
/// What only clients send that speak Enhanced RTMP. Which codecs they name is nothing to
/// us: what one cannot play, it leaves out.
const ENHANCED: [&str; 4] = [
    "fourCcList",
    "videoFourCcInfoMap",
    "audioFourCcInfoMap",
    "capsEx",
];

impl ServerSession {
    pub(super) fn command(&mut self, command: &Command) -> Result<(), SessionError> {
        let first = matches!(self.connect, Connect::Awaited);
        match (command.name.as_str(), first) {
            ("connect", true) => self.on_connect(command),
            ("connect", false) => return Err(SessionError::protocol("second connect")),
            (_, true) => return Err(SessionError::protocol("command before connect")),
            ("createStream", _) => self.on_create_stream(command),
            ("publish", _) => self.on_publish(command)?,
            ("play" | "play2", _) => self.on_play(command)?,
            ("deleteStream", _) => self.on_delete_stream(command),
            ("closeStream", _) => {
                let id = command.stream(0).unwrap_or(command.stream_id);
                self.leave(self.streams.addressed(id));
            }
            ("FCPublish", _) => self.reply_fc(command, "onFCPublish", "NetStream.Publish.Start"),
            ("FCSubscribe", _) => self.reply_fc(command, "onFCSubscribe", "NetStream.Play.Start"),
            ("FCUnpublish", _) => self.on_fc_unpublish(command),
            ("getStreamLength" | "_checkbw", _) => {
                self.reply_result(command, &[Value::Null, Value::Number(0.0)]);
            }
            (
                "releaseStream" | "FCUnsubscribe" | "pause" | "seek" | "receiveAudio"
                | "receiveVideo",
                _,
            ) => self.reply_habit(command),
            // Answers to things we never ask.
            ("_result" | "_error" | "onStatus", _) => {}
            _ => self.reply_error(command, "NetConnection.Call.Failed", "method not found"),
        }
        Ok(())
    }

    fn on_connect(&mut self, command: &Command) {
        let text = |key| command.object.get(key)?.as_str().map(str::to_owned);
        let app = text("app").unwrap_or_default();
        let caps_ex = command.object.get("capsEx").and_then(Value::as_f64);
        self.reconnects = caps_ex.is_some_and(|bits| bits.rem_euclid(2.0) >= 1.0);
        self.connect = Connect::Asked(Offer {
            transaction: command.transaction,
            app: app.clone(),
            enhanced: ENHANCED.iter().any(|key| command.object.get(key).is_some()),
        });
        self.events.push_back(ServerEvent::Connect {
            app,
            tc_url: text("tcUrl"),
            flash_ver: text("flashVer"),
            object: command.object.clone(),
        });
    }

    fn on_create_stream(&mut self, command: &Command) {
        match self.streams.create() {
            Some(id) => self.reply_result(command, &[Value::Null, Value::Number(f64::from(id))]),
            None => self.reply_error(command, "NetConnection.Call.Failed", "too many streams"),
        }
    }

    fn on_publish(&mut self, command: &Command) -> Result<(), SessionError> {
        let id = self.streams.addressed(command.stream_id);
        let Some(name) = command.text(0) else {
            // publish(false) ends the publish.
            self.leave(id);
            return Ok(());
        };
        self.count_request()?;
        let Some(id) = id.filter(|_| !name.is_empty()) else {
            self.status_error(
                command.stream_id,
                "NetStream.Publish.BadName",
                "no stream or no name",
            );
            return Ok(());
        };
        if self.streams.get(id) != Some(&Use::Idle) {
            self.status_error(id, "NetStream.Publish.BadName", "stream is in use");
            return Ok(());
        }
        self.streams.set(id, Use::PublishAsked(name.to_owned()));
        let mode = command.text(1).unwrap_or("live").to_ascii_lowercase();
        self.events.push_back(ServerEvent::Publish {
            stream_id: id,
            app: self.app(),
            name: name.to_owned(),
            mode,
        });
        Ok(())
    }

    fn on_play(&mut self, command: &Command) -> Result<(), SessionError> {
        let id = self.streams.addressed(command.stream_id);
        // play2 has its name in an object.
        let named = |value: &Value| {
            let name = value.get("streamName").unwrap_or(value);
            name.as_str().map(str::to_owned)
        };
        let Some(name) = command.arguments.first().and_then(named) else {
            // play(false) ends the play.
            self.leave(id);
            return Ok(());
        };
        self.count_request()?;
        let free =
            |used: Option<&Use>| matches!(used, Some(Use::Idle | Use::PlayAsked | Use::Playing));
        let Some(id) = id.filter(|id| !name.is_empty() && free(self.streams.get(*id))) else {
            self.status_error(
                command.stream_id,
                "NetStream.Play.Failed",
                "no stream or no name",
            );
            return Ok(());
        };
        // A second play switches to another name.
        self.leave(Some(id));
        self.streams.set(id, Use::PlayAsked);
        self.events.push_back(ServerEvent::Play {
            stream_id: id,
            app: self.app(),
            name,
        });
        Ok(())
    }

    fn count_request(&mut self) -> Result<(), SessionError> {
        self.requests += 1;
        match self.requests > MAX_REQUESTS {
            true => Err(SessionError::protocol("too many publish or play requests")),
            false => Ok(()),
        }
    }

    fn on_delete_stream(&mut self, command: &Command) {
        let id = command.arguments.first().and_then(stream_id);
        let id = id.unwrap_or(command.stream_id);
        self.leave(Some(id));
        self.streams.delete(id);
    }

    /// Some clients send only this when they stop publishing.
    fn on_fc_unpublish(&mut self, command: &Command) {
        let name = command.text(0).unwrap_or_default();
        for id in self.streams.publishing(name) {
            self.leave(Some(id));
        }
        self.reply_fc(command, "onFCUnpublish", "NetStream.Unpublish.Success");
    }

    /// The client stops what it did on a stream.
    fn leave(&mut self, id: Option<u32>) {
        let Some(stream_id) = id else { return };
        let event = match self.streams.set(stream_id, Use::Idle) {
            None | Some(Use::Idle) => return,
            Some(Use::PublishAsked(_) | Use::Publishing(_)) => {
                ServerEvent::PublishFinished { stream_id }
            }
            Some(Use::PlayAsked | Use::Playing) => ServerEvent::PlayFinished { stream_id },
        };
        self.events.push_back(event);
    }

    fn app(&self) -> String {
        match &self.connect {
            Connect::Accepted { app, .. } => app.clone(),
            _ => String::new(),
        }
    }
}
