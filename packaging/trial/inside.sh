#!/bin/sh
# Runs inside the container of trial.sh, once for each boot. See there.
exec >>/trial/log 2>&1
set -eux

phase=$(cat /trial/phase)
servers=no
[ ! -d /trial/one/server ] || servers=yes
trap 'journalctl --no-pager -u ct-ops-agent -u ct-ops-server -n 30 >/trial/journal 2>&1' EXIT
echo "failed $phase" >/trial/result

said() { echo "said: $*"; }

# Wait for what must come about, and no longer than a minute.
until_true() {
	n=0
	until "$@"; do
		n=$((n + 1))
		[ $n -lt 60 ] || { echo "did not come about: $*"; exit 1; }
		sleep 1
	done
}

never() { if "$@"; then echo "was meant to fail: $*"; exit 1; fi; }

online() { ct-ops-server agent list --json | tr -d ' \n' | grep -q '"online":true'; }
agent_id() { ct-ops-agent identity show --json | tr -d ' \n' | sed 's/.*"agent_id":"\([^"]*\)".*/\1/'; }
version_of() { basename "$(dirname "$(readlink -f "$1")")"; }
unit_is() { [ "$(systemctl show -P "$2" "$1")" = "$3" ]; }
new_token() { ct-ops-server token create --auto-approve --json "$@"; }
# The value of a key, of JSON that nobody indented further than one level.
value_of() { sed -n "s/^ *\"$1\": *\"\\(.*\\)\",\\{0,1\\}\$/\\1/p" | head -n 1 | sed 's/\\"/"/g; s/\\\\/\\/g'; }

first_boot() {
	mkdir -p /etc/ct-ops /var/lib/ct-ops
	echo foreign >/etc/ct-ops/foreign
	echo foreign >/var/lib/ct-ops/foreign
	if [ $servers = yes ]; then
		/trial/one/server/install-server.sh --public-address 127.0.0.1:9443
		systemctl is-active ct-ops-server
		systemd-analyze verify --man=no /etc/systemd/system/ct-ops-server.service
		[ "$(stat -c %U:%a /var/lib/ct-ops/server)" = ct-ops-server:700 ]
		said "server installed from its bundle, running"
	fi
	dpkg -i /trial/one/ct-ops-agent_*.deb
	getent passwd ct-ops
	[ "$(stat -c %U:%a /var/lib/ct-ops/agent)" = ct-ops:700 ]
	[ "$(stat -c %U:%G:%a /etc/ct-ops/agent.toml)" = root:ct-ops:640 ]
	systemd-analyze verify --man=no /usr/lib/systemd/system/ct-ops-agent.service
	systemctl is-enabled ct-ops-agent
	never systemctl is-active ct-ops-agent
	never systemctl start ct-ops-agent
	down_with 78
	said "agent installed from its package: enabled, not started without a token, then failed and no loop of crashes"
	[ $servers = yes ] || return 0
	install -D -m 0600 /dev/null /etc/credstore/enrolment_token
	new_token --label trial | value_of token >/etc/credstore/enrolment_token
	systemctl start ct-ops-agent
	until_true online
	agent_id >/trial/id
	[ -s /trial/id ]
	said "agent enrolled and online as $(cat /trial/id)"
}

second_boot() {
	if [ $servers = yes ]; then
		until_true systemctl is-active ct-ops-server
		until_true systemctl is-active ct-ops-agent
		until_true online
		[ "$(agent_id)" = "$(cat /trial/id)" ]
		rm /etc/credstore/enrolment_token
		said "after the reboot: online under the same identity"
	else
		until_true down_with 78
		said "after the reboot: still down without a token, and no loop of crashes"
	fi
	echo '# changed by the operator' >>/etc/ct-ops/agent.toml
	old=$(version_of /usr/bin/ct-ops-agent)
	dpkg -i --force-confold /trial/two/ct-ops-agent_*.deb
	[ "$(version_of /usr/bin/ct-ops-agent)" = "$old.1" ]
	[ ! -e "/usr/lib/ct-ops/agent/$old" ]
	grep -q 'changed by the operator' /etc/ct-ops/agent.toml
	if [ $servers = yes ]; then
		until_true systemctl is-active ct-ops-agent
		said "agent upgraded to $old.1"
		. /trial/inside-upgrade.sh
		# Refused for good: whatever ends with 77 stays down, also after a boot.
		ct-ops-server agent revoke "$(cat /trial/id)" --reason trial
		mkdir -p /etc/systemd/system/ct-ops-agent.service.d
		printf '[Unit]\nAfter=ct-ops-server.service\n[Service]\nExecStart=\nExecStart=/usr/bin/ct-ops-agent run --once -config /etc/ct-ops/agent.toml\n' \
			>/etc/systemd/system/ct-ops-agent.service.d/once.conf
		systemctl daemon-reload
		systemctl restart ct-ops-agent || true
		until_true down_with 77
	else
		purge_agent
	fi
}

down_with() {
	unit_is ct-ops-agent ActiveState failed && unit_is ct-ops-agent ExecMainStatus "$1" && unit_is ct-ops-agent NRestarts 0
}

third_boot() {
	until_true systemctl is-active ct-ops-server
	until_true down_with 77
	said "refused by the server: failed with 77, and down also after a boot"
	rm -r /etc/systemd/system/ct-ops-agent.service.d
	systemctl daemon-reload
	purge_agent
	/usr/lib/ct-ops/server/install-server.sh --uninstall
	[ -s /var/lib/ct-ops/server/ct-ops.db ]
	[ -s /etc/ct-ops/server.env ]
	/trial/two/server/install-server.sh --uninstall --purge
	never getent passwd ct-ops-server
	nothing_is_left
	said "both purged: only what others put there is left"
	. /trial/inside-server.sh
	nothing_is_left
	said "purged again: only what others put there is left"
	. /trial/inside-rpm.sh
	nothing_is_left
}

purge_agent() {
	echo foreign >/var/lib/ct-ops/agent/foreign
	dpkg --remove ct-ops-agent
	[ $servers = no ] || [ -s /var/lib/ct-ops/agent/agent_key.pem ]
	dpkg --purge ct-ops-agent
	[ "$(ls /var/lib/ct-ops/agent)" = foreign ]
	[ ! -e /etc/ct-ops/agent.toml ]
	[ ! -e /usr/lib/ct-ops/agent ]
	rm /var/lib/ct-ops/agent/foreign
	rmdir /var/lib/ct-ops/agent
	# It stayed, because it owned a folder in which somebody had put a file.
	userdel ct-ops
	[ $servers = yes ] || nothing_is_left
	said "agent purged: only what others put there is left"
}

nothing_is_left() {
	[ "$(cat /etc/ct-ops/foreign /var/lib/ct-ops/foreign)" = "foreign
foreign" ]
	[ "$(ls /etc/ct-ops /var/lib/ct-ops | grep -v -e : -e '^$' | sort -u)" = foreign ]
	left=$(find / -xdev -name '*ct-ops*' -not -path '/trial/*' -not -path '/proc/*' -not -path '/var/log/*' -not -path '/run/*' | sort)
	[ "$left" = "/etc/ct-ops
/var/lib/ct-ops" ]
}

case $phase in
1) first_boot ;;
2) second_boot ;;
3) third_boot ;;
esac
echo "ok $phase" >/trial/result
