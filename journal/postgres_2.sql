-- Schema 2: which partition of a journal these tables are; checkpoints and reminders.

-- Which partition of a journal these tables are, of how many, and of which journal: its id is random, and the
-- same in all its partitions. A journal of schema 1 is 0 of 1.

ALTER TABLE journal ADD COLUMN partition integer NOT NULL DEFAULT 0,
                    ADD COLUMN partitions integer NOT NULL DEFAULT 1,
                    ADD COLUMN id bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) CHECK (length(id) = 16),
                    ADD CHECK (partition >= 0 AND partition < partitions);

-- How far each reader of the journal has come, by its name.
CREATE TABLE checkpoints (
    name     bytea  PRIMARY KEY,
    owner    bytea  NOT NULL,
    epoch    bigint NOT NULL,
    position bigint NOT NULL
);

-- Pending reminders: a fold over the events of reserved types (reminders.py), kept in the transactions that write them.
-- A journal of schema 1 has no such event, so its index begins empty.
CREATE TABLE reminders (
    stream   bigint  NOT NULL,
    due      bigint  NOT NULL,
    category integer NOT NULL,
    name     bytea   NOT NULL,
    PRIMARY KEY (stream, name)
);

-- Serves "of this category, due by then, the earliest first", and covers it.
CREATE INDEX reminders_due ON reminders (category, due, stream, name);
