//! The Python package: a wheel is built against an installation, installed, and tested.
//!
//! The interpreter is `$RINGWAY_PYTHON` (`.ci/run` makes one), or `python3` if that has what it takes.

use crate::install::install;
use crate::tools::{Disk, built, project, run, scratch, succeed, text};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What building and testing need.
const MODULES: &str = "import cffi, setuptools, wheel, pytest, numpy";

/// An interpreter, and a directory with the package in it.
pub struct Python {
    pub interpreter: PathBuf,
    pub packages: PathBuf,
}

/// Built once for all tests; announced if it can't be.
pub fn python() -> Option<&'static Python> {
    static MADE: OnceLock<Option<Python>> = OnceLock::new();
    MADE.get_or_init(|| {
        let given = std::env::var_os("RINGWAY_PYTHON");
        let interpreter = PathBuf::from(given.unwrap_or_else(|| "python3".into()));
        let asked = Command::new(&interpreter).args(["-c", MODULES]).output();
        if !asked.is_ok_and(|output| output.status.success()) {
            println!(
                "SKIPPED for want of a Python with cffi, setuptools, wheel, pytest and numpy: the \
                 Python package (set RINGWAY_PYTHON)"
            );
            return None;
        }
        Some(make(interpreter))
    })
    .as_ref()
}

fn make(interpreter: PathBuf) -> Python {
    let packages = built().join("ffi-python");
    let _ = std::fs::remove_dir_all(&packages);
    let directory = scratch();
    let (prefix, source) = (
        directory.path().join("prefix"),
        directory.path().join("source"),
    );
    install(&prefix, None);
    // Builds leave files beside the source.
    succeed(
        Command::new("cp")
            .arg("-r")
            .arg(project().join("python"))
            .arg(&source),
    );
    let wheels = directory.path().join("wheels");
    let pip = || {
        let mut pip = Command::new(&interpreter);
        pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]);
        pip.env("RINGWAY_PREFIX", &prefix);
        pip
    };
    let offline = ["--no-deps", "--no-index"];
    succeed(
        pip()
            .arg("wheel")
            .args(offline)
            .arg("--no-build-isolation")
            .arg("--wheel-dir")
            .arg(&wheels)
            .arg(&source),
    );
    let wheel = std::fs::read_dir(&wheels).unwrap().next().unwrap().unwrap();
    let name = wheel.file_name().into_string().unwrap();
    // One for every Python from 3.9 on.
    assert!(name.contains("-cp39-abi3-"), "{name}");
    succeed(
        pip()
            .arg("install")
            .args(offline)
            .arg("--target")
            .arg(&packages)
            .arg(wheel.path()),
    );
    Python {
        interpreter,
        packages,
    }
}

/// A program that runs a script of the tests with the package.
pub fn script(path: &str, directory: &Path) -> Option<PathBuf> {
    let python = python()?;
    let program = directory.join("python");
    let text = format!(
        "#!/bin/sh\nPYTHONPATH={} exec {} {} \"$@\"\n",
        python.packages.display(),
        python.interpreter.display(),
        project().join(path).display()
    );
    std::fs::write(&program, text).unwrap();
    succeed(Command::new("chmod").arg("+x").arg(&program));
    Some(program)
}

#[test]
fn the_python_package_is_built_as_a_wheel_and_passes_its_tests() {
    let Some(python) = python() else { return };
    let (directory, disk) = (scratch(), Disk::new());
    let output = succeed(
        run(&python.interpreter, directory.path())
            .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp"])
            .arg(directory.path().join("pytest"))
            .arg(project().join("python/tests"))
            .env("PYTHONPATH", &python.packages)
            .env("RINGWAY_TEST_DISK", &disk.0)
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    );
    let said = text(&output);
    assert!(
        said.contains(" passed") && !said.contains("skipped"),
        "{said}"
    );
}

#[test]
fn the_package_says_what_its_types_are() {
    let Some(python) = python() else { return };
    assert!(python.packages.join("ringway/py.typed").exists());
    // Every public function has annotations, its result included.
    let check = "import inspect, ringway\n\
        for name in ringway.__all__:\n\
        \x20   of = getattr(ringway, name)\n\
        \x20   if not inspect.isclass(of): continue\n\
        \x20   for verb, call in vars(of).items():\n\
        \x20       call = getattr(call, '__func__', call)\n\
        \x20       if inspect.isfunction(call) and not verb.startswith('_'):\n\
        \x20           assert 'return' in call.__annotations__, (name, verb)\n\
        \x20           assert call.__doc__, (name, verb)\n";
    let mut command = Command::new(&python.interpreter);
    succeed(
        command
            .args(["-c", check])
            .env("PYTHONPATH", &python.packages),
    );
}
