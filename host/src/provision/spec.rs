//! From a request's body to [`Provision`]s: pure, and the only place that judges them.
//!
//! Knows no plugin: what a type name means is asked of a closure. Whatever comes out is
//! within all bounds; whatever is refused names the exact field.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::field::{Field, Invalid};
use super::{Document, Provision, ProvisionStream, optional};
use crate::id::{ProvisionGuid, RestreamType};
use crate::stream::latency::{BadLatency, Latency};

/// Provisions in one request. With [`MAX_STREAMS`] it keeps a transaction under etcd's 128 operations.
pub const MAX_PROVISIONS: usize = 32;
/// Streams in one request, over all of its provisions.
pub const MAX_STREAMS: usize = 32;
/// Properties of one stream; no known type has 30.
const MAX_PROPERTIES: usize = 128;
/// Bytes of one property's name.
const MAX_KEY: usize = 128;
/// Bytes of one property's value; room for a long list of files or sources.
const MAX_VALUE: usize = 16 * 1024;

/// What a type name means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    /// The type, aliases resolved.
    pub kind: RestreamType,
    /// Whether it feeds its stream or reads it.
    pub feeds: bool,
}

/// Tells what a stream's (by index) type name means, or what to say when it means nothing.
pub type KindOf<'a> = &'a dyn Fn(usize, &str) -> Result<Kind, String>;

/// What a request wants, for the `action`s it may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// New provisions.
    Create,
    /// Changes of existing ones.
    Update,
}

/// One provision's object of a request, and the path it lies at.
pub struct Request {
    /// Empty when it is the only one, so that paths begin inside of it; else `[i]`.
    pub path: String,
    /// As sent.
    pub document: Document,
}

/// Takes a body apart: an array of objects, or a single one.
pub fn requests(body: &[u8]) -> Result<Vec<Request>, Invalid> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|cause| Invalid::whole(format!("is not JSON: {cause}")))?;
    let items = match body {
        Value::Array(items) => items,
        object @ Value::Object(_) => vec![object],
        _ => return Err(Invalid::whole("must be an array of provisions")),
    };
    if items.is_empty() || items.len() > MAX_PROVISIONS {
        return Err(Invalid::whole(format!(
            "must hold 1 to {MAX_PROVISIONS} provisions"
        )));
    }
    let alone = items.len() == 1;
    let request = |(index, item)| match item {
        Value::Object(object) => Ok(Request {
            path: if alone {
                String::new()
            } else {
                format!("[{index}]")
            },
            document: Document(object),
        }),
        _ => Err(Invalid::at(format!("[{index}]"), "must be an object")),
    };
    items.into_iter().enumerate().map(request).collect()
}

/// The name of the provision a document describes: `provisionGuid`, or in old documents a `streamGuid`.
pub fn guid(document: &Document, path: &str) -> Result<ProvisionGuid, Invalid> {
    Field::of(path, &document.0, "provisionGuid")
        .or_else(|| Field::of(path, &document.0, "streamGuid"))
        .map_or_else(|| Field::needed(path, &document.0, "provisionGuid"), Ok)?
        .name()
}

/// Reads one provision, the object at `path` of its request.
pub fn provision(
    document: Document,
    path: &str,
    verb: Verb,
    kind_of: KindOf<'_>,
) -> Result<Provision, Invalid> {
    let guid = guid(&document, path)?;
    let whole = Value::Object(document.0);
    let root = Field {
        path: path.to_owned(),
        value: &whole,
    };
    optional::provision(&root)?;
    let items = root.need("streams")?.items()?;
    if items.len() > MAX_STREAMS {
        return Err(root
            .need("streams")?
            .invalid(format!("must hold at most {MAX_STREAMS} streams")));
    }
    let mut streams = Vec::with_capacity(items.len());
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let stream = read_stream(item, verb, &|name| kind_of(index, name))?;
        if !seen.insert(stream.guid.clone()) {
            return Err(item.need("streamGuid")?.invalid("is named twice"));
        }
        streams.push(stream);
    }
    drop((items, root));
    let Value::Object(object) = whole else {
        unreachable!("was made an object above")
    };
    Ok(Provision {
        guid,
        document: Document(object),
        streams,
    })
}

/// Checks what only shows over all provisions of a request. `paths` are those of [`Request`], in the same order.
pub fn together(provisions: &[Provision], paths: &[String]) -> Result<(), Invalid> {
    let total: usize = provisions
        .iter()
        .map(|provision| provision.streams.len())
        .sum();
    if total > MAX_STREAMS {
        return Err(Invalid::whole(format!(
            "must hold at most {MAX_STREAMS} streams in all, not {total}"
        )));
    }
    let (mut guids, mut fed) = (HashSet::new(), HashSet::new());
    for (provision, path) in provisions.iter().zip(paths) {
        if !guids.insert(&provision.guid) {
            return Err(Invalid::at(
                super::field::join(path, "provisionGuid"),
                "is named twice",
            ));
        }
        for (index, stream) in provision.streams.iter().enumerate() {
            if stream.feeds && !fed.insert(&stream.guid) {
                let field = format!("streams[{index}].streamGuid");
                return Err(Invalid::at(
                    super::field::join(path, &field),
                    "is fed by two provisions of this request",
                ));
            }
        }
    }
    Ok(())
}

fn read_stream(
    of: &Field<'_>,
    verb: Verb,
    kind_of: &dyn Fn(&str) -> Result<Kind, String>,
) -> Result<ProvisionStream, Invalid> {
    let guid = of.need("streamGuid")?.name()?;
    optional::stream(of)?;
    let level = of
        .get("abrLevel")?
        .map(|level| level.integer(0..=i64::from(i32::MAX)))
        .transpose()?;
    let properties = of.need("camParams")?.need("properties")?;
    check_action(&properties, verb)?;
    let name = properties.need("type")?;
    let Kind { kind, feeds } = kind_of(name.text()?).map_err(|message| name.invalid(message))?;
    Ok(ProvisionStream {
        guid,
        kind,
        feeds,
        properties: read_properties(&properties)?,
        latency: read_latency(&properties, feeds)?,
        persist: read_persist(&properties)?,
        // Red5's default.
        abr_level: level
            .and_then(|level| u32::try_from(level).ok())
            .unwrap_or(1),
    })
}

fn check_action(properties: &Field<'_>, verb: Verb) -> Result<(), Invalid> {
    let Some(action) = properties.get("action")? else {
        return Ok(());
    };
    let hint = match action.text()? {
        "create" => return Ok(()),
        "update" if verb == Verb::Update => return Ok(()),
        "update" => "must be create here; send an update with PUT",
        "kill" => "must be create; to stop a provision, DELETE it",
        "list" => "must be create; to list provisions, GET them",
        _ => "must be create, or update in a PUT",
    };
    Err(action.invalid(hint))
}

fn read_properties(of: &Field<'_>) -> Result<Vec<(String, String)>, Invalid> {
    let object = of.object()?;
    if object.len() > MAX_PROPERTIES {
        return Err(of.invalid(format!("must hold at most {MAX_PROPERTIES} properties")));
    }
    let mut properties = Vec::with_capacity(object.len());
    for (key, value) in object {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(of.invalid(format!("must have names of 1 to {MAX_KEY} bytes")));
        }
        if matches!(key.as_str(), "action" | "type" | "latency") {
            continue;
        }
        let field = Field {
            path: super::field::join(&of.path, key),
            value,
        };
        let text = field.scalar()?;
        if text.len() > MAX_VALUE || text.chars().any(char::is_control) {
            return Err(field.invalid(format!(
                "must be at most {MAX_VALUE} bytes, without control characters"
            )));
        }
        properties.push((key.clone(), text));
    }
    Ok(properties)
}

/// The host's own, for every type: the plugin does not see it.
fn read_latency(properties: &Field<'_>, feeds: bool) -> Result<Option<Latency>, Invalid> {
    let Some(latency) = properties.get("latency")? else {
        return Ok(None);
    };
    if !feeds {
        return Err(latency.invalid("belongs to the provision that feeds the stream"));
    }
    let read = latency.scalar()?.parse();
    read.map(Some)
        .map_err(|bad: BadLatency| latency.invalid(bad.to_string()))
}

fn read_persist(properties: &Field<'_>) -> Result<bool, Invalid> {
    let Some(persist) = properties.get("persist")? else {
        return Ok(false);
    };
    match persist.scalar()?.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" | "" => Ok(false),
        _ => Err(persist.invalid("must be true or false")),
    }
}
