//! From a file's bytes to a build that may run, or all reasons why not.
//!
//! Accepts components and core modules built with wit-bindgen; looks at nothing
//! but the bytes. A build that comes out of here was compiled, type-checked,
//! described and asked once.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sha2::{Digest, Sha256};

use super::build::{Build, CallError};
use super::description;
use super::engine::Runtime;
use super::grants::Grants;
use super::limits::{CALL, Limits};
use super::trust::{Trust, Untrusted};
use super::wit::PolicyPre;
use super::{Origin, instance, offline};
use crate::id::RestreamType;

/// A larger file is not read: Python guests have 19 MB.
pub const MAX_FILE: u64 = 64 << 20;
/// The interface a plugin exports, without its version.
const EXPORT: &str = "restreamd:plugin/restreamer@";
/// The version of the contract this host speaks: plugins of this major version that ask for
/// nothing newer fit.
const SPOKEN: (u64, u64) = (1, 0);
/// What a plugin may import without a grant.
const ALLOWED: [&str; 6] = [
    "restreamd:plugin/",
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
];

/// The contract's import that has to be granted, without its version.
const HTTP: &str = "restreamd:plugin/http@";

/// Why a file is no plugin. One line each, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// It cannot be read.
    #[error("{0}")]
    File(String),
    /// The operator wants it pinned or signed.
    #[error("{0}")]
    Untrusted(#[from] Untrusted),
    /// Not WebAssembly, or damaged.
    #[error(
        "not a WebAssembly component or module, or not all of one (copy it again, or build it for wasm32-wasip1): {0}"
    )]
    NotWasm(String),
    /// A core module that does not carry the contract.
    #[error(
        "a core module without the contract's component-type section (built without wit-bindgen, or stripped of it?): {0}"
    )]
    NoContract(String),
    /// Another contract or version.
    #[error("{0}")]
    Contract(String),
    /// It wants more than it may have.
    #[error(
        "imports what no plugin is granted: {0}; a plugin reaches the outside by the contract's imports alone"
    )]
    Imports(String),
    /// It wants what it was not granted.
    #[error(
        "imports {import}, which is not granted to it: add `http = [\"<host>\"]` to [plugins.overrides.{kind}.grants]"
    )]
    NotGranted {
        /// What.
        import: String,
        /// The type.
        kind: RestreamType,
    },
    /// It does not compile, or its types are not the contract's.
    #[error("{0}")]
    Invalid(String),
    /// `describe` or `check` failed.
    #[error("{0}")]
    Misbehaved(String),
}

/// What is wrong with a call that admission makes, and what to do about it.
fn misbehaved(call: &str, kind: &RestreamType, error: CallError) -> Rejected {
    let advice = match &error {
        CallError::Late => {
            "it has to answer from what it knows: neither waits nor asks anybody".to_owned()
        }
        CallError::Crashed(crash) => match crash.setting() {
            Some(setting) => format!(
                "it has to do with less, or gets more by plugins.overrides.{kind}.{setting}"
            ),
            None => {
                "a bug of its own, `restreamd plugin check FILE` shows it to its author".to_owned()
            }
        },
    };
    Rejected::Misbehaved(format!("{call} {error} ({advice})"))
}

impl Rejected {
    /// A label for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Untrusted(Untrusted::OtherPin { .. } | Untrusted::NoPin { .. }) => "pin",
            Self::Untrusted(_) => "signature",
            Self::NotWasm(_) => "wasm",
            Self::NoContract(_) | Self::Contract(_) => "contract",
            Self::Imports(_) => "imports",
            Self::NotGranted { .. } => "grant",
            Self::Invalid(_) => "invalid",
            Self::Misbehaved(_) => "misbehaved",
        }
    }
}

/// Under which terms a file is admitted.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The bounds of its instances.
    pub limits: Limits,
    /// What it has to show.
    pub trust: Trust,
    /// What it is granted; absent, it is granted whatever it imports.
    pub grants: Option<Grants>,
}

/// A file, read.
#[derive(Debug)]
pub struct Candidate {
    /// The type it wants to offer.
    pub kind: RestreamType,
    /// The file.
    pub bytes: Vec<u8>,
    /// What lies beside it as its signature.
    pub signature: Option<Vec<u8>>,
    /// Where it is from.
    pub origin: Origin,
}

/// Whether an import is one that has to be granted.
pub(super) fn needs_grant(import: &str) -> bool {
    import.starts_with(HTTP)
}

/// Makes a component of what a compiler put out.
pub fn component_bytes(bytes: &[u8]) -> Result<Vec<u8>, Rejected> {
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => Ok(bytes.to_vec()),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => encode(bytes),
        _ => Err(Rejected::NotWasm(
            "the first bytes are not WebAssembly's".to_owned(),
        )),
    }
}

fn encode(module: &[u8]) -> Result<Vec<u8>, Rejected> {
    // What is cut off lacks the section too; that is not its fault.
    wasm_metadata::Payload::from_binary(module)
        .map_err(|error| Rejected::NotWasm(format!("{error:#}")))?;
    use wasi_preview1_component_adapter_provider::{
        WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|e| {
            e.adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            )
        })
        .and_then(|mut e| e.encode())
        .map_err(|error| Rejected::NoContract(format!("{error:#}")))
}

/// Lower-case hex sha256 of a file as it lies there.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Admits a file's bytes as a build of a type, whoever made it and whatever it imports.
pub async fn admit(
    runtime: &Runtime,
    kind: &RestreamType,
    bytes: Vec<u8>,
    origin: Origin,
    limits: Limits,
) -> Result<Build, Rejected> {
    let candidate = Candidate {
        kind: kind.clone(),
        bytes,
        signature: None,
        origin,
    };
    let terms = Terms {
        limits,
        ..Terms::default()
    };
    admit_under(runtime, candidate, &terms).await
}

/// Admits a file under terms. Compiles: not for the async runtime's own threads, which
/// is why it moves itself off them.
pub async fn admit_under(
    runtime: &Runtime,
    candidate: Candidate,
    terms: &Terms,
) -> Result<Build, Rejected> {
    let (kind, origin, limits) = (
        candidate.kind.clone(),
        candidate.origin.clone(),
        terms.limits.of_size(candidate.bytes.len()),
    );
    let (compiling, terms) = (runtime.clone(), terms.clone());
    let compiled = tokio::task::spawn_blocking(move || {
        let Candidate {
            kind,
            bytes,
            signature,
            ..
        } = candidate;
        let digest = digest(&bytes);
        terms
            .trust
            .judge(kind.as_str(), &bytes, &digest, signature.as_deref())?;
        Ok::<_, Rejected>((
            compile(&compiling, &kind, &bytes, terms.grants.as_ref())?,
            digest,
        ))
    });
    let (compiled, digest) = compiled
        .await
        .map_err(|_| Rejected::Invalid("the compiler failed".to_owned()))??;
    let mut store = instance::store(&runtime.engine, Box::new(offline::Offline), &limits);
    let describe = async {
        let policy = compiled.pre.instantiate_async(&mut store).await?;
        policy
            .restreamd_plugin_restreamer()
            .call_describe(&mut store)
            .await
    };
    let described = tokio::time::timeout(CALL, runtime.clock.timed(describe)).await;
    let described = described
        .map_err(|_| CallError::Late)
        .and_then(|described| {
            described.map_err(|error| CallError::Crashed(instance::Crash::of(&error, &limits)))
        })
        .map_err(|error| misbehaved("describe", &kind, error))?;
    let description = description::bounded(described).map_err(Rejected::Misbehaved)?;
    let build = Build {
        kind: kind.clone(),
        version: compiled.version,
        digest,
        wit_version: compiled.wit_version,
        origin,
        capabilities: compiled.capabilities,
        description: Arc::new(description),
        engine: runtime.engine.clone(),
        clock: runtime.clock.clone(),
        pre: compiled.pre,
        limits,
        instances: AtomicU64::new(0),
    };
    // Any verdict will do; a trap or an overrun is what must not be.
    build
        .check(&[])
        .await
        .map_err(|error| misbehaved("check", &kind, error))?;
    Ok(build)
}

fn spoken() -> String {
    format!("{}.{}.x", SPOKEN.0, SPOKEN.1)
}

/// Whether what a plugin was built against is what this host speaks, or less of it.
fn fits(wit_version: &str) -> bool {
    let mut numbers = wit_version.split('.').map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => major == SPOKEN.0 && minor <= SPOKEN.1,
        _ => false,
    }
}

struct Compiled {
    version: String,
    wit_version: String,
    capabilities: Vec<String>,
    pre: PolicyPre<instance::Ctx>,
}

fn compile(
    runtime: &Runtime,
    kind: &RestreamType,
    bytes: &[u8],
    grants: Option<&Grants>,
) -> Result<Compiled, Rejected> {
    let version = version(bytes);
    let bytes = component_bytes(bytes)?;
    let component = runtime
        .compile(&bytes)
        .map_err(|error| Rejected::NotWasm(format!("{error:#}")))?;
    let ty = component.component_type();
    let exports = ty
        .exports(&runtime.engine)
        .find_map(|(name, _)| name.strip_prefix(EXPORT).map(str::to_owned));
    let wit_version = exports.ok_or_else(|| {
        Rejected::Contract(format!(
            "exports no {EXPORT}{}; was it built with wit-bindgen against wit/world.wit?",
            spoken()
        ))
    })?;
    if !fits(&wit_version) {
        let text = format!(
            "built for restreamd:plugin {wit_version}, this host speaks {}: build it against this host's wit/world.wit, or take a host that speaks {wit_version}",
            spoken()
        );
        return Err(Rejected::Contract(text));
    }
    let imports: Vec<String> = ty
        .imports(&runtime.engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    let refused: Vec<&str> = imports
        .iter()
        .map(String::as_str)
        .filter(|name| !ALLOWED.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    if !refused.is_empty() {
        return Err(Rejected::Imports(refused.join(", ")));
    }
    let http = imports.iter().find(|name| needs_grant(name));
    if let (Some(import), Some(grants)) = (http, grants)
        && grants.http.is_none()
    {
        return Err(Rejected::NotGranted {
            import: import.clone(),
            kind: kind.clone(),
        });
    }
    let invalid = |error: wasmtime::Error| {
        Rejected::Invalid(format!(
            "it does not fit this host's restreamd:plugin {}, build it against this host's wit/world.wit: {error:#}",
            spoken()
        ))
    };
    let pre = runtime
        .linker
        .instantiate_pre(&component)
        .and_then(PolicyPre::new)
        .map_err(invalid)?;
    Ok(Compiled {
        version,
        wit_version,
        capabilities: imports,
        pre,
    })
}

/// The version that the build's metadata names.
fn version(bytes: &[u8]) -> String {
    wasm_metadata::Payload::from_binary(bytes)
        .ok()
        .and_then(|payload| payload.metadata().version.as_ref().map(ToString::to_string))
        .map_or_else(
            || "unknown".to_owned(),
            |version| version.chars().take(64).collect(),
        )
}
