//! `cargo xtask codegen`: the `.proto` files of a crate to committed Rust and a committed descriptor set.
//!
//! The generated code is committed so that a build needs neither a protobuf compiler nor this step;
//! `--check` fails when what is committed is not what the `.proto` files say.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use prost::Message;

/// Crates that own `.proto` files: `<crate>/proto/**` becomes `<crate>/src/generated/`.
const CRATES: [&str; 2] = ["dataplane/xds", "controlplane/api"];

/// Regenerates every crate's types, or with `check` reports the first file that differs.
pub fn run(root: &Path, check: bool) -> Result<()> {
    for name in CRATES {
        let fresh = root.join("target/codegen").join(name);
        generate(&root.join(name).join("proto"), &fresh).with_context(|| format!("generating {name}"))?;
        let committed = root.join(name).join("src/generated");
        if check {
            compare(&fresh, &committed)?;
        } else {
            replace(&fresh, &committed)?;
        }
    }
    Ok(())
}

fn generate(proto_root: &Path, out: &Path) -> Result<()> {
    let mut files = Vec::new();
    list_files(proto_root, "proto", &mut files)?;
    if out.exists() {
        fs::remove_dir_all(out)?;
    }
    fs::create_dir_all(out)?;
    if files.is_empty() {
        return Ok(());
    }
    let descriptors = protox::compile(&files, [proto_root])?;
    // Positions and comments are half of a descriptor set and mean nothing to a running process.
    let mut bare = descriptors.clone();
    bare.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(out.join("descriptors.bin"), bare.encode_to_vec())?;
    prost_build::Config::new()
        .out_dir(out)
        .btree_map(["."])
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .include_file("mod.rs")
        .compile_fds(descriptors)?;
    Ok(())
}

fn compare(fresh: &Path, committed: &Path) -> Result<()> {
    for entry in fs::read_dir(fresh)? {
        let path = entry?.path();
        let other = committed.join(path.file_name().context("a generated file has a name")?);
        if fs::read(&path)? != fs::read(&other).unwrap_or_default() {
            bail!("{} is not what its .proto files say; run `cargo xtask codegen`", other.display());
        }
    }
    Ok(())
}

fn replace(fresh: &Path, committed: &Path) -> Result<()> {
    if committed.exists() {
        fs::remove_dir_all(committed)?;
    }
    fs::create_dir_all(committed)?;
    for entry in fs::read_dir(fresh)? {
        let path = entry?.path();
        fs::copy(&path, committed.join(path.file_name().context("a generated file has a name")?))?;
    }
    Ok(())
}

fn list_files(dir: &Path, extension: &str, into: &mut Vec<PathBuf>) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let mut entries = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(|entry| entry.path());
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            list_files(&path, extension, into)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            into.push(path);
        }
    }
    Ok(())
}
