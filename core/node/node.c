/* SPDX-License-Identifier: Apache-2.0 */
/* What a node can do, by method number. */
#include "node/node.h"

const GsiReadBinding *
gsi_node_reads (void)
{
  static const GsiReadBinding reads[] = {
    { 106, gsi_node_repository_size }, { 200, gsi_node_ref_list },       { 201, gsi_node_ref_find },
    { 300, gsi_node_object_resolve },  { 301, gsi_node_object_read },    { 302, gsi_node_object_stream },
    { 303, gsi_node_object_list_tree }, { 400, gsi_node_git_advertise }, { 401, gsi_node_git_upload_pack },
    { 0, NULL },
  };
  return reads;
}

const GsiWriteBinding *
gsi_node_writes (void)
{
  static const GsiWriteBinding writes[] = {
    { 202, gsi_node_ref_stage, gsi_node_ref_reply },
    { 203, gsi_node_head_stage, gsi_node_head_reply },
    { 402, gsi_node_git_stage_push, gsi_node_git_push_reply },
    { 0, NULL, NULL },
  };
  return writes;
}
