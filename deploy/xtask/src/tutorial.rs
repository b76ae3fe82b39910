//! Runs the commands of a Markdown page, as a reader would, and compares what they print with what the page shows.
//!
//! Fenced blocks marked `sh` run one after the other in one shell; `sh background` runs beside them until the end; `sh
//! skip` is not run. A `text` block holds what the block before it must print: each of its lines must occur in that
//! order, `…` standing for anything. After a background block the next one waits for the first of these lines.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// How long a background command may take to print its first expected line.
const START_SECONDS_MAX: u32 = 60;

/// One block of commands.
#[derive(Debug, PartialEq)]
struct Block {
    /// Line of the page where its commands start.
    line: usize,
    commands: String,
    background: bool,
    /// Lines that must be printed.
    expected: Vec<String>,
}

/// Runs `page` in a scratch folder that sees the repository's `deploy`, with `programs` first on PATH.
pub fn run(root: &Path, page: &Path, programs: &Path) -> Result<()> {
    let blocks = parse(&fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?)?;
    let work = root.join("target/tutorial").join(std::process::id().to_string());
    fs::create_dir_all(&work)?;
    std::os::unix::fs::symlink(root.join("deploy"), work.join("deploy"))?;
    fs::write(work.join("tutorial.bash"), script(&blocks))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let status = Command::new("bash")
        .arg("tutorial.bash")
        .current_dir(&work)
        .env("PATH", format!("{}:{path}", programs.display()))
        .status()?;
    for (index, block) in blocks.iter().enumerate() {
        let printed = fs::read_to_string(work.join(format!("output.{index}"))).unwrap_or_default();
        if let Some(line) = first_missing(&block.expected, &printed) {
            bail!("{}:{}: expected `{line}`, but it printed:\n{printed}", page.display(), block.line);
        }
    }
    if !status.success() {
        bail!("{}: a command failed ({status}); outputs are in {}", page.display(), work.display());
    }
    fs::remove_dir_all(&work)?;
    println!("{}: {} blocks of commands do what the page says", page.display(), blocks.len());
    Ok(())
}

fn parse(page: &str) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let body: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        match kind {
            "sh" | "sh background" => blocks.push(Block {
                line: index + 2,
                commands: body.join("\n"),
                background: kind.ends_with("background"),
                expected: Vec::new(),
            }),
            "sh skip" => {}
            "text" => {
                let last = blocks
                    .last_mut()
                    .with_context(|| format!("line {}: output before any command", index + 1))?;
                last.expected = body.into_iter().filter(|line| !line.is_empty()).map(str::to_owned).collect();
            }
            other => {
                bail!("line {}: a block of `{other}`; known are sh, sh background, sh skip, text", index + 1)
            }
        }
    }
    Ok(blocks)
}

/// One shell runs everything, so that variables and functions live on; what runs in the background ends with it.
fn script(blocks: &[Block]) -> String {
    let mut script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n".to_owned();
    for (index, Block { line, commands, background, expected }) in blocks.iter().enumerate() {
        // `exec`: the background job is the program itself, so that it can be ended.
        let (prefix, suffix) = if *background { ("exec ", " &") } else { ("", "") };
        let announce = format!("echo \"tutorial line {line}\"\n");
        script += &format!("{announce}{{\n{prefix}{commands}\n}} > output.{index} 2>&1{suffix}\n");
        if let (true, Some(sign)) = (background, expected.first()) {
            let sign = sign.split('…').next().unwrap_or_default();
            script += &format!(
                "timeout {START_SECONDS_MAX} bash -c 'until grep -qF \"{sign}\" output.{index}; do sleep 0.2; done'\n"
            );
        }
    }
    script
}

/// The first expected line that does not occur after those before it.
fn first_missing<'a>(expected: &'a [String], printed: &str) -> Option<&'a str> {
    let mut lines = printed.lines();
    expected.iter().map(String::as_str).find(|wanted| !lines.any(|line| shows(line, wanted)))
}

/// Whether a printed line shows the wanted parts in order; leading blanks do not count.
fn shows(line: &str, wanted: &str) -> bool {
    let mut rest = line;
    wanted.trim_start().split('…').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "text\n```sh\necho hello\n```\nmore\n```text\nhe…o\n```\n```sh skip\nrm -rf /\n```\n```sh background\nsleep 9\n```\n";

    #[test]
    fn blocks_are_found_with_what_they_must_print() {
        let blocks = parse(PAGE).expect("a page");
        assert_eq!(blocks.len(), 2);
        assert_eq!((blocks[0].line, blocks[0].commands.as_str()), (3, "echo hello"));
        assert_eq!(blocks[0].expected, ["he…o"]);
        assert!(blocks[1].background && !script(&blocks).contains("rm -rf"));
        assert!(parse("```yaml\na: 1\n```\n").is_err());
    }

    #[test]
    fn expected_lines_must_occur_in_order() {
        let wanted = ["a…c".to_owned(), "d".to_owned()];
        assert_eq!(first_missing(&wanted, "x\n  abc\nd\n"), None);
        assert_eq!(first_missing(&wanted, "d\nabc\n"), Some("d"));
        assert_eq!(first_missing(&wanted, "cba\nd\n"), Some("a…c"));
    }
}
