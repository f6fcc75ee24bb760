//! What takes minutes, or needs a container engine: `cargo xtask soak`, optionally with a part of a test's name.

mod compose;
