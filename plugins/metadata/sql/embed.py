#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns queries.sql and the migrations into a C file and its header.

usage: embed.py OUT.c OUT.h QUERIES.sql MIGRATION.sql...
"""
import hashlib
import os
import re
import sys


def literal(text):
    lines = text.strip('\n').split('\n')
    return '\n'.join('    "%s\\n"' % line.replace('\\', '\\\\').replace('"', '\\"') for line in lines)


def read_queries(path):
    """Blocks begin with "-- query: NAME" or "-- fragment: NAME"; what stands before the first is for people."""
    fragments, queries, into, name = {}, {}, None, None
    for line in open(path, encoding='utf-8'):
        head = re.fullmatch(r'-- (query|fragment): ([A-Z_]+)\n?', line)
        if head:
            into, name = (queries if head[1] == 'query' else fragments), head[2]
            if name in queries or name in fragments:
                sys.exit(f'{path}: {name} is defined twice')
            into[name] = ''
        elif into is not None:
            into[name] += line
    for name, text in queries.items():
        for fragment, piece in fragments.items():
            text = text.replace('{%s}' % fragment, piece.strip())
        queries[name] = text.strip()
    return queries


def main():
    out_c, out_h, query_file, *migration_files = sys.argv[1:]
    queries = read_queries(query_file)
    migrations = []
    for path in sorted(migration_files, key=os.path.basename):
        match = re.fullmatch(r'(\d{4})-([a-z0-9-]+)\.sql', os.path.basename(path))
        if not match or int(match[1]) != len(migrations) + 1:
            sys.exit(f'{path}: migrations are named NNNN-name.sql and numbered from 1 without a gap')
        data = open(path, 'rb').read()
        migrations.append((int(match[1]), match[2], hashlib.sha256(data).hexdigest(), data.decode('utf-8')))
    with open(out_h, 'w', encoding='utf-8') as out:
        out.write('/* Made by embed.py. */\n#ifndef METADATA_SQL_TEXT_H\n#define METADATA_SQL_TEXT_H\n\n'
                  'typedef enum\n{\n')
        for name in queries:
            out.write(f'  SQL_{name},\n')
        out.write('  SQL_N_QUERIES\n} SqlQuery;\n\n'
                  f'#define SQL_N_MIGRATIONS {len(migrations)}u\n\n#endif\n')
    with open(out_c, 'w', encoding='utf-8') as out:
        out.write('/* Made by embed.py. */\n#include "sql.h"\n\nconst char *const sql_queries[SQL_N_QUERIES] = {\n')
        for name, text in queries.items():
            out.write(f'  [SQL_{name}] =\n{literal(text)},\n')
        out.write('};\n\nconst SqlMigration sql_migrations[SQL_N_MIGRATIONS] = {\n')
        for number, name, checksum, text in migrations:
            out.write(f'  {{ {number}, "{name}", "{checksum}",\n{literal(text)} }},\n')
        out.write('};\n')


if __name__ == '__main__':
    main()
