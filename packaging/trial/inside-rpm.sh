# shellcheck shell=sh disable=SC2154 # a part of inside.sh: the agent's rpm, by rpm on this Debian
# Its scripts run under a real systemd; what a distribution of the rpm family adds (dnf, SELinux) is not tried.

by_rpm() { rpm --force-debian --nodeps "$@"; }

by_rpm -i /trial/one/ct-ops-agent-*.rpm
[ "$(stat -c %U:%G:%a /etc/ct-ops/agent.toml)" = root:ct-ops:640 ]
[ "$(stat -c %U:%a /var/lib/ct-ops/agent)" = ct-ops:700 ]
systemctl is-enabled ct-ops-agent
never systemctl is-active ct-ops-agent
never systemctl start ct-ops-agent
unit_is ct-ops-agent ExecMainStatus 78
rpm -V --nodeps ct-ops-agent
# A token is enough to run: nobody has to answer.
install -D -m 0600 /dev/null /etc/credstore/enrolment_token
echo 'tok_rljgblqqkctxjll4e4ughhwwhhndcqq4.AQ1I7FD8dsOCe_MljEw6C4Nx4bzmZHwRlCipj5ruJCclMTI3LjAuMC4xOjk0NDNsi2Wp' >/etc/credstore/enrolment_token
systemctl start ct-ops-agent
before=$(systemctl show -P MainPID ct-ops-agent)
echo '# changed by the operator' >>/etc/ct-ops/agent.toml
version=$(version_of /usr/bin/ct-ops-agent)
by_rpm -U /trial/two/ct-ops-agent-*.rpm
[ "$(version_of /usr/bin/ct-ops-agent)" = "$version.1" ]
[ ! -e "/usr/lib/ct-ops/agent/$version" ]
grep -q 'changed by the operator' /etc/ct-ops/agent.toml
until_true systemctl is-active ct-ops-agent
[ "$(systemctl show -P MainPID ct-ops-agent)" != "$before" ]
by_rpm -e ct-ops-agent
never systemctl is-active ct-ops-agent
never systemctl is-enabled ct-ops-agent
[ -n "$(ls /var/lib/ct-ops/agent)" ]
grep -q 'changed by the operator' /etc/ct-ops/agent.toml.rpmsave
[ "$(ls /usr/lib/ct-ops 2>/dev/null)" = "" ]
said "the agent's rpm, by rpm on Debian: installed, upgraded while it ran, removed; what the agent made is kept"
rm -r /etc/credstore/enrolment_token /var/lib/ct-ops/agent /etc/ct-ops/agent.toml.rpmsave
userdel ct-ops
