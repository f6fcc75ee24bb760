//! Has the relay compiled again when the web app was built again: the files of `web/dist` are part of the program.

use std::fs;

fn main() {
    let app = "../web/dist";
    // Cargo can't watch what is not there, and would compile the relay each time. Where it can't be made, it does so.
    let _unwatched = fs::create_dir_all(app);
    println!("cargo:rerun-if-changed={app}");
    println!("cargo:rerun-if-changed=build.rs");
}
