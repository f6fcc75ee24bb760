//! Every limit of the relay: one named setting each, with its default.
//!
//! A peer that meets one is told the setting's name, so that the operator knows
//! what to raise, and `reachback_relay_limit_reached_total{limit="…"}` counts it.
//! Times are in milliseconds because tests need them short; the names say so.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of a relay. `[limits]` of its configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at once, over TCP and over QUIC. Default 8,000: half of the 20,000 file descriptors a service often gets, less a margin.
    pub connections: usize,
    /// Of those, how many may be without a proven key. The rest is kept for peers that have one. When these are used up, a
    /// newcomer takes the place of the oldest of the address that has most. Default 6,000.
    pub unproven: usize,
    /// How many of those one address may have (an IPv6 /64 counts as one); one more takes the place of its oldest.
    /// Default 256: an office behind one address.
    pub unproven_per_address: usize,
    /// How long a connection may be without a proven key, whatever it does meanwhile. Default 60,000 ms: the pages come
    /// in less over a slow link.
    pub unproven_ms: u64,
    /// Connections that an address may make at once before more are closed unseen. Default 512.
    pub accepts_burst: NonZeroU32,
    /// Connections that an address may make per minute once the burst is used. Default 1,200.
    pub accepts_per_minute: NonZeroU32,
    /// Time for a TLS handshake. Default 5,000 ms.
    pub tls_handshake_ms: u64,
    /// Time for a complete HTTP request head; also how long an idle keep-alive connection stays. Default 10,000 ms.
    pub http_head_ms: u64,
    /// Time from the challenge to a complete hello. Default 5,000 ms.
    pub hello_ms: u64,
    /// Bytes a peer may send before its welcome. Default 4,096.
    pub hello_bytes: usize,
    /// Links an address (an IPv6 /64 counts as one) may open at once before it has to wait. Default 120.
    pub attempts_burst: NonZeroU32,
    /// Links an address may open per minute once the burst is used. Default 240.
    pub attempts_per_minute: NonZeroU32,
    /// Pairing attempts an address may make at once. Default 20.
    pub pairing_attempts_burst: NonZeroU32,
    /// Pairing attempts an address may make per minute once the burst is used. Default 10.
    pub pairing_attempts_per_minute: NonZeroU32,
    /// Idle data connections kept for one host. Default 4.
    pub spares_per_host: usize,
    /// Circuits, open or waited for, of one host. Default 128.
    pub circuits_per_host: usize,
    /// Links of one device to its host, attached, waiting or watching. Default 16.
    pub links_per_device: usize,
    /// Rendezvous that one host may hold open. Default 4.
    pub pairings_per_host: usize,
    /// How long a pairing waits for its host to take the circuit. Default 20,000 ms.
    pub pairing_attach_ms: u64,
    /// How long a pairing circuit may last: a person compares digits on it. Default 300,000 ms.
    pub pairing_circuit_ms: u64,
    /// A circuit without a byte either way ends after this. Both ends send a heartbeat every 15 s. Default 60,000 ms.
    pub circuit_idle_ms: u64,
    /// Longest that one write to a peer may take. Default 30,000 ms.
    pub write_ms: u64,
    /// Silence after which a host's control connection is asked for a sign of life. Default 15,000 ms.
    pub control_ping_ms: u64,
    /// How often waiting devices and spare data connections are asked for a sign of life. Default 20,000 ms.
    pub idle_ping_ms: u64,
    /// Silence after which a control connection or a waiting link is dead. Default 45,000 ms.
    pub silence_ms: u64,
    /// Time in which a registered host must answer when another run of it asks for its place. Default 3,000 ms.
    pub conflict_probe_ms: u64,
    /// How soon a host that was asked for a data connection is asked again. Default 10,000 ms.
    pub circuit_reminder_ms: u64,
    /// When the relay restarts: the soonest that peers are told to come back. Default 500 ms.
    pub restart_delay_ms: u64,
    /// When the relay restarts: how many connections are told to come back within a second. Few are back at once, and
    /// many are no herd. Default 2,000: a core does that many handshakes.
    pub restart_per_second: NonZeroU32,
    /// When the relay stops: how long links may take to end before they are cut. Default 10,000 ms.
    pub shutdown_grace_ms: u64,
    /// How long a one-time enrolment key works. Default 3,600,000 ms, one hour.
    pub enroll_key_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8_000,
            unproven: 6_000,
            unproven_per_address: 256,
            unproven_ms: 60_000,
            accepts_burst: per(512),
            accepts_per_minute: per(1_200),
            tls_handshake_ms: 5_000,
            http_head_ms: 10_000,
            hello_ms: 5_000,
            hello_bytes: reachback_proto::control::MAX_HELLO,
            attempts_burst: per(120),
            attempts_per_minute: per(240),
            pairing_attempts_burst: per(20),
            pairing_attempts_per_minute: per(10),
            spares_per_host: 4,
            circuits_per_host: 128,
            links_per_device: 16,
            pairings_per_host: 4,
            pairing_attach_ms: 20_000,
            pairing_circuit_ms: 300_000,
            circuit_idle_ms: 60_000,
            write_ms: 30_000,
            control_ping_ms: 15_000,
            idle_ping_ms: 20_000,
            silence_ms: 45_000,
            conflict_probe_ms: 3_000,
            circuit_reminder_ms: 10_000,
            restart_delay_ms: 500,
            restart_per_second: per(2_000),
            shutdown_grace_ms: 10_000,
            enroll_key_ms: 3_600_000,
        }
    }
}

fn per(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).expect("the defaults above are not zero")
}

/// A limit that was met: its name is the setting's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Limit {
    Connections,
    Unproven,
    UnprovenPerAddress,
    UnprovenTime,
    Accepts,
    TlsHandshake,
    Hello,
    HelloBytes,
    Attempts,
    PairingAttempts,
    SparesPerHost,
    CircuitsPerHost,
    LinksPerDevice,
    PairingsPerHost,
    PairingAttach,
    PairingCircuit,
    CircuitIdle,
    Write,
    Silence,
}

impl Limit {
    /// The setting's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Unproven => "unproven",
            Self::UnprovenPerAddress => "unproven_per_address",
            Self::UnprovenTime => "unproven_ms",
            Self::Accepts => "accepts_per_minute",
            Self::TlsHandshake => "tls_handshake_ms",
            Self::Hello => "hello_ms",
            Self::HelloBytes => "hello_bytes",
            Self::Attempts => "attempts_per_minute",
            Self::PairingAttempts => "pairing_attempts_per_minute",
            Self::SparesPerHost => "spares_per_host",
            Self::CircuitsPerHost => "circuits_per_host",
            Self::LinksPerDevice => "links_per_device",
            Self::PairingsPerHost => "pairings_per_host",
            Self::PairingAttach => "pairing_attach_ms",
            Self::PairingCircuit => "pairing_circuit_ms",
            Self::CircuitIdle => "circuit_idle_ms",
            Self::Write => "write_ms",
            Self::Silence => "silence_ms",
        }
    }
}

/// A setting in milliseconds as a duration.
pub(crate) fn ms(setting: u64) -> Duration {
    Duration::from_millis(setting)
}
