/* SPDX-License-Identifier: Apache-2.0 */
/**
 * report.h - what a process tells the metadata store of its own disks, and what it hears there of all nodes.
 */
#ifndef GSI_MAIN_REPORT_H
#define GSI_MAIN_REPORT_H

#include "main/generation.h"

/** How often a node says that it is there. */
#define GSI_REPORT_EVERY_US (5 * G_USEC_PER_SEC)
/** The same of a process that lends no storage. */
#define GSI_REPORT_ALONE_US (60 * G_USEC_PER_SEC)
/** How often a router looks which nodes answer, and at what the metadata store has of them. */
#define GSI_REPORT_LOOK_US (1 * G_USEC_PER_SEC)

/** Does both now, and then again and again until the server stops. Once, after the router was made. */
void gsi_report_start (GsiServer *server);

#endif
