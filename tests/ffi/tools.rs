//! What the tests run: compilers, the built library, programs made of a source file.

use ringway_harness::TempBus;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// What the project wants of every compiler.
pub const STRICT: [&str; 6] = [
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
    "-Wconversion",
    "-O1",
];

/// The project's own directory.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

pub fn source(path: &str) -> String {
    let path = project().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Where cargo has put what it built for this test.
pub fn built() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().to_owned()
}

/// The shared library as cargo builds it.
pub fn shared_library() -> PathBuf {
    let found = built().join("libringway_ffi.so");
    assert!(found.exists(), "{} was not built", found.display());
    found
}

/// Whether a tool is there; announced if not.
pub fn has(tool: &str) -> bool {
    let there = Command::new(tool)
        .arg("--version")
        .output()
        .is_ok_and(|out| out.status.success());
    if !there {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        println!("SKIPPED for want of {tool}: part of {test}");
    }
    there
}

/// A directory of this test, gone when it ends. In memory: everything here is small.
pub fn scratch() -> TempBus {
    TempBus::new().unwrap()
}

/// Runs a command to its end, which has to be a good one.
pub fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

pub fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Compiler and dialect for a source file.
fn language(source: &Path) -> (&'static str, &'static str) {
    if source.extension() == Some(OsStr::new("cpp")) {
        ("g++", "-std=c++17")
    } else {
        ("gcc", "-std=c11")
    }
}

/// A directory in which the shared library has the name that programs look for; kept while the tests
/// run.
pub fn library_directory() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let directory = built().join("ffi-libraries");
        let _ = std::fs::create_dir(&directory);
        for name in ["libringway.so.0", "libringway.so"] {
            let link = directory.join(name);
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(shared_library(), link).unwrap();
        }
        directory
    })
}

/// A program of a source of the project, linked to the shared library; in `directory`.
pub fn program_with(path: &str, directory: &Path, flags: &[&str]) -> PathBuf {
    let source = project().join(path);
    let (compiler, dialect) = language(&source);
    let target = directory.join(source.file_stem().unwrap());
    let libraries = library_directory();
    succeed(
        Command::new(compiler)
            .arg(dialect)
            .args(STRICT)
            .args(["-g", "-D_POSIX_C_SOURCE=200809L"])
            .args(flags)
            .arg("-I")
            .arg(project().join("include"))
            .arg(&source)
            .arg("-o")
            .arg(&target)
            .arg("-L")
            .arg(libraries)
            .args(["-lringway", "-lpthread"])
            .arg(format!("-Wl,-rpath,{}", libraries.display())),
    );
    target
}

/// A program run with a directory for its buses.
pub fn run(program: &Path, root: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("RINGWAY_ROOT", root).current_dir(root);
    command
}

/// A directory on a disk for journals, which may not lie in memory; gone when the test ends.
pub struct Disk(pub PathBuf);

impl Disk {
    pub fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("ffi-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
