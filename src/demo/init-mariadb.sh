#!/bin/sh
# init-mariadb.sh SERVER SHARE DATA [OPTION...]
#
# Makes a MariaDB data folder, DATA, from the SQL scripts in the folder SHARE: system tables, and
# root without a password. mariadb-install-db would do more than that: run by root, it changes the
# owner of a folder of the machine's own server, and it looks for that server's libraries.
set -e
server=$1 share=$2 data=$3
shift 3
mkdir "$data"
{
  printf '%s\n' 'CREATE DATABASE mysql;' 'USE mysql;' 'SET @auth_root_socket = NULL;'
  for part in system_tables performance_tables system_tables_data; do
    cat "$share"/m*_"$part".sql
  done
} | sed '/@current_hostname/d' |
  "$server" --no-defaults --datadir="$data" --bootstrap --innodb-log-file-size=16M "$@"
[ -d "$data/mysql" ]
