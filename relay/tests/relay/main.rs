//! The relay over real sockets: each file one family of behaviour.
//!
//! Clients here are WebSockets that speak `reachback-proto` frame by frame, so
//! that a test can also say what no honest peer says. All waiting is on a frame,
//! a close or a condition, with a deadline (`common::PATIENCE`).

mod circuits;
mod common;
mod devices;
mod door;
mod enrolment;
mod greeting;
mod pages;
mod pairing;
mod presence;
mod program;
mod registration;
mod secure;
mod shutdown;
mod tls;
mod transport;
