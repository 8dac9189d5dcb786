#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| valetd::rfb::server_oracle::fuzz_connection(data));
