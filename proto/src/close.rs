//! Close codes of WebSockets, and the codes of [`Refused`](crate::control::RelayToPeer::Refused): one table.
//!
//! The same number is used in both places. 1000–2999 belong to RFC 6455,
//! 4000–4999 are ours.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// Why the relay refused a peer or ended a link.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CloseCode {
            $($(#[$doc])* $name,)*
            /// A code of a newer relay.
            Other(u16),
        }

        impl CloseCode {
            /// The number on the wire.
            pub fn number(self) -> u16 {
                match self {
                    $(Self::$name => $value,)*
                    Self::Other(number) => number,
                }
            }

            /// The code behind a number.
            pub fn from_number(number: u16) -> Self {
                match number {
                    $($value => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            /// A stable word for logs, metrics and `--json`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(_) => "other",
                }
            }
        }
    };
}

codes! {
    /// Done; nothing is wrong.
    Normal = 1000, "normal";
    /// The relay restarts; the reason text is the delay in milliseconds.
    Restarting = 1012, "restarting";
    /// Bytes that are not the frame expected here.
    Malformed = 4400, "malformed";
    /// The key is unknown, or its proof does not hold.
    Unauthorized = 4401, "unauthorized";
    /// The host took this device off its list.
    Revoked = 4403, "revoked";
    /// No such rendezvous; it expired, was used, or never was.
    NotFound = 4404, "not_found";
    /// No version in common.
    Version = 4406, "version";
    /// The peer was silent for too long.
    Timeout = 4408, "timeout";
    /// Another machine is registered with this host's key.
    Conflict = 4409, "conflict";
    /// The other end of the circuit is gone.
    PeerGone = 4410, "peer_gone";
    /// A newer connection of the same host took this one's place.
    Replaced = 4411, "replaced";
    /// A frame over its limit.
    TooLarge = 4413, "too_large";
    /// A limit of the relay; the message names the setting.
    Limited = 4429, "limited";
    /// A fault of the relay itself; its log has the cause.
    Internal = 4500, "internal";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_codes_map_both_ways() {
        for number in [1000, 1012, 4400, 4401, 4403, 4404, 4406, 4408, 4409, 4410, 4411, 4413, 4429, 4500, 4999] {
            assert_eq!(CloseCode::from_number(number).number(), number);
        }
    }
}
