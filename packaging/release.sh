#!/bin/sh
# Build a program that is released: in a root of Debian 11, so that it starts on any glibc from 2.31 on.
#
# The build host's C library decides how old a host may be, so the build happens in the oldest root that is
# still easy to get. Its Python, OpenSSL and SQLite would be too old: they are built there from the sources of
# Debian 12, which has security updates. Wheels come as they are locked.
#
#   packaging/release.sh agent|server [OUTPUT]     as root, on a Debian with debootstrap; OUTPUT: default dist/
#
# RELEASE_ROOT: where the root is made and kept for the next build (default /var/tmp/ct-ops-release).
# MIRROR: a mirror of Debian (default: the one that this host's own packages come from).
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
tree=$(dirname "$here")
program=${1:-}
output=${2:-$tree/dist}
root=${RELEASE_ROOT:-/var/tmp/ct-ops-release}
prefix=/opt/ct-ops-python
python=$tree/.venv/bin/python

say() { printf '%s\n' "release: $*" >&2; }
fail() { say "$*"; exit 1; }

case $program in agent | server) ;; *) fail "say which program: agent or server" ;; esac
[ "$(id -u)" = 0 ] || fail "making a root takes root: run it with sudo"
command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"
[ -x "$python" ] || fail "the development environment is missing: make setup"
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)}
[ -n "$mirror" ] || fail "set MIRROR to a mirror of Debian"

make_root() {
	[ -e "$root/.made" ] && return
	say "making a root of Debian 11 in $root"
	rm -rf "$root"
	debootstrap --variant=buildd \
		--include=zlib1g-dev,libffi-dev,libsqlite3-dev,liblzma-dev,libbz2-dev,libexpat1-dev,uuid-dev,tcl,file,xz-utils,ca-certificates \
		bullseye "$root" "$mirror" >&2
	: >"$root/.made"
}

# Debian's own sources, fetched and verified by this host's apt; unpacked without its packaging.
fetch_source() {
	[ -d "$root/src/$1" ] && return
	say "fetching the source of $1"
	rm -rf "$root/fetch" && mkdir -p "$root/fetch/state/lists/partial" "$root/fetch/cache/archives/partial" "$root/src"
	printf 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s bookworm main\n' "$mirror" >"$root/fetch/sources.list"
	(
		cd "$root/fetch"
		set -- "$1" -o Dir::Etc::SourceList="$root/fetch/sources.list" -o Dir::Etc::SourceParts=/dev/null \
			-o Dir::State::Lists="$root/fetch/state/lists" -o Dir::Cache="$root/fetch/cache" -o APT::Sandbox::User=root
		name=$1; shift
		apt-get "$@" update >&2
		apt-get "$@" --download-only source "$name" >&2
	)
	for archive in "$root/fetch/$1"_*.orig.tar.*; do
		case $archive in *.asc) continue ;; esac
		mkdir -p "$root/src/$1" && tar -xf "$archive" -C "$root/src/$1" --strip-components=1
	done
	for patches in "$root/fetch/$1"_*.debian.tar.*; do
		tar -xf "$patches" -C "$root/src/$1"
	done
	rm -rf "$root/fetch"
	# Debian's security fixes are patches on top of the upstream archive.
	(
		cd "$root/src/$1"
		grep -v -e '^#' -e '^[[:space:]]*$' debian/patches/series | while read -r patch _; do
			patch -p1 -s --no-backup-if-mismatch <"debian/patches/$patch"
		done
	) || fail "a patch of $1 does not apply"
}

inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 "$@"; }

build_python() {
	[ -e "$root/.python-made" ] && return
	fetch_source openssl
	say "building OpenSSL"
	[ -e "$root$prefix/lib/libssl.so" ] || inside sh -euc "cd /src/openssl && ./Configure --prefix=$prefix --libdir=lib --openssldir=/etc/ssl shared no-tests >/dev/null &&
		make -s -j\$(nproc) build_sw >/dev/null 2>&1 && make -s install_sw >/dev/null"
	fetch_source python3.11
	say "building Python"
	# Debian compiles this one into the interpreter; as a module it has to say that it looks inside.
	grep -q Py_BUILD_CORE_MODULE "$root/src/python3.11/Modules/pyexpat.c" ||
		sed -i '1i #define Py_BUILD_CORE_MODULE 1' "$root/src/python3.11/Modules/pyexpat.c"
	inside sh -euc "cd /src/python3.11 && find . -name '*.py' -exec touch {} + &&
		./configure --quiet --prefix=$prefix --enable-shared --with-openssl=$prefix --with-system-expat --without-ensurepip \
			LDFLAGS=-Wl,-rpath,$prefix/lib >/dev/null && make -s -j\$(nproc) >/dev/null 2>&1 &&
		rm -rf $prefix/lib/python3.11 && make -s install >/dev/null 2>&1"
	inside "$prefix/bin/python3.11" -c 'import bz2, ctypes, lzma, pyexpat, sqlite3, ssl, uuid, zlib; print(ssl.OPENSSL_VERSION)' >&2
	: >"$root/.python-made"
}

# Python finds it by its search path, in the place of the root's own, which has no STRICT tables.
build_sqlite() {
	[ -e "$root/.sqlite-made" ] && return
	fetch_source sqlite3
	say "building SQLite"
	inside sh -euc "cd /src/sqlite3 && ./configure --quiet --prefix=$prefix --disable-static --disable-tcl >/dev/null &&
		make -s -j\$(nproc) libsqlite3.la >/dev/null && make -s lib_install >/dev/null"
	inside "$prefix/bin/python3.11" -c 'import sqlite3; print("SQLite", sqlite3.sqlite_version); assert sqlite3.sqlite_version_info >= (3, 37)' >&2
	: >"$root/.sqlite-made"
}

# Everything that is installed in there, so that nothing in there reaches for a network.
fetch_wheels() {
	say "fetching the locked wheels"
	rm -rf "$root/wheels" && mkdir -p "$root/wheels"
	for lock in requirements/$program.lock packaging/freeze.lock packaging/sbom.lock; do
		"$python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
			--python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
			--platform manylinux_2_31_x86_64 --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
			--platform manylinux2014_x86_64 --platform linux_x86_64 --platform any \
			-d "$root/wheels" -r "$tree/$lock"
	done
	"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w "$root/wheels" "$tree"
}

freeze() {
	say "freezing"
	rm -rf "$root/tree" "$root/out" && mkdir -p "$root/tree/requirements" "$root/out"
	cp -r "$tree/packaging" "$tree/pyproject.toml" "$tree/README.md" "$root/tree/"
	cp "$tree"/requirements/*.lock "$root/tree/requirements/"
	epoch=${SOURCE_DATE_EPOCH:-$(git -C "$tree" log -1 --format=%ct)}
	pip=$("$python" -c 'import pip; print(pip.__path__[0])')
	mkdir -p "$root/pip" && rm -rf "$root/pip/pip" && cp -r "$pip" "$root/pip/pip"
	mount --bind /dev "$root/dev"
	trap 'umount "$root/dev"' EXIT INT TERM
	inside SOURCE_DATE_EPOCH="$epoch" PYTHONPATH=/pip PYTHONDONTWRITEBYTECODE=1 \
		"$prefix/bin/python3.11" /tree/packaging/freeze.py $program --wheels /wheels --output /out
	umount "$root/dev"
	trap - EXIT INT TERM
	mkdir -p "$output" && cp "$root"/out/* "$output/"
}

make_root
build_python
build_sqlite
fetch_wheels
freeze
