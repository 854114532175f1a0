#!/bin/sh
# Sees to the real programs that tests speak with. As root it installs what is missing with apt, without letting a
# package start a service; else it names the apt line that would enable the suites which will be skipped.
# With --venv it sees to Python's own venv module instead, with --benchmarks to what `make bench` compares with, too.
set -eu

missing=""
want() { # COMMAND PACKAGE
    PATH="$PATH:/usr/sbin:/sbin:/usr/lib/postfix/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
if [ "${1:-}" = "--venv" ]; then
    missing=" python3-venv"
else
    want smtp-sink postfix
    want swaks swaks
    want dovecot dovecot-lmtpd
    want openssl openssl
    want ip iproute2
    want strace strace
    want slapd slapd
    want nsd nsd
    want rbldnsd rbldnsd
    want clamd clamav-daemon
    want clamscan clamav
    want spamd spamd
    want spamc spamc
    want rspamd rspamd
    if [ "${1:-}" = "--benchmarks" ]; then
        want cc gcc
    fi
    perl -MNet::SSLeay -e 1 2>/dev/null || missing="$missing libnet-ssleay-perl"
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing programs. To enable what needs them:  sudo apt-get install$missing" >&2
    [ "${1:-}" != "--venv" ] || exit 2
    exit 0
fi
echo "Installing:$missing"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
