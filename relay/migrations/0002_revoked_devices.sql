-- Devices that were on a host's list and then were not. A key belongs to one pairing, so it never comes back:
-- a host that is restored from a backup does not bring in again what it had revoked since.

CREATE TABLE revoked_devices (
    number       INTEGER PRIMARY KEY,
    host_id      BLOB NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    identity_key BLOB NOT NULL CHECK (length(identity_key) = 32),
    UNIQUE (host_id, identity_key)
);
