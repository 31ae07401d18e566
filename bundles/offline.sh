#!/bin/sh
# Installs the CT-Ops agent from this folder; no network but the one to its server is needed.
#
#   ./install.sh [--checksum-only] [WORD …]     verify this folder, then install; words go to `ct-ops-agent install`
#   ./install.sh --verify [--checksum-only]     only verify it
#
# --release-key FILE     the release key as you know it: this folder is believed when that key signed it
# --checksum-only        without signature: finds what broke on its way, not what somebody changed
set -eu

main() {
	here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
	archive=@ARCHIVE@
	only_verify='' checksum_only='' known_key=''
	while [ $# -gt 0 ]; do
		case $1 in
		--verify) only_verify=yes ;;
		--checksum-only) checksum_only=yes ;;
		--release-key)
			[ $# -gt 1 ] || fail 2 "--release-key needs a file"
			known_key=$2
			shift
			;;
		--)
			shift
			break
			;;
		*) break ;;
		esac
		shift
	done
	umask 022
	verify
	[ -z "$only_verify" ] || exit 0
	check_root
	find_architecture
	[ "$architecture" = @ARCHITECTURE@ ] || fail 1 "this bundle is for linux/"@ARCHITECTURE@", and this host is linux/$architecture"
	check_tools
	check_libc @GLIBC_FLOOR@
	check_space /usr/lib @UNPACKED_KIB@
	leave_nothing_behind
	make_workplace
	check_space "$work" @UNPACKED_KIB@
	install_agent "$@"
}

@HOST_CHECKS@

check_tools() {
	for tool in tar mktemp df; do
		has "$tool" || fail 1 "$tool is needed and is not here: install it"
	done
	case $archive in
	*.xz) has xz || fail 1 "xz is needed to unpack $archive: install it, or build the bundle from a .tar.gz" ;;
	*) has gzip || fail 1 "gzip is needed to unpack $archive: install it" ;;
	esac
}

# The sums are over every file of this folder but themselves and their signature, which is over the sums.
verify() {
	has sha256sum || fail 1 "sha256sum is needed to verify this folder, and nothing is installed without: install coreutils"
	(cd -- "$here" && sha256sum -c SHA256SUMS) >/dev/null 2>&1 ||
		fail 65 "a file of this folder is not what it was when the bundle was built: \`cd $here && sha256sum -c SHA256SUMS\` names it"
	if [ -n "$checksum_only" ]; then
		say "the files are whole; who made them was not looked at"
		return 0
	fi
	for file in SHA256SUMS.sig release-key.pub; do
		[ -f "$here/$file" ] ||
			fail 65 "this bundle is not signed: build it where the release key is, or say --checksum-only to go without"
	done
	has openssl || fail 65 "openssl is needed to verify the signature: install it, or say --checksum-only to go without"
	key=${known_key:-$here/release-key.pub}
	openssl dgst -sha256 -verify "$key" -signature "$here/SHA256SUMS.sig" "$here/SHA256SUMS" >/dev/null 2>&1 ||
		fail 65 "this bundle is not signed by $key"
	say "the files are whole and signed by the release key $(openssl pkey -pubin -in "$key" -outform DER | sha256sum | {
		read -r digest _
		printf '%s' "$digest"
	})"
}

install_agent() {
	mkdir "$work/unpacked"
	unpack "$here/$archive" "$work/unpacked" || fail 65 "$archive could not be unpacked"
	agent=$work/unpacked/${archive%.tar.*}/ct-ops-agent
	[ -x "$agent" ] || fail 65 "$archive holds no agent"
	if [ -f "$here/enrolment-token" ]; then
		chmod 600 -- "$here/enrolment-token"
		set -- --token-file "$here/enrolment-token" "$@"
	fi
	[ ! -f "$here/server-ca.crt" ] || set -- --ca-cert-file "$here/server-ca.crt" "$@"
	# The token is in a file or in CT_OPS_ENROLMENT_TOKEN: no process shows it.
	"$agent" install --config "$here/agent.toml" "$@" </dev/null
}

main "$@"
