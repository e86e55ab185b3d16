//! The names of things: values that cannot hold a bad name.
//!
//! Parsing is the only way in, so no other module validates a name again. Names
//! are compared as they are written; nothing is folded or normalised here.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a name was refused. The text names the rule, never the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(pub &'static str);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The caller's name of a provision, 3 to 256 characters, slashes allowed.
    ProvisionGuid,
    check_provision_guid
);
name!(
    /// `app/[room/]name`, 3 to 1024 characters, at least one slash.
    StreamGuid,
    check_stream_guid
);
name!(
    /// The `app` of `app/[room/]name`, 1 to 1022 characters, no slash.
    AppName,
    check_app
);
name!(
    /// A node's name inside its group, 1 to 64 of `A-Z a-z 0-9 - _ .`.
    NodeId,
    check_label
);
name!(
    /// A node group's name, 1 to 64 of `A-Z a-z 0-9 - _ .`; `default` is reserved as the alias of the only one.
    NodeGroup,
    check_label
);
name!(
    /// The name of a part of a node group, 1 to 64 of `A-Z a-z 0-9 - _ .`.
    SubGroup,
    check_label
);
name!(
    /// A restream type: what `camParams.properties.type` names, the stem of a plugin's file, 1 to 32 of `a-z 0-9 -`.
    RestreamType,
    check_type
);

impl StreamGuid {
    /// The RTMP application: all before the last slash.
    pub fn app(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(app, _)| app)
    }

    /// The application proper, without rooms: all before the first slash.
    pub fn app_name(&self) -> &str {
        self.0.split_once('/').map_or("", |(app, _)| app)
    }

    /// The stream's own name: what follows the last slash.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(_, name)| name)
    }
}

fn check_segments(text: &str) -> Result<(), InvalidName> {
    if text.chars().any(char::is_control) {
        return Err(InvalidName("must not hold control characters"));
    }
    if text.starts_with('/') || text.ends_with('/') {
        return Err(InvalidName("must not begin or end with a slash"));
    }
    if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(InvalidName("must not hold empty, `.` or `..` segments"));
    }
    Ok(())
}

fn check_provision_guid(text: &str) -> Result<(), InvalidName> {
    if !(3..=256).contains(&text.len()) {
        return Err(InvalidName("must be 3 to 256 characters long"));
    }
    check_segments(text)?;
    if text == "probe" || text.starts_with("distribute/") {
        return Err(InvalidName(
            "must not be `probe` or begin with `distribute/`, which are routes",
        ));
    }
    Ok(())
}

fn check_stream_guid(text: &str) -> Result<(), InvalidName> {
    if !(3..=1024).contains(&text.len()) {
        return Err(InvalidName("must be 3 to 1024 characters long"));
    }
    check_segments(text)?;
    if text.contains(['?', '#', '*']) || text.contains(char::is_whitespace) {
        return Err(InvalidName("must not hold white space, `?`, `#` or `*`"));
    }
    if !text.contains('/') {
        return Err(InvalidName("must have the form app/[room/]name"));
    }
    Ok(())
}

fn check_app(text: &str) -> Result<(), InvalidName> {
    if text.contains('/') {
        return Err(InvalidName(
            "must not hold a slash: rooms belong to their app",
        ));
    }
    // An app is legal when streams can be in it.
    check_stream_guid(&format!("{text}/x"))
}

fn check_label(text: &str) -> Result<(), InvalidName> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || text.len() > 64 || !text.bytes().all(legal) {
        return Err(InvalidName("must be 1 to 64 of A-Z a-z 0-9 - _ ."));
    }
    if matches!(text, "." | "..") {
        return Err(InvalidName("must not be `.` or `..`"));
    }
    Ok(())
}

fn check_type(text: &str) -> Result<(), InvalidName> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() || text.len() > 32 || !text.bytes().all(legal) {
        return Err(InvalidName("must be 1 to 32 of a-z 0-9 -"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_guid_keeps_rooms_in_the_app() {
        let guid: StreamGuid = "live/room2/cam".parse().expect("legal");
        assert_eq!((guid.app(), guid.name()), ("live/room2", "cam"));
        assert_eq!(guid.app_name(), "live");
    }

    #[test]
    fn hostile_names_are_refused() {
        for bad in [
            "",
            "a",
            "/ab",
            "ab/",
            "a//b",
            "a/../b",
            "a/./b",
            "a\u{0}b/c",
            "abc",
            "a b/c",
            "a/b?c",
        ] {
            assert!(bad.parse::<StreamGuid>().is_err(), "{bad:?}");
        }
        for bad in ["probe", "distribute/x", "ab", "a//b", "../a", "x\n1"] {
            assert!(bad.parse::<ProvisionGuid>().is_err(), "{bad:?}");
        }
        assert!("live/stream1".parse::<ProvisionGuid>().is_ok());
        for bad in ["", "live/room", "..", "a b", "li?ve", "live*"] {
            assert!(bad.parse::<AppName>().is_err(), "{bad:?}");
        }
        for bad in [
            "",
            "Rtmp",
            "a_b",
            "../x",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert!(bad.parse::<RestreamType>().is_err(), "{bad:?}");
        }
    }
}
