-- Hosts that enrolled, the devices each accepts, and one-time enrolment keys.
-- Public keys and hashes only: a stolen copy lets nobody in.

CREATE TABLE hosts (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    identity_key   BLOB    NOT NULL UNIQUE CHECK (length(identity_key) = 32),
    enrolled_at    INTEGER NOT NULL,
    last_seen      INTEGER NOT NULL,
    -- Version of its device list; -1 until it sends the first.
    device_version INTEGER NOT NULL DEFAULT -1
) WITHOUT ROWID;

CREATE TABLE devices (
    host_id      BLOB NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    identity_key BLOB NOT NULL CHECK (length(identity_key) = 32),
    PRIMARY KEY (host_id, identity_key)
) WITHOUT ROWID;

CREATE TABLE enroll_keys (
    hash       BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) WITHOUT ROWID;
