#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| livmig_decoders::keys(data));
