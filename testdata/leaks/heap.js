// Programs whose verdict is known, for Node: heap.js MODE SECONDS [A [B]].
//
// array    leak: A KiB a second of objects in an array
// buffers  leak: A KiB a second of buffers
// events   leak: A listeners a second, with B KiB each
// map      no leak: a Map of at most A entries, full after B percent of the time
// garbage  no leak: A MiB a second of objects that nothing refers to
// json     no leak: makes and parses JSON of A KiB
const [mode, length, a, b] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4] ?? 1), Number(process.argv[5] ?? 1)];
const begun = process.hrtime.bigint();
const now = () => Number(process.hrtime.bigint() - begun) / 1e9;
const kept = [];
let done = 0, seen = 0;
const map = new Map();
const emitter = new (require("events"))();
emitter.setMaxListeners(0);

const modes = {
  array(t) {
    for (; done < t * a; done++) kept.push({ id: done, text: "x".repeat(10) + done, list: new Array(110).fill(done) });
  },
  buffers(t) {
    for (; done < (t * a) / 16; done++) kept.push(Buffer.alloc(16 << 10, 1));
  },
  events(t) {
    for (; done < t * a; done++) {
      const data = new Array(b * 128).fill(done);
      emitter.on("event", () => { seen += data.length; });
    }
  },
  map(t) {
    for (; done < (t * a) / ((length * b) / 100); done++) {
      map.set(done, { id: done, list: new Array(60).fill(done) });
      if (map.size > a) map.delete(map.keys().next().value);
    }
  },
  garbage(t) {
    for (; done < t * a * 1024; done++) seen += { list: new Array(110).fill(done) }.list.length;
  },
  json(t) {
    const items = [];
    for (let i = 0; i < a * 8; i++) items.push({ id: i, name: "item " + i, at: t });
    seen += JSON.parse(JSON.stringify(items)).length;
  },
};

const timer = setInterval(() => {
  const t = now();
  if (t >= length) clearInterval(timer);
  else modes[mode](t);
}, 20);
