-- Repositories, their replicas, the decisions on writes, and access tokens.
-- Times are microseconds since 1970. A migration that was released is never edited: its checksum is recorded.

-- The ledger of ids. A row stays for ever, so an id is never given out twice and the changes of a deleted
-- repository still have a name.
CREATE TABLE repository_ids (
  id {ID},
  virtual_storage TEXT NOT NULL,
  path TEXT NOT NULL,
  call_id {BLOB},
  reserved_us {INT} NOT NULL,
  recorded_us {INT},
  deleted_us {INT}
) {STRICT};

CREATE UNIQUE INDEX repository_ids_call ON repository_ids (call_id) WHERE call_id IS NOT NULL;

-- path_key is the path without case and normal form: names that people would mix up collide on it.
CREATE TABLE repositories (
  id {INT} NOT NULL PRIMARY KEY REFERENCES repository_ids (id),
  virtual_storage TEXT NOT NULL,
  path TEXT {BYTEWISE} NOT NULL,
  path_key TEXT {BYTEWISE} NOT NULL,
  replica_path TEXT NOT NULL,
  object_format {INT} NOT NULL CHECK (object_format IN (20, 32)),
  generation {INT} NOT NULL CHECK (generation >= 0),
  refs_digest {BLOB} NOT NULL CHECK (length (refs_digest) = 32),
  created_us {INT} NOT NULL,
  changed_us {INT} NOT NULL,
  UNIQUE (virtual_storage, path),
  UNIQUE (virtual_storage, path_key),
  UNIQUE (virtual_storage, replica_path)
) {STRICT};

CREATE TABLE replicas (
  repository_id {INT} NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
  storage TEXT {BYTEWISE} NOT NULL,
  generation {INT} NOT NULL CHECK (generation >= 0),
  verified_us {INT} NOT NULL,
  PRIMARY KEY (repository_id, storage)
) {STRICT};

-- The commit points, kept as the audit log, also after the repository is gone.
CREATE TABLE changes (
  repository_id {INT} NOT NULL REFERENCES repository_ids (id),
  generation {INT} NOT NULL CHECK (generation > 0),
  txid {BLOB} NOT NULL UNIQUE CHECK (length (txid) = 16),
  call_id {BLOB} CHECK (length (call_id) = 16),
  refs_digest {BLOB} NOT NULL CHECK (length (refs_digest) = 32),
  vote {BLOB} NOT NULL CHECK (length (vote) = 32),
  updates {BLOB} NOT NULL,
  voters TEXT NOT NULL,
  caller TEXT NOT NULL,
  decided_us {INT} NOT NULL,
  PRIMARY KEY (repository_id, generation)
) {STRICT};

CREATE UNIQUE INDEX changes_call ON changes (repository_id, call_id) WHERE call_id IS NOT NULL;

CREATE TABLE aborted_transactions (
  txid {BLOB} NOT NULL PRIMARY KEY CHECK (length (txid) = 16),
  repository_id {INT} NOT NULL,
  aborted_us {INT} NOT NULL
) {STRICT};

CREATE TABLE tokens (
  id TEXT {BYTEWISE} NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  verifier {BLOB} NOT NULL CHECK (length (verifier) = 64),
  scope {INT} NOT NULL,
  prefix TEXT NOT NULL,
  created_us {INT} NOT NULL,
  expires_us {INT} NOT NULL
) {STRICT};
