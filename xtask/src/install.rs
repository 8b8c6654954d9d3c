//! `cargo xtask install`: headers, libraries, the command, and what tells other builds where they are.
//!
//! The shared library is linked here from the static one, by the C compiler, since rustc has a version
//! script of its own and linkers take one alone; so its symbols carry the version of their ABI
//! (docs/decisions/0029). Everything goes below DESTDIR first, if that is set, as packagers want it.

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// In the name by which programs find the shared library; build.rs of ffi has it too.
const ABI: &str = "0";

#[derive(clap::Args)]
pub struct Args {
    /// Where the installation is found once it is in place
    #[arg(long, default_value = "/usr/local")]
    prefix: PathBuf,
    /// Directory of the libraries below it
    #[arg(long, default_value = "lib")]
    libdir: PathBuf,
    /// Put everything below this directory instead of /, for packages
    #[arg(long, env = "DESTDIR")]
    destdir: Option<PathBuf>,
    /// Take what cargo has built into this directory before, and build nothing
    #[arg(long, value_name = "DIR")]
    prebuilt: Option<PathBuf>,
    /// Leave the `ringway` command and its manual pages out
    #[arg(long)]
    no_command: bool,
}

struct Place<'a> {
    args: &'a Args,
    root: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !args.prefix.is_absolute() || args.libdir.is_absolute() {
        bail!("the prefix is an absolute path, and the libdir one below it");
    }
    let built = match &args.prebuilt {
        Some(built) => built.clone(),
        None => build(args)?,
    };
    let prefix = args.prefix.strip_prefix("/").unwrap_or(&args.prefix);
    let root = match &args.destdir {
        Some(destdir) => destdir.join(prefix),
        None => args.prefix.clone(),
    };
    let place = Place { args, root };
    place.headers()?;
    place.libraries(&built)?;
    place.descriptions()?;
    if !args.no_command {
        place.command(&built)?;
    }
    println!("installed below {}", place.root.display());
    if args.destdir.is_none() {
        print!("{}", place.use_of_it());
    }
    Ok(ExitCode::SUCCESS)
}

/// The project's own directory.
fn project() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("can't start {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Builds; the directory that it is in.
fn build(args: &Args) -> anyhow::Result<PathBuf> {
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        succeed(cargo.current_dir(project()).args(arguments))
    };
    // Alone it is optimised across crates; beside a Rust library cargo would leave that out.
    let package = ["-p", "ringway-ffi", "--crate-type", "staticlib"];
    cargo(&[&["rustc", "--release"], &package[..]].concat())?;
    if !args.no_command {
        cargo(&["build", "--release", "-p", "ringway-cli"])?;
    }
    let own = std::env::current_exe()?;
    let directory = own.parent().context("this program has no directory")?;
    Ok(directory.to_path_buf())
}

impl Place<'_> {
    /// How a program finds what is not where compilers and loaders look by themselves.
    fn use_of_it(&self) -> String {
        let (prefix, lib) = (self.root.display(), self.root.join(&self.args.libdir));
        let lib = lib.display();
        format!(
            "compile: cc hello.c $(PKG_CONFIG_PATH={lib}/pkgconfig pkg-config --cflags --libs ringway)\n\
             CMake:   cmake -DCMAKE_PREFIX_PATH={prefix} …\n\
             run:     LD_LIBRARY_PATH={lib} ./a.out, or ldconfig once if {lib} is in /etc/ld.so.conf\n\
             Python:  RINGWAY_PREFIX={prefix} pip install python/\n"
        )
    }

    fn directory(&self, below: impl AsRef<Path>) -> anyhow::Result<PathBuf> {
        let directory = self.root.join(below);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("can't make {}", directory.display()))?;
        Ok(directory)
    }

    /// Under its name only once it is whole.
    fn put(&self, from: &Path, directory: &Path, name: &str) -> anyhow::Result<()> {
        let (target, temporary) = (directory.join(name), directory.join(format!(".{name}.new")));
        std::fs::copy(from, &temporary)
            .and_then(|_| std::fs::rename(&temporary, &target))
            .with_context(|| format!("can't copy {} to {}", from.display(), target.display()))
    }

    fn headers(&self) -> anyhow::Result<()> {
        let include = self.directory("include")?;
        for header in ["ringway.h", "ringway.hpp"] {
            self.put(&project().join("include").join(header), &include, header)?;
        }
        Ok(())
    }

    fn libraries(&self, built: &Path) -> anyhow::Result<()> {
        let lib = self.directory(&self.args.libdir)?;
        let archive = built.join("libringway_ffi.a");
        self.put(&archive, &lib, "libringway.a")?;
        let name = format!("libringway.so.{VERSION}");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let script = project().join("ffi/ringway.map");
        let temporary = lib.join(format!(".{name}.new"));
        succeed(
            Command::new(compiler)
                .args(["-shared", "-o"])
                .arg(&temporary)
                .arg(format!("-Wl,-soname,libringway.so.{ABI}"))
                .arg(format!("-Wl,--version-script={}", script.display()))
                .args([
                    "-Wl,--gc-sections",
                    "-Wl,--strip-debug",
                    "-Wl,-z,relro,-z,now",
                ])
                .args(["-Wl,--no-undefined", "-Wl,--whole-archive"])
                .arg(&archive)
                .args(["-Wl,--no-whole-archive", "-lgcc_s", "-lrt", "-lpthread"])
                .args(["-lm", "-ldl", "-lc"]),
        )?;
        std::fs::rename(&temporary, lib.join(&name))?;
        for link in [format!("libringway.so.{ABI}"), "libringway.so".to_owned()] {
            let link = lib.join(link);
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(&name, &link)
                .with_context(|| format!("can't make {}", link.display()))?;
        }
        Ok(())
    }

    /// For pkg-config and CMake.
    fn descriptions(&self) -> anyhow::Result<()> {
        let libdir = self.args.prefix.join(&self.args.libdir);
        let major_minor = VERSION.rsplit_once('.').map_or(VERSION, |split| split.0);
        // From lib/cmake/ringway to the prefix.
        let up = ["..", ".."].into_iter();
        let up: PathBuf = up.chain(self.args.libdir.iter().map(|_| "..")).collect();
        let cmake = self.args.libdir.join("cmake/ringway");
        let package = project().join("ffi/package");
        for (template, directory) in [
            ("ringway.pc", self.args.libdir.join("pkgconfig")),
            ("ringway-config.cmake", cmake.clone()),
            ("ringway-config-version.cmake", cmake),
        ] {
            let source = package.join(format!("{template}.in"));
            let text = std::fs::read_to_string(&source)
                .with_context(|| format!("can't read {}", source.display()))?
                .replace("@PREFIX@", &self.args.prefix.display().to_string())
                .replace("@LIBDIR@", &libdir.display().to_string())
                .replace("@UP@", &up.display().to_string())
                .replace("@MAJOR_MINOR@", major_minor)
                .replace("@VERSION@", VERSION)
                .replace("@ABI@", ABI);
            std::fs::write(self.directory(directory)?.join(template), text)?;
        }
        Ok(())
    }

    fn command(&self, built: &Path) -> anyhow::Result<()> {
        let bin = self.directory("bin")?;
        self.put(&built.join("ringway"), &bin, "ringway")?;
        let man = self.directory("share/man/man1")?;
        succeed(Command::new(bin.join("ringway")).arg("manual").arg(man))
    }
}
