#!/bin/sh
# Install, reboot, upgrade and take off the packaged programs under a real systemd: `make test-packaging`.
#
#   packaging/trial/trial.sh FROZEN_AGENT [FROZEN_SERVER]       archives as `make agent-binary` makes them
#
# As root, on a Debian. Makes a root of Debian without Python, boots it in a container of its own without a network,
# and runs inside.sh in it, once a boot. Everything it makes is removed, also when it fails or is interrupted:
# processes, mounts, the root. Without a server, only installing, upgrading and taking off the agent is tried.
# TRIAL_BASE: a root that debootstrap made before, to be copied instead of made.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
packaging=$(dirname "$here")
python=${PYTHON:-python3.11}
boot_s=400

say() { printf '%s\n' "trial: $*"; }
fail() { say "$*" >&2; exit 1; }
# 75: this host is not made for it, which says nothing about the packages.
cannot() { say "cannot be tried here: $*" >&2; exit 75; }

[ $# -ge 1 ] || fail "name the frozen agent, and the frozen server: make test-packaging does"
[ "$(id -u)" = 0 ] || cannot "booting a root takes root: run it with sudo"
agent=$1 server=${2:-}
missing=
command -v apt-get >/dev/null || cannot "this is no Debian"
command -v debootstrap >/dev/null || missing="$missing debootstrap"
command -v systemd-nspawn >/dev/null || missing="$missing systemd-container"
[ -z "$server" ] || command -v rpmbuild >/dev/null || missing="$missing rpm"
if [ -n "$missing" ]; then
	say "installing$missing"
	# shellcheck disable=SC2086 # words
	apt-get install -y -qq --no-install-recommends $missing >/dev/null || cannot "$missing cannot be installed"
fi

work=$(mktemp -d /var/tmp/ct-ops-trial.XXXXXX)
child=
cgroup=
clean_up() {
	trap '' INT TERM HUP
	if [ -n "$child" ]; then
		kill -TERM "$child" 2>/dev/null || true
		ended 10 || kill -KILL "$child" 2>/dev/null || true
		wait "$child" 2>/dev/null || true
	fi
	awk -v below="$work/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do umount -l "$mount"; done
	leave_cgroup
	rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP
root=$work/root

# A group of its own, or two containers that are started side by side end each other's processes. Where systemd runs,
# every session has one.
make_cgroup() {
	[ ! -d /run/systemd/system ] || return 0
	at=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
	[ -n "$at" ] || return 0
	cgroup=$at$(sed -n 's/^0:://p' /proc/self/cgroup)/$(basename "$work")
	mkdir "$cgroup" 2>/dev/null || cgroup=
}

leave_cgroup() {
	[ -n "$cgroup" ] || return 0
	n=0
	while [ -d "$cgroup" ] && [ $n -lt 10 ]; do
		find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 1
		n=$((n + 1))
	done
}

# Whether the child has ended, asked for so many seconds. A shell hears of signals between two of them.
ended() {
	n=0
	while kill -0 "$child" 2>/dev/null; do
		n=$((n + 1))
		[ $n -le "$1" ] || return 1
		sleep 1
	done
}

# Wait so many seconds for the child; what it ended with.
outcome() {
	ended "$1" || { kill -KILL "$child"; say "nothing came of it in $1 s"; }
	status=0
	wait "$child" 2>/dev/null || status=$?
	child=
	return $status
}

# It waits for the network: packages are made meanwhile.
begin_root() {
	if [ -n "${TRIAL_BASE:-}" ]; then cp -a "$TRIAL_BASE" "$root"; return; fi
	mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)}
	[ -n "$mirror" ] || cannot "set MIRROR to a mirror of Debian"
	with=systemd,systemd-sysv,dbus
	# What the server's ways to install need on a host, and a minimal one lacks.
	[ -z "$server" ] || with=$with,curl,openssl,rpm
	debootstrap --variant=minbase --include=$with bookworm "$root" "$mirror" >"$work/debootstrap.log" 2>&1 &
	child=$!
}

finish_root() {
	[ -z "$child" ] || outcome 400 || { tail -n 5 "$work/debootstrap.log" >&2; cannot "the root could not be made"; }
	mv "$work/trial" "$root/trial"
}

make_packages() {
	mkdir -p "$work/next" "$work/trial/one" "$work/trial/two"
	"$python" "$here/next_version.py" "$agent" "$work/next/agent.tar.gz"
	"$python" "$packaging/make_deb.py" --fast --output "$work/trial/one" "$agent" >/dev/null
	"$python" "$packaging/make_deb.py" --fast --output "$work/trial/two" "$work/next/agent.tar.gz" >/dev/null
	[ -n "$server" ] || return 0
	cp "${agent%.tar.*}.tar.gz" "$work/trial/" # the root has no xz, as a minimal host
	"$python" "$here/next_version.py" --revision "$server" "$work/next/server.tar.gz"
	for version in one two; do
		from=$agent
		[ $version = one ] || from=$work/next/agent.tar.gz
		"$python" "$packaging/make_rpm.py" --fast --output "$work/trial/$version" "$from" >/dev/null
		from=$server
		[ $version = one ] || from=$work/next/server.tar.gz
		"$python" "$packaging/make_server_bundle.py" --folder "$work/trial/$version/server" "$from" >/dev/null
		"$python" "$packaging/make_deb.py" --program server --fast --output "$work/trial/$version" "$from" >/dev/null
	done
}

make_job() {
	cp "$here"/inside*.sh "$root/trial/"
	cat >"$root/etc/systemd/system/trial.service" <<-END
		[Unit]
		After=basic.target dbus.service
		[Service]
		Type=oneshot
		ExecStart=/bin/sh /trial/inside.sh
		ExecStopPost=/bin/systemctl --no-block poweroff
		[Install]
		WantedBy=multi-user.target
	END
	mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
	ln -s ../trial.service "$root/etc/systemd/system/multi-user.target.wants/trial.service"
	echo trial >"$root/etc/hostname"
}

# One boot: the job inside does its phase, writes what came of it, and powers the container off.
boot() {
	echo "$1" >"$root/trial/phase"
	rm -f "$root/trial/log" "$root/trial/result"
	SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 sh -c '[ -z "$0" ] || echo $$ >"$0/cgroup.procs"; exec "$@"' "$cgroup" systemd-nspawn --quiet --register=no --keep-unit \
		--private-network --console=pipe --boot -D "$root" </dev/null >"$work/console" 2>&1 &
	child=$!
	outcome $boot_s || true
	if [ ! -e "$root/trial/log" ]; then tail -n 20 "$work/console" >&2; cannot "the container does not boot"; fi
	sed -n 's/^said: /trial: /p' "$root/trial/log"
	if [ "$(cat "$root/trial/result" 2>/dev/null)" != "ok $1" ]; then
		tail -n 20 "$work/console" "$root/trial/journal" 2>/dev/null || true
		tail -n 40 "$root/trial/log"
		fail "boot $1 failed, see above"
	fi
}

begin_root
make_packages
finish_root
if chroot "$root" /bin/sh -c 'command -v python3' >/dev/null; then fail "the root has a Python"; fi
make_job
make_cgroup
boot 1
boot 2
[ -z "$server" ] || boot 3
say "passed: installed, rebooted, upgraded and taken off, without Python, under a real systemd"
