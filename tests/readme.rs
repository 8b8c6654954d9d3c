//! The quickstart of README.md, run as it stands there (tests/house.rs compares the two).

use ringway_harness::TempBus;

#[allow(dead_code)] // `main` is called by the test
mod quickstart {
    include!("readme/quickstart.rs");

    pub fn run() -> Result<(), Box<dyn std::error::Error>> {
        main()
    }
}

#[test]
fn the_quickstart_for_rust_runs() {
    const ROOT: &str = "RINGWAY_ROOT";
    if std::env::var_os("RINGWAY_QUICKSTART").is_some() {
        return quickstart::run().unwrap();
    }
    // It makes its bus where the variable says: set for a process of its own.
    let root = TempBus::new().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.env(ROOT, root.path()).env("RINGWAY_QUICKSTART", "1");
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(root.path().join("ringway-demo").exists());
}
