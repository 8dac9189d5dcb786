#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| valetd::cdp::oracle::fuzz_policy(data));
