#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| valetd::rfb::oracle::fuzz_skim(data));
