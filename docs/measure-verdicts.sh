#!/usr/bin/env bash
# Records the programs of testdata/leaks, whose verdicts are known, and prints what
# memtrace says of each: the tables of docs/verdicts.md.
#
#   docs/measure-verdicts.sh [-n RUNS] [-j JOBS] [-b LOOPS] [-k DIR] [-f FLAGS] [LIST]
#
# LIST is programs (the default), heldout or random. Each program is recorded RUNS times (1), JOBS
# at once (3), beside so many busy LOOPS (0). With -k the logs stay in DIR, and those that are there are judged
# anew. FLAGS are further flags of record. $MEMTRACE is used if it is set. It needs go, gcc, g++, python3, node, javac and rustc; a quiet run of LIST takes about three minutes.
set -euo pipefail
runs=1 jobs=3 loops=0 keep= flags=
while getopts n:j:b:k:f: o; do
	case $o in
	n) runs=$OPTARG ;;
	j) jobs=$OPTARG ;;
	b) loops=$OPTARG ;;
	k) keep=$(realpath -m "$OPTARG") ;;
	f) flags=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
cd "$(dirname "$0")/.."
list=$PWD/testdata/leaks/${1:-programs}.txt
dir=$(mktemp -d)
busy=()
trap '((${#busy[@]})) && kill "${busy[@]}"; rm -rf "$dir"' EXIT
if [ -n "${MEMTRACE-}" ]; then
	cp "$MEMTRACE" "$dir/memtrace"
else
	CGO_ENABLED=0 go build -o "$dir/memtrace" ./cmd/memtrace
fi
logs=${keep:-$dir/logs}
mkdir -p "$logs"
(
	cd testdata/leaks
	gcc -O1 -pthread -o "$dir/native" native.c -lm
	g++ -O1 -pthread -o "$dir/objects" objects.cc
	go build -o "$dir/heap.go" heap.go
	rustc -O -o "$dir/heap.rs" heap.rs
	javac -d "$dir" Heap.java
	cp script.py heap.js "$dir"
)
for ((i = 0; i < loops; i++)); do
	nice -n 5 bash -c "while :; do :; done" &
	busy+=($!)
done
export dir logs flags
one() {
	log=$logs/$2.$1 # LIST's columns after the number of the run
	shift 3
	cd "$dir"
	PATH=$dir:$PATH
	[ -e "$log" ] || ./memtrace record -q $flags -o "$log" -- "$@" >/dev/null || echo "$log: status $?" >&2
}
export -f one
for ((i = 1; i <= runs; i++)); do
	grep -v '^#' "$list" | sed "s/^/$i /"
done | xargs -P "$jobs" -L 1 bash -c 'one "$@"' one
for ((i = 1; i <= runs; i++)); do
	grep -v '^#' "$list" | while read -r name truth _; do
		echo "{\"name\": \"$name\", \"truth\": \"$truth\"}"
		"$dir/memtrace" report "$logs/$name.$i" leaks --format json
	done
done | python3 -c '
import collections, json, sys
text, at, seen, case = sys.stdin.read(), 0, {}, None
decoder = json.JSONDecoder()
while at < len(text.rstrip()):
    value, at = decoder.raw_decode(text, at)
    while at < len(text) and text[at].isspace():
        at += 1
    if "truth" in value:
        case = seen.setdefault(value["name"], (value["truth"], collections.Counter()))
    else:
        v = value["verdicts"][0]
        case[1][v["verdict"] + (" " + v["kind"] if v["verdict"] in ("leak", "grows") else "")] += 1
sums = collections.Counter()
for name, (truth, words) in seen.items():
    print(f"{name:16} {truth:14}", ", ".join(f"{n} x {w}" for w, n in words.most_common()))
    group = truth if truth in ("none", "open") else "leak"
    for w, n in words.items():
        sums[group, w.split()[0]] += n
print()
print("truth    leak  grows   none  short")
for group in "leak", "none", "open":
    print(f"{group:6}", *(f"{sums[group, w]:6}" for w in ("leak", "grows", "none", "short")))
'
