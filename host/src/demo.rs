//! `restreamd demo`: Red5's public RTMP-pull example, at work in one command.
//!
//! Starts a node on loopback with its state in memory, publishes a clip of the
//! project's own, and then does what the example's reader does, through the REST
//! API like anybody else.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use restreamd_rtmp::session::Purpose;
use restreamd_rtmp::url::RtmpUrl;
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::debug;

use crate::app::App;
use crate::auth::Secret;
use crate::config::{self, Config, StoreKind};
use crate::flv::Playing;
use crate::gate::Access;
use crate::http::Client;
use crate::rtmp::dial::{Dialed, Options};
use crate::rtmp::policy::Policy;
use crate::secrets::Secrets;
use crate::telemetry;

/// A test picture and a tone, ten seconds, H.264 and AAC; `host/demo/make-clip` made it.
const CLIP: &[u8] = include_bytes!("../demo/clip.flv");
/// The pull is live after so long, or something is wrong.
const LIVE_WITHIN: Duration = Duration::from_secs(20);
const PROVISION: &str = "rtmppull1";

/// Runs the demo until Ctrl-C, SIGTERM or `POST admin/drain`.
pub async fn run(config: Config) -> anyhow::Result<()> {
    telemetry::start(&telemetry::Config {
        filter: "warn".to_owned(),
        ..telemetry::Config::default()
    })?;
    let shown = config.admin_password.is_none();
    let secrets = Secrets::load(&config)?;
    let user = config.admin_user.clone();
    let app = App::start(config, &secrets).await?;
    let drain = app.drain.clone();
    drain.start_on_signals()?;
    let (api, rtmp) = (app.api, app.rtmp);
    let node = tokio::spawn(app.run());
    drain.spawn(publish(rtmp, drain.clone()));

    if shown {
        say(&format!(
            "admin user {user}, password {}\n",
            secrets.admin_password.expose()
        ));
    }
    let walked = tokio::select! {
        walked = walk_through(api, rtmp, &user, &secrets.admin_password) => walked,
        () = drain.started() => Ok(()),
    };
    if let Ok(()) = walked {
        drain.started().await;
    }
    say("\ndraining\n");
    drain.start();
    node.await?;
    walked
}

/// The demo's configuration; addresses off loopback only if it is to be `public`.
pub fn config(
    api_listen: SocketAddr,
    rtmp_listen: SocketAddr,
    public: bool,
) -> Result<Config, config::Error> {
    let given = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let mut config = Config {
        api_listen,
        rtmp_listen,
        store: StoreKind::Memory,
        ..Config::default()
    };
    if let Some(user) = given("RESTREAMD_ADMIN_USER") {
        config.admin_user = user;
    }
    config.admin_password = given("RESTREAMD_ADMIN_PASSWORD").map(Secret::new);
    config.dial.allow = ["127.0.0.0/8", "::1/128"]
        .iter()
        .filter_map(|net| net.parse().ok())
        .collect();
    // Its own publisher has no token.
    config.rtmp.publish = Some(Access::Open);
    (config.api.plain_http, config.rtmp.open_publish) = (public, public);
    config.check()?;
    Ok(config)
}

/// What the example's reader does, and what to try next.
async fn walk_through(
    api: SocketAddr,
    rtmp: SocketAddr,
    user: &str,
    password: &Secret,
) -> anyhow::Result<()> {
    let base = format!("http://{api}/as/v1");
    let client = Client::new();
    say(&format!(
        "REST API http://{api}, RTMP rtmp://{rtmp}, a clip is published as live/stream1\n"
    ));

    let basic =
        base64::engine::general_purpose::STANDARD.encode(format!("{user}:{}", password.expose()));
    let login = client
        .call(
            "PUT",
            &format!("{base}/auth/login"),
            &format!("Basic {basic}"),
            None,
        )
        .await?;
    let token = login.expect(200, "login")?["token"]
        .as_str()
        .context("no token")?
        .to_owned();
    let bearer = format!("Bearer {token}");
    let provisions = format!("{base}/streams/provision/nodegroup1");
    let document = provision(rtmp);
    client
        .call("POST", &provisions, &bearer, Some(&document))
        .await?
        .expect(201, "create")?;
    say(&format!("created provision {PROVISION}\n"));
    let publish = format!("{base}/streams/stream/nodegroup1/publish/live/pull1?restream=true");
    let placed = client
        .call("GET", &publish, "", None)
        .await?
        .expect(200, "distribute")?;
    say(&format!("distributed to {}\n", placed[0]["serverAddress"]));
    let status = wait_until_live(
        &client,
        &format!("{provisions}/{PROVISION}?status=true"),
        &bearer,
    )
    .await?;
    say(&format!(
        "\nlive/pull1 is {}:\n{status:#}\n",
        status["state"].as_str().unwrap_or_default()
    ));
    say(&next_steps(api, rtmp, &token, &document));
    Ok(())
}

fn provision(rtmp: SocketAddr) -> Value {
    let port = if rtmp.port() == 1935 {
        String::new()
    } else {
        format!(":{}", rtmp.port())
    };
    let properties = json!({
        "action": "create", "type": "rtmp",
        "rtmpUri": format!("rtmp://localhost{port}/live/stream1"), "persist": "false",
    });
    json!([{ "provisionGuid": PROVISION, "streams": [{
        "streamGuid": "live/pull1", "abrLevel": 0, "camParams": { "properties": properties },
    }] }])
}

async fn wait_until_live(client: &Client, url: &str, bearer: &str) -> anyhow::Result<Value> {
    let deadline = Instant::now() + LIVE_WITHIN;
    loop {
        let status = client
            .call("GET", url, bearer, None)
            .await?
            .expect(200, "status")?;
        let complete = status[0]["media"]["video"]["fps"].is_number();
        if status[0]["state"] == "LIVE" && complete {
            return Ok(status[0].clone());
        }
        ensure!(
            Instant::now() < deadline,
            "the pull is not live after {LIVE_WITHIN:?}: {status:#}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn next_steps(api: SocketAddr, rtmp: SocketAddr, token: &str, document: &Value) -> String {
    let base = format!("http://{api}/as/v1/streams");
    let mut text = String::new();
    let json = "-H \"Content-Type: application/json\"";
    let auth = "-H \"Authorization: Bearer ${JWT}\"";
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "play it:\n  ffplay rtmp://{rtmp}/live/pull1\n  ffplay rtmp://{rtmp}/live/stream1\n  \
         ffplay http://{api}/flv/live/pull1.flv\n  in a browser: http://{api}/watch/live/pull1\n\n\
         go on by hand (the token is good for eight hours):\n\
         JWT={token}\n\
         curl -s {auth} {base}/provision/nodegroup1\n\
         curl -s {auth} \"{base}/provision/nodegroup1/{PROVISION}?status=true\"\n\
         curl -s {json} \"{base}/stream/nodegroup1?aggregate=false\"\n\
         curl -s {json} {auth} -X DELETE {base}/provision/nodegroup1/{PROVISION}\n\
         curl -s {json} {auth} -X POST --data '{document}' {base}/provision/nodegroup1\n\
         curl -s {json} \"{base}/stream/nodegroup1/publish/live/pull1?restream=true\"\n\n\
         Ctrl-C ends the demo.\n",
    );
    text
}

/// Publishes the clip in a loop, again after a failure, until the drain starts.
pub(crate) async fn publish(rtmp: SocketAddr, drain: crate::drain::Drain) {
    tokio::select! {
        () = async { loop {
            if let Err(error) = publish_once(rtmp).await {
                debug!(%error, "the demo's publisher starts again");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        } } => {}
        () = drain.started() => {}
    }
}

async fn publish_once(rtmp: SocketAddr) -> anyhow::Result<()> {
    let url = RtmpUrl::parse(&format!("rtmp://{rtmp}/live/stream1"))?;
    let policy = Arc::new(Policy::new(
        crate::rtmp::policy::Config::default(),
        vec![rtmp],
    ));
    let mut target = Dialed::open(&url, Purpose::Publish, &Options::default(), &policy).await?;
    let mut clip = Playing::from_memory(CLIP, true);
    while let Some(media) = clip.next().await? {
        target.send(&media).await?;
    }
    bail!("the loop ended")
}

#[allow(
    clippy::print_stdout,
    reason = "the demo talks to the person who started it"
)]
fn say(text: &str) {
    print!("{text}");
    let _ = std::io::Write::flush(&mut std::io::stdout());
}
