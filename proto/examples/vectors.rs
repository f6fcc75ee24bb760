//! Writes `proto/vectors/*.json`: `cargo run -p reachback-proto --example vectors`.
//!
//! `proto/tests/golden.rs` fails while they differ from what the code makes. A
//! difference that was not meant is a break with every other implementation.

#[path = "../tests/shared/vectors.rs"]
mod vectors;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    std::fs::create_dir_all(&folder)?;
    for (name, value) in vectors::files() {
        let path = folder.join(name);
        std::fs::write(&path, format!("{value:#}\n"))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}
