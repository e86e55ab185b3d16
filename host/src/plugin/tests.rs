//! What is admitted; the built-in policy itself is tested by `plugins/rtmp/scenarios`.

use std::time::Duration;

use restreamd_tests::guest::Guest;

use super::*;

#[tokio::test]
async fn a_build_for_another_contract_is_refused_and_one_for_a_patch_of_it_runs() {
    let runtime = Runtime::start().expect("the engine starts");
    let kind: RestreamType = "other".parse().expect("legal");
    let admit = async |version: &str| {
        let mut bytes = BUILT_IN.to_vec();
        let at = |bytes: &[u8]| bytes.windows(6).position(|at| at == b"@1.0.0");
        while let Some(at) = at(&bytes) {
            bytes[at + 1..at + 6].copy_from_slice(version.as_bytes());
        }
        let limits = Limits::default();
        admission::admit(&runtime, &kind, bytes, Origin::BuiltIn, limits).await
    };
    for version in ["0.1.0", "1.1.0", "2.0.0"] {
        let refused = admit(version).await.expect_err(version).to_string();
        let says = format!("built for restreamd:plugin {version}, this host speaks 1.0.x");
        assert!(refused.starts_with(&says), "{refused}");
        assert!(refused.contains("wit/world.wit"), "{refused}");
    }
    let patched = admit("1.0.7").await.expect("it asks for nothing newer");
    assert_eq!(patched.wit_version, "1.0.7");
}

#[tokio::test]
async fn files_that_are_no_plugins_are_refused_with_the_reason() {
    let runtime = Runtime::start().expect("the engine starts");
    let kind: RestreamType = "x".parse().expect("legal");
    let admit = |bytes: Vec<u8>| {
        admission::admit(&runtime, &kind, bytes, Origin::BuiltIn, Limits::default())
    };
    let reason = |built: Result<Build, admission::Rejected>| {
        built
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    assert!(reason(admit(b"hello".to_vec()).await).contains("first bytes"));
    assert!(reason(admit(b"\0asm\x01\0\0\0".to_vec()).await).contains("wit-bindgen"));
    assert!(
        reason(admit(b"\0asm\x0d\0\x01\0".to_vec()).await).contains("restreamd:plugin/restreamer@")
    );
    assert!(!reason(admit(BUILT_IN[..BUILT_IN.len() / 2].to_vec()).await).is_empty());
}

fn kind(name: &str) -> RestreamType {
    name.parse().expect("legal")
}

/// The built-in policy in another build.
async fn built(runtime: &Runtime, number: u8) -> Arc<Build> {
    let bytes = [
        BUILT_IN.to_vec(),
        vec![0, 7, 5],
        b"build".to_vec(),
        vec![number],
    ]
    .concat();
    let (origin, limits) = (Origin::File("rtmp.wasm".into()), Limits::default());
    let build = admission::admit(runtime, &kind("rtmp"), bytes, origin, limits).await;
    Arc::new(build.expect("it is admitted"))
}

#[tokio::test]
async fn a_build_under_which_restreamers_fail_makes_room_for_the_one_before() {
    let runtime = Runtime::start().expect("the engine starts");
    let (good, bad) = (built(&runtime, 1).await, built(&runtime, 2).await);
    let mut slot = Slot::default();
    assert!(slot.install(good.clone()) && slot.install(bad.clone()));
    let fail = |slot: &mut Slot, build: &Arc<Build>, name: &str| {
        slot.judge(build, |record| record.failed(Instant::now(), name))
    };
    assert!(fail(&mut slot, &bad, "a").is_none() && fail(&mut slot, &bad, "b").is_none());
    let withdrawn = fail(&mut slot, &bad, "c").expect("the third one");
    assert_eq!(withdrawn.state, State::RolledBack);
    assert!(slot.current().is_some_and(|now| Arc::ptr_eq(now, &good)));
    assert_eq!(slot.withdrawn.get("unsound"), Some(&1));
    // There is none before this one.
    for name in ["a", "b"] {
        assert!(fail(&mut slot, &good, name).is_none());
    }
    let withdrawn = fail(&mut slot, &good, "c").expect("the third one");
    assert_eq!(withdrawn.state, State::Quarantined);
    assert!(
        slot.quarantined()
            .is_some_and(|why| why.contains("3 restreamers"))
    );
}

#[tokio::test]
async fn crashes_of_a_build_that_was_rolled_back_to_do_not_bring_the_other_one_back() {
    let runtime = Runtime::start().expect("the engine starts");
    let (good, bad) = (built(&runtime, 1).await, built(&runtime, 2).await);
    let crash = |slot: &mut Slot, build: &Arc<Build>| {
        slot.judge(build, |record| record.crashed(Instant::now(), "trapped"))
    };
    let mut slot = Slot::default();
    assert!(slot.install(good.clone()) && slot.install(bad.clone()));
    assert!(slot.roll_back(), "as an operator does");
    for _ in 0..5 {
        assert!(crash(&mut slot, &good).is_none());
    }
    assert!(slot.current().is_some_and(|now| Arc::ptr_eq(now, &good)));
    // The one that is new makes room when it crashes as soon as it is there.
    assert!(slot.install(built(&runtime, 3).await));
    let new = slot.current().cloned().expect("installed");
    assert!(crash(&mut slot, &new).is_none());
    let withdrawn = crash(&mut slot, &new).expect("the second one");
    assert_eq!(withdrawn.state, State::RolledBack);
    assert_eq!(slot.withdrawn.get("stillborn"), Some(&1));
}

#[tokio::test]
async fn a_component_that_wants_more_of_the_machine_is_refused_by_name() {
    let runtime = Runtime::start().expect("the engine starts");
    let exports = "(instance $it) (export \"restreamd:plugin/restreamer@1.0.0\" (instance $it))";
    for import in [
        "wasi:sockets/tcp@0.2.0",
        "wasi:http/outgoing-handler@0.2.0",
        "acme:disk/raw@1.0.0",
    ] {
        let text = format!("(component (import \"{import}\" (instance)) {exports})");
        let bytes = wat::parse_str(text).expect("a component");
        let (origin, limits) = (Origin::File("x.wasm".into()), Limits::default());
        let refused = admission::admit(&runtime, &kind("x"), bytes, origin, limits).await;
        let refused = refused.expect_err("it is not admitted");
        assert_eq!(refused.label(), "imports", "{refused}");
        assert!(refused.to_string().contains(import), "{refused}");
    }
}

/// The best of five: the machine has other work.
async fn soonest<F: Future<Output = ()>>(of: impl Fn() -> F) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        of().await;
        best = best.min(began.elapsed());
    }
    best
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_is_stopped_within_100_ms_of_its_limit_wherever_it_is() {
    let runtime = Runtime::start().expect("the engine starts");
    let forever = "(loop $again (br $again))";
    // 100 ms of its own, and 100 ms to stop it.
    let in_time = Duration::from_millis(100)..Duration::from_millis(200);
    let admit = async |guest: &Guest| {
        let origin = Origin::File("loops.wasm".into());
        let (bytes, limits) = (guest.module(), Limits::default());
        admission::admit(&runtime, &kind("loops"), bytes, origin, limits).await
    };
    for guest in [
        Guest::default().describes(forever),
        Guest::default().checks(forever),
    ] {
        let took = soonest(async || {
            let refused = admit(&guest).await.expect_err("it loops").to_string();
            assert!(refused.contains("ran for 100ms"), "{refused}");
        });
        let took = took.await;
        assert!(in_time.contains(&took), "{took:?}");
    }
    let build = Arc::new(admit(&Guest::runs(forever)).await.expect("it loops later"));
    let job = crate::restreamer::host::Job {
        provision_guid: "p".to_owned(),
        stream_guid: "live/a".to_owned(),
        kind: "loops".to_owned(),
        properties: Vec::new(),
    };
    let took = soonest(async || {
        let crash = build.run(&job, None, Box::new(offline::Offline)).await;
        assert_eq!(crash.expect_err("it loops").kind(), "overran");
    });
    let took = took.await;
    assert!(in_time.contains(&took), "{took:?}");
}
