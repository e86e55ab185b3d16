//! Several hosts on one switch, made of network namespaces: cables can be cut between any
//! two of them.
//!
//! Only inside [`crate::netns::inside`], whose end takes all of it away. The test itself
//! is at the switch, with an address of its own, and is never cut off.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::proc::Running;

/// A program of a second's work.
const SHORT: Duration = Duration::from_secs(10);
/// The test's own place on the switch.
const SELF: u8 = 254;

/// The switch.
#[derive(Debug)]
pub struct Network(());

impl Network {
    /// The addresses of all hosts.
    pub const ALL: &str = "10.77.0.0/24";

    /// A switch that only the test is plugged into.
    pub fn new() -> Arc<Self> {
        ip(&["link", "add", "br0", "type", "bridge"]);
        ip(&[
            "addr",
            "add",
            &format!("{}/24", Self::address(SELF)),
            "dev",
            "br0",
        ]);
        ip(&["link", "set", "br0", "up"]);
        Arc::new(Self(()))
    }

    /// The address of host `n`.
    pub fn address(n: u8) -> IpAddr {
        IpAddr::from([10, 77, 0, n])
    }

    /// The test's own address.
    pub fn own() -> IpAddr {
        Self::address(SELF)
    }

    /// Starts a program as host `n` and plugs it in. A host is as long as its program.
    pub fn start(&self, n: u8, program: &Command) -> Running {
        // The cable of a program that ended goes with its namespace, a moment later.
        let mut old = Running::start(
            Command::new("ip").args(["link", "del", &cable(n)]),
            "iproute2",
        );
        old.wait(SHORT);
        let script = "until ip -brief addr show dev eth0 2>/dev/null | grep -q 10.77; \
            do sleep 0.02; done; exec \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script]);
        command.arg(program.get_program()).args(program.get_args());
        if let Some(folder) = program.get_current_dir() {
            command.current_dir(folder);
        }
        for (key, value) in program.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        // It stays the same process all the way to the program.
        let running = Running::start(&mut command, "util-linux");
        plug(n, running.id());
        running
    }

    /// Hosts `a` and `b` reach the others, and not each other. One cut at a time.
    pub fn cut(&self, a: u8, b: u8) {
        for n in [a, b] {
            isolate(n, "on");
        }
    }

    /// Joins what was cut between them.
    pub fn join(&self, a: u8, b: u8) {
        for n in [a, b] {
            isolate(n, "off");
        }
    }
}

fn cable(n: u8) -> String {
    format!("host{n}")
}

fn plug(n: u8, pid: u32) {
    let (cable, pid) = (cable(n), pid.to_string());
    // The namespace is there a moment after the process.
    crate::eventually::eventually("the host has a namespace", SHORT, || {
        let own = std::fs::read_link("/proc/self/ns/net").ok();
        match std::fs::read_link(format!("/proc/{pid}/ns/net")).ok() {
            Some(its) if Some(&its) != own.as_ref() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let peer = ["type", "veth", "peer", "name", "eth0", "netns", &pid];
    ip(&[&["link", "add", &cable], &peer[..]].concat());
    ip(&["link", "set", &cable, "master", "br0", "up"]);
    let address = format!("{}/24", Network::address(n));
    for arguments in [
        &["link", "set", "lo", "up"][..],
        &["link", "set", "eth0", "up"],
        &["addr", "add", &address, "dev", "eth0"],
    ] {
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--net", "ip"]);
        run(command.args(arguments));
    }
}

fn isolate(n: u8, how: &str) {
    ip(&[
        "link",
        "set",
        "dev",
        &cable(n),
        "type",
        "bridge_slave",
        "isolated",
        how,
    ]);
}

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

fn run(command: &mut Command) {
    let mut running = Running::start(command, "iproute2 util-linux");
    let status = running.wait(SHORT);
    assert!(status.success(), "{command:?}: {}", running.stderr.text());
}
