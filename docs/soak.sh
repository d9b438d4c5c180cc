#!/bin/bash
# soak.sh [SECONDS [REQUESTS [MEMTRACE [RING]]]]: a redis server under `record` and one under `record --ring`, REQUESTS a
# second each. Every SECONDS/30 it writes a line for each: seconds, resident memory of the recorder, its
# descriptors, its threads, bytes of the log or of the ring. Ends with what was kept when the servers end.
set -eu
seconds=${1:-36000} requests=${2:-200} memtrace=${3:-memtrace} size=${4:-8M}
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$dir"' EXIT

run() { # NAME PORT FLAG...
	local name=$1 port=$2
	shift 2
	mkdir "$dir/$name"
	"$memtrace" record -q "$@" -o "$dir/$name/log" -C "$dir/$name" -- \
		redis-server --port "$port" --save '' --appendonly no --maxmemory 64mb --maxmemory-policy allkeys-lru >/dev/null 2>"$dir/$name/said" &
	eval "$name=$!"
}

row() { # NAME PID
	local kb fds threads bytes
	kb=$(awk '/^VmRSS/ {print $2}' "/proc/$2/status")
	fds=$(ls "/proc/$2/fd" | wc -l)
	threads=$(awk '/^Threads/ {print $2}' "/proc/$2/status")
	bytes=$(du -scb "$dir/$1"/log* "$dir/$1"/memtrace-ring* 2>/dev/null | awk 'END {print $1}')
	printf '%6d  %-8s %8d KiB %5d fds %4d threads %12d bytes\n' $((SECONDS)) "$1" "$kb" "$fds" "$threads" "$bytes"
}

run plain 7301
run ring 7302 --ring "$size" --keep-on signal,exit --ring-dir "$dir/ring"
load() {
	while sleep 1; do
		redis-benchmark -p "$1" -n "$requests" -c 4 -r 100000 -d 64 -t set,get -q >/dev/null 2>&1 || return 0
	done
}
sleep 2
load 7301 &
load 7302 &
SECONDS=0
while [ $SECONDS -lt "$seconds" ]; do
	sleep $((seconds / 30 + 1))
	row plain "$plain"
	row ring "$ring"
done
redis-cli -p 7301 shutdown nosave || true
redis-cli -p 7302 shutdown nosave || true
wait "$plain" "$ring" || true
for log in "$dir"/*/log*; do
	"$memtrace" verify "$log"
done
