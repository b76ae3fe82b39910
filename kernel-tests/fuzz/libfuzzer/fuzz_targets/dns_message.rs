#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringsail_fuzz::targets::dns_message(data));
