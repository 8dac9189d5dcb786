#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| valetd::adspower::client::oracle::fuzz_answer(data));
