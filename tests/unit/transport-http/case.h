/* SPDX-License-Identifier: Apache-2.0 */
/**
 * case.h - what the tests of transport/http over raw sockets share: a server for each case, requests and what is expected.
 */
#ifndef HTTP_CASE_H
#define HTTP_CASE_H

#include "client.h"
#include "service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define HOST "Host: x\r\n"
#define UPLOAD "Content-Type: application/x-git-upload-pack-request\r\n"
#define RECEIVE "Content-Type: application/x-git-receive-pack-request\r\n"

/** A server with usual limits, and one with small ones. */
int set_up (void **state);
int set_up_small (void **state);
/** Fails when a descriptor is left: sockets, pipes, epoll sets. */
int tear_down (void **state);
guint16 port_of (void **state);
/** Sends what the format makes and reads the answer. *full*. */
Answer *ask (void **state, const char *format, ...);
Answer *post (void **state, const char *path, const char *extra, const char *body);
/** Fails unless it is whole, has @status, and @text (may be NULL) in it. Takes @answer. */
void expect (Answer *answer, guint status, const char *text);
void expect_header (const Answer *answer, const char *name, const char *value);

#define TEST(name_) cmocka_unit_test_setup_teardown (name_, set_up, tear_down)
#define TEST_SMALL(name_) cmocka_unit_test_setup_teardown (name_, set_up_small, tear_down)

#endif
