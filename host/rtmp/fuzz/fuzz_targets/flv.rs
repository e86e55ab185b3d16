#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restreamd_rtmp_fuzz::flv::run(data));
