//! Bans on words in source text: the invariants of ARCHITECTURE.md that are absences.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Words that must not appear in the product code of some crates, and why.
struct Ban {
    crates: &'static [&'static str],
    words: &'static [&'static str],
    reason: &'static str,
    /// Files that may, each for the reason in its own module page.
    except: &'static [&'static str],
}

const BANS: [Ban; 4] = [
    Ban {
        crates: &["dataplane/engine", "dataplane/http", "dataplane/tables"],
        words: &[
            "Mutex",
            "RwLock",
            "fetch_add",
            "fetch_sub",
            "fetch_or",
            "fetch_and",
            "fetch_max",
            "compare_exchange",
        ],
        reason: "no lock and no atomic read-modify-write on the request path",
        // A limit of the process: drawn from in leases.
        except: &["dataplane/tables/src/token_bucket.rs"],
    },
    Ban {
        crates: &[
            "dataplane/xds",
            "dataplane/http",
            "dataplane/reference",
            "dataplane/tables",
            "dataplane/telemetry",
            "controlplane/api",
            "controlplane/model",
            "controlplane/translate",
        ],
        words: &[
            "Instant::now",
            "SystemTime::now",
            "std::fs",
            "std::env",
            "TcpStream",
            "TcpListener",
            "fastrand",
        ],
        reason: "pure crates are given bytes, values and the time; they read nothing themselves",
        // The thread that writes access logs: files are its purpose.
        except: &["dataplane/telemetry/src/access_log/writer.rs"],
    },
    Ban {
        crates: &[
            "dataplane/xds",
            "dataplane/http",
            "dataplane/reference",
            "dataplane/tables",
            "dataplane/telemetry",
            "dataplane/engine",
            "dataplane/agent",
            "dataplane/proxy",
            "controlplane",
            "perf/upstream",
            "perf/loadgen",
            "deploy/xtask",
            "kernel-tests",
        ],
        words: &["allow(unsafe_code)", "expect(unsafe_code)"],
        reason: "unsafe code lives in runtime/ and tls/src/ffi.rs only",
        except: &[],
    },
    Ban {
        crates: &[
            "dataplane/engine",
            "dataplane/http",
            "dataplane/tables",
            "dataplane/agent",
            "dataplane/proxy",
        ],
        words: &["monoio", "io_uring::"],
        reason: "only runtime/ knows which event loop runs",
        except: &[],
    },
];

/// Every breach, as `file:line: word: reason`.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for ban in &BANS {
        for name in ban.crates {
            let mut files = Vec::new();
            list_sources(&root.join(name), &mut files)?;
            for file in files {
                let text =
                    fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
                let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
                if ban.except.contains(&shown.as_str()) {
                    continue;
                }
                breaches.extend(
                    breaches_in(&text, ban)
                        .map(|(line, word)| format!("{shown}:{line}: `{word}`: {}", ban.reason)),
                );
            }
        }
    }
    Ok(breaches)
}

/// Lines of product code that contain a banned word. Comments do not count, nor does all that follows the
/// file's test module.
fn breaches_in<'a>(text: &'a str, ban: &'a Ban) -> impl Iterator<Item = (usize, &'static str)> + 'a {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .flat_map(|(index, line)| {
            ban.words.iter().filter(move |word| line.contains(**word)).map(move |word| (index + 1, *word))
        })
}

/// Product sources below a folder: no tests, benches, examples, build output or generated code.
fn list_sources(directory: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["tests", "benches", "examples", "target", "generated", "tidy"].contains(&name.as_str()) {
                list_sources(&path, into)?;
            }
        } else if name.ends_with(".rs") && name != "tests.rs" && !name.ends_with("_tests.rs") {
            into.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_tests_are_no_breach() {
        let text = "// a Mutex would be wrong here\nlet a = Mutex::new(());\n#[cfg(test)]\nmod tests { use Mutex; }\n";
        let found: Vec<_> = breaches_in(text, &BANS[0]).collect();
        assert_eq!(found, [(2, "Mutex")]);
    }
}
