//! What whoever writes a plugin does with the binary: `restreamd plugin new`, `build`
//! and `run`.
//!
//! Projects are made of files that are part of this binary, and built with public tools
//! alone; the contract is the one the binary speaks. Nothing here serves a node.

mod bindings;
mod build;
mod contract;
mod project;
mod templates;
mod toolchain;
mod trial;

pub use build::build;
pub use project::{Language, create};
pub use trial::{Options as Trial, try_out};
