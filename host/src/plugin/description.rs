//! What a type says of itself, bounded.

use super::wit::export;

/// Text longer than this is no sentence.
const TEXT: usize = 2_000;
/// More properties than this no person can read.
const PROPERTIES: usize = 100;

/// Whether a type's media comes in or goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Media comes in and becomes the stream.
    Feeds,
    /// The stream is read and goes out.
    Reads,
}

/// One property of a type.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the WIT record's")]
pub struct Property {
    pub name: String,
    pub doc: String,
    pub default: Option<String>,
    pub required: bool,
    pub secret: bool,
    pub aliases: Vec<String>,
}

/// What a type does and takes.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the WIT record's")]
pub struct Description {
    pub doc: String,
    pub direction: Direction,
    pub properties: Vec<Property>,
}

/// Takes a guest's description over if it is of a sane size.
pub(super) fn bounded(given: export::Description) -> Result<Description, String> {
    let texts = given.properties.iter().flat_map(|p| {
        [&p.name, &p.doc]
            .into_iter()
            .chain(&p.default)
            .chain(&p.aliases)
    });
    let longest = texts
        .chain([&given.doc])
        .map(String::len)
        .max()
        .unwrap_or(0);
    let aliases = given
        .properties
        .iter()
        .map(|p| p.aliases.len())
        .max()
        .unwrap_or(0);
    if longest > TEXT || given.properties.len() > PROPERTIES || aliases > PROPERTIES {
        return Err(format!(
            "describe gives more than {PROPERTIES} properties or texts longer than {TEXT} bytes: say less, and the rest in a page of your own"
        ));
    }
    let property = |p: export::Property| Property {
        name: p.name,
        doc: p.doc,
        default: p.default,
        required: p.required,
        secret: p.secret,
        aliases: p.aliases,
    };
    Ok(Description {
        doc: given.doc,
        direction: match given.direction {
            export::Direction::Feeds => Direction::Feeds,
            export::Direction::Reads => Direction::Reads,
        },
        properties: given.properties.into_iter().map(property).collect(),
    })
}
