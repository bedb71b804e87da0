/* SPDX-License-Identifier: Apache-2.0 */
/* What the suites on transactions of the ref store begin with: a repository of stock git, and a store on it. */
#ifndef TEST_REFS_CASE_H
#define TEST_REFS_CASE_H

#include "refs_fixture.h"

typedef struct
{
  Repo *repo;
  RefStore *store;
  GsOid *c; /* commits */
  GsOid zero;
} Fixture;

int case_setup (void **state);
int case_teardown (void **state);
/** By stock git. */
void case_git_set (Repo *repo, const char *name, const GsOid *oid);
void case_pack (Fixture *fixture);
/** Fails the test unless the store says so; NULL = absent. */
void assert_value (Fixture *fixture, const char *name, const GsOid *oid);
void case_reopen (Fixture *fixture, RefStoreOptions options);

#endif
