-- What a cluster needs: how many copies a repository should have, nodes, jobs and leases.

ALTER TABLE repositories ADD COLUMN copies {INT} NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN consistency TEXT NOT NULL DEFAULT '';
ALTER TABLE replicas ADD COLUMN scrubbed_us {INT} NOT NULL DEFAULT 0;

CREATE INDEX replicas_storage ON replicas (storage, repository_id);

-- replaced_instance: the process that was the node before the present one; its reports are refused.
CREATE TABLE nodes (
  storage TEXT {BYTEWISE} NOT NULL PRIMARY KEY,
  disk_id {BLOB} NOT NULL UNIQUE CHECK (length (disk_id) = 16),
  instance {INT} NOT NULL,
  replaced_instance {INT} NOT NULL,
  address TEXT NOT NULL,
  zone TEXT NOT NULL,
  free_bytes {INT} NOT NULL,
  total_bytes {INT} NOT NULL,
  state {INT} NOT NULL CHECK (state BETWEEN 1 AND 3),
  seen_us {INT} NOT NULL
) {STRICT};

-- States: 1 queued, 2 running, 3 done, 4 failed. Ended jobs are the history, until they are pruned.
CREATE TABLE jobs (
  id {ID},
  kind TEXT NOT NULL,
  repository_id {INT} NOT NULL,
  target TEXT NOT NULL,
  source TEXT NOT NULL,
  reason TEXT NOT NULL,
  lane TEXT NOT NULL,
  due_us {INT} NOT NULL,
  state {INT} NOT NULL CHECK (state BETWEEN 1 AND 4),
  worker TEXT NOT NULL,
  token {INT} NOT NULL,
  attempts {INT} NOT NULL,
  error TEXT NOT NULL,
  added_us {INT} NOT NULL,
  started_us {INT} NOT NULL,
  ended_us {INT} NOT NULL,
  lease_until_us {INT} NOT NULL
) {STRICT};

CREATE UNIQUE INDEX jobs_queued ON jobs (kind, repository_id, target) WHERE state = 1;
CREATE INDEX jobs_due ON jobs (due_us, id) WHERE state < 3;
CREATE INDEX jobs_running ON jobs (repository_id, lane) WHERE state = 2;
CREATE INDEX jobs_ended ON jobs (ended_us, id) WHERE state > 2;

-- A row stays when its lease is given back: the next token has to be greater.
CREATE TABLE leases (
  name TEXT {BYTEWISE} NOT NULL PRIMARY KEY,
  owner TEXT NOT NULL,
  token {INT} NOT NULL,
  until_us {INT} NOT NULL
) {STRICT};
