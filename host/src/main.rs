//! The command line: flags, configuration, logging, and which service to run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use restreamd::app::{App, auth_settings};
use restreamd::auth::{Act, Auth, Secret};
use restreamd::author::{self, Language};
use restreamd::config::{Config, KEYS, StoreKind};
use restreamd::operator::{self, Access, Node};
use restreamd::plugin::grants::HttpHost;
use restreamd::plugin::scenario;
use restreamd::secrets::Secrets;
use restreamd::{demo, drain, memory, plugin, telemetry};
use tracing::info;

/// The command line or the configuration is wrong (EX_USAGE of sysexits.h).
const USAGE: u8 = 64;
/// There is no node that answers (EX_UNAVAILABLE).
const UNAVAILABLE: u8 = 69;

/// An open restream host.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node.
    Serve(Settings),
    /// Run a node on loopback that shows Red5's RTMP-pull example at work.
    Demo {
        /// Where the REST API listens.
        #[arg(long, env = "RESTREAMD_API_LISTEN", default_value = "127.0.0.1:5080")]
        api_listen: std::net::SocketAddr,
        /// Where RTMP listens.
        #[arg(long, env = "RESTREAMD_RTMP_LISTEN", default_value = "127.0.0.1:1935")]
        rtmp_listen: std::net::SocketAddr,
        /// Allow addresses off loopback: anyone may publish, and the API speaks plain HTTP.
        #[arg(long)]
        public: bool,
    },
    /// Print an administrator's token, or one for publishing or playing.
    Token {
        #[command(flatten)]
        settings: Settings,
        /// A token to publish streams of this pattern, such as `live/*`.
        #[arg(long, value_name = "GLOB", conflicts_with = "play")]
        publish: Option<String>,
        /// A token to play streams of this pattern.
        #[arg(long, value_name = "GLOB")]
        play: Option<String>,
        /// Hours a stream token is good for.
        #[arg(long, default_value_t = 24)]
        hours: u32,
    },
    /// Have a running node hand over what it runs, and leave.
    Drain {
        #[command(flatten)]
        reach: Reach,
    },
    /// Take what is stored out, or in: the backup, and the way to another store.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Work on plugins.
    #[command(subcommand)]
    Plugin(PluginCommand),
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Write all provisions and assignments, with their secrets, to a file of mode 0600.
    Export {
        #[command(flatten)]
        snapshot: SnapshotFile,
    },
    /// Take such a file in, all or nothing, where nothing of it is stored yet.
    Import {
        #[command(flatten)]
        snapshot: SnapshotFile,
    },
}

/// A snapshot, and whose.
#[derive(Args)]
struct SnapshotFile {
    /// The file; `-` is the standard output or input.
    file: PathBuf,
    /// Open the store itself, while no node runs on it.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Subcommand)]
enum PluginCommand {
    /// Say whether a file would be admitted, and what it does and wants.
    Check {
        /// The `.wasm` file.
        file: PathBuf,
        /// A node's configuration: would that node admit it, with its pins, keys, limits
        /// and grants?
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// List the plugins of a running node.
    List {
        #[command(flatten)]
        reach: Reach,
    },
    /// Have a running node read a plugin's file again, or those of all.
    Reload {
        /// The type; without it all that are files.
        name: Option<String>,
        #[command(flatten)]
        reach: Reach,
    },
    /// Have a running node go back to a plugin's former build.
    Rollback {
        /// The type.
        name: String,
        #[command(flatten)]
        reach: Reach,
    },
    /// Make a component of a core module that was built with wit-bindgen.
    Component {
        /// The core module.
        module: PathBuf,
        /// Where the component goes.
        #[arg(short, long)]
        output: PathBuf,
        /// The plugin's version, kept in the component's metadata.
        #[arg(long)]
        version: Option<String>,
    },
    /// Make a folder with a small whole plugin in it, to be changed.
    New {
        /// What it is written in.
        #[arg(long, value_enum, default_value_t = Language::Rust)]
        lang: Language,
        /// The type it offers: 1 to 32 of a-z 0-9 -, and the folder's name.
        name: String,
    },
    /// Build the plugin of a folder into `<type>.wasm` there, and check it.
    Build {
        /// The folder that `plugin new` made.
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Play scenarios with a plugin on a virtual clock: a day of retries in a moment.
    Test {
        /// The `.wasm` file.
        file: PathBuf,
        /// What happens to it, and what it must do; see plugins/README.md.
        #[arg(required = true, value_name = "SCENARIO")]
        scenarios: Vec<PathBuf>,
        /// One run with this randomness, in place of the scenario's runs.
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
        /// Print all that happened, also when all went well.
        #[arg(long)]
        trace: bool,
    },
    /// Try a plugin against a real source on a node of its own, without configuration.
    Run {
        /// The `.wasm` file; a changed one takes over while it runs.
        file: PathBuf,
        /// The value of the type's first property that is a URL.
        #[arg(long)]
        url: Option<String>,
        /// Another property of the type; may be given more than once.
        #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
        set: Vec<(String, String)>,
        /// A host, with or without a port, that it may ask by the `http` import; may be
        /// given more than once.
        #[arg(long, value_name = "HOST")]
        grant_http: Vec<HttpHost>,
        /// Where FLV and MP4 files lie that it may play.
        #[arg(long, value_name = "DIR")]
        media_dir: Option<PathBuf>,
        /// End after so long, such as 10s; without media it fails then.
        #[arg(long = "for", value_name = "TIME", value_parser = span)]
        lasts: Option<Duration>,
    },
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn span(text: &str) -> Result<Duration, &'static str> {
    let span = text.parse::<jiff::SignedDuration>().ok();
    let span = span.and_then(|span| Duration::try_from(span).ok());
    span.ok_or("must be a time such as 10s or 5m")
}

/// Which running node, and as whom.
#[derive(Args)]
struct Reach {
    /// The node's REST API; by default where its configuration says.
    #[arg(long, env = "RESTREAMD_API", value_name = "URL")]
    api: Option<String>,
    /// An administrator's token; by default one made with the node's secret, if it is at hand.
    #[arg(
        long,
        env = "RESTREAMD_TOKEN",
        hide_env_values = true,
        value_name = "JWT"
    )]
    token: Option<String>,
    /// Log in by this name, with RESTREAMD_PASSWORD.
    #[arg(
        long,
        env = "RESTREAMD_USER",
        value_name = "NAME",
        conflicts_with = "token"
    )]
    user: Option<String>,
    /// Its password; other users of the machine see flags.
    #[arg(
        long,
        env = "RESTREAMD_PASSWORD",
        hide_env_values = true,
        value_name = "TEXT"
    )]
    password: Option<String>,
    /// Print JSON, as the API answers it.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// The configuration file, and flags that beat it and the environment.
#[derive(Args)]
struct Settings {
    /// The configuration file.
    #[arg(long, env = "RESTREAMD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the REST API listens.
    #[arg(long, value_name = "ADDR")]
    api_listen: Option<String>,
    /// Where RTMP listens.
    #[arg(long, value_name = "ADDR")]
    rtmp_listen: Option<String>,
    /// Where RTMPS listens.
    #[arg(long, value_name = "ADDR")]
    rtmps_listen: Option<String>,
    /// How clients reach this node: `serverAddress` in answers.
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// Where the store and the secrets that were made lie.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where plugins lie, `<type>.wasm`.
    #[arg(long, value_name = "DIR")]
    plugin_dir: Option<String>,
    /// Where FLV and MP4 files lie that plugins may play.
    #[arg(long, value_name = "DIR")]
    media_dir: Option<String>,
    /// This node's name.
    #[arg(long, value_name = "NAME")]
    node_id: Option<String>,
    /// This node's group.
    #[arg(long, value_name = "NAME")]
    node_group: Option<String>,
    /// The part of the group that this node is in.
    #[arg(long, value_name = "NAME")]
    sub_group: Option<String>,
    /// `embedded`, `memory` for a node that forgets, or `etcd://host:port,…` for one of many.
    #[arg(long, value_name = "KIND")]
    store: Option<String>,
    /// The administrator's name.
    #[arg(long, value_name = "NAME")]
    admin_user: Option<String>,
    /// The administrator's password or its argon2 hash; other users of the machine see flags.
    #[arg(long, value_name = "TEXT")]
    admin_password: Option<String>,
    /// The key of tokens, at least 32 bytes; other users of the machine see flags.
    #[arg(long, value_name = "TEXT")]
    jwt_secret: Option<String>,
}

impl Settings {
    fn load(self) -> Result<Config, restreamd::config::Error> {
        let given = [
            self.api_listen,
            self.rtmp_listen,
            self.rtmps_listen,
            self.advertise,
            self.data_dir,
            self.plugin_dir,
            self.media_dir,
            self.node_id,
            self.node_group,
            self.sub_group,
            self.store,
            self.admin_user,
            self.admin_password,
            self.jwt_secret,
        ];
        let flags: BTreeMap<String, String> = KEYS
            .iter()
            .zip(given)
            .filter_map(|(key, value)| Some(((*key).to_owned(), value?)))
            .collect();
        Config::load(
            self.config.as_deref(),
            std::env::vars_os().filter_map(text),
            &flags,
        )
    }
}

/// Variables that are no text cannot be ours.
fn text((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

fn main() -> ExitCode {
    memory::tune();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let done = match cli.command {
        Command::Serve(settings) => configured(settings).and_then(|config| run(serve(config))),
        Command::Demo {
            api_listen,
            rtmp_listen,
            public,
        } => demo::config(api_listen, rtmp_listen, public)
            .map_err(Failed::Usage)
            .and_then(|config| run(demo::run(config))),
        Command::Token {
            settings,
            publish,
            play,
            hours,
        } => configured(settings)
            .and_then(signing)
            .and_then(|config| token(&config, publish, play, hours).map_err(Failed::Run)),
        Command::Drain { reach } => ask(reach, async |node| node.drain().await),
        Command::Store(StoreCommand::Export { snapshot }) => export(snapshot),
        Command::Store(StoreCommand::Import { snapshot }) => import(snapshot),
        Command::Plugin(PluginCommand::Check { file, config }) => check(file, config),
        Command::Plugin(PluginCommand::List { reach }) => operate(reach, Order::List),
        Command::Plugin(PluginCommand::Reload { name, reach }) => {
            operate(reach, Order::Reload(name))
        }
        Command::Plugin(PluginCommand::Rollback { name, reach }) => {
            operate(reach, Order::Rollback(name))
        }
        Command::Plugin(PluginCommand::New { lang, name }) => {
            say(author::create(lang, &name)).map_err(Failed::Run)
        }
        Command::Plugin(PluginCommand::Build { dir }) => {
            run(async move { say(author::build(&dir).await) })
        }
        Command::Plugin(PluginCommand::Test {
            file,
            scenarios,
            seed,
            trace,
        }) => run(rehearse(file, scenarios, scenario::Options { seed, trace })),
        Command::Plugin(PluginCommand::Run {
            file,
            url,
            set,
            grant_http,
            media_dir,
            lasts,
        }) => run(author::try_out(author::Trial {
            file,
            url,
            set,
            http: grant_http,
            media: media_dir,
            lasts,
        })),
        Command::Plugin(PluginCommand::Component {
            module,
            output,
            version,
        }) => component(&module, &output, version.as_deref()).map_err(Failed::Run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => failed.report(),
    }
}

enum Failed {
    Usage(restreamd::config::Error),
    Node(operator::Error),
    Run(anyhow::Error),
}

impl Failed {
    #[allow(
        clippy::print_stderr,
        reason = "the one line that says why the program did not start"
    )]
    fn report(self) -> ExitCode {
        match self {
            Self::Usage(error) => {
                eprintln!("restreamd: {error}");
                ExitCode::from(USAGE)
            }
            Self::Node(error) => {
                eprintln!("restreamd: {error}");
                match error {
                    operator::Error::Unreachable(_) => ExitCode::from(UNAVAILABLE),
                    operator::Error::Refused(_) | operator::Error::NoToken(_) => ExitCode::FAILURE,
                }
            }
            Self::Run(error) => {
                eprintln!("restreamd: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

fn configured(settings: Settings) -> Result<Config, Failed> {
    settings.load().map_err(Failed::Usage)
}

/// A configuration whose tokens a node would take.
fn signing(config: Config) -> Result<Config, Failed> {
    if config.store == StoreKind::Memory && config.jwt_secret.is_none() {
        let text = "must be set: with store = \"memory\" every process makes its own, and no node would take the token";
        return Err(Failed::Usage(restreamd::config::bad("jwt_secret", text)));
    }
    Ok(config)
}

fn run<T>(task: impl Future<Output = anyhow::Result<T>>) -> Result<T, Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failed::Run(error.into()))?;
    let done = runtime.block_on(task);
    // Blocking work that is still under way (a plugin being compiled) is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done.map_err(Failed::Run)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    telemetry::start(&config.log)?;
    let secrets = Secrets::load(&config)?;
    for made in &secrets.made {
        info!(file = %made.display(), "a secret was made and kept");
    }
    let app = App::start(config, &secrets).await?;
    let cluster = app.cluster.clone();
    drain::on_signals(move || {
        cluster.drain();
    })?;
    app.run().await;
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the token is what the command prints")]
fn token(
    config: &Config,
    publish: Option<String>,
    play: Option<String>,
    hours: u32,
) -> anyhow::Result<()> {
    let secrets = Secrets::of_a_node(config)?;
    let auth = Auth::new(&auth_settings(config, &secrets))?;
    let ttl = Duration::from_secs(u64::from(hours) * 3600);
    let token = match (publish, play) {
        (Some(glob), _) => auth.stream_token(&config.admin_user, Act::Publish, &glob, ttl),
        (None, Some(glob)) => auth.stream_token(&config.admin_user, Act::Play, &glob, ttl),
        (None, None) => auth.admin_token(),
    };
    println!("{token}");
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the report is what the command prints")]
fn check(file: PathBuf, config: Option<PathBuf>) -> Result<(), Failed> {
    let config = match config {
        // A file alone: the environment is this command's, and not the node's.
        Some(path) => Some(
            Config::load(Some(&path), std::iter::empty(), &BTreeMap::new())
                .map_err(Failed::Usage)?,
        ),
        None => None,
    };
    run(async move {
        let config = config.as_ref().map(|config| &config.plugins);
        print!("{}", plugin::report_under(&file, config).await?);
        Ok(())
    })
}

/// What a running node is told.
enum Order {
    List,
    Reload(Option<String>),
    Rollback(String),
}

#[allow(clippy::print_stdout, reason = "the list is what the command prints")]
fn operate(reach: Reach, order: Order) -> Result<(), Failed> {
    let json = reach.json;
    let plugins = ask(reach, async |node| match order {
        Order::List => node.plugins().await,
        Order::Reload(name) => node.reload(name.as_deref()).await,
        Order::Rollback(name) => node.roll_back(&name).await,
    })?;
    print!("{}", operator::shown(&plugins, json));
    Ok(())
}

/// Has a running node do something.
fn ask<T>(
    reach: Reach,
    what: impl AsyncFnOnce(&Node) -> Result<T, operator::Error>,
) -> Result<T, Failed> {
    let access = Access {
        api: reach.api,
        token: reach.token.map(Secret::new),
        user: reach.user,
        password: reach.password.map(Secret::new),
    };
    let mut config = configured(reach.settings)?;
    if access.token.is_none() && access.user.is_none() {
        config = signing(config)?;
    }
    run(async { Ok(async { what(&Node::reach(access, &config).await?).await }.await) })?
        .map_err(Failed::Node)
}

fn export(
    SnapshotFile {
        file,
        offline,
        reach,
    }: SnapshotFile,
) -> Result<(), Failed> {
    let snapshot = if offline {
        let config = configured(reach.settings)?;
        run(async { operator::export_offline(&config).await })?
    } else {
        ask(reach, async |node| node.export().await)?
    };
    let written = operator::write(&file, &snapshot).map_err(Failed::Run)?;
    if let operator::Written::TooLarge(most) = written {
        warn_of_size(&file, most);
    }
    Ok(())
}

#[allow(
    clippy::print_stderr,
    reason = "the command's output may be the snapshot itself"
)]
fn warn_of_size(file: &Path, most: u64) {
    let (file, most) = (file.display(), most >> 20);
    eprintln!("restreamd: {file}: no import takes it: larger than {most} MiB");
}

fn import(
    SnapshotFile {
        file,
        offline,
        reach,
    }: SnapshotFile,
) -> Result<(), Failed> {
    let snapshot = operator::read(&file).map_err(Failed::Run)?;
    if offline {
        let config = configured(reach.settings)?;
        run(async { operator::import_offline(&config, &snapshot).await })
    } else {
        ask(reach, async |node| node.import(&snapshot).await)
    }
}

#[allow(clippy::print_stdout, reason = "the text is what the command prints")]
fn say(text: anyhow::Result<String>) -> anyhow::Result<()> {
    print!("{}", text?);
    Ok(())
}

#[allow(
    clippy::print_stdout,
    reason = "the verdicts are what the command prints"
)]
async fn rehearse(
    file: PathBuf,
    scenarios: Vec<PathBuf>,
    options: scenario::Options,
) -> anyhow::Result<()> {
    let verdicts = scenario::play_all(&file, &scenarios, options).await?;
    for verdict in &verdicts {
        print!("{}", verdict.text);
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.passed).count();
    anyhow::ensure!(
        failed == 0,
        "{failed} of {} scenarios failed",
        verdicts.len()
    );
    Ok(())
}

fn component(
    module: &std::path::Path,
    output: &std::path::Path,
    version: Option<&str>,
) -> anyhow::Result<()> {
    let bytes =
        std::fs::read(module).map_err(|error| anyhow::anyhow!("{}: {error}", module.display()))?;
    let component = plugin::component(&bytes, version)?;
    std::fs::write(output, component)
        .map_err(|error| anyhow::anyhow!("{}: {error}", output.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn without_help(command: &clap::Command, path: &str) -> Vec<String> {
        let path = format!("{path} {}", command.get_name());
        let arguments = command
            .get_arguments()
            .filter(|argument| argument.get_help().is_none())
            .map(|argument| format!("{path} {}", argument.get_id()));
        let nameless = command
            .get_subcommands()
            .filter(|command| command.get_about().is_none())
            .map(|command| format!("{path} {}", command.get_name()));
        arguments
            .chain(nameless)
            .chain(
                command
                    .get_subcommands()
                    .flat_map(|command| without_help(command, &path)),
            )
            .collect()
    }

    #[test]
    fn every_command_and_flag_says_what_it_is_for() {
        let mut cli = Cli::command();
        cli.build();
        assert_eq!(without_help(&cli, ""), [""; 0]);
    }
}
