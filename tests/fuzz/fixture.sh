#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# fixture.sh REPLICA: fills the replica that the dispatch target calls. The same objects each time, so that inputs can name
# them. Beside a small history with what is rare but legal there are objects that no sound git writes.
set -eu
cd "$1"
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null HOME=/nonexistent LC_ALL=C TZ=UTC
unset GIT_DIR GIT_WORK_TREE || :

files ()
{
  for n in 1 2 3 4 5 6 7 8 9 10 11 12; do
    printf 'line %s of %s\n' "$n" "$1"
  done
}

commit () # BRANCH MARK TIME MESSAGE [LINE]...
{
  printf 'commit refs/heads/%s\nmark :%s\nauthor A <a@example.org> %s +0200\ncommitter C <c@example.org> %s -0330\n' "$1" "$2" "$3" "$3"
  printf 'data %s\n%s\n' "${#4}" "$4"
  shift 4
  for line in "$@"; do printf '%s\n' "$line"; done
}

put () # MODE PATH CONTENT
{
  printf 'M %s inline %s\ndata %s\n%s\n' "$1" "$2" "${#3}" "$3"
}

{
  commit main 1 1500000000 'Begin'
  put 100644 README 'Hello'
  put 100644 src/a.c "$(files a)"
  put 100644 src/b.c "$(files b)"
  put 100755 bin/tool '#!/bin/sh'
  put 120000 link src/a.c
  put 100644 '"caf\351"' latin
  put 100644 '"new\nline"' odd
  put 100644 -dash dash
  put 100644 .gitattributes '*.c diff=c'
  put 100644 media/a.png 'version https://git-lfs.github.com/spec/v1
oid sha256:a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1
size 12345
'
  printf 'M 160000 1234567890123456789012345678901234567890 sub\n\n'
  commit main 2 1500001000 'Move' 'from :1' 'R src/a.c lib/a.c'
  commit side 3 1500001500 'Side' 'from :1'
  put 100644 src/b.c "$(files side)"
  commit third 4 1500001600 'Third' 'from :1'
  put 100644 three 3
  commit main 5 1500002000 'Octopus' 'from :2' 'merge :3' 'merge :4'
  put 100644 src/b.c "$(files side)"
  put 100644 three 3
  commit clash 6 1500002500 'Clash' 'from :2'
  put 100644 src/b.c "$(files clash)"
  put 100644 three other
  commit void 7 1500003000 'Nothing' deleteall
  commit main 8 1500003500 'Last' 'from :5'
  put 100644 README 'Hello world'
  printf 'tag v1.0\nfrom :1\ntagger T <t@example.org> 1500000500 +0000\ndata 13\nFirst release\n'
} | git fast-import --quiet --date-format=raw --force

head=$(git rev-parse refs/heads/main)
tree=$(git rev-parse 'refs/heads/main^{tree}')
blob=$(git rev-parse refs/heads/main:README)
person='A <a@example.org> 1500000000 +0000'

raw () # TYPE REF: an object from standard input, with a ref on it
{
  id=$(git hash-object -t "$1" -w --literally --stdin)
  mkdir -p "$(dirname "$2")"
  echo "$id" >"$2"
}

printf 'tree %s\nparent %s\nauthor %s\ncommitter %s\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n aaaa\n -----END PGP SIGNATURE-----\n\nSigned\n' \
  "$tree" "$head" "$person" "$person" | raw commit refs/heads/signed
printf 'object %s\ntype tag\ntag nested\ntagger %s\n\nA tag of a tag\n-----BEGIN SSH SIGNATURE-----\nxx\n-----END SSH SIGNATURE-----\n' \
  "$(git rev-parse refs/tags/v1.0)" "$person" | raw tag refs/tags/nested
printf 'object %s\ntype tree\ntag a-tree\n\nno tagger\n' "$tree" | raw tag refs/tags/a-tree
printf 'object %s\ntype blob\ntag a-blob\n\n' "$blob" | raw tag refs/tags/a-blob

# What is broken: cut short, empty, wrong types, people without a time, endless numbers, bytes that belong nowhere.
printf 'tree %s\n' "$tree" | raw commit refs/heads/bad/cut
printf '' | raw commit refs/heads/bad/empty
printf 'tree %s\nauthor\ncommitter >< 99999999999999999999999 +99999\n\n' "$tree" | raw commit refs/heads/bad/people
printf 'tree %s\nparent %s\nauthor %s\ncommitter %s\n\nIts parent is a blob\n' "$tree" "$blob" "$person" "$person" \
  | raw commit refs/heads/bad/parent
printf 'tree %s\nauthor %s\ncommitter %s\nencoding \377\n\ngone\n' 1111111111111111111111111111111111111111 "$person" "$person" \
  | raw commit refs/heads/bad/tree
printf 'tree %s\nparent 2222222222222222222222222222222222222222\nauthor %s\ncommitter %s\n\nlost parent' "$tree" "$person" "$person" \
  | raw commit refs/heads/bad/lost
printf '100644 a' | raw tree refs/tags/bad/tree-cut
printf '1 \0%020d40000 ../x\0%020d777777777777 y\0%020d' 1 2 3 | raw tree refs/tags/bad/tree-modes
bad=$(cat refs/tags/bad/tree-modes)
printf 'tree %s\nauthor %s\ncommitter %s\n\nA bad tree\n' "$bad" "$person" "$person" | raw commit refs/heads/bad/modes
printf 'object %s\ntype commit\n' "$head" | raw tag refs/tags/bad/tag-cut
printf 'object %s\ntype nothing\ntag \377\ntagger <<>> -1\n\n' "$head" | raw tag refs/tags/bad/tag-type
printf 'garbage' | raw tag refs/tags/bad/tag-garbage

git pack-refs --all --prune
git symbolic-ref HEAD refs/heads/main
git commit-graph write --changed-paths --stdin-commits <<GRAPH
$head
GRAPH
