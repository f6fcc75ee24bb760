//! What takes minutes, or needs a container engine: `cargo xtask soak`, optionally with a part of a test's name.

mod compose;
mod images;
mod machine;
mod services;
mod stranger;

use e2e::containers::Engine;
use e2e::process::{Finished, Home, Process, finished};

/// An engine; where this process may not have one, it says so and there is none.
async fn engine() -> Option<Engine> {
    match Engine::start().await {
        Ok(engine) => Some(engine),
        Err(why) => {
            eprintln!("skipped, there is no container engine here: {why}");
            None
        }
    }
}

/// Starts `reachback` of this home in the engine's network.
fn reachback(engine: &Engine, home: &Home, args: &[&str]) -> Process {
    Process::spawn(args[0], engine.inside(&home.command(&[args, &["--json"]].concat())))
}

/// Runs it there to its end.
async fn reachback_to_its_end(engine: &Engine, home: &Home, args: &[&str]) -> Finished {
    finished(engine.inside(&home.command(&[args, &["--json"]].concat())), "").await
}
