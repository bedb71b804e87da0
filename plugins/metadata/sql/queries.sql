-- Every statement of the metadata stores, once for all of them. "-- query: NAME" begins one; "-- fragment: NAME"
-- begins a piece that others use as {NAME}. Parameters are bound by name, never by position. Tokens that depend on the
-- store ({FOR_UPDATE}) are replaced when it starts.

-- fragment: REPO_COLUMNS
r.id, r.virtual_storage, r.path, r.replica_path, r.object_format, r.generation, r.refs_digest, r.created_us,
r.changed_us, p.storage, p.generation, p.verified_us, p.scrubbed_us, r.copies, r.consistency

-- fragment: CHANGE_COLUMNS
repository_id, generation, txid, call_id, refs_digest, vote, updates, voters, caller, decided_us

-- query: MIGRATION_LIST
SELECT number, name, checksum FROM schema_migrations ORDER BY number

-- query: MIGRATION_INSERT
INSERT INTO schema_migrations (number, name, checksum, applied_us) VALUES (:number, :name, :checksum, {NOW})

-- query: ID_RESERVE
INSERT INTO repository_ids (virtual_storage, path, reserved_us) VALUES (:virtual_storage, :path, {NOW}) RETURNING id

-- query: ID_STATE
SELECT CASE WHEN deleted_us IS NOT NULL THEN 2 WHEN recorded_us IS NOT NULL THEN 1 ELSE 0 END
FROM repository_ids WHERE id = :id {FOR_UPDATE}

-- query: ID_RECORDED
UPDATE repository_ids SET path = :path, call_id = :call_id, recorded_us = {NOW} WHERE id = :id

-- query: ID_DELETED
UPDATE repository_ids SET path = :path, deleted_us = {NOW} WHERE id = :id

-- query: ID_BY_CALL
SELECT id FROM repository_ids WHERE call_id = :call_id

-- query: REPO_TAKEN
SELECT id, path FROM repositories WHERE virtual_storage = :virtual_storage AND path_key = :path_key

-- query: REPO_INSERT
INSERT INTO repositories (id, virtual_storage, path, path_key, replica_path, object_format, generation, refs_digest,
  created_us, changed_us, copies, consistency)
VALUES (:id, :virtual_storage, :path, :path_key, :replica_path, :object_format, :generation, :refs_digest,
  COALESCE (NULLIF (:created_us, 0), {NOW}), COALESCE (NULLIF (:changed_us, 0), NULLIF (:created_us, 0), {NOW}),
  :copies, :consistency)

-- query: REPO_REPLICA_PATH
SELECT id FROM repositories WHERE virtual_storage = :virtual_storage AND replica_path = :replica_path

-- query: REPLICA_INSERT
INSERT INTO replicas (repository_id, storage, generation, verified_us, scrubbed_us)
VALUES (:id, :storage, :generation, :verified_us, :scrubbed_us)

-- query: REPO_FIND
SELECT {REPO_COLUMNS} FROM repositories r LEFT JOIN replicas p ON p.repository_id = r.id
WHERE r.virtual_storage = :virtual_storage AND r.path = :path ORDER BY p.storage

-- query: REPO_LOCK
SELECT id FROM repositories WHERE virtual_storage = :virtual_storage AND path = :path {FOR_UPDATE}

-- query: REPO_GET
SELECT {REPO_COLUMNS} FROM repositories r LEFT JOIN replicas p ON p.repository_id = r.id
WHERE r.id = :id ORDER BY p.storage

-- query: REPO_LIST
SELECT {REPO_COLUMNS} FROM (
  SELECT * FROM repositories
  WHERE virtual_storage = :virtual_storage AND path >= :first AND path < :beyond
  ORDER BY path LIMIT :limit) r
LEFT JOIN replicas p ON p.repository_id = r.id ORDER BY r.path, p.storage

-- query: REPO_LIST_ALL
SELECT {REPO_COLUMNS} FROM (SELECT * FROM repositories WHERE id > :after ORDER BY id LIMIT :limit) r
LEFT JOIN replicas p ON p.repository_id = r.id ORDER BY r.id, p.storage

-- query: REPO_LIST_ON
SELECT {REPO_COLUMNS} FROM (
  SELECT w.* FROM repositories w JOIN replicas h ON h.repository_id = w.id
  WHERE h.storage = :storage AND w.id > :after ORDER BY w.id LIMIT :limit) r
LEFT JOIN replicas p ON p.repository_id = r.id ORDER BY r.id, p.storage

-- query: REPO_SET_POLICY
UPDATE repositories SET copies = :copies, consistency = :consistency WHERE id = :id RETURNING id

-- query: REPO_RENAME
UPDATE repositories SET path = :path, path_key = :path_key WHERE id = :id

-- query: REPO_DELETE
DELETE FROM repositories WHERE id = :id

-- query: REPO_GENERATION
SELECT generation FROM repositories WHERE id = :id {FOR_UPDATE}

-- query: REPO_ADVANCE
UPDATE repositories SET generation = :generation, refs_digest = :refs_digest, changed_us = {NOW} WHERE id = :id

-- query: REPLICA_GENERATION
SELECT generation FROM replicas WHERE repository_id = :id AND storage = :storage

-- query: REPLICAS_ADVANCE
UPDATE replicas SET generation = CASE WHEN generation = :generation - 1 THEN :generation ELSE generation END
WHERE repository_id = :id AND {INSTR} (:voters, {NEWLINE} || storage || {NEWLINE}) > 0
RETURNING storage, generation

-- query: REPLICA_SET
INSERT INTO replicas (repository_id, storage, generation, verified_us) VALUES (:id, :storage, :generation, {NOW})
ON CONFLICT (repository_id, storage) DO UPDATE SET generation = excluded.generation, verified_us = excluded.verified_us

-- query: REPLICA_OTHERS
SELECT count (*), count (CASE WHEN generation >= :generation THEN 1 END) FROM replicas
WHERE repository_id = :id AND storage <> :storage

-- query: REPLICA_DROP
DELETE FROM replicas WHERE repository_id = :id AND storage = :storage

-- query: REPLICA_VERIFIED
UPDATE replicas SET verified_us = {NOW}, scrubbed_us = CASE WHEN :objects = 1 THEN {NOW} ELSE scrubbed_us END
WHERE repository_id = :id AND storage = :storage RETURNING repository_id

-- query: CHANGE_INSERT
INSERT INTO changes (repository_id, generation, txid, call_id, refs_digest, vote, updates, voters, caller, decided_us)
VALUES (:id, :generation, :txid, :call_id, :refs_digest, :vote, :updates, :voters, :caller, {NOW})

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
INSERT INTO aborted_transactions (txid, repository_id, aborted_us) VALUES (:txid, :id, {NOW})
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

-- fragment: NODE_COLUMNS
storage, disk_id, instance, address, zone, free_bytes, total_bytes, state, seen_us, {NOW} - seen_us

-- query: NODE_GET
SELECT disk_id, instance, replaced_instance, state, address FROM nodes WHERE storage = :storage

-- query: NODE_BY_DISK
SELECT storage FROM nodes WHERE disk_id = :disk_id

-- query: NODE_PUT
INSERT INTO nodes (storage, disk_id, instance, replaced_instance, address, zone, free_bytes, total_bytes, state, seen_us)
VALUES (:storage, :disk_id, :instance, :replaced, :address, :zone, :free_bytes, :total_bytes, :state, {NOW})
ON CONFLICT (storage) DO UPDATE SET instance = excluded.instance, replaced_instance = excluded.replaced_instance,
  address = excluded.address, zone = excluded.zone, free_bytes = excluded.free_bytes,
  total_bytes = excluded.total_bytes, seen_us = excluded.seen_us

-- query: NODE_LIST
SELECT {NODE_COLUMNS} FROM nodes ORDER BY storage

-- query: NODE_SET_STATE
UPDATE nodes SET state = :state WHERE storage = :storage RETURNING storage

-- query: NODE_HOLDS
SELECT repository_id FROM replicas WHERE storage = :storage LIMIT 1

-- query: NODE_FORGET
DELETE FROM nodes WHERE storage = :storage

-- fragment: JOB_COLUMNS
id, kind, repository_id, target, source, reason, lane, due_us, state, worker, token, attempts, error, added_us,
started_us, ended_us, lease_until_us - {NOW}

-- fragment: JOB_FREE
(j.state = 1 AND j.due_us <= {NOW} OR j.state = 2 AND j.lease_until_us < {NOW})
AND NOT EXISTS (SELECT 1 FROM jobs o WHERE o.state = 2 AND o.repository_id = j.repository_id AND o.lane = j.lane
  AND o.id <> j.id AND o.lease_until_us >= {NOW})

-- query: JOB_QUEUED
SELECT id FROM jobs WHERE state = 1 AND kind = :kind AND repository_id = :repository_id AND target = :target

-- query: JOB_SOONER
UPDATE jobs SET due_us = CASE WHEN due_us > {NOW} + :delay THEN {NOW} + :delay ELSE due_us END WHERE id = :id

-- query: JOB_INSERT
INSERT INTO jobs (kind, repository_id, target, source, reason, lane, due_us, state, worker, token, attempts, error,
  added_us, started_us, ended_us, lease_until_us)
VALUES (:kind, :repository_id, :target, :source, :reason, :lane, {NOW} + :delay, 1, '', 0, 0, '', {NOW}, 0, 0, 0)
RETURNING id

-- query: JOB_FREE_LIST
SELECT j.id, j.repository_id, j.due_us FROM jobs j
WHERE j.state < 3 AND (j.due_us > :due OR j.due_us = :due AND j.id > :after) AND ({JOB_FREE})
  AND (:kinds = '' OR {INSTR} (:kinds, {NEWLINE} || j.kind || {NEWLINE}) > 0)
  AND (:targets = '' OR {INSTR} (:targets, {NEWLINE} || j.target || {NEWLINE}) > 0)
ORDER BY j.due_us, j.id LIMIT :limit

-- query: JOB_TAKE
UPDATE jobs AS j SET state = 2, worker = :worker, token = token + 1, attempts = attempts + 1, started_us = {NOW},
  lease_until_us = {NOW} + :lease
WHERE j.id = :id AND ({JOB_FREE}) RETURNING {JOB_COLUMNS}

-- query: JOB_STATE
SELECT state, token, lease_until_us - {NOW} FROM jobs WHERE id = :id {FOR_UPDATE}

-- query: JOB_KEY
SELECT repository_id, kind, target FROM jobs WHERE id = :id

-- query: JOB_RENEW
UPDATE jobs SET lease_until_us = {NOW} + :lease WHERE id = :id

-- query: JOB_FINISH
UPDATE jobs SET state = :state, error = :error, ended_us = {NOW}, lease_until_us = 0 WHERE id = :id

-- query: JOB_AGAIN
UPDATE jobs SET state = 1, error = :error, due_us = {NOW} + :delay, lease_until_us = 0 WHERE id = :id

-- query: JOB_LIST
SELECT {JOB_COLUMNS} FROM jobs
WHERE id > :after AND (:repository_id = 0 OR repository_id = :repository_id)
  AND (:states = '' OR {INSTR} (:states, CAST (state AS TEXT)) > 0)
  AND (:any_kind = 1 OR kind = :kind) AND (:any_target = 1 OR target = :target)
ORDER BY id LIMIT :limit

-- query: JOB_PRUNE
DELETE FROM jobs WHERE id IN (
  SELECT id FROM jobs WHERE state >= 3 AND ended_us <= {NOW} - :age ORDER BY ended_us, id LIMIT :limit) RETURNING id

-- query: LEASE_GET
SELECT token, until_us - {NOW}, owner FROM leases WHERE name = :name

-- query: LEASE_PUT
INSERT INTO leases (name, owner, token, until_us) VALUES (:name, :owner, 1, {NOW} + :lease)
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, token = leases.token + 1, until_us = excluded.until_us
RETURNING token

-- query: LEASE_RENEW
UPDATE leases SET until_us = {NOW} + :lease WHERE name = :name

-- query: LEASE_RELEASE
UPDATE leases SET until_us = 0 WHERE name = :name

-- query: LEASE_LIST
SELECT name, owner, token, until_us - {NOW} FROM leases ORDER BY name
