-- Schema 2: which partition of a journal these tables are, and of how many. A journal of schema 1 is 0 of 1.

ALTER TABLE journal ADD COLUMN partition integer NOT NULL DEFAULT 0,
                    ADD COLUMN partitions integer NOT NULL DEFAULT 1,
                    ADD CHECK (partition >= 0 AND partition < partitions);
