//! The host, with pulls made over REST as any client makes them.

use std::fs;
use std::net::SocketAddr;

use restreamd_tests::api::Api;
use restreamd_tests::port;
use restreamd_tests::proc::Running;
use restreamd_tests::provision::Provision;
use restreamd_tests::token::{admin_claims, sign};
use toml::toml;

use super::{Server, Task, bound_command, stream_url, wait_until_listening};

const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef";
/// A token outlives the start of a thousand pulls, and minutes of asking.
const TOKEN_SECONDS: i64 = 1_800;

pub(super) fn start(window_millis: u64, task: &Task<'_>) -> anyhow::Result<Server> {
    let folder = tempfile::tempdir()?;
    let (api, rtmp) = (port::free(), port::free());
    let latency = i64::try_from(window_millis)?;
    let text = |addr: SocketAddr| addr.to_string();
    let (api_listen, rtmp_listen) = (text(api), text(rtmp));
    let data_dir = folder.path().join("data").to_string_lossy().into_owned();
    let config = toml! {
        api_listen = api_listen
        rtmp_listen = rtmp_listen
        data_dir = data_dir
        admin_password = "correct-horse-battery"
        jwt_secret = JWT_SECRET

        [stream]
        latency = latency

        [dial]
        allow = ["127.0.0.0/8"]

        [log]
        filter = "warn"
    };
    let path = folder.path().join("restreamd.toml");
    fs::write(&path, config.to_string())?;
    let mut command = bound_command(&task.programs.restreamd);
    command.args(["serve", "--config"]).arg(path);
    let mut running = Running::start(&mut command, "util-linux");
    wait_until_listening(&mut running, api);
    wait_until_listening(&mut running, rtmp);

    let token = sign(JWT_SECRET, &admin_claims(TOKEN_SECONDS));
    let api = Api::new(api).with_token(&token);
    for number in 0..task.pulls {
        api.start(&pull(number, task.origin));
    }
    Ok(Server {
        running,
        rtmp,
        api: Some(api),
        _folder: Some(folder),
    })
}

/// The provision of a stream of the origin.
pub(crate) fn pull(number: usize, origin: SocketAddr) -> Provision {
    Provision::pull(
        &format!("pull{number}"),
        &format!("live/s{number}"),
        &format!("{}{number}", stream_url(origin)),
    )
}
