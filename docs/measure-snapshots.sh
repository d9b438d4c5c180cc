#!/usr/bin/env bash
# What snapshots cost a program, beside gcore, in one run on one machine: the
# numbers of docs/performance.md.
#
#   docs/measure-snapshots.sh [heap] [redis] [defaults] [ends]
#
# It needs go, gcc, gdb (gcore), python3, redis-server, redis-benchmark, javac, node
# and git; about four minutes, and a quiet machine.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
CGO_ENABLED=0 go build -o "$dir/memtrace" ./cmd/memtrace
mt=$dir/memtrace log=$dir/log

# snapshots LOG: how many, their pages, and how long the program was held
snapshots() {
	"$mt" replay --json "$1" | python3 -c '
import json, sys
n, pages, pause = 0, 0, []
left = 0
for line in sys.stdin:
    e = json.loads(line)
    if e["type"] == "lost" and "left out" in e["what"]:
        left += int(e["what"].split("left out: ")[1].split(",")[0])
    if e["type"] != "snapshot" or e["reason"] != "interval":
        continue
    n += 1
    if n > 1:  # the first has everything
        pages += e["pages"]
        pause.append(e["pause"] / 1e6)
pause.sort()
if pause:
    print(f"  {n} snapshots, {left} left out; after the first {pages/len(pause):.0f} pages each; held "
          f"{pause[len(pause)//2]:.2f} ms (median), {pause[-1]:.2f} ms (longest), {1000*sum(pause)/max(1, pages):.2f} ms for 1,000 pages")
'
	echo "  log: $(stat -c %s "$1" | awk '{printf "%.1f MiB", $1/1048576}')"
}

heap() {
	cat >"$dir/heap.c" <<'C'
/* Fills a heap of 1 GiB and rewrites random pages of it at about 10 MB/s, computing in between. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
int main(int argc, char **argv)
{
	size_t pages = (1UL << 30) / 4096;
	long n = argc > 1 ? atol(argv[1]) : 1;
	uint64_t s = 1, *p = aligned_alloc(4096, pages * 4096);
	for (size_t i = 0; i < pages * 512; i++)
		p[i] = i % 64 < 8 ? s = s * 6364136223846793005UL + 1442695040888963407UL : i >> 6;
	double begun = now(), last = begun, gap = 0;
	for (long i = 0; i < n; i++) {
		for (int k = 0; k < 290000; k++)
			s = s * 6364136223846793005UL + 1442695040888963407UL;
		uint64_t *q = p + (s >> 33) % pages * 512;
		for (int k = 0; k < 512; k++)
			q[k] += s >> 40;
		double t = now();
		gap = t - last > gap ? t - last : gap;
		last = t;
	}
	printf("%.3f s, %.1f MB/s, longest gap %.1f ms\n", last - begun, n * 4096 / 1e6 / (last - begun), gap * 1e3);
}
C
	gcc -O1 -o "$dir/heap" "$dir/heap.c"
	local n=25600
	echo "a heap of 1 GiB, $n pages rewritten at 10 MB/s"
	for round in 1 2 3; do
		echo "round $round"
		echo "  alone:                             $("$dir/heap" $n)"
		echo "  memtrace, --snapshot interval=100ms: $("$mt" record -q -o "$log" --snapshot interval=100ms -- "$dir/heap" $n)"
		snapshots "$log"
		rm -f "$log" "$log.old"
		[ "$round" = 1 ] || continue # it takes a minute
		"$dir/heap" $n >"$dir/out" &
		local pid=$! cores=0
		sleep 1
		while kill -0 $pid 2>/dev/null; do
			local next=$((SECONDS + 1))
			gcore -o "$dir/core" $pid >/dev/null 2>&1 && cores=$((cores + 1))
			[ -f "$dir/core.$pid" ] && size=$(stat -c %s "$dir/core.$pid")
			rm -f "$dir/core.$pid"
			while [ $SECONDS -lt $next ] && kill -0 $pid 2>/dev/null; do sleep 0.05; done
		done
		wait $pid
		echo "  gcore each second:                 $(cat "$dir/out"); $cores cores of $((size / 1048576)) MiB"
	done
}

redis() {
	local port=7391
	cli() { redis-cli -p $port "$@"; }
	serve() { # COMMAND...: starts it, with a million keys
		"$@" redis-server --port $port --save '' --appendonly no --dir "$dir" --enable-debug-command local >"$dir/server.out" 2>&1 &
		until cli ping >/dev/null 2>&1; do sleep 0.1; done
		cli debug populate 1000000 >/dev/null
	}
	load() { redis-benchmark -p $port -t set,get -n 300000 -r 1000000 --csv | awk -F'"' '/SET|GET/{printf "%s %s/s  ", $2, $4}'; }
	echo "redis-server with a million keys, redis-benchmark -t set,get -r 1000000"
	for round in 1 2 3; do
		echo "round $round"
		serve env
		echo "  alone:    $(load)"
		cli save >/dev/null
		echo "  an RDB dump: $(stat -c %s "$dir/dump.rdb" | awk '{printf "%.1f MiB", $1/1048576}')"
		rm "$dir/dump.rdb" # or the next server would load it
		cli shutdown nosave || true
		wait
		serve "$mt" record -q -o "$log" -e memory --snapshot interval=1s --
		local before begun=$EPOCHREALTIME
		sleep 2 # the first snapshot
		before=$(stat -c %s "$log")
		begun=$EPOCHREALTIME
		echo "  recorded: $(load)"
		sleep 1
		awk -v s="$(stat -c %s "$log")" -v b="$before" -v x="$begun" -v y="$EPOCHREALTIME" \
			'BEGIN{printf "  the log grew by %.1f MiB in %.1f s: %.1f MiB for 10 s\n", (s-b)/1048576, y-x, (s-b)/1048576/(y-x)*10}'
		cli shutdown nosave || true
		wait
		snapshots "$log"
		rm -f "$log" "$log.old"
	done
}

# What --snapshot default and exit add to recording without snapshots.
defaults() {
	cat >"$dir/H.java" <<'J'
import java.util.*;
public class H {
	public static void main(String[] a) {
		Map<Integer, String> m = new HashMap<>();
		long s = 0;
		for (int i = 0; i < 2_000_000; i++) {
			m.put(i, "v" + i);
			s += m.get(i / 2).length();
		}
		System.out.println(s);
	}
}
J
	for i in $(seq 300); do echo "int f$i(int *a, int n) { int s = 0; for (int i = 0; i < n; i++) s += a[i] * $i ^ (s >> 3); return s; }"; done >"$dir/big.c"
	javac -d "$dir" "$dir/H.java"
	of() { # NAME COMMAND...
		local name=$1 policy round begun
		shift
		for round in 1 2 3 4 5 6 7 8 9; do
			for policy in none default exit; do
				begun=$EPOCHREALTIME
				"$mt" record -q -o "$log" --snapshot $policy -- "$@" >/dev/null 2>&1
				awk -v a="$begun" -v b="$EPOCHREALTIME" -v p=$policy 'BEGIN{print p, b - a}' >>"$dir/times"
				rm -f "$log"
			done
		done
		sort -k1,1 -k2,2n "$dir/times" | awk -v n="$name" '{t[$1, ++k[$1]] = $2}
			END{a = t["none", 5]; printf "%-8s none %.3f s, default %.3f (%.2f), exit %.3f (%.2f)\n", n, a, t["default", 5], t["default", 5]/a, t["exit", 5], t["exit", 5]/a}'
		rm "$dir/times"
	}
	of java java -cp "$dir" H
	of python3 "$(python3 -c 'import sys; print(sys.executable)')" -c 'd = {i: str(i)*3 for i in range(1200000)}; print(len(d))'
	of node node -e 'a = []; for (i = 0; i < 3e6; i++) a.push({x: i}); console.log(a.length)'
	of gcc gcc -O2 -c -o "$dir/big.o" "$dir/big.c"
	of git git log --stat --oneline -n 200
}

# ends: from the last words of a program, of half a second and 8 MB, to the end of memtrace
ends() {
	local policy round
	for round in $(seq 15); do
		for policy in none default exit; do
			"$mt" record -q -o "$log" --snapshot $policy -- "$(python3 -c 'import sys; print(sys.executable)')" -c '
import os, time
d = {i: str(i)*3 for i in range(60000)}
del d
time.sleep(0.4)
os.write(1, b"%f" % time.time())
os._exit(0)' >"$dir/last"
			awk -v a="$(cat "$dir/last")" -v b="$EPOCHREALTIME" -v p=$policy 'BEGIN{print p, (b - a) * 1000}' >>"$dir/times"
			rm -f "$log"
		done
	done
	sort -k1,1 -k2,2n "$dir/times" | awk '{t[$1, ++k[$1]] = $2} END{printf "end of a program: none %.0f ms, default %.0f, exit %.0f\n", t["none", 8], t["default", 8], t["exit", 8]}'
	rm "$dir/times"
}

for what in "${@:-heap redis defaults ends}"; do
	for w in $what; do $w; done
done
