//! A real etcd: one member or three, on ports of its own, its data in memory where the
//! machine allows.
//!
//! Members keep their ports and data when they are killed and started again, so a test
//! can take them away and give them back.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificate::Certificate;
use crate::eventually::eventually;
use crate::network::Network;
use crate::port;
use crate::proc::Running;

/// Three members elect a leader in about two seconds; a busy machine takes longer.
const START: Duration = Duration::from_secs(30);
/// A call of etcdctl.
const SHORT: Duration = Duration::from_secs(20);
/// Ports that were free may be taken by another before etcd binds them.
const TRIES: usize = 4;

/// How an etcd is to be started.
#[derive(Clone, Debug)]
pub struct Builder {
    members: Vec<IpAddr>,
    arguments: Vec<String>,
    tls: Option<Certificate>,
    /// The first of the network's hosts that members are, one each.
    network: Option<(Arc<Network>, u8)>,
    on_disk: bool,
}

impl Builder {
    /// One member on loopback.
    pub fn new() -> Self {
        Self {
            members: vec![IpAddr::from([127, 0, 0, 1])],
            arguments: Vec::new(),
            tls: None,
            network: None,
            on_disk: false,
        }
    }

    /// Keeps its data on a disk, for who measures how long writes take.
    #[must_use]
    pub fn on_disk(self) -> Self {
        Self {
            on_disk: true,
            ..self
        }
    }

    /// Members at these addresses.
    #[must_use]
    pub fn at(self, members: &[IpAddr]) -> Self {
        Self {
            members: members.to_vec(),
            ..self
        }
    }

    /// So many members as hosts `first` and following of a network.
    #[must_use]
    pub fn within(self, network: &Arc<Network>, first: u8, count: u8) -> Self {
        Self {
            members: (first..first + count).map(Network::address).collect(),
            network: Some((Arc::clone(network), first)),
            ..self
        }
    }

    /// One more argument of every member.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Clients must speak TLS, and show this very certificate.
    #[must_use]
    pub fn tls(self, certificate: &Certificate) -> Self {
        Self {
            tls: Some(certificate.clone()),
            ..self
        }
    }

    /// Starts it and waits until every member serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(self) -> Etcd {
        for _ in 0..TRIES {
            if let Some(etcd) = self.try_start() {
                return etcd;
            }
        }
        panic!("etcd did not start in {TRIES} tries");
    }

    fn try_start(&self) -> Option<Etcd> {
        let folder = folder(self.on_disk);
        let alone = self.network.is_some();
        let sites = self.members.iter().map(|ip| Site::new(*ip, alone));
        let sites: Vec<Site> = sites.collect();
        let cluster: Vec<String> = sites
            .iter()
            .enumerate()
            .map(|(n, site)| format!("m{n}={}", site.peer))
            .collect();
        let cluster = cluster.join(",");
        let members: Vec<Member> = (sites.into_iter().enumerate())
            .map(|(n, site)| {
                let arguments = self.arguments(n, &site, folder.path(), &cluster);
                let host = self.network.as_ref();
                let host = host.map(|(network, first)| (Arc::clone(network), first + n as u8));
                let mut member = Member {
                    site,
                    arguments,
                    host,
                    running: None,
                };
                member.start();
                member
            })
            .collect();
        let mut etcd = Etcd {
            members,
            tls: self.tls.clone(),
            _folder: folder,
        };
        etcd.wait_or_end().then_some(etcd)
    }

    fn arguments(&self, n: usize, site: &Site, folder: &Path, cluster: &str) -> Vec<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://{}", site.client);
        let data = folder.join(format!("m{n}"));
        let mut arguments: Vec<String> = [
            ("--name", &*format!("m{n}")),
            (
                "--data-dir",
                data.to_str().expect("temporary paths are UTF-8"),
            ),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &site.peer),
            ("--initial-advertise-peer-urls", &site.peer),
            ("--listen-metrics-urls", &site.metrics),
            ("--initial-cluster", cluster),
            ("--logger", "zap"),
            ("--log-level", "warn"),
        ]
        .iter()
        .flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()])
        .collect();
        if let Some(tls) = &self.tls {
            arguments.extend([
                format!("--cert-file={}", tls.cert_path()),
                format!("--key-file={}", tls.key_path()),
                format!("--trusted-ca-file={}", tls.cert_path()),
                "--client-cert-auth".to_owned(),
            ]);
        }
        arguments.extend(self.arguments.iter().cloned());
        arguments
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

fn command(arguments: &[String]) -> Command {
    let mut command = Command::new("etcd");
    command.args(arguments);
    command
}

/// In memory unless asked for: what etcd makes durable need not outlive the test.
fn folder(on_disk: bool) -> TempDir {
    let memory = Path::new("/dev/shm");
    let in_memory = || tempfile::Builder::new().prefix("etcd-").tempdir_in(memory);
    let made = (!on_disk).then(in_memory).and_then(Result::ok);
    made.unwrap_or_else(|| tempfile::tempdir().expect("the temporary folder is writable"))
}

/// Where a member listens.
#[derive(Debug)]
struct Site {
    client: String,
    peer: String,
    metrics: String,
}

impl Site {
    /// On free ports, or on those of etcd where a host has nothing else.
    fn new(ip: IpAddr, alone: bool) -> Self {
        let [client, peer, metrics] = match alone {
            true => [2379, 2380, 2381].map(|port| (ip, port).into()),
            false => port::free_at(ip),
        };
        Self {
            client: client.to_string(),
            peer: format!("http://{peer}"),
            metrics: format!("http://{metrics}"),
        }
    }
}

#[derive(Debug)]
struct Member {
    site: Site,
    arguments: Vec<String>,
    host: Option<(Arc<Network>, u8)>,
    running: Option<Running>,
}

impl Member {
    fn start(&mut self) {
        let mut command = command(&self.arguments);
        self.running = Some(match &self.host {
            Some((network, n)) => network.start(*n, &command),
            None => Running::start(&mut command, "etcd-server"),
        });
    }

    fn ask(&self, path: &str) -> Option<String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(2)))
            .build()
            .into();
        let url = format!("{}/{path}", self.site.metrics);
        agent
            .get(&url)
            .call()
            .ok()?
            .body_mut()
            .read_to_string()
            .ok()
    }

    fn serves(&self) -> bool {
        self.ask("health").is_some_and(|said| said.contains("true"))
    }

    fn leads(&self) -> bool {
        let metrics = self.ask("metrics").unwrap_or_default();
        metrics
            .lines()
            .any(|line| line == "etcd_server_is_leader 1")
    }
}

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    tls: Option<Certificate>,
    _folder: TempDir,
}

impl Etcd {
    /// One member on loopback.
    pub fn start() -> Self {
        Builder::new().start()
    }

    /// Three members on loopback.
    pub fn three() -> Self {
        Builder::new()
            .at(&[IpAddr::from([127, 0, 0, 1]); 3])
            .start()
    }

    /// False when a member ended, as it does when a port is taken.
    fn wait_or_end(&mut self) -> bool {
        eventually("etcd serves", START, || {
            if self.members.iter_mut().any(Member::ended) {
                return Ok(false);
            }
            match self.members.iter().all(Member::serves) {
                true => Ok(true),
                false => Err(self.said()),
            }
        })
    }

    /// What the members logged.
    fn said(&self) -> String {
        let running = self.members.iter().filter_map(|m| m.running.as_ref());
        let said: Vec<String> = running.map(|running| running.stderr.text()).collect();
        said.join("\n--\n")
    }

    /// `host:port` of the members, commas between them.
    pub fn endpoints(&self) -> String {
        let clients = self.members.iter().map(|m| m.site.client.as_str());
        clients.collect::<Vec<_>>().join(",")
    }

    /// What a node calls it: `etcd://host:port,…`.
    pub fn url(&self) -> String {
        format!("etcd://{}", self.endpoints())
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member; there always is one.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The member that leads now; waits until one does.
    pub fn leader(&self) -> usize {
        eventually("a member leads", START, || {
            let leads = |m: &Member| m.running.is_some() && m.leads();
            let found = self.members.iter().position(leads);
            found.ok_or_else(|| self.said())
        })
    }

    /// kill -9 of a member.
    pub fn kill(&mut self, member: usize) {
        self.members[member].running = None;
    }

    /// kill -9 of all members.
    pub fn kill_all(&mut self) {
        for member in &mut self.members {
            member.running = None;
        }
    }

    /// SIGSTOP: the member's connections stay open and silent.
    pub fn freeze(&mut self, member: usize) {
        if let Some(running) = &mut self.members[member].running {
            running.freeze();
        }
    }

    /// SIGCONT.
    pub fn thaw(&mut self, member: usize) {
        if let Some(running) = &mut self.members[member].running {
            running.thaw();
        }
    }

    /// Starts members again that were killed, on the same ports and data, and waits until
    /// all serve.
    ///
    /// # Panics
    /// When one does not.
    pub fn restart(&mut self) {
        for member in &mut self.members {
            if member.running.is_none() {
                member.start();
            }
        }
        assert!(self.wait_or_end(), "a member ended: {}", self.said());
    }

    /// Runs etcdctl, and answers what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3");
        command.args(["--endpoints", &self.endpoints()]);
        if let Some(tls) = &self.tls {
            command.args(["--cacert", &tls.cert_path(), "--insecure-transport=false"]);
            command.args(["--cert", &tls.cert_path(), "--key", &tls.key_path()]);
        }
        let mut running = Running::start(command.args(arguments), "etcd-client");
        let status = running.wait(SHORT);
        let said = running.stderr.text();
        assert!(status.success(), "etcdctl {arguments:?}: {said}");
        running.stdout.text()
    }

    /// How many transactions changed something, by its first member: the store's revision.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn revision(&self) -> u64 {
        let said = self.range("revision");
        let revision = said["header"]["revision"].as_str();
        revision
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("etcd says no revision: {said}"))
    }

    /// Whether there is such a key, by its first member. Cheaper than etcdctl, so fit to be
    /// asked often.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn has(&self, key: &str) -> bool {
        self.range(key)["kvs"].is_array()
    }

    /// One key, by the JSON that etcd speaks beside gRPC. Without TLS only.
    fn range(&self, key: &str) -> Value {
        let url = format!("http://{}/v3/kv/range", self.members[0].site.client);
        let body = json!({ "key": STANDARD.encode(key) }).to_string();
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(SHORT))
            .build()
            .into();
        let answer = agent.post(&url).send(body);
        let mut answer = answer.unwrap_or_else(|error| panic!("{url}: {error}"));
        let text = answer.body_mut().read_to_string();
        let text = text.unwrap_or_else(|error| panic!("{url}: {error}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{url}: {error}: {text}"))
    }

    /// Sum of the first member's own metrics whose lines begin like this.
    pub fn metric(&self, begin: &str) -> f64 {
        let text = self.members[0].ask("metrics").unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with(begin));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// How often leases were renewed, as the members that run count it.
    pub fn renewals(&self) -> f64 {
        let running = self.members.iter().filter(|m| m.running.is_some());
        let texts = running.filter_map(|member| member.ask("metrics"));
        let of = |text: String| {
            let line = |line: &str| {
                line.strip_prefix("etcd_debugging_lease_renewed_total ")?
                    .parse()
                    .ok()
            };
            text.lines().find_map(line).unwrap_or(0.0)
        };
        texts.map(of).sum()
    }

    /// Forgets the history before a revision.
    pub fn compact(&self, revision: u64) {
        self.ctl(&["compact", &revision.to_string()]);
    }
}

impl Member {
    fn ended(&mut self) -> bool {
        let running = self.running.as_mut();
        running.is_some_and(|running| running.ended().is_some())
    }
}
