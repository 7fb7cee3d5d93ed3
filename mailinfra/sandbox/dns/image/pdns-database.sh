#!/bin/sh
# Makes the database of the name server $1, whole or not at all.
set -eu
database=/var/lib/powerdns/$1.sqlite3
if [ ! -s "$database" ]; then
    rm -f "$database.new"
    sqlite3 "$database.new" < /usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql
    chown pdns:pdns "$database.new"
    mv "$database.new" "$database"
fi
