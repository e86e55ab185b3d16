//! What is admitted; the built-in policy itself is tested by `plugins/rtmp/scenarios`.

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
