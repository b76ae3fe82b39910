//! `ringsail-fuzz FOLDER`: writes each target's seeds to `FOLDER/TARGET/`, and its words to `FOLDER/TARGET.dict` as
//! libFuzzer reads them. `cargo xtask fuzz` calls it.

use std::path::PathBuf;
use std::{env, fs, io};

use ringsail_fuzz::targets::TARGETS;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("usage: ringsail-fuzz FOLDER"))?;
    for target in TARGETS {
        let seeds = folder.join(target.name);
        fs::create_dir_all(&seeds)?;
        for (number, seed) in target.seeds.iter().enumerate() {
            fs::write(seeds.join(number.to_string()), seed)?;
        }
        let quoted = |word: &&[u8]| {
            let bytes: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("\"{bytes}\"\n")
        };
        let words: String = target.words.iter().filter(|word| !word.is_empty()).map(quoted).collect();
        fs::write(folder.join(format!("{}.dict", target.name)), words)?;
    }
    Ok(())
}
