#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    doorcast::fuzzing::people_file(data);
});
