#!/usr/bin/env bash
# Measures calls that are recorded inside the program beside those recorded by stops and the
# program alone: the table of docs/performance.md.
#
#   docs/measure-inprocess.sh [ROUNDS]
#
# Each round runs each program alone, with --in-process=off and with always; the least time of
# ROUNDS (3) counts. Times are of the clock, and of the CPUs of program and recorder together.
# It needs go and gcc. $MEMTRACE is used if it is set.
set -euo pipefail
rounds=${1:-3}
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
memtrace=${MEMTRACE:-$dir/memtrace}
[ -n "${MEMTRACE-}" ] || CGO_ENABLED=0 go build -o "$memtrace" ./cmd/memtrace
cat >"$dir/getppid.c" <<'C'
#include <sys/syscall.h>
#include <unistd.h>
int main(void) { for (long i = 0; i < 300000; i++) syscall(SYS_getppid); return 0; }
C
gcc -O2 -o "$dir/getppid" "$dir/getppid.c"
cat >"$dir/read.py" <<'P'
import os
for d, _, names in os.walk('/usr/include'):
    for name in names:
        try: open(os.path.join(d, name), 'rb').read()
        except OSError: pass
P
tree=/usr/lib
[ "$(find $tree | wc -l)" -gt 2000 ] || tree=/usr
python=/usr/bin/python3
cd "$dir"

# once COMMAND... prints the seconds by the clock and by the CPUs.
once() {
	local TIMEFORMAT='%R %U %S'
	{ time "$@" >/dev/null 2>&1; } 2>&1 | awk '{ print $1, $2 + $3 }'
}

# least COMMAND... prints the least of both.
least() {
	for ((i = 0; i < rounds; i++)); do once "$@"; done |
		awk 'NR == 1 || $1 < w { w = $1 } NR == 1 || $2 < c { c = $2 } END { print w, c }'
}

printf '| program | calls | alone | by stops | inside | times alone, by stops | inside | CPU alone | by stops | inside |\n'
printf '|---|---|---|---|---|---|---|---|---|---|\n'
while IFS='|' read -r name command; do
	read -ra argv <<<"$command"
	read -r aw ac <<<"$(least "${argv[@]}")"
	read -r ow oc <<<"$(least "$memtrace" record -q -o log --in-process=off -- "${argv[@]}")"
	read -r iw ic <<<"$(least "$memtrace" record -q -o log --in-process=always -- "${argv[@]}")"
	calls=$("$memtrace" info log | awk '$1 == "steps" { print $2; exit }')
	awk -v n="$name" -v k="$calls" -v aw="$aw" -v ac="$ac" -v ow="$ow" -v oc="$oc" -v iw="$iw" -v ic="$ic" 'BEGIN {
		printf "| %s | %s | %.3f s | %.3f s | %.3f s | %.1f | %.1f | %.2f s | %.2f s | %.2f s |\n", n, k, aw, ow, iw, ow / aw, iw / aw, ac, oc, ic }'
done <<END
getppid, 300,000 times|./getppid
dd bs=1, 100,000 times|dd if=/dev/zero of=/dev/null bs=1 count=100000 status=none
find $tree|find $tree
tar of /usr/include|tar cf /dev/zero /usr/include
grep -rc in /usr/include|grep -rc nothing_has_this /usr/include
python, reads /usr/include|$python read.py
true|/bin/true
END
