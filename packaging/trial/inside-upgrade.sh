# shellcheck shell=sh disable=SC2154 # a part of inside.sh, in its second boot: the server's upgrade and the ways back
# The next version has a revision of the database more (next_version.py), so that the way back needs the copy.

installer=/usr/lib/ct-ops/server/install-server.sh
has_token() { ct-ops-server token list --json | grep -q "\"$1\""; }
same_agent_online() { until_true online; [ "$(agent_id)" = "$(cat /trial/id)" ]; }

/trial/two/server/install-server.sh | tee /trial/said
grep -q 'went from schema 0[0-9]* to 9000' /trial/said
[ "$(version_of /usr/local/bin/ct-ops-server)" = "$old.1" ]
[ "$(ls /var/lib/ct-ops/server/backups/before-leaving-"$old"-*.db | wc -l)" = 1 ]
same_agent_online
new_token --label after >/dev/null
said "server upgraded to $old.1, its database copied and changed; the agent online without a token"

$installer --undo 2>&1 | tee /trial/said
grep -q 'cannot use the database as it is now' /trial/said
grep -q 'not in it: of what arrived since the copy was made, .*1 enrolment token' /trial/said
[ "$(version_of /usr/local/bin/ct-ops-server)" = "$old" ]
has_token trial
never has_token after
kept=$(ls /var/lib/ct-ops/server/ct-ops.db.replaced-*)
[ -s "$kept" ]
never $installer --undo
same_agent_online
said "taken back to $old with the database of before; told what is missing, and where it is kept"

# Bad versions: one that cannot change the database, then one that changes it and does not serve.
cp -r /trial/two/server /trial/bad
echo "$old.2" >/trial/bad/VERSION
versions=/trial/bad/server/_internal/ct_ops_server/store/migrations/versions
printf 'revision = "9001"\ndown_revision = "9000"\n\n\ndef upgrade() -> None:\n    raise OSError("no")\n' >$versions/r9001_bad.py
summed() { (cd /trial/bad && find . -type f ! -name SHA256SUMS | sed 's,^\./,,' | xargs sha256sum >SHA256SUMS); }
summed
never /trial/bad/install-server.sh >/trial/said 2>&1
cat /trial/said
grep -q "could not be brought to the schema of $old.2.*version $old is still in use" /trial/said
[ "$(version_of /usr/local/bin/ct-ops-server)" = "$old" ]
has_token trial
same_agent_online
said "a version that cannot change the database: the one before is still in use, the database as it was"

rm $versions/r9001_bad.py
mv /trial/bad/server/ct-ops-server /trial/bad/server/real
cat >/trial/bad/server/ct-ops-server <<'END'
#!/bin/sh
[ "$1" != serve ] || exit 1
exec "$(dirname "$(readlink -f "$0")")/real" "$@"
END
chmod 755 /trial/bad/server/ct-ops-server
summed
never /trial/bad/install-server.sh >/trial/said 2>&1
cat /trial/said
grep -q "$old.2 does not serve .*going back to $old" /trial/said
grep -q "version $old.2 was not installed; $old serves as before" /trial/said
[ "$(version_of /usr/local/bin/ct-ops-server)" = "$old" ]
has_token trial
same_agent_online
rm -r /trial/bad
said "a version that does not serve: gone back to $old by itself, with the database of before"

/trial/two/server/install-server.sh
has_token trial
same_agent_online
said "and upgraded to $old.1 again"
