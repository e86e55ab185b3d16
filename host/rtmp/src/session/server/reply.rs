//! What a server says: decisions of its caller and answers to commands.
//!
//! Invariant: a decision on something that is no longer asked says nothing,
//! because clients leave while the caller thinks.

use super::super::command::{Command, information, on_status};
use super::streams::Use;
use super::{Connect, Offer, Refusal, ServerSession};
use crate::amf0::Value;
use crate::rml::Control;

/// The version string servers in the field give; players look for its shape.
const FMS_VERSION: &str = "FMS/3,5,7,7009";
/// Bits servers in the field give.
const CAPABILITIES: f64 = 31.0;
/// Enhanced RTMP: we forward what we do not decode.
const CAN_FORWARD: f64 = 4.0;
/// Enhanced RTMP `capsEx`: multitrack, modifiers and nanosecond offsets pass
/// through. Bit 0 is a client's word: that it obeys requests to reconnect.
const CAPS_EX: f64 = 14.0;

impl ServerSession {
    /// Accepts the connect that was asked for.
    pub fn accept_connect(&mut self) {
        let Connect::Asked(offer) = &mut self.connect else {
            return;
        };
        let app = std::mem::take(&mut offer.app);
        let (transaction, enhanced) = (offer.transaction, offer.enhanced);
        self.connect = Connect::Accepted { app, transaction };
        self.link
            .control(Control::WindowAckSize(self.config.window_ack));
        self.link
            .control(Control::PeerBandwidth(self.config.peer_bandwidth));
        self.link.announce_chunk_size();
        self.link.command(0, &connected(transaction, enhanced));
    }

    /// Rejects the connect that was asked for; nothing more is read.
    pub fn reject_connect(&mut self, description: &str) {
        let Connect::Asked(Offer { transaction, .. }) = self.connect else {
            return;
        };
        self.connect = Connect::Rejected;
        let code = "NetConnection.Connect.Rejected";
        self.link.command(
            0,
            &[
                Value::from("_error"),
                Value::Number(transaction),
                Value::Null,
                information("error", code, description),
            ],
        );
    }

    /// Accepts the publish on a stream.
    pub fn accept_publish(&mut self, stream_id: u32) {
        let Some(Use::PublishAsked(name)) = self.streams.get(stream_id).cloned() else {
            return;
        };
        self.streams.set(stream_id, Use::Publishing(name));
        self.grant();
        self.link.control(Control::StreamBegin(stream_id));
        self.status(stream_id, "NetStream.Publish.Start", "publishing");
    }

    /// Refuses the publish on a stream.
    pub fn reject_publish(&mut self, stream_id: u32, refusal: Refusal, description: &str) {
        if !matches!(self.streams.get(stream_id), Some(Use::PublishAsked(_))) {
            return;
        }
        self.streams.set(stream_id, Use::Idle);
        let code = match refusal {
            Refusal::BadName | Refusal::StreamNotFound => "NetStream.Publish.BadName",
            Refusal::Unauthorized => "NetStream.Publish.Unauthorized",
            Refusal::Limit => "NetStream.Publish.Failed",
        };
        self.status_error(stream_id, code, description);
    }

    /// Accepts the play on a stream; media may follow at once.
    pub fn accept_play(&mut self, stream_id: u32) {
        if self.streams.get(stream_id) != Some(&Use::PlayAsked) {
            return;
        }
        self.streams.set(stream_id, Use::Playing);
        // A player has nothing large to say: what it may make us hold stays small.
        self.granted = true;
        self.link.control(Control::StreamBegin(stream_id));
        self.status(stream_id, "NetStream.Play.Reset", "resetting");
        self.status(stream_id, "NetStream.Play.Start", "playing");
    }

    /// Refuses the play on a stream. librtmp players leave only on `Failed`
    /// and `StreamNotFound`, so the other refusals are `Failed` and differ in
    /// their description.
    pub fn reject_play(&mut self, stream_id: u32, refusal: Refusal, description: &str) {
        if self.streams.get(stream_id) != Some(&Use::PlayAsked) {
            return;
        }
        self.streams.set(stream_id, Use::Idle);
        let code = match refusal {
            Refusal::StreamNotFound => "NetStream.Play.StreamNotFound",
            Refusal::BadName | Refusal::Unauthorized | Refusal::Limit => "NetStream.Play.Failed",
        };
        let description = match refusal {
            Refusal::Unauthorized if !description.to_ascii_lowercase().contains("unauthorized") => {
                format!("unauthorized: {description}")
            }
            _ => description.to_owned(),
        };
        self.status_error(stream_id, code, &description);
    }

    /// Ends a play for good: each of the three is the one that some player
    /// leaves on. A play that was never accepted is refused as not found.
    /// Close the connection after a grace time.
    pub fn end_play(&mut self, stream_id: u32) {
        self.reject_play(stream_id, Refusal::StreamNotFound, "stream ended");
        if self.streams.get(stream_id) != Some(&Use::Playing) {
            return;
        }
        self.streams.set(stream_id, Use::Idle);
        self.link.control(Control::StreamEof(stream_id));
        self.status(stream_id, "NetStream.Play.UnpublishNotify", "stream ended");
        self.status(stream_id, "NetStream.Play.Stop", "stream ended");
    }

    /// Asks the client to connect elsewhere, to a whole tcUrl, and to go on there
    /// (Enhanced RTMP v2, "Reconnect Request"). False when it did not say that it obeys:
    /// nothing is sent then. End what it plays after.
    pub fn request_reconnect(&mut self, tc_url: &str, description: &str) -> bool {
        if !self.reconnects || !matches!(self.connect, Connect::Accepted { .. }) {
            return false;
        }
        let code = "NetConnection.Connect.ReconnectRequest";
        let information = Value::object([
            ("level", Value::from("status")),
            ("code", Value::from(code)),
            ("description", Value::from(description)),
            ("tcUrl", Value::from(tc_url)),
        ]);
        let status = [
            Value::from("onStatus"),
            Value::Number(0.0),
            Value::Null,
            information,
        ];
        self.link.command(0, &status);
        true
    }

    fn grant(&mut self) {
        self.granted = true;
        self.link.grant();
    }

    fn status(&mut self, stream_id: u32, code: &str, description: &str) {
        self.link
            .command(stream_id, &on_status("status", code, description));
    }

    pub(super) fn status_error(&mut self, stream_id: u32, code: &str, description: &str) {
        self.link
            .command(stream_id, &on_status("error", code, description));
    }

    /// Clients that expect no answer send transaction 0.
    pub(super) fn reply_result(&mut self, command: &Command, values: &[Value]) {
        if command.transaction != 0.0 {
            let transaction = Value::Number(command.transaction);
            let mut all = vec![Value::from("_result"), transaction];
            all.extend_from_slice(values);
            self.link.command(0, &all);
        }
    }

    /// Answers what clients tell out of habit. A client that tells it under the number of
    /// its connect would take the answer for one to that, and begin anew (xiu's pulls).
    pub(super) fn reply_habit(&mut self, command: &Command) {
        let of_connect = matches!(self.connect,
            Connect::Accepted { transaction, .. } if transaction == command.transaction);
        if !of_connect {
            self.reply_result(command, &[Value::Null]);
        }
    }

    pub(super) fn reply_error(&mut self, command: &Command, code: &str, description: &str) {
        if command.transaction != 0.0 {
            self.link.command(
                0,
                &[
                    Value::from("_error"),
                    Value::Number(command.transaction),
                    Value::Null,
                    information("error", code, description),
                ],
            );
        }
    }

    /// FCPublish and its kin: a result and a call in return, as Flash Media
    /// Server does it.
    pub(super) fn reply_fc(&mut self, command: &Command, call: &str, code: &str) {
        self.reply_habit(command);
        let name = command.text(0).unwrap_or_default();
        let name = name.split('?').next().unwrap_or_default();
        self.link.command(
            0,
            &[
                Value::from(call),
                Value::Number(0.0),
                Value::Null,
                information("status", code, name),
            ],
        );
    }
}

/// The values of the result of connect. AMF3 is never agreed to.
fn connected(transaction: f64, enhanced: bool) -> [Value; 4] {
    let mut properties = vec![
        ("fmsVer".to_owned(), Value::from(FMS_VERSION)),
        ("capabilities".to_owned(), Value::Number(CAPABILITIES)),
        ("mode".to_owned(), Value::Number(1.0)),
    ];
    let mut info = vec![
        ("level".to_owned(), Value::from("status")),
        (
            "code".to_owned(),
            Value::from("NetConnection.Connect.Success"),
        ),
        ("description".to_owned(), Value::from("connected")),
        ("objectEncoding".to_owned(), Value::Number(0.0)),
    ];
    if enhanced {
        // Clients look in either place.
        properties.extend(enhanced_capabilities());
        info.extend(enhanced_capabilities());
    }
    [
        Value::from("_result"),
        Value::Number(transaction),
        Value::Object(properties),
        Value::Object(info),
    ]
}

fn enhanced_capabilities() -> [(String, Value); 4] {
    let any = || Value::object([("*", Value::Number(CAN_FORWARD))]);
    [
        (
            "fourCcList".to_owned(),
            Value::StrictArray(vec![Value::from("*")]),
        ),
        ("videoFourCcInfoMap".to_owned(), any()),
        ("audioFourCcInfoMap".to_owned(), any()),
        ("capsEx".to_owned(), Value::Number(CAPS_EX)),
    ]
}
