-- Which nodes' disks held nothing unknown once: on others a replica that no record names may be all that is left of it.
-- A disk of which this store knows replicas already has joined.

ALTER TABLE nodes ADD COLUMN joined {INT} NOT NULL DEFAULT 0;

UPDATE nodes SET joined = 1 WHERE EXISTS (SELECT 1 FROM replicas WHERE replicas.storage = nodes.storage);
