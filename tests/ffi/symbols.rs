//! What the library shows is what the header declares and the version script lists, and nothing else.

use crate::tools::{has, shared_library, source, succeed, text};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Names that a dynamic library defines, without their version.
pub fn exported(library: &Path) -> BTreeSet<String> {
    let listed = succeed(
        Command::new("nm")
            .args(["-D", "--defined-only"])
            .arg(library),
    );
    text(&listed)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (_, kind, name) = (words.next()?, words.next()?, words.next()?);
            // A version's own entry.
            (kind != "A").then(|| name.split('@').next().unwrap_or(name).to_owned())
        })
        .collect()
}

/// Names that the header declares as functions of the library.
pub fn declared() -> BTreeSet<String> {
    let header = source("include/ringway.h");
    header
        .lines()
        .filter(|line| {
            [
                "RINGWAY_MUST_CHECK int32_t ",
                "int32_t ",
                "uint32_t ",
                "const char *",
            ]
            .iter()
            .any(|start| line.starts_with(start))
        })
        .filter_map(|line| {
            let name = line.split('(').next()?.rsplit([' ', '*']).next()?;
            (line.contains('(') && name.starts_with("ringway_")).then(|| name.to_owned())
        })
        .collect()
}

fn listed() -> BTreeSet<String> {
    source("ffi/ringway.map")
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';'))
        .filter(|name| name.starts_with("ringway_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_library_exports_what_the_header_declares_and_the_version_script_lists() {
    let declared = declared();
    assert!(
        declared.len() >= 40 && declared.contains("ringway_sender_send"),
        "{declared:?}"
    );
    assert_eq!(declared, listed());
    if has("nm") {
        assert_eq!(declared, exported(&shared_library()));
    }
}

#[test]
fn the_library_is_called_libringway_so_0() {
    if !has("readelf") {
        return;
    }
    let dynamic = text(&succeed(
        Command::new("readelf").arg("-d").arg(shared_library()),
    ));
    assert!(dynamic.contains("soname: [libringway.so.0]"), "{dynamic}");
    // It needs the C library and the unwinder alone.
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    for line in needed {
        let known = ["libc.so", "libgcc_s.so", "ld-linux", "libm.so"];
        assert!(known.iter().any(|name| line.contains(name)), "{line}");
    }
}
