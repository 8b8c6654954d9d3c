//! Every function from C: as it is meant, and with arguments that are not.

use crate::tools::{program, run, scratch, succeed, text};

#[test]
fn every_function_does_from_c_what_its_comment_says() {
    let directory = scratch();
    let calls = program("tests/ffi/c/calls.c", directory.path());
    assert!(text(&succeed(&mut run(&calls, directory.path()))).contains("calls: ok"));
}
