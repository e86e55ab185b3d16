//! How the misbehaving guests pull: one source, put on air, without any care.

use restreamd_plugin::media::Source;
use restreamd_plugin::{
    Description, Direction, Handover, Job, Properties, Property, property, rtmp,
};

/// A description with `url` and whatever else the guest takes.
pub(crate) fn describe(doc: &str, more: &[(&str, &str, &str)]) -> Description {
    let url = Property {
        required: true,
        ..property("url", "The stream to pull.")
    };
    let more = more.iter().map(|(name, doc, default)| Property {
        default: Some((*default).to_owned()),
        ..property(name, doc)
    });
    Description {
        doc: doc.to_owned(),
        direction: Direction::Feeds,
        properties: [url].into_iter().chain(more).collect(),
    }
}

/// The source a former instance left, or a new one.
pub(crate) fn source(job: Job, former: Option<Handover>) -> Option<Source> {
    if let Some(source) = former.and_then(|former| former.sources.into_iter().next()) {
        return Some(source);
    }
    let options = rtmp::ConnectOptions {
        connect_timeout_ms: 5_000,
        stall_ms: Some(5_000),
        swf_url: None,
        page_url: None,
        flash_ver: None,
        fc_subscribe: false,
        tls: rtmp::TlsCheck::Verify,
    };
    let properties = Properties::new(job.properties);
    let source = rtmp::connect(properties.get(&["url"])?, &options).ok()?;
    source.attach().ok()?;
    Some(source)
}
