#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    doorcast::fuzzing::event_id(data);
});
