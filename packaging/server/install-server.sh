#!/bin/sh
# Install, upgrade, take back or take off the CT-Ops server. It needs no network and no Python.
#
#   ./install-server.sh [--public-address HOST:PORT] [--no-start] [--database-saved]
#   /usr/lib/ct-ops/server/install-server.sh --undo          back to the version before the upgrade
#   /usr/lib/ct-ops/server/install-server.sh --uninstall [--purge]
#
# An upgrade copies the database first, and goes back by itself when the new version does not serve.
# Uninstalling keeps settings, keys and data; --purge removes them, by name, and nothing else.
set -eu

user=ct-ops-server
name=ct-ops-server
versions=/usr/lib/ct-ops/server
link=/usr/local/bin/$name
unit=/etc/systemd/system/$name.service
users=/etc/sysusers.d/$name.conf
settings=/etc/ct-ops/server.env
data=/var/lib/ct-ops/server
shelf=/var/lib/ct-ops/agent-dist
way_back=$versions/way-back
unit_before=$versions/way-back.service
patience=60s
space_kib=400000

say() { printf '%s\n' "$*"; }
fail() { say "error: $*" >&2; exit 1; }

# --- what to do -------------------------------------------------------------------------------------------

action=install purge=no start=yes saved=no address=
while [ $# -gt 0 ]; do
	case $1 in
	--public-address) [ $# -ge 2 ] || fail "--public-address needs HOST:PORT"; address=$2; shift ;;
	--public-address=*) address=${1#*=} ;;
	--no-start) start=no ;;
	--database-saved) saved=yes ;;
	--undo) action=undo ;;
	--uninstall) action=uninstall ;;
	--purge) purge=yes ;;
	-h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
	*) fail "$1 is no option of this; see --help" ;;
	esac
	shift
done
case $address in
*[!][0-9A-Za-z.:_,-]*) fail "--public-address takes HOST:PORT, several with commas between, and no other characters" ;;
esac

[ "$(id -u)" = 0 ] || fail "this takes root: run it with sudo"
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)

running() { [ -d /run/systemd/system ]; }
ctl() { if running; then systemctl "$@"; fi; }
installed_version() { if [ -L "$link" ]; then basename "$(dirname "$(readlink "$link")")"; fi; }
point_to() { ln -s "$versions/$1/$name" "$link.new" && mv -T "$link.new" "$link"; }
packaged() { [ -e /usr/lib/systemd/system/$name.service ] || [ -e /lib/systemd/system/$name.service ]; }

# --- install and upgrade ----------------------------------------------------------------------------------

check_host() {
	packaged && fail "this host has the package $name: upgrade it with the package manager, or remove it first"
	[ -x "$here/server/$name" ] || fail "$here/server/$name is missing: unpack the whole bundle"
	command -v systemctl >/dev/null || fail "this needs systemd: without it, run $here/server/$name serve under what you use"
	[ "$(uname -m)" = "$(cat "$here/ARCHITECTURE")" ] || fail "this bundle is for $(cat "$here/ARCHITECTURE"), this host is $(uname -m)"
	(cd "$here" && sha256sum --quiet -c SHA256SUMS) || fail "the bundle is damaged: copy it to this host again"
	"$here/server/$name" --version >/dev/null 2>&1 ||
		fail "the program does not start here: it needs glibc $(cat "$here/GLIBC") or later, this host has: $(ldd --version 2>&1 | head -n 1)"
	free=$(df -Pk /usr/lib | awk 'NR == 2 { print $4 }')
	[ "$free" -ge $space_kib ] || fail "/usr/lib has $((free / 1024)) MiB free, $((space_kib / 1024)) are needed"
}

make_user() {
	mkdir -p "$(dirname "$users")"
	cp "$here/$name.sysusers.conf" "$users"
	if command -v systemd-sysusers >/dev/null; then
		systemd-sysusers "$users"
	elif ! getent passwd $user >/dev/null; then
		useradd --system --no-create-home --home-dir / --shell /usr/sbin/nologin --user-group $user
	fi
}

make_folders() {
	install -d -m 0755 /etc/ct-ops /var/lib/ct-ops
	install -d -m 0700 -o $user -g $user "$data"
	install -d -m 0755 -o $user -g $user "$shelf"
}

put_version() {
	mkdir -p "$versions"
	rm -rf "$versions/.$1.new"
	cp -r "$here/server" "$versions/.$1.new"
	chown -R root:root "$versions/.$1.new"
	if [ -e "$versions/$1" ]; then mv "$versions/$1" "$versions/.$1.old"; fi
	mv "$versions/.$1.new" "$versions/$1"
	rm -rf "$versions/.$1.old"
	cp "$here/install-server.sh" "$versions/.install-server.sh.new"
	cp "$here/own-files" "$versions/own-files"
	mv "$versions/.install-server.sh.new" "$versions/install-server.sh"
	chmod 0755 "$versions/install-server.sh"
}

put_settings() {
	if [ -e "$settings" ]; then
		[ -z "$address" ] || say "$settings is there already: set INGEST_PUBLIC_ADDRESS=$address in it yourself"
		return
	fi
	(
		umask 027
		cp "$here/server.env" "$settings.new"
		if [ -n "$address" ]; then printf '\nINGEST_PUBLIC_ADDRESS=%s\n' "$address" >>"$settings.new"; fi
	)
	chown root:$user "$settings.new"
	chmod 0640 "$settings.new"
	mv "$settings.new" "$settings"
}

put_unit() {
	cp "$here/$name.service" "$unit.new"
	mv "$unit.new" "$unit"
	ctl daemon-reload
}

# Of a database that is there already, by the version that made it. Prints the copy's path, or nothing when there
# is nothing to copy.
save_database() {
	install -d -m 0700 -o $user -g $user "$data/backups"
	by=$versions/$2/$name copy=$data/backups/before-$1-$(date -u +%Y%m%dT%H%M%SZ)
	if "$by" config show 2>/dev/null | grep -q "$postgresql"; then copy=$copy.dump; else copy=$copy.db; fi
	if said=$("$by" database backup "$copy" 2>&1); then
		say "$copy"
	else
		case $said in *"no database yet"*) ;; *) say "$said" >&2; return 1 ;; esac
	fi
}

postgresql='^DATABASE_URL  *postgres'

check_database() {
	if [ $saved = no ] && "$here/server/$name" config show 2>/dev/null | grep -q "$postgresql" && ! command -v pg_dump >/dev/null; then
		fail "an upgrade changes the database, and without PostgreSQL's client (pg_dump, psql) on this host it cannot be copied before: install it, or copy the database where it runs and run this again with --database-saved (then there is no way back to it by itself)"
	fi
}

# It runs, and says of itself that it serves. Its own start is no proof: what fails a moment later is no upgrade.
serves() {
	systemctl start $name || return 1
	if "$link" ready --help >/dev/null 2>&1; then "$link" ready --wait $patience || return 1; fi
	[ "$(systemctl show -P NRestarts $name)" = 0 ] && systemctl --quiet is-active $name
}

install_it() {
	check_host
	new=$(cat "$here/VERSION")
	old=$(installed_version)
	[ -z "$old" ] || check_database
	make_user
	make_folders
	put_settings
	"$here/server/$name" config check || fail "correct $settings, then run this again; nothing that runs was changed"
	was=no
	if running && systemctl --quiet is-active $name; then was=yes; systemctl stop $name; fi
	put_version "$new"
	copy=
	[ "$old" = "$new" ] || prepare_database
	point_to "$new"
	put_unit
	systemctl --quiet enable $name
	ctl reset-failed $name 2>/dev/null || true
	if [ $start = no ] || ! running; then
		say "installed version $new, not started: systemctl start $name"
	elif serves; then
		say "version $new serves"
	elif [ -n "$old" ] && [ "$old" != "$new" ]; then
		say "version $new does not serve (journalctl -u $name says why): going back to $old" >&2
		undo
		fail "version $new was not installed; $old serves as before"
	else
		fail "it does not start: journalctl -u $name says why; correct $settings, then: systemctl start $name"
	fi
	remove_old_versions "$new" "$old"
	[ -z "$copy" ] || say "the database from before: $copy"
	if [ -n "$old" ]; then
		[ "$old" = "$new" ] || say "back to version $old: $versions/install-server.sh --undo"
	else
		say "Settings: $settings. Next, for the first host: $name token create --label first-host"
	fi
}

# Copy it, note the way back, and bring it to the new schema: all before anything else changes.
prepare_database() {
	reason=leaving-$old
	[ -n "$old" ] || reason=installing-$new
	if [ $saved = no ]; then
		copy=$(save_database "$reason" "${old:-$new}") || stay "the database could not be copied, see above"
	fi
	[ -n "$old" ] || return 0
	printf '%s\n%s\n' "$old" "$copy" >"$way_back"
	if [ -e "$unit" ]; then cp "$unit" "$unit_before"; fi
	"$versions/$new/$name" database migrate || stay "the database could not be brought to the schema of $new, see above; it is as it was"
}

stay() {
	rm -f "$way_back" "$unit_before"
	[ $was = no ] || ctl start $name || true
	fail "$1; version ${old:-before} is still in use"
}

remove_old_versions() {
	for folder in "$versions"/*/; do
		folder=$(basename "$folder")
		[ "$folder" = "$1" ] || [ "$folder" = "${2:-$1}" ] || rm -rf "${versions:?}/$folder"
	done
}

# --- back -------------------------------------------------------------------------------------------------

# The copy is put back only when the old version refuses the database as it is: what arrived since is kept.
undo() {
	[ -s "$way_back" ] || fail "there is no upgrade to take back"
	old=$(sed -n 1p "$way_back")
	copy=$(sed -n 2p "$way_back")
	now=$(installed_version)
	[ -x "$versions/$old/$name" ] || fail "version $old is not on this host any more"
	ctl stop $name || true
	point_to "$old"
	if [ -e "$unit_before" ]; then cp "$unit_before" "$unit.new" && mv "$unit.new" "$unit"; fi
	ctl daemon-reload
	ctl reset-failed $name 2>/dev/null || true
	if serves; then
		say "version $old serves again, with the database as it is: nothing is lost"
	else
		[ -n "$copy" ] || fail "version $old does not serve with this database: restore the one you saved ($name database restore FILE), then: systemctl start $name"
		say "version $old cannot use the database as it is now: putting back the copy from before"
		ctl stop $name || true
		"$versions/$now/$name" database restore --yes "$copy" || "$versions/$old/$name" database restore --yes "$copy" ||
			fail "the copy could not be put back, see above; then: $name database restore $copy, systemctl start $name"
		ctl reset-failed $name 2>/dev/null || true
		serves || fail "version $old does not serve: journalctl -u $name says why"
		say "version $old serves again, with the database from before the upgrade"
	fi
	rm -f "$way_back" "$unit_before"
}

# --- off --------------------------------------------------------------------------------------------------

uninstall() {
	packaged && fail "this host has the package $name: remove it with the package manager"
	own=
	if [ -e "$versions/own-files" ]; then own=$(cat "$versions/own-files"); elif [ -e "$here/own-files" ]; then own=$(cat "$here/own-files"); fi
	if running; then systemctl --quiet disable --now $name 2>/dev/null || true; fi
	rm -f "$unit" "$users" "$link" /etc/systemd/system/multi-user.target.wants/$name.service
	ctl daemon-reload
	ctl reset-failed $name 2>/dev/null || true
	for folder in "$versions"/*/; do
		if [ -x "$folder$name" ]; then rm -rf "${folder:?}"; fi
	done
	rm -f "$versions/install-server.sh" "$versions/own-files" "$way_back" "$unit_before"
	[ $purge = no ] || purge_data "$own"
	for folder in "$versions" /usr/lib/ct-ops /etc/ct-ops /var/lib/ct-ops; do
		if [ -d "$folder" ]; then rmdir --ignore-fail-on-non-empty "$folder"; fi
	done
	if [ $purge = yes ]; then say "taken off, with its data"; else say "taken off; kept: $settings, $data, $shelf and the user $user (--uninstall --purge removes them)"; fi
}

purge_data() {
	rm -f "$settings"
	if [ -d "$data" ] && [ ! -L "$data" ]; then
		(
			cd "$data"
			for file in $1; do
				if [ -f "$file" ] || [ -L "$file" ] || [ -S "$file" ]; then rm -f -- "$file"; fi
			done
			for folder in audit backups replaced-* .backup-*; do
				if [ -d "$folder" ]; then rmdir --ignore-fail-on-non-empty "$folder"; fi
			done
		)
		rmdir --ignore-fail-on-non-empty "$data"
	fi
	if [ -d "$shelf" ] && [ ! -L "$shelf" ]; then
		rm -f -- "$shelf"/ct-ops-agent-*
		rmdir --ignore-fail-on-non-empty "$shelf"
	fi
	# Who still owns a folder stays, so that no later user inherits it.
	if [ ! -e "$data" ] && [ ! -e "$shelf" ] && getent passwd $user >/dev/null; then userdel $user || true; fi
}

case $action in
install) install_it ;;
undo) undo ;;
uninstall) uninstall ;;
esac
