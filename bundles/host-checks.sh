say() { printf '%s\n' "ct-ops: $*" >&2; }
fail() {
	code=$1
	shift
	say "$*"
	exit "$code"
}
has() { command -v "$1" >/dev/null 2>&1; }

# Exit codes: 1 this host cannot run the agent, 2 the command line, 65 something is not what it was made as,
# 69 the server has no agent for this host or does not answer, 77 not root.
check_root() {
	[ "$(id -u)" = 0 ] || fail 77 "this installs a service, which takes root: become root (sudo -s), then run it again"
}

find_architecture() {
	system=$(uname -s)
	[ "$system" = Linux ] || fail 1 "this is for Linux, and this host runs $system"
	machine=$(uname -m)
	case $machine in
	x86_64 | amd64) architecture=amd64 ;;
	aarch64 | arm64) architecture=arm64 ;;
	*) fail 1 "there is no agent for the processor $machine, only for x86_64 and aarch64" ;;
	esac
}

# Say the version of the C library as 2.36; nothing when it cannot be told.
glibc_version() {
	found=$(getconf GNU_LIBC_VERSION 2>/dev/null) || found=
	case $found in
	glibc\ *) printf '%s\n' "${found#glibc }" ;;
	*) ldd --version 2>/dev/null | while read -r line; do
		printf '%s\n' "${line##* }"
		break
	done ;;
	esac
}

is_older() {
	[ "${1%%.*}" -lt "${2%%.*}" ] && return 0
	[ "${1%%.*}" -eq "${2%%.*}" ] || return 1
	minor=${1#*.} floor_minor=${2#*.}
	[ "${minor%%.*}" -lt "${floor_minor%%.*}" ]
}

# check_libc FLOOR: an empty floor needs nothing.
check_libc() {
	[ -n "$1" ] || return 0
	glibc=$(glibc_version)
	case $glibc in
	[0-9]*.[0-9]*)
		if is_older "$glibc" "$1"; then
			fail 1 "the agent needs glibc $1 or later and this host has $glibc: install the agent with Python and pip instead"
		fi
		;;
	*)
		case $(ldd --version 2>&1) in
		*musl*) fail 1 "this host has the C library musl, and the agent needs glibc $1 or later: install the agent with Python and pip instead" ;;
		esac
		say "the version of this host's C library cannot be told; the agent needs glibc $1 or later"
		;;
	esac
}

# check_space FOLDER KIB: the folder need not be there yet.
check_space() {
	place=$1
	while [ ! -d "$place" ]; do place=$(dirname -- "$place"); done
	free=$(df -Pk -- "$place" | {
		read -r _
		read -r _ _ _ free _
		printf '%s\n' "$free"
	})
	case $free in
	'' | *[!0-9]*) return 0 ;;
	esac
	[ "$free" -ge "$2" ] || fail 1 "$place has $((free / 1024)) MiB free, and $(($2 / 1024 + 1)) MiB are needed"
}

# Make the folder $work where programs may be run: /tmp is often mounted so that they may not.
make_workplace() {
	for place in "${TMPDIR:-}" /var/tmp /tmp /run /root; do
		[ -d "$place" ] || continue
		work=$(mktemp -d "$place/ct-ops-install.XXXXXX" 2>/dev/null) || continue
		printf '#!/bin/sh\nexit 0\n' >"$work/try" 2>/dev/null && chmod 700 "$work/try" && "$work/try" 2>/dev/null && return 0
		rm -rf -- "$work"
	done
	work=
	fail 1 "there is no folder where programs may be run for a moment: name one with TMPDIR=/FOLDER"
}

# What was made on the way is gone whatever happens.
work=
leave() { [ -z "$work" ] || rm -rf -- "$work"; }
leave_nothing_behind() {
	trap leave EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

sha256_of() { sha256sum -- "$1" | { read -r digest _ && printf '%s\n' "$digest"; }; }

unpack() {
	case $1 in
	*.tar.xz) xz -dc -- "$1" | tar -C "$2" -xf - ;;
	*) gzip -dc -- "$1" | tar -C "$2" -xf - ;;
	esac
}
