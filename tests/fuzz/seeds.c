/* SPDX-License-Identifier: Apache-2.0 */
/* JSON texts that the message and the JSON target start from. */
#include "fuzz.h"

const char *const fuzz_json_texts[] = {
  "{}",
  "{\"repository\": {\"path\": \"group/project\", \"virtual_storage\": \"main\"}}",
  "{\"updates\": [{\"name\": \"refs/heads/main\", \"oldOid\": \"\", \"new_oid\": \"0123\"}, {\"name\": {\"base64\": \"/w==\"}}]}",
  "{\"prefixes\": [\"refs/heads/\", \"\", {\"base64\": \"AAEC\"}], \"head\": true, \"page\": {\"limit\": 5, \"token\": \"00ff\"}}",
  "{\"oid\": \"ab\", \"type\": \"BLOB\", \"size\": \"18446744073709551615\", \"mode\": 33188}",
  "{\"object\": {\"type\": 3, \"size\": 1e3}, \"data\": \"line\\n\\ttext \\u00fc\"}",
  "{\"receipt\": {\"transaction_id\": \"00112233445566778899aabbccddeeff\", \"generation\": 7, \"replicas\": [\"a\", \"b\"]}}",
  "{\"token\": {\"id\": \"x\", \"scope\": \"TOKEN_ADMIN\", \"created_us\": -1, \"expires_us\": 9007199254740993}, \"secret\": \"s\"}",
  "{\"methods\": [{\"name\": \"A/B\", \"number\": 4294967295, \"operation\": 2, \"bytes_in\": true}]}",
  "{\"changes\": [{\"receipt\": {}, \"refs\": [{\"name\": \"HEAD\", \"symref_target\": \"refs/heads/x\"}], \"call_id\": \"aa\"}]}",
  "{\"echo\": {\"base64\": \"_-8\"}}",
  NULL,
};
