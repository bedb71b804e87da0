/* SPDX-License-Identifier: Apache-2.0 */
/* See refs_case.h. */
#include "refs_case.h"

#include <string.h>

int
case_setup (void **state)
{
  Fixture *fixture = g_new0 (Fixture, 1);
  fixture->repo = repo_new ();
  fixture->store = repo_store (fixture->repo);
  fixture->c = fixture->repo->commits;
  fixture->zero = zero_oid ();
  *state = fixture;
  return 0;
}

int
case_teardown (void **state)
{
  Fixture *fixture = *state;
  ref_store_free (fixture->store);
  repo_free (fixture->repo);
  g_free (fixture);
  return 0;
}

void
case_git_set (Repo *repo, const char *name, const GsOid *oid)
{
  g_autofree char *hex = hex_of (oid);
  g_free (git (repo, "update-ref", name, hex, NULL));
}

void
case_pack (Fixture *fixture)
{
  g_free (git (fixture->repo, "pack-refs", "--all", "--prune", NULL));
}

void
assert_value (Fixture *fixture, const char *name, const GsOid *oid)
{
  g_autofree char *value = value_of (fixture->store, name), *expected = oid ? hex_of (oid) : g_strdup ("");
  if (strcmp (value, expected) != 0)
    fail_msg ("%s is \"%s\" instead of \"%s\"", name, value, expected);
}

void
case_reopen (Fixture *fixture, RefStoreOptions options)
{
  ref_store_free (fixture->store);
  fixture->store = ref_store_open (fixture->repo->dir, &options, NULL);
}
