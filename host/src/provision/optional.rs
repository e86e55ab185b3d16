//! The parts of a provision that Red5 knows and this host only keeps: their bounds.
//!
//! A document that Red5 would refuse is refused here as well, so that it can move to
//! and fro. Nothing in here changes what runs.

use super::field::{Field, Invalid};

/// Checks a provision's own optional fields.
pub(super) fn provision(of: &Field<'_>) -> Result<(), Invalid> {
    if let Some(credentials) = of.get("credentials")? {
        check_credentials(&credentials)?;
    }
    if let Some(rules) = of.get("geoRules")? {
        rules.object()?;
    }
    if let Some(capabilities) = of.get("capabilities")? {
        check_capabilities(&capabilities)?;
    }
    Ok(())
}

/// Checks a stream's optional fields.
pub(super) fn stream(of: &Field<'_>) -> Result<(), Invalid> {
    if let Some(qos) = of.get("qos")? {
        qos.integer(0..=i64::from(i32::MAX))?;
    }
    if let Some(uri) = of.get("destUri")? {
        uri.text_of(0..=4096)?;
    }
    if let Some(video) = of.get("videoParams")? {
        check_video(&video)?;
    }
    if let Some(group) = of.get("groupParams")? {
        check_group(&group)?;
    }
    if let Some(cloud) = of.get("cloudParams")? {
        cloud.need("bucketName")?.text_of(3..=63)?;
        cloud.need("fileStorageName")?.text_of(1..=1024)?;
    }
    Ok(())
}

fn check_credentials(of: &Field<'_>) -> Result<(), Invalid> {
    let username = of.get("username")?;
    if let Some(name) = &username {
        name.text_of(2..=1024)?;
    }
    match (of.get("password")?, of.get("token")?) {
        (Some(password), None) => {
            of.need("username")?;
            password.text_of(2..=1024).map(drop)
        }
        (None, Some(token)) => token.text_of(2..=4096).map(drop),
        (None, None) => Err(of.invalid("must hold a password or a token")),
        (Some(_), Some(token)) => Err(token.invalid("must not stand beside a password")),
    }
}

fn check_capabilities(of: &Field<'_>) -> Result<(), Invalid> {
    const KNOWN: [&str; 6] = ["PUBLISH", "SUBSCRIBE", "TRANSCODE", "MIX", "XILINX", "ZIXI"];
    if of.value.as_array().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    of.items()?
        .iter()
        .try_for_each(|item| item.one_of(&KNOWN).map(drop))
}

fn check_video(of: &Field<'_>) -> Result<(), Invalid> {
    const INTEGERS: [(&str, std::ops::RangeInclusive<i64>); 10] = [
        ("videoWidth", 2..=7680),
        ("videoHeight", 2..=4320),
        ("videoBitRate", 100..=10_485_760),
        ("videoBrMax", 100..=10_485_760),
        ("videoQpMin", 0..=63),
        ("videoQpMax", 0..=63),
        ("videoKey", 1..=600),
        ("videoEntropyProfile", 0..=1),
        ("videoEncMode", 0..=1),
        ("videoEncComplexity", 0..=2),
    ];
    for (key, range) in INTEGERS {
        if let Some(field) = of.get(key)? {
            field.integer(range)?;
        }
    }
    if let Some(profile) = of.get("videoProfile")? {
        profile.one_of(&["baseline", "main", "high"])?;
    }
    if let (Some(min), Some(max)) = (of.get("videoQpMin")?, of.get("videoQpMax")?)
        && min.value.as_i64() > max.value.as_i64()
    {
        return Err(min.invalid("must not exceed videoQpMax"));
    }
    Ok(())
}

fn check_group(of: &Field<'_>) -> Result<(), Invalid> {
    of.need("group")?.text_of(4..=64)?;
    if let Some(core) = of.get("core")? {
        core.text_of(0..=65_535)?;
    }
    if let Some(tracks) = of.get("audioTracks")? {
        tracks.integer(1..=3)?;
    }
    if let Some(tracks) = of.get("videoTracks")? {
        tracks.integer(1..=1)?;
    }
    Ok(())
}
