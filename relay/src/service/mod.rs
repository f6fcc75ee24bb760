//! A program that runs as a service of this machine; for both programs.
//!
//! Two halves that know nothing of each other. [`notify`] is the program's side while
//! it runs: who started it hears when it is ready, that it lives, and that it stops.
//! [`systemd`] is a person's side before and after: a unit is written, enabled and
//! started, or taken away again, and each step is told. What stands in a unit is the
//! text of the samples in `deploy/`, with what belongs to this machine put in its place
//! by [`unit`]. What it said meanwhile, [`journal`] shows.

pub mod journal;
pub mod notify;
pub mod systemd;
pub mod unit;
