-- Schema 2: which partition of a journal these tables are, of how many, and of which journal: its id is random, and the
-- same in all its partitions. A journal of schema 1 is 0 of 1.

ALTER TABLE journal ADD COLUMN partition integer NOT NULL DEFAULT 0,
                    ADD COLUMN partitions integer NOT NULL DEFAULT 1,
                    ADD COLUMN id bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) CHECK (length(id) = 16),
                    ADD CHECK (partition >= 0 AND partition < partitions);
