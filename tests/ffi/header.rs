//! The header by itself: two languages, two compilers, every struct where the library has it.

use crate::tools::{STRICT, has, project, run, scratch, source, succeed, text};
use std::process::Command;

fn compile(compiler: &str, language: &str, dialect: &str, header: &str) {
    if !has(compiler) {
        return;
    }
    let directory = scratch();
    let file = directory.path().join("alone");
    std::fs::write(&file, format!("#include <{header}>\n")).unwrap();
    succeed(
        Command::new(compiler)
            .args(["-x", language, dialect, "-fsyntax-only"])
            .args(STRICT)
            .arg("-I")
            .arg(project().join("include"))
            .arg(&file),
    );
}

#[test]
fn each_header_alone_compiles_as_c11_and_as_cpp17_with_gcc_and_clang() {
    for (c, cpp) in [("gcc", "g++"), ("clang", "clang++")] {
        compile(c, "c", "-std=c11", "ringway.h");
        compile(cpp, "c++", "-std=c++17", "ringway.h");
        compile(cpp, "c++", "-std=c++17", "ringway.hpp");
        compile(cpp, "c++", "-std=c++20", "ringway.hpp");
    }
}

#[test]
fn structs_lie_in_c_as_they_do_in_the_library() {
    let mut program = String::from("#include <ringway.h>\n#include <stdio.h>\nint main(void) {\n");
    let mut expected = Vec::new();
    for layout in ringway_ffi::LAYOUTS {
        let name = layout.name;
        program += &format!("printf(\"{name} %zu\\n\", sizeof({name}));\n");
        expected.push(format!("{name} {}", layout.size));
        for (field, offset, bytes) in layout.fields {
            let sizeof = format!("sizeof((({name} *)0)->{field})");
            program += &format!(
                "printf(\"{name}.{field} %zu %zu\\n\", offsetof({name}, {field}), {sizeof});\n"
            );
            expected.push(format!("{name}.{field} {offset} {bytes}"));
        }
    }
    program += "return 0; }\n";
    let directory = scratch();
    let file = directory.path().join("layout.c");
    std::fs::write(&file, program).unwrap();
    let target = directory.path().join("layout");
    succeed(
        Command::new("gcc")
            .arg("-I")
            .arg(project().join("include"))
            .arg(&file)
            .arg("-o")
            .arg(&target),
    );
    let printed = text(&succeed(&mut run(&target, directory.path())));
    let printed: Vec<_> = printed.lines().map(str::to_owned).collect();
    assert_eq!(printed, expected);
    // None is left out.
    let declared = source("include/ringway.h")
        .matches("typedef struct ringway_")
        .count();
    let handles = 16;
    assert_eq!(declared - handles, ringway_ffi::LAYOUTS.len());
}

#[test]
fn every_function_says_what_threads_may_do_and_every_handle_what_a_fork_does() {
    let header = source("include/ringway.h");
    let mut comment = String::new();
    let mut is_open = false;
    let (mut functions, mut handles) = (0, 0);
    for line in header.lines() {
        if line.starts_with("/*") {
            comment.clear();
            is_open = true;
        }
        if is_open {
            comment += line;
            comment.push('\n');
            is_open = !line.ends_with("*/");
            continue;
        }
        let is_function = line.contains("ringway_")
            && (line.starts_with("RINGWAY_MUST_CHECK int32_t") || line.starts_with("int32_t ring"));
        if is_function {
            functions += 1;
            let as_another = comment.contains("As ringway_");
            assert!(
                comment.contains("Threads:") || as_another,
                "{line}\nsays nothing of threads"
            );
        }
        if line.starts_with("typedef struct ringway_") && line.ends_with("_t;") {
            handles += 1;
            for word in ["Processes:", "Threads:", "After fork:"] {
                let says = comment
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
                    .contains(word);
                assert!(says, "{line} says nothing of {word}");
            }
        }
    }
    assert_eq!(handles, 16);
    assert!((40..=75).contains(&functions), "{functions} functions");
}
