#!/bin/sh
# Lets every name server that runs read the GeoIP database anew.
set -eu
for folder in /run/pdns-*; do
    server=${folder#/run/pdns-}
    if [ -S "$folder/pdns-$server.controlsocket" ]; then
        pdns_control --config-name="$server" --socket-dir="$folder" reload
    fi
done
