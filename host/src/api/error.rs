//! The one shape of every answer that is no success, and the one place that chooses it.

use std::time::Duration;

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::{Denied, TokenError};
use crate::cluster::{ImportError, PlaceError};
use crate::plugin::PluginError;
use crate::provision;

/// What went wrong, for programs: the closed list of `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Code {
    /// 400: `field` says where.
    Validation,
    /// 401: no token, a bad one, or a failed login.
    Unauthorized,
    /// 403: a good token for something else.
    Forbidden,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 409: it exists already, or its name is taken.
    Exists,
    /// 409: what is there does not allow it.
    Conflict,
    /// 413.
    TooLarge,
    /// 415.
    UnsupportedMediaType,
    /// 422: no node fits.
    CannotBePlaced,
    /// 422: a plugin was not admitted.
    Rejected,
    /// 429: `Retry-After` says when.
    TooManyRequests,
    /// 500: a bug, or a damaged store.
    Internal,
    /// 501.
    NotImplemented,
    /// 503: at a limit.
    AtLimit,
    /// 503: a plugin failed to answer.
    Plugin,
    /// 503: no quorum.
    Unavailable,
    /// 503: this node takes no work now.
    NotReady,
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Self::Validation => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Exists | Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::CannotBePlaced | Self::Rejected => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::AtLimit | Self::Plugin | Self::Unavailable | Self::NotReady => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// For a status that something below the handlers chose.
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            status if status.is_client_error() => Self::Validation,
            _ => Self::Internal,
        }
    }
}

/// Why a request failed. Becomes the one shape in [`super::answer`], which knows the request's id.
#[derive(Clone, Debug)]
pub(crate) struct Error {
    pub(super) code: Code,
    pub(super) text: String,
    pub(super) field: Option<String>,
    /// For the log only.
    pub(super) cause: Option<String>,
    hint: Option<Hint>,
}

/// What a header tells besides.
#[derive(Clone, Copy, Debug)]
enum Hint {
    /// How to authenticate.
    Authenticate(&'static str),
    /// How many seconds to wait.
    RetryAfter(u64),
}

/// The body of every answer that is no success.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorBody<'a> {
    /// What went wrong, for people.
    error: &'a str,
    /// The same text, where other clients look for it.
    error_message: &'a str,
    code: Code,
    /// The path of the field that is wrong, as `streams[0].camParams.properties.rtmpUri`.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// Also in the header `x-request-id` and in the log.
    request_id: &'a str,
}

impl Error {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            field: None,
            cause: None,
            hint: None,
        }
    }

    pub(crate) fn validation(field: &str, message: impl std::fmt::Display) -> Self {
        let text = format!("{field}: {message}");
        Self {
            field: Some(field.to_owned()),
            ..Self::new(Code::Validation, text)
        }
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::new(Code::NotFound, text)
    }

    /// No token, or a bad one. `scheme` is how to authenticate here.
    pub(super) fn unauthorized(scheme: &'static str, text: impl Into<String>) -> Self {
        Self {
            hint: Some(Hint::Authenticate(scheme)),
            ..Self::new(Code::Unauthorized, text)
        }
    }

    pub(super) fn too_many_logins(wait: Duration) -> Self {
        let hint = Some(Hint::RetryAfter(wait.as_secs().saturating_add(1)));
        Self {
            hint,
            ..Self::new(Code::TooManyRequests, "too many failed logins")
        }
    }

    /// For an answer that came without one of ours.
    pub(super) fn of_status(status: StatusCode) -> Self {
        Self::new(
            Code::of(status),
            status.canonical_reason().unwrap_or("failed").to_lowercase(),
        )
    }

    fn because(self, cause: &dyn std::error::Error) -> Self {
        let chain = std::iter::successors(cause.source(), |cause| cause.source());
        let causes: Vec<String> = chain.map(ToString::to_string).collect();
        Self {
            cause: Some(causes.join(": ")),
            ..self
        }
    }

    pub(super) fn body<'a>(&'a self, request_id: &'a str) -> ErrorBody<'a> {
        let Self {
            code, text, field, ..
        } = self;
        ErrorBody {
            error: text,
            error_message: text,
            code: *code,
            field: field.as_deref(),
            request_id,
        }
    }
}

/// Carries the error to [`super::answer`], which writes the body.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        let hint = self.hint.map(|hint| match hint {
            Hint::Authenticate(scheme) => {
                (header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme))
            }
            Hint::RetryAfter(seconds) => (header::RETRY_AFTER, HeaderValue::from(seconds)),
        });
        response.headers_mut().extend(hint);
        response.extensions_mut().insert(self);
        response
    }
}

/// Answers what no route knows.
pub(super) async fn unknown_route(method: Method, uri: Uri) -> Error {
    Error::not_found(format!("there is no {method} {}", uri.path()))
}

impl From<provision::Invalid> for Error {
    fn from(invalid: provision::Invalid) -> Self {
        Self {
            text: invalid.to_string(),
            field: invalid.field,
            ..Self::new(Code::Validation, "")
        }
    }
}

impl From<provision::Error> for Error {
    fn from(error: provision::Error) -> Self {
        use provision::Error as E;
        let code = match error {
            E::Invalid(invalid) => return invalid.into(),
            E::TooLarge(_) => Code::TooLarge,
            E::Unknown(_) => Code::NotFound,
            E::Exists(_) | E::NameHeld(_) | E::NameLive(_) => Code::Exists,
            E::StreamsChanged(_) | E::Busy => Code::Conflict,
            E::Plugin(_) | E::Quarantined(_) => Code::Plugin,
            E::Unavailable(_) => Code::Unavailable,
            E::Broken(_) => Code::Internal,
        };
        Self::new(code, error.to_string()).because(&error)
    }
}

impl From<PluginError> for Error {
    fn from(error: PluginError) -> Self {
        match error {
            PluginError::Unknown => Self::not_found("there is no such plugin"),
            PluginError::BuiltIn => Self::new(
                Code::Conflict,
                "the plugin is built in and has no file to load",
            ),
            PluginError::NoFormer => Self::new(Code::Conflict, "the plugin has no former build"),
            PluginError::Rejected(why) => Self::new(
                Code::Rejected,
                format!("the plugin was not admitted: {why}"),
            ),
        }
    }
}

impl From<ImportError> for Error {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Invalid(text) => Self::new(Code::Validation, text),
            ImportError::NameLive(_) => Self::new(Code::Exists, error.to_string()),
            ImportError::Unavailable(text) => Self::new(Code::Unavailable, text),
        }
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        Self::unauthorized("Basic realm=\"restreamd\"", denied.to_string())
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Invalid => Self::unauthorized("Bearer", error.to_string()),
            TokenError::Forbidden => Self::new(Code::Forbidden, error.to_string()),
        }
    }
}

/// What it means that no node was found, which the routes disagree about: `no_node` is 404 for publish (Red5 does
/// so) and 422 for distribute.
pub(super) fn unplaced(error: PlaceError, no_node: Code) -> Error {
    match error {
        PlaceError::UnknownProvision => Error::not_found("there is no such provision"),
        PlaceError::NoNodeFits(why) => Error::new(no_node, format!("no node fits: {why}")),
        PlaceError::AtLimit(limit) => Error::new(Code::AtLimit, limit.to_string()),
        PlaceError::Unavailable(why) => Error::new(Code::Unavailable, why),
        PlaceError::NameLive => Error::new(Code::Exists, "a publisher is live on this name"),
    }
}
