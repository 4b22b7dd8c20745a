-- Schema 2: which partition of a journal this file is; checkpoints and reminders.

-- Which partition of a journal this file is, of how many, and of which journal. Its one row is written with
-- it, in the same transaction: what was asked for if the file is new, 0 of 1 if it is a journal of schema 1.

CREATE TABLE journal (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    partition  INTEGER NOT NULL,
    partitions INTEGER NOT NULL,
    id         BLOB    NOT NULL CHECK (length(id) = 16), -- random, the same in all partitions of one journal
    CHECK (partition >= 0 AND partition < partitions)
) STRICT;

-- Another count would look for streams where they are not, and so would a partition of another journal.
CREATE TRIGGER journal_keep_update BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'the partitions of a journal are fixed'); END;
CREATE TRIGGER journal_keep_delete BEFORE DELETE ON journal
BEGIN SELECT RAISE(ABORT, 'the partitions of a journal are fixed'); END;

-- How far each reader of the journal has come, by its name.
CREATE TABLE checkpoints (
    name     TEXT    NOT NULL PRIMARY KEY,
    owner    TEXT    NOT NULL,
    epoch    INTEGER NOT NULL,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Pending reminders: a fold over the events of reserved types (reminders.py), kept in the transactions that write them.
-- A journal of schema 1 has no such event, so its index begins empty.
CREATE TABLE reminders (
    stream   INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    due      INTEGER NOT NULL,
    category INTEGER NOT NULL,
    PRIMARY KEY (stream, name)
) STRICT, WITHOUT ROWID;

-- Serves "of this category, due by then, the earliest first", and covers it: its entries end in the primary key.
CREATE INDEX reminders_due ON reminders (category, due);
