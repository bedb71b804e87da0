-- Every statement of the metadata stores, once for all of them. "-- query: NAME" begins one; "-- fragment: NAME"
-- begins a piece that others use as {NAME}. Parameters are bound by name, never by position. Tokens that depend on the
-- store ({FOR_UPDATE}) are replaced when it starts.

-- fragment: REPO_COLUMNS
r.id, r.virtual_storage, r.path, r.replica_path, r.object_format, r.generation, r.refs_digest, r.created_us,
r.changed_us, p.storage, p.generation, p.verified_us

-- fragment: CHANGE_COLUMNS
repository_id, generation, txid, call_id, refs_digest, vote, updates, voters, caller, decided_us

-- query: MIGRATION_LIST
SELECT number, name, checksum FROM schema_migrations ORDER BY number

-- query: MIGRATION_INSERT
INSERT INTO schema_migrations (number, name, checksum, applied_us) VALUES (:number, :name, :checksum, :now)

-- query: ID_RESERVE
INSERT INTO repository_ids (virtual_storage, path, reserved_us) VALUES (:virtual_storage, :path, :now) RETURNING id

-- query: ID_STATE
SELECT CASE WHEN deleted_us IS NOT NULL THEN 2 WHEN recorded_us IS NOT NULL THEN 1 ELSE 0 END
FROM repository_ids WHERE id = :id

-- query: ID_RECORDED
UPDATE repository_ids SET path = :path, call_id = :call_id, recorded_us = :now WHERE id = :id

-- query: ID_DELETED
UPDATE repository_ids SET path = :path, deleted_us = :now WHERE id = :id

-- query: ID_BY_CALL
SELECT id FROM repository_ids WHERE call_id = :call_id

-- query: REPO_TAKEN
SELECT id, path FROM repositories WHERE virtual_storage = :virtual_storage AND path_key = :path_key

-- query: REPO_INSERT
INSERT INTO repositories (id, virtual_storage, path, path_key, replica_path, object_format, generation, refs_digest,
  created_us, changed_us)
VALUES (:id, :virtual_storage, :path, :path_key, :replica_path, :object_format, :generation, :refs_digest, :created_us,
  :changed_us)

-- query: REPO_REPLICA_PATH
SELECT id FROM repositories WHERE virtual_storage = :virtual_storage AND replica_path = :replica_path

-- query: REPLICA_INSERT
INSERT INTO replicas (repository_id, storage, generation, verified_us)
VALUES (:id, :storage, :generation, :verified_us)

-- query: REPO_FIND
SELECT {REPO_COLUMNS} FROM repositories r LEFT JOIN replicas p ON p.repository_id = r.id
WHERE r.virtual_storage = :virtual_storage AND r.path = :path ORDER BY p.storage

-- query: REPO_GET
SELECT {REPO_COLUMNS} FROM repositories r LEFT JOIN replicas p ON p.repository_id = r.id
WHERE r.id = :id ORDER BY p.storage

-- query: REPO_LIST
SELECT {REPO_COLUMNS} FROM (
  SELECT * FROM repositories
  WHERE virtual_storage = :virtual_storage AND path >= :first AND path < :beyond
  ORDER BY path LIMIT :limit) r
LEFT JOIN replicas p ON p.repository_id = r.id ORDER BY r.path, p.storage

-- query: REPO_RENAME
UPDATE repositories SET path = :path, path_key = :path_key WHERE id = :id

-- query: REPO_DELETE
DELETE FROM repositories WHERE id = :id

-- query: REPO_GENERATION
SELECT generation FROM repositories WHERE id = :id {FOR_UPDATE}

-- query: REPO_ADVANCE
UPDATE repositories SET generation = :generation, refs_digest = :refs_digest, changed_us = :now WHERE id = :id

-- query: REPLICA_GENERATION
SELECT generation FROM replicas WHERE repository_id = :id AND storage = :storage

-- query: REPLICA_ADVANCE
UPDATE replicas SET generation = :generation WHERE repository_id = :id AND storage = :storage

-- query: REPLICA_SET
INSERT INTO replicas (repository_id, storage, generation, verified_us) VALUES (:id, :storage, :generation, :now)
ON CONFLICT (repository_id, storage) DO UPDATE SET generation = excluded.generation, verified_us = excluded.verified_us

-- query: CHANGE_INSERT
INSERT INTO changes (repository_id, generation, txid, call_id, refs_digest, vote, updates, voters, caller, decided_us)
VALUES (:id, :generation, :txid, :call_id, :refs_digest, :vote, :updates, :voters, :caller, :now)

-- query: CHANGE_BY_TX
SELECT {CHANGE_COLUMNS} FROM changes WHERE txid = :txid

-- query: CHANGE_OF_TX
SELECT repository_id, generation FROM changes WHERE txid = :txid

-- query: CHANGE_BY_CALL
SELECT {CHANGE_COLUMNS} FROM changes WHERE repository_id = :id AND call_id = :call_id

-- query: CHANGE_OF_CALL
SELECT generation FROM changes WHERE repository_id = :id AND call_id = :call_id

-- query: CHANGE_LIST
SELECT {CHANGE_COLUMNS} FROM changes WHERE repository_id = :id AND generation > :after
ORDER BY generation LIMIT :limit

-- query: ABORT_FIND
SELECT repository_id FROM aborted_transactions WHERE txid = :txid

-- query: ABORT_INSERT
INSERT INTO aborted_transactions (txid, repository_id, aborted_us) VALUES (:txid, :id, :now)
ON CONFLICT DO NOTHING

-- query: TOKEN_INSERT
INSERT INTO tokens (id, name, verifier, scope, prefix, created_us, expires_us)
VALUES (:id, :name, :verifier, :scope, :prefix, :created_us, :expires_us) ON CONFLICT DO NOTHING RETURNING id

-- query: TOKEN_GET
SELECT id, name, verifier, scope, prefix, created_us, expires_us FROM tokens WHERE id = :id

-- query: TOKEN_LIST
SELECT id, name, verifier, scope, prefix, created_us, expires_us FROM tokens ORDER BY created_us, id

-- query: TOKEN_DELETE
DELETE FROM tokens WHERE id = :id RETURNING id
