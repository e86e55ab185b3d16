//! A node under test: the real binary, on ports of its own, in a folder of its own.
//!
//! It reads the addresses from the `listening` lines of the log. When it is
//! dropped by a test that passed so far, every WARN or ERROR line that the test
//! did not announce fails it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use toml::{Table, Value};

use crate::api::Api;
use crate::eventually::eventually;
use crate::log::{Line, unannounced};
use crate::network::Network;
use crate::proc::{Footprint, Running};

/// Name and password every node under test is given.
pub const ADMIN: (&str, &str) = ("admin", "correct-horse-battery");
/// The secret of its tokens: 32 bytes at least are demanded.
pub const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef";
/// A debug build compiles its first component on a busy machine of two cores.
const START: Duration = Duration::from_secs(60);
/// Time a drained node may take to end.
const END: Duration = Duration::from_secs(20);

/// What a node under test will be started with.
#[derive(Clone, Debug)]
pub struct Builder {
    binary: PathBuf,
    config: Table,
    folder: Arc<TempDir>,
    announced: Vec<String>,
    variables: Vec<(String, String)>,
    /// Where in which network it runs.
    network: Option<(Arc<Network>, u8)>,
}

impl Builder {
    /// A node with the defaults of the suites: loopback and port 0, a fresh
    /// `data_dir`, no plugins, peers on loopback may be dialled.
    ///
    /// `binary` is `env!("CARGO_BIN_EXE_restreamd")` of the suite.
    pub fn new(binary: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("the temporary folder is writable"));
        let builder = Self {
            binary: binary.into(),
            config: Table::new(),
            folder,
            announced: Vec::new(),
            variables: Vec::new(),
            network: None,
        };
        let data = builder.folder().join("data");
        let plugins = builder.folder().join("plugins");
        fs::create_dir(&plugins).expect("a fresh folder is writable");
        builder
            .set("api_listen", "127.0.0.1:0")
            .set("rtmp_listen", "127.0.0.1:0")
            .set("data_dir", text(&data))
            .set("plugin_dir", text(&plugins))
            .set("admin_user", ADMIN.0)
            .set("admin_password", ADMIN.1)
            .set("jwt_secret", JWT_SECRET)
            .set("dial.allow", vec!["127.0.0.0/8".to_owned()])
            .set("log.format", "json")
    }

    /// Sets a key; `table.key` sets it inside a table.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        match key.split_once('.') {
            None => drop(self.config.insert(key.to_owned(), value.into())),
            Some((table, key)) => {
                let entry = self
                    .config
                    .entry(table)
                    .or_insert_with(|| Table::new().into());
                let table = entry.as_table_mut().expect("a dotted key names a table");
                table.insert(key.to_owned(), value.into());
            }
        }
        self
    }

    /// Sets a variable of the node's environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.variables.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Runs it as host `n` of a network, with addresses of that host.
    #[must_use]
    pub fn at(mut self, network: &Arc<Network>, n: u8) -> Self {
        let ip = Network::address(n);
        self.network = Some((Arc::clone(network), n));
        self.set("api_listen", format!("{ip}:5080"))
            .set("api.plain_http", true)
            .set("rtmp_listen", format!("{ip}:1935"))
            .set("dial.allow", vec![Network::ALL.to_owned()])
    }

    /// Leaves a key of the suites' defaults out.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.config.remove(key);
        self
    }

    /// Installs the component that `plugins/build` made of this type.
    #[must_use]
    pub fn plugin(self, kind: &str) -> Self {
        let target = self.folder().join("plugins").join(format!("{kind}.wasm"));
        fs::copy(crate::plugins::component(kind), target).expect("the plugin folder is writable");
        self
    }

    /// Announces a WARN or ERROR line by a part of its text.
    #[must_use]
    pub fn announce(mut self, part: &str) -> Self {
        self.announced.push(part.to_owned());
        self
    }

    /// The folder of this node: `data`, `plugins`, `restreamd.toml`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the configuration file and answers its path.
    pub fn write_config(&self) -> PathBuf {
        let path = self.folder().join("restreamd.toml");
        fs::write(
            &path,
            toml::to_string(&self.config).expect("a table is TOML"),
        )
        .expect("the folder is writable");
        path
    }

    /// `restreamd serve` with this configuration, ready to be changed and run.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(["serve", "--config", text(&self.write_config())])
            .current_dir(self.folder());
        for key in inherited_variables() {
            command.env_remove(key);
        }
        command.envs(self.variables.iter().cloned());
        command
    }

    /// Runs a node that is expected to end by itself.
    pub fn run_to_end(&self) -> (ExitStatus, String) {
        let mut running = Running::start(&mut self.command(), "restreamd");
        let status = running.wait(START);
        (status, running.stderr.text())
    }

    /// The process, plugged in where it runs in a network.
    fn spawn(&self) -> Running {
        let mut command = self.command();
        match &self.network {
            Some((network, n)) => network.start(*n, &command),
            None => Running::start(&mut command, "restreamd"),
        }
    }

    /// Starts the node and waits until it listens.
    pub fn start(self) -> TestHost {
        let running = self.spawn();
        let mut host = TestHost {
            builder: self,
            running,
            api: unbound(),
            rtmp: unbound(),
            former: Vec::new(),
        };
        host.wait_until_listening();
        host
    }
}

/// Variables of the caller that would change what the node reads.
fn inherited_variables() -> impl Iterator<Item = String> {
    let names = std::env::vars_os().filter_map(|(key, _)| key.into_string().ok());
    names.filter(|key| key.starts_with("RESTREAMD_"))
}

fn unbound() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// A node that listens.
#[derive(Debug)]
pub struct TestHost {
    builder: Builder,
    running: Running,
    /// Address of the REST API.
    pub api: SocketAddr,
    /// Address of the RTMP listener.
    pub rtmp: SocketAddr,
    former: Vec<String>,
}

impl TestHost {
    fn wait_until_listening(&mut self) {
        let running = &mut self.running;
        let (api, rtmp) = eventually("the node listens", START, || {
            if let Some(status) = running.ended() {
                panic!("the node ended with {status}: {}", running.stderr.text());
            }
            let addresses = listening(&running.stderr.all(), "api")
                .zip(listening(&running.stderr.all(), "rtmp"));
            addresses.ok_or_else(|| running.stderr.text())
        });
        (self.api, self.rtmp) = (api, rtmp);
    }

    /// A client that is logged in as the administrator.
    pub fn client(&self) -> Api {
        Api::new(self.api).login(ADMIN.0, ADMIN.1)
    }

    /// The RTMP address of a stream of this node.
    pub fn url(&self, stream: &str) -> String {
        format!("rtmp://{}/{stream}", self.rtmp)
    }

    /// The HTTP-FLV address of a stream on the REST listener; `name` may end with `.flv`.
    pub fn http(&self, name: &str) -> String {
        format!("http://{}/flv/{name}", self.api)
    }

    /// Where a service listens that not every node has.
    ///
    /// # Panics
    /// When it does not.
    pub fn service(&self, name: &str) -> SocketAddr {
        listening(&self.running.stderr.all(), name)
            .unwrap_or_else(|| panic!("{name} does not listen"))
    }

    /// The node's folder.
    pub fn folder(&self) -> &Path {
        self.builder.folder()
    }

    /// All log lines so far, of former runs too.
    pub fn logs(&self) -> Vec<String> {
        let mut lines = self.former.clone();
        lines.extend(self.running.stderr.all());
        lines
    }

    /// What the process holds in the kernel.
    pub fn footprint(&self) -> Footprint {
        self.running.footprint()
    }

    /// The CPU time it has taken.
    pub fn cpu(&self) -> Duration {
        crate::proc::cpu(self.running.id())
    }

    /// Announces a WARN or ERROR line by a part of its text.
    pub fn announce(&mut self, part: &str) {
        self.builder.announced.push(part.to_owned());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.running.kill();
    }

    /// Starts again on the same `data_dir`, after [`TestHost::kill`] or [`TestHost::drain`]; ports are new.
    pub fn restart(&mut self) {
        self.running.kill();
        self.former.extend(self.running.stderr.all());
        self.running = self.builder.spawn();
        self.wait_until_listening();
    }

    /// SIGSTOP: its sockets stay open and silent.
    pub fn freeze(&mut self) {
        self.running.freeze();
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.running.thaw();
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.running.wait(END)
    }

    /// SIGTERM, and waits for the end.
    pub fn drain(&mut self) -> ExitStatus {
        self.running.terminate();
        self.running.wait(END)
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        self.running.kill();
        if thread::panicking() {
            show(&self.logs());
            return;
        }
        let bad = unannounced(&self.logs(), &self.builder.announced);
        assert!(
            bad.is_empty(),
            "log lines no test announced:\n{}",
            bad.join("\n")
        );
    }
}

#[allow(
    clippy::print_stderr,
    reason = "the test runner shows it beside the panic"
)]
fn show(lines: &[String]) {
    eprintln!("--- log of the node\n{}\n---", lines.join("\n"));
}

fn listening(lines: &[String], service: &str) -> Option<SocketAddr> {
    let lines = lines.iter().filter_map(|line| Line::parse(line));
    let mut found =
        lines.filter(|l| l.message() == "listening" && l.field("service") == Some(service));
    found.next()?.field("addr")?.parse().ok()
}
