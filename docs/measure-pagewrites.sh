#!/usr/bin/env bash
# What a recorded page write costs a program (--page-trace=write), in one run on one
# machine: the numbers of docs/performance.md. A program writes at random to 64 MiB, alone,
# recorded, and recorded with its page writes, in turn, ROUNDS times. It measures itself: by
# the clock and in CPU time. The least of each counts.
#
#   docs/measure-pagewrites.sh [ROUNDS]        needs go, gcc; takes about a minute
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
CGO_ENABLED=0 go build -o "$dir/memtrace" ./cmd/memtrace
cat >"$dir/writes.c" <<'C'
#include <stdio.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
static double at(clockid_t c) { struct timespec t; clock_gettime(c, &t); return t.tv_sec + t.tv_nsec / 1e9; }
int main(void)
{
	const uint64_t pages = 16384;
	volatile char *p = mmap(0, pages << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t x = 88172645463325252ull;
	for (uint64_t i = 0; i < pages; i++)
		p[i << 12] = 1;
	struct timespec nap = {0, 300000000};
	nanosleep(&nap, 0);
	double wall = at(CLOCK_MONOTONIC), cpu = at(CLOCK_PROCESS_CPUTIME_ID);
	for (long i = 0; i < 3000000; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		p[(x >> 8) % pages << 12]++;
	}
	printf("%.6f %.6f\n", at(CLOCK_MONOTONIC) - wall, at(CLOCK_PROCESS_CPUTIME_ID) - cpu);
}
C
gcc -O1 -o "$dir/writes" "$dir/writes.c"
declare -A wall cpu refs
least() { awk -v a="${1:-1e9}" -v b="$2" 'BEGIN{print a<b?a:b}'; }
run() { # NAME COMMAND...
	local name=$1
	shift
	read -r w c <<<"$("$@" 2>/dev/null)"
	if awk -v a="${wall[$name]:-1e9}" -v b="$w" 'BEGIN{exit !(b<a)}'; then
		wall[$name]=$w
		[ "$name" = alone ] || refs[$name]=$("$dir/memtrace" info "$dir/log" | sed -n 's/^page references  *//p')
	fi
	cpu[$name]=$(least "${cpu[$name]:-}" "$c")
}
for _ in $(seq "$rounds"); do
	run alone "$dir/writes"
	run recorded "$dir/memtrace" record -q --snapshot none -o "$dir/log" "$dir/writes"
	for pool in 512 4096 auto; do
		run "$pool" "$dir/memtrace" record -q --snapshot none --page-trace=$pool,engine=wp -o "$dir/log" "$dir/writes"
	done
done
echo "| 3 million writes to 64 MiB at random | by the clock | CPU time | recorded | by the clock, each | CPU time, each |"
echo "|---|---|---|---|---|---|"
for name in alone recorded 512 4096 auto; do
	awk -v n="$name" -v w="${wall[$name]}" -v c="${cpu[$name]}" -v w0="${wall[alone]}" -v c0="${cpu[alone]}" -v r="${refs[$name]:-0}" 'BEGIN {
		printf "| %s | %.3f s | %.3f s |", n, w, c
		if (r > 0) printf " %d | %.2f us | %.2f us |\n", r, (w - w0) / r * 1e6, (c - c0) / r * 1e6; else print " | | |"
	}'
done
