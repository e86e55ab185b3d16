//! Plugins in a few lines of WebAssembly text, each with its own bad manners.
//!
//! The rest of a plugin is written around them after `wit/world.wit`, as a core module
//! with the contract's section, which a host makes a component of. Imports are declared
//! by what the lines call: `$runtime.wait` is `wait` of the interface `runtime`.

use std::fmt::Write as _;

use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, WasmSignature, WasmType};
use wit_parser::{Function, Resolve, WorldId, WorldItem};

use crate::plugins;

/// Where imports put what they answer.
pub const ANSWER: u32 = 1024;
/// Where zeroes are that nobody writes to, long enough for every record.
pub const ZEROES: u32 = 2048;
/// Where [`Guest::text`] is.
pub const TEXT: u32 = 4096;

/// A plugin to be.
#[derive(Clone, Debug)]
pub struct Guest {
    wit: String,
    describe: String,
    check: String,
    run: String,
    fields: String,
    /// Functions of names that begin so are imported although nobody calls them.
    imports: String,
    /// Imports of WASI, which the contract does not name.
    wasi: String,
    text: String,
    doc: u32,
    section: bool,
}

impl Default for Guest {
    /// Well-behaved: it waits until it is told to stop.
    fn default() -> Self {
        let path = plugins::root().join("wit/world.wit");
        let wit = std::fs::read_to_string(path).expect("the contract is in the tree");
        Self {
            wit,
            describe: String::new(),
            check: String::new(),
            run: String::new(),
            fields: String::new(),
            imports: "runtime.wait".to_owned(),
            wasi: String::new(),
            text: String::new(),
            doc: 4,
            section: true,
        }
    }
}

impl Guest {
    /// One that does this in `run`, and then waits for a stop.
    pub fn runs(lines: &str) -> Self {
        Self {
            run: lines.to_owned(),
            ..Self::default()
        }
    }

    /// Does this in `check` before it finds everything good.
    #[must_use]
    pub fn checks(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.check);
        self
    }

    /// Does this in `describe` before it answers.
    #[must_use]
    pub fn describes(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.describe);
        self
    }

    /// Fields of the module beside the functions, such as a table.
    #[must_use]
    pub fn with(mut self, fields: &str) -> Self {
        fields.clone_into(&mut self.fields);
        self
    }

    /// Puts a text at [`TEXT`].
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        text.clone_into(&mut self.text);
        self
    }

    /// Says so many bytes about itself.
    #[must_use]
    pub fn doc(mut self, bytes: u32) -> Self {
        self.doc = bytes;
        self
    }

    /// Is built against this version of the contract.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        let line = self.wit.lines().find(|line| line.starts_with("package "));
        let line = line.expect("the contract is a package").to_owned();
        let name = line.split('@').next().unwrap_or_default();
        self.wit = self.wit.replace(&line, &format!("{name}@{version};"));
        self
    }

    /// Imports all of an interface, which the contract may have or not.
    #[must_use]
    pub fn importing(mut self, interface: &str) -> Self {
        if !self.wit.contains(&format!("interface {interface} {{")) {
            let more = format!("interface {interface} {{ call: func(); }}\nworld policy {{");
            self.wit = self.wit.replace("world policy {", &more);
            let import = format!("world policy {{ import {interface};");
            self.wit = self.wit.replace("world policy {", &import);
        }
        self.imports = format!("{interface}.");
        self
    }

    /// Imports a function of WASI preview 1, as `$name`, as compilers for wasm32-wasip1 do.
    #[must_use]
    pub fn wasi(mut self, name: &str, types: &str) -> Self {
        let module = "wasi_snapshot_preview1";
        write!(
            self.wasi,
            "\n(import \"{module}\" \"{name}\" (func ${name} {types}))"
        )
        .expect("memory");
        self
    }

    /// Lacks the section that says which contract it is built against.
    #[must_use]
    pub fn without_section(mut self) -> Self {
        self.section = false;
        self
    }

    /// Has so many functions that nobody calls.
    #[must_use]
    pub fn with_ballast(mut self, functions: u32) -> Self {
        for n in 0..functions {
            let body = "(local.set 0 (i64.mul (local.get 0) (i64.const 0x5851f42d4c957f2d)))";
            write!(
                self.fields,
                "(func (export \"ballast{n}\") (param i64) (result i64) {body} \
                 (i64.xor (local.get 0) (i64.rotr (local.get 0) (i64.const {n}))))"
            )
            .expect("memory");
        }
        self
    }

    /// The core module.
    ///
    /// # Panics
    /// When the lines are no WebAssembly.
    pub fn module(&self) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("world.wit", &self.wit);
        let package = package.expect("the contract is WIT");
        let world = resolve.select_world(&[package], Some("policy"));
        let world = world.expect("the contract has a world");
        let text = self.text_of(&resolve, world);
        let mut module = wat::parse_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        if self.section {
            embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
                .expect("a section can always be added");
        }
        module
    }

    fn text_of(&self, resolve: &Resolve, world: WorldId) -> String {
        let world = &resolve.worlds[world];
        let mut text = format!("(module{}", self.wasi);
        for (interface, function) in functions(resolve, world.imports.values()) {
            let short = interface.split(['/', '@']).nth(1).unwrap_or_default();
            let name = function.name.rsplit(']').next().unwrap_or_default();
            let id = format!("${short}.{name}");
            let called = |lines: &str| lines.split([' ', ')', '\n']).any(|word| word == id);
            if [&self.run, &self.check, &self.describe]
                .into_iter()
                .any(|lines| called(lines))
                || id == "$runtime.wait"
                || id[1..].starts_with(&self.imports)
            {
                let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
                let types = types(&signature);
                write!(
                    text,
                    "\n(import \"{interface}\" \"{}\" (func {id} {types}))",
                    function.name
                )
                .expect("memory");
            }
        }
        write!(
            text,
            r#"
(memory (export "memory") 64)
(global $top (mut i32) (i32.const 0x100000))
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
  (global.set $top (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
  (global.get $top)
  (global.set $top (i32.add (global.get $top) (local.get 3))))
(data (i32.const 16) "\00\00\20\00")
(data (i32.const 20) "{doc}")
(data (i32.const 128) "\01")
(data (i32.const {TEXT}) "{words}")
(func $wait (param $ms i32)
  (call $runtime.wait (i32.const 1) (local.get $ms) (i32.const {ANSWER})))
{fields}"#,
            doc = self
                .doc
                .to_le_bytes()
                .map(|byte| format!("\\{byte:02x}"))
                .concat(),
            words = self.text,
            fields = self.fields,
        )
        .expect("memory");
        for (interface, function) in functions(resolve, world.exports.values()) {
            let (lines, answer) = match function.name.as_str() {
                "describe" => (self.describe.clone(), 16),
                "check" => (self.check.clone(), 64),
                "run" => (format!("{}\n{WAITS}", self.run), 128),
                other => panic!("the contract has an export {other} that no guest has"),
            };
            let types = types(&resolve.wasm_signature(AbiVariant::GuestExport, function));
            write!(
                text,
                "\n(func (export \"{interface}#{}\") {types} {lines} (i32.const {answer}))",
                function.name
            )
            .expect("memory");
        }
        text.push(')');
        text
    }
}

/// Waits until the wake is a stop.
const WAITS: &str = "(loop $waits
  (call $wait (i32.const 60000))
  (br_if $waits (i32.ne (i32.load8_u (i32.const 1024)) (i32.const 8))))";

fn functions<'a>(
    resolve: &'a Resolve,
    items: impl Iterator<Item = &'a WorldItem>,
) -> impl Iterator<Item = (String, &'a Function)> {
    let interfaces = items.filter_map(|item| match item {
        WorldItem::Interface { id, .. } => Some(*id),
        _ => None,
    });
    interfaces.flat_map(|id| {
        let name = resolve
            .id_of(id)
            .expect("the contract's interfaces have names");
        let functions = resolve.interfaces[id].functions.values();
        functions.map(move |function| (name.clone(), function))
    })
}

fn types(signature: &WasmSignature) -> String {
    let list = |kind: &str, types: &[WasmType]| {
        let words = types.iter().map(|ty| match ty {
            WasmType::I64 | WasmType::PointerOrI64 => " i64",
            WasmType::F32 => " f32",
            WasmType::F64 => " f64",
            WasmType::I32 | WasmType::Pointer | WasmType::Length => " i32",
        });
        format!("({kind}{})", words.collect::<String>())
    };
    list("param", &signature.params) + &list("result", &signature.results)
}
