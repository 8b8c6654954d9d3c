//! The installed package, in a clean prefix: found and built against by the tools that others use.

use crate::symbols::{declared, exported};
use crate::tools::{built, has, project, run, scratch, succeed, text};
use std::path::{Path, PathBuf};
use std::process::Command;

const EXAMPLE: &str = "hello_queue";

/// Installs what cargo has built for this test. The command belongs to another package: it is there when
/// the whole workspace is tested.
pub fn install(prefix: &Path, destdir: Option<&Path>) {
    let profile = built().parent().unwrap().to_owned();
    let command = profile.join("ringway");
    // The libraries lie beside this program, the command one directory up.
    let prebuilt = destdir.unwrap_or(prefix).parent().unwrap().join("prebuilt");
    std::fs::create_dir_all(&prebuilt).unwrap();
    let link = |from: PathBuf, name: &str| {
        let _ = std::os::unix::fs::symlink(from, prebuilt.join(name));
    };
    link(built().join("libringway_ffi.a"), "libringway_ffi.a");
    link(command.clone(), "ringway");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(project())
        .args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "xtask",
            "--",
            "install",
        ])
        .arg("--prefix")
        .arg(prefix)
        .arg("--prebuilt")
        .arg(&prebuilt)
        .env_remove("DESTDIR");
    if let Some(destdir) = destdir {
        cargo.env("DESTDIR", destdir);
    }
    if !has_manual(&command) {
        println!(
            "SKIPPED: the command was not built with this test, so its installation is not seen"
        );
        cargo.arg("--no-command");
    }
    succeed(&mut cargo);
}

/// Whether the command is there and writes its manual.
fn has_manual(command: &Path) -> bool {
    let directory = scratch();
    Command::new(command)
        .arg("manual")
        .arg(directory.path())
        .output()
        .is_ok_and(|output| output.status.success())
}

fn prints_hello(program: &Path, libraries: &Path) {
    let root = scratch();
    let printed = succeed(run(program, root.path()).env("LD_LIBRARY_PATH", libraries));
    assert_eq!(text(&printed).trim(), "hello");
}

fn builds_by_pkg_config(prefix: &Path, directory: &Path) {
    if !has("pkg-config") {
        return;
    }
    let ask = |what: &[&str]| {
        let path = prefix.join("lib/pkgconfig");
        let said = succeed(
            Command::new("pkg-config")
                .args(what)
                .arg("ringway")
                .env("PKG_CONFIG_PATH", path),
        );
        let said = text(&said);
        said.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(ask(&["--modversion"]), [env!("CARGO_PKG_VERSION")]);
    for (language, compiler, suffix) in [("c", "gcc", "c"), ("cpp", "g++", "cpp")] {
        let source = project().join(format!("examples/{language}/{EXAMPLE}.{suffix}"));
        let target = directory.join(format!("shared-{language}"));
        let mut command = Command::new(compiler);
        command.arg(&source).args(ask(&["--cflags", "--libs"]));
        succeed(command.arg("-o").arg(&target));
        prints_hello(&target, &prefix.join("lib"));
        // The same with the static library, which needs no other.
        let target = directory.join(format!("static-{language}"));
        let mut command = Command::new(compiler);
        command.arg(&source).args(ask(&["--cflags"]));
        command.arg(prefix.join("lib/libringway.a"));
        let libraries = ask(&["--libs", "--static"]).into_iter();
        command.args(libraries.filter(|flag| flag != "-lringway" && !flag.starts_with("-L")));
        succeed(command.arg("-o").arg(&target));
        prints_hello(&target, directory);
    }
}

fn builds_by_cmake(prefix: &Path, directory: &Path) {
    if !has("cmake") {
        return;
    }
    let examples = project().join("examples");
    let examples = examples.display();
    let lists = format!(
        "cmake_minimum_required(VERSION 3.16)\n\
         project(outside LANGUAGES C CXX)\n\
         set(CMAKE_CXX_STANDARD 17)\n\
         find_package(ringway 0.1 REQUIRED)\n\
         add_executable(in_c {examples}/c/{EXAMPLE}.c)\n\
         target_link_libraries(in_c PRIVATE ringway::ringway)\n\
         add_executable(in_cpp {examples}/cpp/{EXAMPLE}.cpp)\n\
         target_link_libraries(in_cpp PRIVATE ringway::static)\n"
    );
    let source = directory.join("outside");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("CMakeLists.txt"), lists).unwrap();
    let build = directory.join("outside-build");
    let prefix_path = format!("-DCMAKE_PREFIX_PATH={}", prefix.display());
    succeed(
        Command::new("cmake")
            .arg("-S")
            .arg(&source)
            .arg("-B")
            .arg(&build)
            .arg(prefix_path),
    );
    succeed(Command::new("cmake").arg("--build").arg(&build));
    prints_hello(&build.join("in_c"), &prefix.join("lib"));
    prints_hello(&build.join("in_cpp"), directory);
    // A version that is not this one's is refused.
    let lists = "cmake_minimum_required(VERSION 3.16)\nproject(outside LANGUAGES C)\n\
                 find_package(ringway 0.2 REQUIRED)\n";
    std::fs::write(source.join("CMakeLists.txt"), lists).unwrap();
    let mut command = Command::new("cmake");
    let prefix_path = format!("-DCMAKE_PREFIX_PATH={}", prefix.display());
    command
        .arg("-S")
        .arg(&source)
        .arg("-B")
        .arg(directory.join("refused"))
        .arg(prefix_path);
    assert!(!command.output().unwrap().status.success());
}

#[test]
fn programs_outside_find_the_installed_package_by_pkg_config_and_by_cmake() {
    let directory = scratch();
    let prefix = directory.path().join("prefix");
    install(&prefix, None);
    builds_by_pkg_config(&prefix, directory.path());
    builds_by_cmake(&prefix, directory.path());

    let library = prefix.join(format!("lib/libringway.so.{}", env!("CARGO_PKG_VERSION")));
    println!(
        "libringway.so: {} KiB",
        std::fs::metadata(&library).unwrap().len() / 1024
    );
    if has("nm") {
        assert_eq!(exported(&library), declared());
        let listed = text(&succeed(Command::new("nm").arg("-D").arg(&library)));
        let versioned = listed.matches("@@RINGWAY_0").count();
        assert!(
            versioned >= declared().len(),
            "{versioned} symbols have a version"
        );
    }
    if has_manual(&built().parent().unwrap().join("ringway")) {
        let page = std::fs::read_to_string(prefix.join("share/man/man1/ringway.1")).unwrap();
        assert!(page.contains(".TH ringway 1"), "{page}");
        assert!(prefix.join("share/man/man1/ringway-queue.1").exists());
        succeed(Command::new(prefix.join("bin/ringway")).arg("--version"));
    }
}

#[test]
fn a_package_is_staged_below_destdir_and_knows_its_prefix_alone() {
    let directory = scratch();
    let staged = directory.path().join("staged");
    install(Path::new("/opt/ringway"), Some(&staged));
    let root = staged.join("opt/ringway");
    assert!(root.join("include/ringway.h").exists());
    let link = std::fs::read_link(root.join("lib/libringway.so.0")).unwrap();
    assert!(link.is_relative(), "{}", link.display());
    for description in ["pkgconfig/ringway.pc", "cmake/ringway/ringway-config.cmake"] {
        let text = std::fs::read_to_string(root.join("lib").join(description)).unwrap();
        assert!(!text.contains("staged") && !text.contains('@'), "{text}");
    }
    assert!(!Path::new("/opt/ringway").exists());
}
