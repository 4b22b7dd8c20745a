-- Schema 1 of a Holdfast journal. Runs whole, in one transaction that also sets application_id and user_version,
-- so that a crash leaves either an empty file or a journal.
--
-- A column named `checksum` is the CRC-32 of the row and of the name of its stream: see rows.py.

-- Category names are interned: an event then carries a small integer, and the index that serves
-- "all events of a category after position p" costs a few bytes per event instead of a name.
CREATE TABLE categories (
    key  INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- A stream row never changes. Its version is that of its newest event, found by one seek in events (stream,
-- version): a copy kept here would be a second truth, and one more page to write for every append.
CREATE TABLE streams (
    key      INTEGER PRIMARY KEY,
    category INTEGER NOT NULL,
    id       TEXT    NOT NULL,
    UNIQUE (category, id)
) STRICT;

-- The journal. A rowid table: the position is the rowid, so events lie on disk in the order of their positions.
-- AUTOINCREMENT, because SQLite would hand out a rowid again after its row had gone.
CREATE TABLE events (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,
    stream      INTEGER NOT NULL,
    version     INTEGER NOT NULL CHECK (version > 0),
    category    INTEGER NOT NULL,
    type        TEXT    NOT NULL,
    command_id  TEXT    NOT NULL,
    payload     BLOB    NOT NULL,
    metadata    BLOB    NOT NULL,
    reply       BLOB,
    recorded_at INTEGER NOT NULL,
    checksum    INTEGER NOT NULL,
    UNIQUE (stream, version)
) STRICT;

-- An index entry ends in the rowid, so this one orders by (category, position).
CREATE INDEX events_of_category ON events (category);

CREATE TABLE keyed_replies (
    stream      INTEGER NOT NULL,
    key         TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    fingerprint BLOB    NOT NULL,
    reply       BLOB    NOT NULL,
    checksum    INTEGER NOT NULL,
    PRIMARY KEY (stream, key)
) STRICT, WITHOUT ROWID;

-- A cache: these rows come and go. Two state schemas may each have a snapshot of one version, so that a release
-- that is rolled back finds its own again.
CREATE TABLE snapshots (
    key      INTEGER PRIMARY KEY,
    stream   INTEGER NOT NULL,
    version  INTEGER NOT NULL,
    schema   TEXT    NOT NULL,
    payload  BLOB    NOT NULL,
    checksum INTEGER NOT NULL,
    UNIQUE (stream, version, schema)
) STRICT;

-- The newest claims of each owner; the highest epoch is the current one. The few before it are kept so that a
-- claim which arrives a second time, late, gets its old epoch back instead of fencing its successor.
CREATE TABLE owners (
    owner       TEXT    NOT NULL,
    epoch       INTEGER NOT NULL,
    incarnation TEXT    NOT NULL,
    PRIMARY KEY (owner, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE aggregates (
    category   TEXT    NOT NULL PRIMARY KEY,
    placement  TEXT    NOT NULL,
    code       TEXT    NOT NULL,
    generation INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Store for ever. INSERT OR REPLACE deletes without a word unless recursive_triggers is ON, which every
-- connection of ours sets.
CREATE TRIGGER events_keep_update BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are never updated'); END;
CREATE TRIGGER events_keep_delete BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;
CREATE TRIGGER keyed_replies_keep_update BEFORE UPDATE ON keyed_replies
BEGIN SELECT RAISE(ABORT, 'keyed replies are never updated'); END;
CREATE TRIGGER keyed_replies_keep_delete BEFORE DELETE ON keyed_replies
BEGIN SELECT RAISE(ABORT, 'keyed replies are never deleted'); END;
CREATE TRIGGER streams_keep_update BEFORE UPDATE ON streams
BEGIN SELECT RAISE(ABORT, 'streams are never updated'); END;
CREATE TRIGGER streams_keep_delete BEFORE DELETE ON streams
BEGIN SELECT RAISE(ABORT, 'streams are never deleted'); END;
