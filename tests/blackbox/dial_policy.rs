//! Where a node dials and where not, however the place is written, resolved or sent to.
//!
//! Each test has a namespace of its own, in which all the addresses are there and a trap
//! listens on every one of them: what is dialled although it must not be is seen.

use std::net::IpAddr;
use std::time::Duration;

use restreamd_tests::api::{Api, provision_path};
use restreamd_tests::clip::Clip;
use restreamd_tests::dns::Dns;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::Builder;
use restreamd_tests::netns;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::{Gate, Script, Source};
use restreamd_tests::trap::Trap;
use serde_json::Value;

use crate::{SOON, node};

/// For the run in the namespace, many provisions one after the other.
const WITHIN: Duration = Duration::from_secs(180);
/// RTMP's own, which a URL without a port means.
const PORT: u16 = 1935;
/// On the internet, as far as addresses tell; in the namespace it is loopback's.
const PUBLIC: &str = "93.184.216.34";
/// Beside loopback's own: private, carrier's, metadata, unique local, and forms that carry IPv4.
const ADDRESSES: [&str; 12] = [
    PUBLIC,
    "10.1.2.3",
    "10.9.9.9",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "198.18.0.1",
    "fd00:ec2::254",
    "64:ff9b::7f00:1",
    "64:ff9b::a01:203",
    "2002:a01:203::",
];

/// Hosts that lead where a node does not dial unless told to.
const REFUSED: [&str; 39] = [
    "127.0.0.1",
    "2130706433",
    "0x7f000001",
    "0X7F.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.1",
    "127.0.1",
    "127.255.0.3",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:7F00:0001]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::10.1.2.3]",
    "[2002:a01:203::]",
    "0.0.0.0",
    "0",
    "[::]",
    "localhost",
    "LocalHost",
    "169.254.169.254",
    "2852039166",
    "0xA9FEA9FE",
    "[::ffff:169.254.169.254]",
    "[fe80::7]",
    "10.1.2.3",
    "012.1.2.3",
    "172.16.0.1",
    "192.168.0.1",
    "192.168.1",
    "100.64.0.1",
    "198.18.0.1",
    "[fd00:ec2::254]",
    "224.0.0.1",
    "255.255.255.255",
    "[ff02::1]",
];

/// The same by names, which the files and the name server below know.
const NAMES: [&str; 9] = [
    "metadata.google.internal",
    "METADATA.Google.Internal",
    "metadata.google.internal.",
    "instance-data",
    "localhost.localdomain",
    "private.example",
    "ula.example",
    "mapped.example",
    "all.refused.example.",
];

/// What is no URL of ours, whatever a library would make of it.
const ILLEGAL: [&str; 8] = [
    "rtmp://[::1%lo]/live/s",
    "rtmp://[fe80::7%25lo]/live/s",
    "rtmp://127.0.0.1%00/live/s",
    "rtmp://１２７.0.0.1/live/s",
    "rtmp://127.0.0.1#@93.184.216.34/live/s",
    "rtmp://127.0.0.1 /live/s",
    "rtmp://[127.0.0.1]/live/s",
    "http://127.0.0.1/live/s",
];

/// Runs `body` where names and addresses are the test's own.
fn in_a_world(test: &str, body: impl FnOnce(&Dns, &Trap)) {
    netns::inside(&format!("dial_policy::{test}"), WITHIN, || {
        ADDRESSES
            .iter()
            .for_each(|address| netns::add_address(address));
        let hosts = "127.0.0.1 localhost localhost.localdomain\n::1 localhost\n\
                     169.254.169.254 metadata.google.internal instance-data\n";
        netns::replace_file("/etc/hosts", hosts);
        netns::replace_file("/etc/nsswitch.conf", "hosts: files dns\n");
        netns::replace_file("/etc/resolv.conf", "nameserver 127.0.0.1\n");
        body(&Dns::start(), &Trap::set(PORT));
    });
}

/// A node as it comes: it dials its own listener, which is on another port, and the internet.
fn strict() -> Builder {
    node().without("dial")
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    let address = |text: &&str| text.parse().expect("an address");
    texts.iter().map(address).collect()
}

/// Starts a pull and answers the class of its first failure.
fn class(api: &Api, name: &str, url: &str) -> Value {
    let guid = format!("{name}-pull");
    api.start(&Provision::pull(&guid, &format!("live/{name}"), url));
    let status = api.wait_for(&guid, url, SOON, |s| s["history"][0]["class"].is_string());
    api.delete(&guid);
    status["history"][0]["class"].clone()
}

/// The trap has seen these addresses in this order; a policy that dials again soon counts
/// as once.
fn dialled(trap: &Trap, expected: &[&str]) {
    let expected = addresses(expected);
    let seen = || {
        let mut seen = trap.dialled();
        seen.dedup();
        seen
    };
    eventually("what is to be dialled is dialled", SOON, || {
        let seen = seen();
        when(seen.len() >= expected.len(), || format!("{seen:?}"))
    });
    assert_eq!(seen(), expected);
}

#[test]
fn no_form_of_a_refused_address_is_dialled() {
    in_a_world("no_form_of_a_refused_address_is_dialled", |_, trap| {
        let host = strict().start();
        let api = host.client();
        for (index, form) in REFUSED.into_iter().enumerate() {
            // User info that looks like a host changes nothing.
            for user in ["", "93.184.216.34:1935@"] {
                let url = format!("rtmp://{user}{form}/live/s");
                let name = format!("form{index}-{}", user.len());
                assert_eq!(class(&api, &name, &url), "blocked", "{url}");
            }
        }
        for url in ILLEGAL {
            let pull = Provision::pull("illegal-pull", "live/illegal", url);
            let error = api.try_create(&[&pull]).error(400);
            let field = error["field"].as_str().unwrap_or_default();
            assert!(field.ends_with("rtmpUri"), "{url}: {error}");
        }
        dialled(trap, &[]);
        // The public address is dialled, in whatever form it is written.
        for form in [PUBLIC, "1572395042", "0x5db8d822", "[::ffff:5db8:d822]"] {
            let name = format!("public{}", form.len());
            let class = class(&api, &name, &format!("rtmp://{form}/live/s"));
            assert_eq!(class, "closed", "{form}");
        }
        let public: IpAddr = PUBLIC.parse().expect("an address");
        assert!(trap.dialled().len() >= 4);
        assert!(trap.dialled().iter().all(|ip| *ip == public));
    });
}

#[test]
fn names_are_judged_by_what_they_resolve_to() {
    in_a_world("names_are_judged_by_what_they_resolve_to", |dns, trap| {
        dns.set("metadata.google.internal", &[&["169.254.169.254"]]);
        dns.set("private.example", &[&["10.1.2.3", "192.168.0.1"]]);
        dns.set("ula.example", &[&["fd00:ec2::254"]]);
        dns.set("mapped.example", &[&["::ffff:10.1.2.3"]]);
        dns.set("all.refused.example", &[&["127.0.0.1", "::1", "0.0.0.0"]]);
        let host = strict().start();
        let api = host.client();
        for (index, name) in NAMES.into_iter().enumerate() {
            let url = format!("rtmp://{name}/live/s");
            assert_eq!(
                class(&api, &format!("name{index}"), &url),
                "blocked",
                "{url}"
            );
        }
        assert_eq!(class(&api, "unknown", "rtmp://none.example/live/s"), "dns");
        dialled(trap, &[]);

        // Of several addresses only those that may be dialled are.
        let mixed = [
            "10.1.2.3",
            "127.0.0.1",
            "fd00:ec2::254",
            PUBLIC,
            "169.254.169.254",
        ];
        dns.set("mixed.example", &[&mixed]);
        let report = probe(&api, "rtmp://mixed.example/live/s");
        assert_eq!(report["class"], "closed", "{report}");
        dialled(trap, &[PUBLIC]);
        let report = probe(&api, "rtmp://private.example/live/s");
        assert_eq!(report["class"], "blocked", "{report}");
        dialled(trap, &[PUBLIC]);
    });
}

fn probe(api: &Api, url: &str) -> Value {
    let body = Provision::pull("probed-pull", "live/probed", url).json();
    let answer = api.call("POST", &provision_path("/probe"), Some(&body));
    answer.expect(200)
}

#[test]
fn a_name_that_is_bound_anew_is_judged_anew_and_dialled_where_it_was_judged() {
    let test = "a_name_that_is_bound_anew_is_judged_anew_and_dialled_where_it_was_judged";
    in_a_world(test, |dns, trap| {
        let host = strict().start();
        let api = host.client();
        // Public when it is judged for the first time, and something else from then on: a
        // second look-up between judging and dialling would lead there.
        for (index, then) in ["127.0.0.1", "169.254.169.254", "10.1.2.3"]
            .into_iter()
            .enumerate()
        {
            let name = format!("rebound{index}.example");
            dns.set(&name, &[&[PUBLIC], &[then]]);
            let guid = format!("rebound{index}-pull");
            let url = format!("rtmp://{name}/live/s");
            api.start(&Provision::pull(
                &guid,
                &format!("live/rebound{index}"),
                &url,
            ));
            let has = |status: &Value, class: &str| {
                let history = status["history"].as_array();
                history.is_some_and(|all| all.iter().any(|one| one["class"] == class))
            };
            api.wait_for(&guid, "dialled, then blocked", SOON, |status| {
                has(status, "closed") && has(status, "blocked")
            });
            assert!(dns.asked(&name) >= 2, "one question a dial");
            api.delete(&guid);
            assert_eq!(trap.dialled(), addresses(&vec![PUBLIC; index + 1]));
        }
    });
}

#[test]
fn no_server_can_send_a_pull_where_it_may_not_dial() {
    in_a_world(
        "no_server_can_send_a_pull_where_it_may_not_dial",
        |dns, trap| {
            dns.set("inside.example", &[&["10.1.2.3"]]);
            let named = ["inside.example", "metadata.google.internal"];
            let clip = Clip::small();
            // An upstream on loopback has to be allowed: it alone, by its port.
            let sending = |host: &str| {
                let script = Script {
                    gate: Gate::Redirect(format!("rtmp://{host}/live")),
                    ..Script::default()
                };
                Source::scripted(&clip, script)
            };
            let forms = REFUSED.into_iter().chain(named);
            let sources: Vec<(&str, Source)> = forms.map(|form| (form, sending(form))).collect();
            let public = sending(PUBLIC);
            let staying = Source::open(&clip);
            let all = sources.iter().map(|(_, source)| source);
            let allowed: Vec<String> = all
                .chain([&public, &staying])
                .map(|source| source.addr().to_string())
                .collect();
            let host = strict().set("dial.allow", allowed).start();
            let api = host.client();
            for (index, (form, source)) in sources.iter().enumerate() {
                let url = source.url("live/stream1");
                let class = class(&api, &format!("sent{index}"), &url);
                assert_eq!(class, "blocked", "sent to {form}");
                assert!(source.dials() >= 1);
            }
            dialled(trap, &[]);

            // A request to reconnect is no other way there.
            let pull = Provision::pull("asked-pull", "live/asked", &staying.url("live/stream1"));
            api.start(&pull);
            api.wait_for_state(pull.guid(), "LIVE", SOON);
            for form in [
                "127.0.0.1",
                "2852039166",
                "inside.example",
                "[::ffff:10.1.2.3]",
            ] {
                let logged = host.logs().len();
                eventually("the request is judged", SOON, || {
                    // More than one a second are not heard.
                    staying.ask_to_reconnect(Some(&format!("rtmp://{form}/live")));
                    let logs = host.logs();
                    let logs = &logs[logged..];
                    let at = logs.iter().position(|line| line.contains(form));
                    let judged = |line: &String| {
                        line.contains("cannot reconnect") && line.contains("blocked")
                    };
                    let judged = at.is_some_and(|at| logs[at..].iter().any(judged));
                    when(judged, || format!("{logs:?}"))
                });
            }
            assert_eq!(api.status(pull.guid())["state"], "LIVE");
            dialled(trap, &[]);

            // Where it may dial it does.
            let url = public.url("live/stream1");
            assert_eq!(class(&api, "public", &url), "closed");
            let public: IpAddr = PUBLIC.parse().expect("an address");
            assert!(trap.dialled().contains(&public));
            assert!(trap.dialled().iter().all(|ip| *ip == public));
        },
    );
}

#[test]
fn networks_open_no_metadata_and_deny_wins_over_allow() {
    let test = "networks_open_no_metadata_and_deny_wins_over_allow";
    in_a_world(test, |dns, trap| {
        dns.set("inside.example", &[&["10.1.2.3"]]);
        let list = |entries: &[&str]| entries.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>();
        let open = [
            "10.0.0.0/8",
            "169.254.0.0/16",
            "fd00::/8",
            "inside.example:1935",
            "0.0.0.0/0",
            "::/0",
        ];
        let host = strict()
            .set("dial.allow", list(&open))
            .set(
                "dial.deny",
                list(&["10.9.9.9", "bad.example", "172.16.0.0/12"]),
            )
            .start();
        let api = host.client();
        dns.set("bad.example", &[&[PUBLIC]]);
        for (index, refused) in [
            "169.254.169.254",
            "2852039166",
            "[::ffff:169.254.169.254]",
            "metadata.google.internal",
            "0.0.0.0",
            "[::]",
            "10.9.9.9",
            "168364297",
            "[::ffff:10.9.9.9]",
            "172.16.0.1",
            "bad.example",
            "BAD.example",
        ]
        .into_iter()
        .enumerate()
        {
            let url = format!("rtmp://{refused}/live/s");
            assert_eq!(
                class(&api, &format!("refused{index}"), &url),
                "blocked",
                "{url}"
            );
        }
        dialled(trap, &[]);
        let inside = ["10.1.2.3", "fd00:ec2::254"];
        for (allowed, seen) in [
            ("10.1.2.3", &inside[..1]),
            ("inside.example", &inside[..1]),
            ("[fd00:ec2::254]", &inside),
        ] {
            let report = probe(&api, &format!("rtmp://{allowed}/live/s"));
            assert_eq!(report["class"], "closed", "{allowed}: {report}");
            dialled(trap, seen);
        }
        drop(host);
        // Metadata is a single host, or it is not dialled.
        let host = strict()
            .set("dial.allow", list(&["169.254.169.254"]))
            .start();
        let report = probe(&host.client(), "rtmp://169.254.169.254/live/s");
        assert_eq!(report["class"], "closed", "{report}");
        dialled(trap, &[inside[0], inside[1], "169.254.169.254"]);
    });
}
