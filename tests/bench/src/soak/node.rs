//! The node, what it is to do, and what it holds.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, ensure};
use restreamd_tests::api::Api;
use restreamd_tests::clip::Clip;
use restreamd_tests::port;
use restreamd_tests::proc::{Footprint, Running};
use restreamd_tests::provision::Provision;
use tempfile::TempDir;
use toml::toml;

use super::judge::Sample;
use super::publishers::PUBLISHERS;
use super::sources::Sources;
use crate::server::{bound_command, wait_until_listening};

/// Name and password of the administrator.
pub(super) const ADMIN: (&str, &str) = ("admin", "correct-horse-battery");
/// Pulls of sources that play in calm weather.
pub(super) const PULLS: usize = 50;
/// Pulls of a port where nobody listens.
const REFUSED: usize = 5;
/// Streams there are in calm weather.
pub(super) const STREAMS: u64 = (PULLS + REFUSED + PUBLISHERS) as u64;
/// And those with media.
pub(super) const LIVE: u64 = PULLS as u64;

/// Where it listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) api: SocketAddr,
    pub(super) rtmp: SocketAddr,
}

impl Places {
    pub(super) fn url(&self, stream: &str) -> String {
        format!("rtmp://{}/{stream}", self.rtmp)
    }

    pub(super) fn client(&self) -> Api {
        Api::new(self.api).login(ADMIN.0, ADMIN.1)
    }
}

/// A running node; it ends at drop.
pub(super) struct Node {
    running: Running,
    places: Places,
    _folder: TempDir,
}

impl Node {
    pub(super) fn start(restreamd: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let media = folder.path().join("media");
        fs::create_dir(&media)?;
        fs::copy(Clip::small().path(), media.join("slate.flv"))?;
        let places = Places {
            api: port::free(),
            rtmp: port::free(),
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (api_listen, rtmp_listen) = (places.api.to_string(), places.rtmp.to_string());
        let (data_dir, media_dir) = (text(&folder.path().join("data")), text(&media));
        let (user, password) = ADMIN;
        let config = toml! {
            api_listen = api_listen
            rtmp_listen = rtmp_listen
            data_dir = data_dir
            media_dir = media_dir
            admin_user = user
            admin_password = password
            jwt_secret = "0123456789abcdef0123456789abcdef"

            [dial]
            allow = ["127.0.0.0/8"]

            [log]
            filter = "warn"
        };
        let path = folder.path().join("restreamd.toml");
        fs::write(&path, config.to_string())?;
        let mut command = bound_command(restreamd);
        command.args(["serve", "--config"]).arg(path);
        let mut running = Running::start(&mut command, "util-linux");
        wait_until_listening(&mut running, places.api);
        wait_until_listening(&mut running, places.rtmp);
        Ok(Self {
            running,
            places,
            _folder: folder,
        })
    }

    pub(super) fn places(&self) -> Places {
        self.places
    }

    /// Creates and distributes what it is to do all the time.
    pub(super) fn provision(&self, sources: &Sources) {
        let client = self.places.client();
        let patient = |provision: Provision| {
            let provision = provision.with("retryMaxMs", 2_000);
            client.start(&provision.with("returnAfterMs", 2_000));
        };
        for n in 0..PULLS {
            let (guid, stream) = (format!("pull{n}"), format!("live/s{n}"));
            let url = sources.url(n);
            let pull = match n % 5 {
                0 => Provision::pull(&guid, &stream, &url).with("slate", "slate.flv"),
                1 => Provision::pull(&guid, &stream, &url)
                    .with("rtmpUris", sources.steady_url(n))
                    .with("standby", "true"),
                _ => Provision::pull(&guid, &stream, &url),
            };
            patient(pull);
        }
        let nobody = port::free();
        for n in 0..REFUSED {
            let url = format!("rtmp://{nobody}/live/x");
            let (guid, stream) = (format!("refused{n}"), format!("live/r{n}"));
            patient(Provision::pull(&guid, &stream, &url));
        }
        for n in 0..PUBLISHERS {
            let url = self.places.url(&format!("live/p{n}"));
            let (guid, stream) = (format!("own{n}"), format!("live/o{n}"));
            patient(Provision::pull(&guid, &stream, &url));
        }
    }

    /// What it holds now.
    pub(super) fn sample(&self) -> anyhow::Result<Sample> {
        let footprint = Footprint::of(self.running.id());
        ensure!(
            footprint.resident_kib > 0,
            "the node ended: {}",
            self.running.stderr.text()
        );
        let metrics = Api::new(self.places.api).get("/metrics");
        let gauge = |name: &str| {
            let line = metrics
                .text
                .lines()
                .find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|value| value.trim().parse().ok());
            value.with_context(|| format!("/metrics has no {name}"))
        };
        Ok(Sample {
            resident_kib: footprint.resident_kib,
            files: footprint.files as u64,
            threads: footprint.threads as u64,
            tasks: gauge("restreamd_runtime_tasks_count ")?,
            streams: gauge("restreamd_stream_streams_count ")?,
            live: gauge("restreamd_stream_live_count ")?,
            subscribers: gauge("restreamd_stream_subscribers_count ")?,
        })
    }

    /// The last lines it logged, of WARN and above.
    pub(super) fn complaints(&self) -> Vec<String> {
        let lines = self.running.stderr.all();
        let from = lines.len().saturating_sub(20);
        lines[from..].to_vec()
    }

    /// Panics and errors it logged.
    pub(super) fn panics(&self) -> Option<String> {
        let lines = self.running.stderr.all();
        let bad = |line: &&String| line.contains("panicked") || line.contains("ERROR");
        let count = lines.iter().filter(bad).count();
        (count > 0).then(|| format!("{count} panics and errors in the log"))
    }
}
