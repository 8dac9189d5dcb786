#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    valetd::gateway::upgrade::oracle::check(data);
});
