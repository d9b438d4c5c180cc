#!/usr/bin/env bash
# What page references cost (--page-trace, engine prot), in one run on one machine: the
# numbers of docs/performance.md. Programs run alone, recorded, and recorded with their
# page references, in turn, ROUNDS times; the least time of each counts, by the clock and of
# all CPUs. Then a walk over 4,000 pages at random tells what a recorded reference costs, and
# a bare stop of ptrace(2) what the machine takes for the smallest part of it.
#
#   docs/measure-pagerefs.sh [ROUNDS]        needs go, gcc, python3; takes some minutes
#
# With redis-server and redis-benchmark it also has requests a second with a pool of 1,024
# pages.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3}
dir=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$dir"' EXIT
CGO_ENABLED=0 go build -o "$dir/memtrace" ./cmd/memtrace
gcc -O1 -pthread -Itestdata/progs -o "$dir/walk" testdata/progs/walk.c
{
	echo '#include <stdio.h>'
	for i in $(seq 2000); do
		echo "int f$i(int *a, int n) { int s = $i; for (int i = 0; i < n; i++) s = s * 31 + (a[i] ^ s >> $((i % 7 + 1))); if (s & 1) printf(\"%d\\n\", s); return s; }"
	done
} >"$dir/real.c"
shuf -i 1-7000000 >"$dir/lines"
truncate -s 50M "$dir/lines"
cat >"$dir/work.py" <<'PY'
import collections, json
d = collections.defaultdict(list)
for i in range(300000):
    d[i * 7919 % 1000].append(str(i))
print(len(json.dumps(d)))
PY

cat >"$dir/stop.c" <<'C'
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e6 + t.tv_nsec / 1e3; }
int main(void)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof one, &one);
	pid_t p = fork();
	if (!p) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		for (;;)
			syscall(SYS_getppid);
	}
	double best = 1e9;
	waitpid(p, 0, 0);
	for (int i = 0; i < 50; i++) {
		double begin = now();
		for (int k = 0; k < 1000; k++) {
			ptrace(PTRACE_SYSCALL, p, 0, 0);
			waitpid(p, 0, 0);
		}
		double took = (now() - begin) / 1000;
		best = took < best ? took : best;
	}
	printf("%.1f\n", best);
	kill(p, SIGKILL);
}
C
gcc -O1 -o "$dir/stop" "$dir/stop.c"
python=$(python3 -c 'import sys; print(sys.executable)') # not a script that looks for it

declare -A best cpu
TIMEFORMAT='%R %U %S'
times() { # KEY COMMAND...
	local key=$1 took
	shift
	took=$({ time "$@" >/dev/null 2>&1; } 2>&1)
	best[$key]=$(awk -v a="${best[$key]:-1e9}" '{print a<$1?a:$1}' <<<"$took")
	cpu[$key]=$(awk -v a="${cpu[$key]:-1e9}" '{t=$2+$3; print a<t?a:t}' <<<"$took")
}
record() { "$dir/memtrace" record -q --snapshot none -o "$dir/log" "$@"; }
python() { "$@" "$python" "$dir/work.py"; }
gcc1() { "$@" gcc -O1 -c "$dir/real.c" -o "$dir/real.o"; }
sort50() { "$@" env LC_ALL=C sort "$dir/lines" -o "$dir/sorted"; }
for _ in $(seq "$rounds"); do
	for p in python gcc1 sort50; do
		times $p-alone $p
		times $p-recorded $p record
		times $p-auto $p record --page-trace
	done
	times walk-alone "$dir/walk" 4000 200000 0
	times walk-recorded record "$dir/walk" 4000 200000 0
	times walk-512 record --page-trace=512 "$dir/walk" 4000 200000 0
done
walked=$("$dir/memtrace" info "$dir/log" | sed -n 's/^page references  *//p' | tr -d ,)

echo "| | alone | recorded | with page references (auto) | times as long | CPU time alone | with page references | times as much |"
echo "|---|---|---|---|---|---|---|---|"
for p in python gcc1 sort50; do
	awk -v n="$p" -v a="${best[$p-alone]}" -v r="${best[$p-recorded]}" -v t="${best[$p-auto]}" -v ca="${cpu[$p-alone]}" -v ct="${cpu[$p-auto]}" 'BEGIN {
		printf "| %s | %.2f s | %.2f s | %.2f s | %.2f | %.2f s | %.2f s | %.2f |\n", n, a, r, t, t / a, ca, ct, ct / ca }'
done
awk -v r="${best[walk-recorded]}" -v t="${best[walk-512]}" -v cr="${cpu[walk-recorded]}" -v ct="${cpu[walk-512]}" -v n="$walked" -v s="$("$dir/stop")" 'BEGIN {
	printf "\nA walk over 4,000 pages at random with a pool of 512: %d recorded references, %.1f us each by the clock, %.1f us of CPU time. A bare stop takes %s us.\n", n, (t - r) / n * 1e6, (ct - cr) / n * 1e6, s }'

command -v redis-server >/dev/null && command -v redis-benchmark >/dev/null || exit 0
redis() { # FLAGS...: requests a second
	"$dir/memtrace" record -q --snapshot none "$@" -o "$dir/log" redis-server --port 7391 --save '' --daemonize no >/dev/null 2>&1 &
	server=$!
	for _ in $(seq 100); do redis-cli -p 7391 ping >/dev/null 2>&1 && break || sleep 0.1; done
	redis-benchmark -p 7391 -t get,set -n 20000 -q --csv | sed '1d' | tr -d '"' | awk -F, '{s+=$2; n++} END{printf "%.0f", s/n}'
	redis-cli -p 7391 shutdown nosave >/dev/null 2>&1 || true
	wait $server || true
	server=
}
echo
echo "| redis, GET and SET | requests a second |"
echo "|---|---|"
echo "| recorded | $(redis) |"
echo "| with --page-trace=1024 | $(redis --page-trace=1024) |"
