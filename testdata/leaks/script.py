"""Programs whose verdict is known, in Python: script.py MODE SECONDS [A [B]].

list     leak: A KiB a second of byte strings in a list
dict     leak: A entries a second in a dictionary
closure  leak: A callbacks a second, registered and never removed, beside B MiB
lru      no leak: functools.lru_cache of A MiB, full after B percent of the time
cycles   no leak: garbage in cycles, which the collector finds
churn    no leak: strings and lists of up to A MiB come and go
imports  no leak: imports modules in the first seconds, then works
buffer   no leak: a bytearray of A MiB that grows for B percent of the time, then is used again
"""
import collections
import functools
import importlib
import random
import sys
import time

mode, length = sys.argv[1], float(sys.argv[2])
a = float(sys.argv[3]) if len(sys.argv) > 3 else 1
b = float(sys.argv[4]) if len(sys.argv) > 4 else 1
begun = time.monotonic()


def ticks():
    """Yields the time since the start, 50 times a second, until it is over."""
    while (t := time.monotonic() - begun) < length:
        yield t
        time.sleep(0.02)


if mode == "list":
    kept = []
    for t in ticks():
        while len(kept) < t * a:
            kept.append(b"x" * (990 + len(kept) % 20))
elif mode == "dict":
    kept = {}
    for t in ticks():
        while len(kept) < t * a:
            kept["key %d" % len(kept)] = [len(kept), str(len(kept))]
elif mode == "closure":
    base = bytearray(b"x") * int(b * 1048576)
    kept = []
    for t in ticks():
        while len(kept) < t * a:
            kept.append((lambda s: lambda: s)("a callback %d" % len(kept)))
elif mode == "lru":
    most = int(a * 1024)

    @functools.lru_cache(maxsize=most)
    def get(i):
        return b"x" * (900 + i % 50)

    done = 0
    for t in ticks():
        while done < t * most / (length * b / 100):
            get(done)
            done += 1
elif mode == "cycles":
    for t in ticks():
        for _ in range(200):
            x, y = {"data": "x" * 500}, {}
            x["other"], y["other"] = y, x
elif mode == "churn":
    kept = collections.deque(maxlen=64)
    for t in ticks():
        for _ in range(5):
            kept.append(b"x" * random.randrange(1, int(a * 1048576 / 64)))
        [str(i) for i in range(5000)]
elif mode == "imports":
    names = ["json", "http.client", "email.message", "xml.dom.minidom", "asyncio", "unittest", "decimal", "sqlite3", "multiprocessing", "logging.handlers"]
    for t in ticks():
        if names and t > length * 0.03 * (11 - len(names)):
            importlib.import_module(names.pop())
        sum(i * i for i in range(3000))
elif mode == "buffer":
    buf = bytearray()
    for t in ticks():
        if t < length * b / 100:
            buf.extend(b"x" * max(0, int(a * 1048576 * t / (length * b / 100)) - len(buf)))
        elif buf:
            buf[random.randrange(len(buf))] = 1
else:
    sys.exit("no mode " + mode)
