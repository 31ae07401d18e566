# shellcheck shell=sh disable=SC2154 # a part of inside.sh, in its third boot: the server's package, and what it hands out
# The one-line install and the install bundle, from a real server on this host's loopback.

dpkg -i /trial/one/ct-ops-server_*.deb
until_true systemctl is-active ct-ops-server
echo 'INGEST_PUBLIC_ADDRESS=127.0.0.1:9443' >>/etc/ct-ops/server.env
systemctl restart ct-ops-server
[ "$(stat -c %U:%G:%a /etc/ct-ops/server.env)" = root:ct-ops-server:640 ]
[ "$(stat -c %U:%a /var/lib/ct-ops/server)" = ct-ops-server:700 ]
systemd-analyze verify --man=no /usr/lib/systemd/system/ct-ops-server.service
systemctl reload ct-ops-server
systemctl is-active ct-ops-server
ct-ops-server release key init
ct-ops-server release add /trial/ct-ops-agent-linux-*.tar.*
said "server installed from its package: running; an agent is on its shelf"

line=$(new_token --label line | value_of install_line)
[ -n "$line" ]
case $line in *"| CT_OPS_ENROLMENT_TOKEN="*) ;; *) exit 1 ;; esac
sh -c "$line"
until_true online
ct-ops-agent uninstall
never getent passwd ct-ops
ct-ops-server agent delete trial --yes # or the next one is its twin, and waits for an operator
said "the one-line install: verified, online; taken off again"

ct-ops-server bundle build --auto-approve --tag from:bundle -o /trial/bundle.tar.gz
tar -xzf /trial/bundle.tar.gz -C /trial
rm /trial/bundle.tar.gz
bundle=$(echo /trial/ct-ops-agent-linux-*/)
"$bundle/install.sh" --verify
cp -r "$bundle" /trial/changed
echo '# changed' >>/trial/changed/agent.toml
never /trial/changed/install.sh --verify
(cd /trial/changed && find . -type f ! -name 'SHA256SUMS*' | sed 's,^\./,,' | LC_ALL=C sort | xargs sha256sum >SHA256SUMS)
never /trial/changed/install.sh --verify
never /trial/changed/install.sh
rm -r /trial/changed
mv /usr/bin/openssl /usr/bin/away
never "$bundle/install.sh" --verify
never "$bundle/install.sh"
never getent passwd ct-ops
"$bundle/install.sh" --verify --checksum-only
mv /usr/bin/away /usr/bin/openssl
said "the install bundle: its signature verified; refused when changed, and without openssl unless told --checksum-only"
"$bundle/install.sh"
until_true online
ct-ops-agent uninstall
rm -r "$bundle"
said "the install bundle: installed and online; taken off again"

version=$(version_of /usr/bin/ct-ops-server)
dpkg -i --force-confold /trial/two/ct-ops-server_*.deb
[ "$(version_of /usr/bin/ct-ops-server)" = "$version.1" ]
[ ! -e "/usr/lib/ct-ops/server/$version" ]
systemctl is-active ct-ops-server
new_token --label after >/dev/null
copy=$(ls /var/lib/ct-ops/server/backups/before-leaving-"$version"-*.db)
said "the server's package upgraded to $version.1, its database copied and changed"
dpkg -i --force-confold /trial/one/ct-ops-server_*.deb >/trial/said 2>&1
cat /trial/said
grep -q "ct-ops-server database restore $copy && systemctl start ct-ops-server" /trial/said
never systemctl is-active ct-ops-server
ct-ops-server database restore --yes "$copy"
systemctl reset-failed ct-ops-server
systemctl start ct-ops-server
ct-ops-server token list --json | grep -q '"line"'
never sh -c "ct-ops-server token list --json | grep -q '\"after\"'"
said "the package of before, and the copy that it named: back with everything from before the upgrade"
dpkg --remove ct-ops-server
[ -s /var/lib/ct-ops/server/ct-ops.db ]
dpkg --purge ct-ops-server
never getent passwd ct-ops-server
