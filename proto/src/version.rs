//! Protocol versions, and choosing one.

/// The versions a peer offers, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest version offered.
    pub min: u8,
    /// The newest version offered.
    pub max: u8,
}

/// What this build speaks end to end.
pub const SUPPORTED: VersionRange = VersionRange { min: 1, max: 1 };

/// What this build speaks on connections to a relay.
pub const WITH_RELAY: VersionRange = VersionRange { min: 1, max: 2 };

/// The first version on connections to a relay in which a host hears
/// [`DevicesRevoked`](crate::control::RelayToPeer::DevicesRevoked).
pub const TELLS_REVOKED: u8 = 2;

impl VersionRange {
    /// The newest version that both sides speak; `None` where there is none.
    pub fn agree(self, other: Self) -> Option<u8> {
        let newest = self.max.min(other.max);
        (newest >= self.min && newest >= other.min && newest > 0).then_some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_wins_and_none_is_none() {
        let range = |min, max| VersionRange { min, max };
        assert_eq!(range(1, 3).agree(range(2, 5)), Some(3));
        assert_eq!(range(1, 1).agree(range(2, 5)), None);
        assert_eq!(range(0, 0).agree(range(0, 0)), None);
        assert_eq!(range(3, 1).agree(range(1, 3)), None);
    }
}
