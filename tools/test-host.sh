#!/usr/bin/env bash
# Installs what the tests use of the host: the sandbox's needs, a software HSM, restic, OpenDKIM as an independent judge.
set -euo pipefail
packages=(mmdebstrap systemd-container iproute2 softhsm2 opensc opendkim opendkim-tools openssl restic tinycdb)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -Wf '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q ^ii || missing+=("$package")
done
[ "${#missing[@]}" = 0 ] && exit
if [ "$(id -u)" != 0 ]; then
    echo "mailinfra: the tests need ${missing[*]}; on Debian as root: apt-get install ${missing[*]}" >&2
    exit 1
fi
echo "installing ${missing[*]} (apt) …"
export DEBIAN_FRONTEND=noninteractive
# Not started: nothing of the host's own is touched.
trap 'rm -f /usr/sbin/policy-rc.d' EXIT
[ -e /usr/sbin/policy-rc.d ] && trap - EXIT || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
