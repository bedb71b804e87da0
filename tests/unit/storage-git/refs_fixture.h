/* SPDX-License-Identifier: Apache-2.0 */
/* A bare repository made by stock git with a few objects, a ref store on it, and short ways to use both. */
#ifndef REFS_FIXTURE_H
#define REFS_FIXTURE_H

#include "refs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define N_COMMITS 6

typedef struct
{
  char *dir;
  GsOid commits[N_COMMITS];
  GsOid tag, nested; /* annotated tag of commits[0]; tag of that tag */
  GsOid blob, absent;
  gint peels;     /* how often the callback was asked (atomic) */
  GString *notes; /* "event name\n" each; single-threaded tests only */
} Repo;

Repo *repo_new (void);
/** Opens what another process made with repo_save. */
Repo *repo_load (const char *dir);
void repo_save (const Repo *repo);
/** A copy of the files of @repo elsewhere. repo_save must have been called. */
Repo *repo_copy (const Repo *repo);
/** Removes the files, too. */
void repo_free (Repo *repo);
/** Only the memory. */
void repo_forget (Repo *repo);

/** Standard options on @repo; change them before ref_store_open. */
RefStoreOptions repo_options (Repo *repo);
RefStore *repo_store (Repo *repo);

/** Runs git in @repo: standard output, *full*, without the last newline. The test fails when git does. */
char *git (const Repo *repo, ...) G_GNUC_NULL_TERMINATED;
/** Exit code of git; output is thrown away. */
int git_try (const Repo *repo, ...) G_GNUC_NULL_TERMINATED;
/** git with @input on standard input. */
int git_feed (const Repo *repo, const char *input, const char *first, const char *second);

char *hex_of (const GsOid *oid); /* *full* */
GsOid oid_of (const char *hex);
GsOid zero_oid (void);
GsTxId next_txid (void);

/** "hex name" lines, with "hex name^{}" for tags, as git show-ref -d prints. *full* */
char *store_listing (RefStore *store);
/** The store lists exactly what git lists; git fsck finds no fault with refs; the digest equals one made anew. */
void assert_like_git (Repo *repo, RefStore *store);
/** What @name holds in the store, or "" */
char *value_of (RefStore *store, const char *name);

#define SET(name_, old_, new_) ((GsRefUpdate) { (name_), (old_), (new_), NULL })
#define ANY ((GsOid) { 0, { 0 } })

/** Prepares. The error must be NULL. Verdicts are left in @verdicts. */
RefTxn *prepare (RefStore *store, const GsRefUpdate *updates, gsize n, gboolean atomic, GsRefVerdict *verdicts);
/** Prepares, commits and finishes; all must be accepted. */
void apply (RefStore *store, const GsRefUpdate *updates, gsize n);
void apply_one (RefStore *store, const char *name, GsOid old_oid, GsOid new_oid);
/** One update that must be refused with @code. */
void assert_refused (RefStore *store, const char *name, GsOid old_oid, GsOid new_oid, GsErrorCode code);
void verdicts_clear (GsRefVerdict *verdicts, gsize n);

void write_file (const Repo *repo, const char *path, const char *content);
char *read_file (const Repo *repo, const char *path); /* *full*; NULL when absent */
gboolean file_exists (const Repo *repo, const char *path);
/** All files and directories but objects/, one a line, sorted. *full* */
char *tree_listing (const Repo *repo);

#endif
