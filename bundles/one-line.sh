#!/bin/sh
# Installs the CT-Ops agent on this host, from the server that made this script. It takes the enrolment token
# from CT_OPS_ENROLMENT_TOKEN, checks the host first, and believes nothing but what this very script names.
set -eu

main() {
	base=@BASE_URL@
	pin=@PIN@
	address=@ADDRESS@
	skip_verify=@SKIP_VERIFY@
	umask 022
	check_root
	check_token
	find_architecture
	check_tools
	choose_artefact
	check_libc "$floor"
	check_space /usr/lib "$((length * 5 / 1024))"
	leave_nothing_behind
	make_workplace
	check_space "$work" "$((length * 6 / 1024))"
	download
	verify
	install_agent
}

@HOST_CHECKS@

check_token() {
	[ -n "${CT_OPS_ENROLMENT_TOKEN:-}" ] || [ -d /var/lib/ct-ops/agent ] ||
		fail 2 "CT_OPS_ENROLMENT_TOKEN is not set: paste the whole line that \`ct-ops-server token create\` printed"
	[ -z "${CT_OPS_ENROLMENT_TOKEN:-}" ] || export CT_OPS_ENROLMENT_TOKEN
}

check_tools() {
	has curl || has wget || fail 1 "curl or wget is needed to download the agent: install one of them"
	for tool in tar gzip sha256sum mktemp df; do
		has "$tool" || fail 1 "$tool is needed and is not here: install it"
	done
}

# The artefacts on the server's shelf when this script was made: what it is, and how it is known again.
artefact() {
	case $1 in
@ARTEFACTS@
	*) return 1 ;;
	esac
}

choose_artefact() {
	if has xz && artefact "$architecture.tar.xz"; then
		format=tar.xz
	elif artefact "$architecture.tar.gz"; then
		format=tar.gz
	elif artefact "$architecture.tar.xz"; then
		fail 1 "the server has the agent as .tar.xz only, and xz is not here: install xz"
	else
		fail 69 "the server has no agent for linux/$architecture on its shelf: put one there with \`ct-ops-server release add FILE\`, then run this again"
	fi
}

download() {
	url="$base/api/agent/download?os=linux&arch=$architecture&format=$format"
	archive=$work/agent.$format
	say "downloading $file"
	if has curl; then
		set -- -fsSL --proto =https --proto-redir =https --connect-timeout 30
		if [ -n "$pin" ]; then
			set -- "$@" -k --pinnedpubkey "$pin"
		elif [ -n "$skip_verify" ]; then
			set -- "$@" -k
		fi
		curl "$@" -o "$archive" -- "$url" </dev/null ||
			fail 69 "the agent could not be downloaded from $base (curl ended with $?)"
	else
		# Its content is checked below, so who sent it does not matter.
		set -- -q
		[ -z "$pin$skip_verify" ] || set -- -q --no-check-certificate
		wget "$@" -O "$archive" "$url" </dev/null ||
			fail 69 "the agent could not be downloaded from $base (wget ended with $?)"
	fi
}

verify() {
	[ "$(sha256_of "$archive")" = "$sha256" ] ||
		fail 65 "what came is not $file as the server described it, and nothing was installed: run the whole line again; if that does not help, look at the shelf with \`ct-ops-server release list\`"
	release_key=@RELEASE_KEY@
	[ -n "$release_key" ] && [ -n "$signature" ] || return 0
	has openssl || return 0
	printf '%s\n' "$release_key" >"$work/release-key.pub"
	printf '%s\n' "$manifest" >"$work/manifest"
	printf '%s' "$signature" | openssl base64 -d -A >"$work/manifest.sig"
	openssl dgst -sha256 -verify "$work/release-key.pub" -signature "$work/manifest.sig" "$work/manifest" >/dev/null 2>&1 ||
		fail 65 "the manifest of $file is not signed by the release key, and nothing was installed"
	case $manifest in
	*"\"sha256\":\"$sha256\""*) ;;
	*) fail 65 "the signed manifest is of another file than $file, and nothing was installed" ;;
	esac
}

install_agent() {
	mkdir "$work/unpacked"
	unpack "$archive" "$work/unpacked" || fail 65 "$file could not be unpacked"
	rm -f -- "$archive"
	agent=$work/unpacked/${file%.tar.*}/ct-ops-agent
	[ -x "$agent" ] || fail 65 "$file holds no agent"
	say "installing version $version"
	set -- install --address "$address"
	[ -z "$skip_verify" ] || set -- "$@" --tls-skip-verify
	# Standard input is this script. The token is in the environment: no process shows it.
	"$agent" "$@" </dev/null
}

main
