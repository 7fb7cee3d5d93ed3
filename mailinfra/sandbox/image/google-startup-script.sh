#!/bin/sh
# What GCE's guest agent does on every boot: fetch the startup script from the metadata service and run it.
set -eu
url=http://metadata.google.internal/computeMetadata/v1/instance/attributes/startup-script
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
code=$(curl --silent --show-error --retry 20 --retry-delay 1 --retry-connrefused --max-time 60 \
    --header 'Metadata-Flavor: Google' --output "$folder/startup-script" --write-out '%{http_code}' "$url")
case $code in
200) ;;
404) echo 'no startup script in the metadata' && exit 0 ;;
*) echo "the metadata service answered $code" >&2 && exit 1 ;;
esac
chmod 0700 "$folder/startup-script"
status=0
"$folder/startup-script" || status=$?
echo "startup-script exit status $status"
exit "$status"
