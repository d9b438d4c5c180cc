#!/usr/bin/env bash
# What recording costs, beside its peers, in one run on one machine: the numbers
# of docs/performance.md. Each command is run in turn, ROUNDS times; the least time
# of each counts, and the ratios are of those.
#
#   docs/measure.sh [ROUNDS]        needs go, gcc, strace; takes about two minutes
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
CGO_ENABLED=0 go build -o "$dir/memtrace" ./cmd/memtrace
mt=$dir/memtrace log=$dir/log

# best NAME COMMAND...: remembers the least wall time of COMMAND in seconds
declare -A least
best() {
	local name=$1 t
	shift
	local begun=$EPOCHREALTIME
	"$@" >/dev/null 2>&1 || true
	t=$(awk -v a="$begun" -v b="$EPOCHREALTIME" 'BEGIN{print b-a}')
	if [ -z "${least[$name]:-}" ] || awk -v a="$t" -v b="${least[$name]}" 'BEGIN{exit !(a<b)}'; then
		least[$name]=$t
	fi
}
row() { # ROW NAME BASE
	awk -v n="$1" -v a="${least[$1]}" -v b="${least[$2]}" 'BEGIN{printf "| %s | %.3f s | %.2f |\n", n, a, a/b}'
}

cat >"$dir/calls.c" <<'C'
#include <sys/syscall.h>
#include <unistd.h>
int main(void) { for (long i = 0; i < 3000000; i++) syscall(SYS_getppid); }
C
cat >"$dir/reads.c" <<'C'
#include <fcntl.h>
#include <unistd.h>
int main(void) { char b[4096]; int fd = open("/etc/services", 0); for (long i = 0; i < 1500000; i++) pread(fd, b, sizeof b, 0); }
C
cat >"$dir/filter.c" <<'C'
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int c, char **v) {
	struct sock_filter f = {6, 0, 0, SECCOMP_RET_ALLOW};
	struct sock_fprog p = {1, &f};
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p);
	execv(v[1], v + 1);
	return c;
}
C
cat >"$dir/compute.c" <<'C'
#include <pthread.h>
static void *work(void *p) { unsigned long s = 1; for (long i = 0; i < 600000000; i++) s = s * 6364136223846793005UL + 1; *(unsigned long *)p = s; return 0; }
int main(void) { pthread_t t; unsigned long a, b; pthread_create(&t, 0, work, &a); work(&b); pthread_join(t, 0); return (a ^ b) == 1; }
C
for p in calls reads filter compute; do gcc -O1 -pthread -o "$dir/$p" "$dir/$p.c"; done

for _ in $(seq "$rounds"); do
	best 'find' find /usr/include
	best 'memtrace record find' "$mt" record -q -o "$log" -- find /usr/include
	best 'strace -f find' strace -f -o /dev/null find /usr/include
	best 'taskset -c 1 strace -f find' taskset -c 1 strace -f -o /dev/null find /usr/include
	best 'getppid' "$dir/calls"
	best 'memtrace record -e memory getppid' "$mt" record -q -e memory -o "$log.2" -- "$dir/calls"
	best 'strace --seccomp-bpf -e memory getppid' strace -f --seccomp-bpf -e memory -o /dev/null "$dir/calls"
	best 'a filter that allows all, getppid' "$dir/filter" "$dir/calls"
	best 'pread' "$dir/reads"
	best 'memtrace record -e memory pread' "$mt" record -q -e memory -o "$log.2" -- "$dir/reads"
	best 'two threads computing' "$dir/compute"
	best 'memtrace record two threads' "$mt" record -q -o "$log.2" -- "$dir/compute"
	rm -f "$log".old "$log.2" "$log.2.old"
done

echo '| command | time | times the program alone |'
echo '|---|---|---|'
for n in 'find' 'memtrace record find' 'strace -f find' 'taskset -c 1 strace -f find'; do row "$n" find; done
for n in 'getppid' 'memtrace record -e memory getppid' 'strace --seccomp-bpf -e memory getppid' 'a filter that allows all, getppid'; do row "$n" getppid; done
for n in 'pread' 'memtrace record -e memory pread'; do row "$n" pread; done
for n in 'two threads computing' 'memtrace record two threads'; do row "$n" 'two threads computing'; done
echo
awk -v a="${least[memtrace record find]}" -v b="${least[strace -f find]}" -v c="${least[taskset -c 1 strace -f find]}" \
	'BEGIN{printf "memtrace record find: %.2f times strace, %.2f times strace on one CPU\n", a/b, a/c}'
"$mt" record -q --snapshot none -o "$log.3" -- find /usr/include >/dev/null
"$mt" info "$log.3" | awk '/^steps|^bytes a step/ {print "log of find without snapshots: " $0}'
