//! What is admitted; the built-in policy itself is tested by `plugins/rtmp/scenarios`.

use super::*;

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
