// Call sites as a flame graph with two sides: upwards what grew, downwards what shrank, on
// one scale, so that no width is negative.
import { h } from "preact";
import { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { LogInfo, StackNode } from "./types";
import { type Arrow, type Cell, cells, siblings, towards } from "./flamecells";
import { type Both, merge } from "./twostacks";
import type { Source } from "./source";
import type { View } from "./state";
import { type Colours, cut, pen, sans, useColours, useLoad, useSize } from "./hooks";
import { base, bytes, count, share, time } from "./format";
import { Twin, Wait } from "./parts";

const rowH = 18;

const metrics: [string, string][] = [
  ["live", "still held"], ["net", "grew and shrank"], ["mapped", "mapped"], ["calls", "calls"], ["time", "time"],
];

export const label = (n: StackNode) => n.name + (n.line ? " (" + base(n.file ?? "") + ":" + n.line + ")" : "");

// Words are what a drawing's two sides are called.
interface Words {
  up: string;
  down: string;
  differ: boolean; // they are of two logs
}
// What only has one side is called what the choice of the metric calls it.
const wordsOf = (metric: string): Words => ({ up: metric === "net" ? "grew" : metrics.find(([m]) => m === metric)![1], down: "shrank", differ: false });
const moreLess: Words = { up: "more in B", down: "less in B", differ: true };

// Flame is the call sites of a log, and those of two logs beside or from one another.
export function Flame({ source, log, view, logs }: { source: Source; log: LogInfo; view: View; logs: LogInfo[] }) {
  const two = logs.length > 1 && logs.every((l) => l.features.call_stacks);
  const [how, setHow] = useState<"differ" | "beside" | "one">("differ");
  if (!two) return <One source={source} log={log} view={view} />;
  return (
    <div class="stack">
      <div class="choose">
        <select value={how} aria-label="Of which log" onChange={(e) => setHow(e.currentTarget.value as typeof how)}>
          <option value="differ">B − A</option>
          <option value="beside">A beside B</option>
          <option value="one">{view.log === 0 ? "A alone" : "B alone"}</option>
        </select>
      </div>
      {how === "one" ? <One source={source} log={log} view={view} /> : <Two source={source} view={view} logs={logs} beside={how === "beside"} />}
    </div>
  );
}

function unitOf(unit: string | undefined) {
  return (n: number) => (unit === "bytes" ? bytes(n) : unit === "ns" ? time(n) : count(n));
}

function Two({ source, view, logs, beside }: { source: Source; view: View; logs: LogInfo[]; beside: boolean }) {
  const [metric, setMetric] = useState("mapped");
  const got = useLoad(
    async (signal, progress) => {
      const of = (i: number) => source.stacks({ log: i, pid: 0, at: 0 }, metric, { signal, progress: (p) => progress((i + p) / 2) });
      return [await of(0), await of(1)] as const;
    },
    [metric, view.seen],
  );
  const [a, b] = got.value ?? [null, null];
  const trees = useMemo((): StackNode[] => {
    const [p, q] = [a?.root ?? null, b?.root ?? null];
    if (!p && !q) return [];
    const none: StackNode = { name: "all", grew: 0, shrank: 0 };
    return beside ? [p ?? none, q ?? none] : [merge(p ?? none, q ?? none)];
  }, [a, b, beside]);
  const [paths, setPaths] = useState<StackNode[][]>([]);
  useEffect(() => setPaths(trees.map((t) => [t])), [trees]);
  const unit = unitOf(a?.unit);
  const most = Math.max(0, ...trees.flatMap((t) => [t.grew, t.shrank]));
  return (
    <div class="stack">
      <div class="choose">
        <Metric now={metric} choose={setMetric} />
        {!beside && trees[0] && <span class="dim">B has {unit(trees[0].grew)} more and {unit(trees[0].shrank)} less, by call site</span>}
      </div>
      <Wait {...got} />
      {got.value && !trees.length && <p class="note">{a?.why || b?.why}</p>}
      <div class={beside ? "beside" : "stack"}>
        {trees.map((_, i) => paths[i] && (
          <div class="stack">
            {beside && <p class="choose"><b class="cut">{i ? "B" : "A"} {base(logs[i]!.file)}</b><span class="dim">{unit(trees[i]!.grew)}</span></p>}
            <Tree path={paths[i]!} view={view} unit={unit} name={beside ? (i ? "of B" : "of A") : "of B less A"} words={beside ? wordsOf(metric) : moreLess} most={most} choose={(p) => setPaths(paths.map((q, k) => (k === i ? p : q)))} />
          </div>
        ))}
      </div>
    </div>
  );
}

function Metric({ now, choose }: { now: string; choose: (m: string) => void }) {
  return (
    <select value={now} aria-label="What is counted" onChange={(e) => choose(e.currentTarget.value)}>
      {metrics.map(([m, name]) => <option value={m}>{name}</option>)}
    </select>
  );
}

interface TreeProps {
  path: StackNode[]; // from the root to the frame that is as wide as the drawing
  unit: (n: number) => string;
  name: string;
  words: Words;
  most: number;
  choose: (p: StackNode[]) => void;
}

function Tree({ view, ...props }: TreeProps & { view: View }) {
  const { path, unit, words, choose } = props;
  if (view.twin) return <FlameTable root={path.at(-1)!} unit={unit} words={words} choose={(n) => choose([...path, ...n])} />;
  return <Drawing {...props} />;
}

function One({ source, log, view }: { source: Source; log: LogInfo; view: View }) {
  const [metric, setMetric] = useState("net");
  const got = useLoad(
    log.features.call_stacks
      ? (signal, progress) => source.stacks({ log: view.log, pid: view.pid, at: view.at }, metric, { signal, progress })
      : null,
    [metric, view.log, view.seen, view.pid, log.features.call_stacks],
  );
  const root = got.value?.root ?? null;
  const [path, setPath] = useState<StackNode[]>([]);
  useEffect(() => setPath(root ? [root] : []), [root]);
  if (!log.features.call_stacks) {
    return (
      <div class="empty">
        <p>This log has no call stacks.</p>
        <p class="dim">Record with <code>memtrace record -k</code>, and this shows who asked for the memory.</p>
      </div>
    );
  }
  const unit = unitOf(got.value?.unit);
  const now = path.at(-1);
  return (
    <div class="stack">
      <div class="choose">
        <Metric now={metric} choose={setMetric} />
        {now && (
          <span class="dim">
            {unit(now.grew)}{now.shrank > 0 && " grew, " + unit(now.shrank) + " shrank"}
            {path.length > 1 && " in " + now.name}
          </span>
        )}
        {path.length > 1 && <button class="link" onClick={() => setPath(path.slice(0, 1))}>all</button>}
      </div>
      <Wait {...got} />
      {got.value?.why && !root && <p class="note">{got.value.why}</p>}
      {got.value === null && <p class="note">This file does not have the call sites.</p>}
      {now && <Tree path={path} view={view} unit={unit} name="" words={wordsOf(metric)} most={0} choose={setPath} />}
    </div>
  );
}

function Drawing({ path, unit, name, words, most, choose }: TreeProps) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const size = useSize(box);
  const colours = useColours();
  const [tip, setTip] = useState<{ x: number; y: number; c: Cell } | null>(null);
  const up = useMemo(() => cells(path, true, most), [path, most]);
  const down = useMemo(() => cells(path, false, most), [path, most]);
  const need = (up.depth + down.depth + 1) * rowH + 16;
  const height = Math.max(size.h - 2, need);
  // The ground stands where the deeper side has room.
  const ground = down.depth ? Math.max(up.depth * rowH + 6, Math.min(height - (down.depth + 1) * rowH - 6, height * 0.6)) : height - rowH - 8;
  const y = (c: Cell) => (c.up ? ground - c.depth * rowH : ground + c.depth * rowH);
  const place = (c: Cell) => ({ x: 8 + c.x * (size.w - 16), w: c.w * (size.w - 16) });
  const keys = useKeys(path, up.all, down.all, choose);
  const on = keys.now;
  useLayoutEffect(() => {
    if (!canvas.current || size.w < 20) return;
    const x = pen(canvas.current, size.w, height);
    const node = path.at(-1)!;
    x.font = "11px " + sans;
    bar(x, 8, ground, size.w - 16, node.name || "all", colours.know, colours.ink, false, colours);
    for (const c of [...up.all, ...down.all]) {
      const p = place(c);
      const fill = c.n.name === "(other)" ? colours.system : !c.up ? colours.anonymous : words.differ ? colours.bad : colours.heap;
      bar(x, p.x, y(c), p.w, label(c.n), fill, colours.ink, c === tip?.c, colours, shade(c.n.name));
    }
    x.fillStyle = colours.dim;
    x.textAlign = "left";
    if (!up.all.length && !down.all.length) x.fillText("Nothing here.", 12, ground - 14);
    if (down.depth) {
      x.textAlign = "right";
      x.fillText("↑ " + words.up + "   ↓ " + words.down, size.w - 12, height - 9);
    }
  }, [path, most, size, colours, tip?.c]);
  // Where not all has room, the ground is in sight first, and then the frame that keys move to.
  useLayoutEffect(() => {
    if (box.current) box.current.scrollTop = ground - size.h * 0.8;
  }, [path, ground, size.h]);
  useLayoutEffect(() => {
    if (keys.used) document.getElementById(keys.id)?.scrollIntoView({ block: "nearest" });
  }, [keys.id, keys.used]);
  const at = (e: MouseEvent) => {
    const b = canvas.current!.getBoundingClientRect();
    const px = e.clientX - b.left;
    const py = e.clientY - b.top;
    const c = [...up.all, ...down.all].find((q) => py >= y(q) && py < y(q) + rowH && px >= place(q).x && px < place(q).x + place(q).w);
    return c ? { x: px, y: y(c), c } : null;
  };
  const told = tip ?? (keys.used ? { x: place(on).x + place(on).w / 2, y: y(on), c: on } : null);
  const family = siblings(on, on.up ? up.all : down.all);
  return (
    <div
      class="scroll" ref={box} tabIndex={0} role="tree" aria-orientation="horizontal" aria-activedescendant={keys.id}
      aria-label={"Call sites " + (name && name + " ") + "as a flame graph. Arrow keys move, Enter zooms, Escape goes back, t shows it as a table"} {...keys.hear}
    >
      <div class="canvas" style={{ height: height + "px" }}>
        <canvas
          ref={canvas} style={{ height: height + "px" }} aria-hidden="true"
          onPointerMove={(e) => setTip(at(e))}
          onPointerLeave={() => setTip(null)}
          onClick={(e) => {
            const t = at(e);
            setTip(null);
            if (t) keys.zoom(t.c);
            else choose(path.length > 1 ? path.slice(0, -1) : path);
          }}
        />
        <div
          class="frame" role="treeitem" key={keys.id} id={keys.id} aria-label={said(on.n, path[0]!, unit, words)}
          aria-level={on.path.length} aria-posinset={Math.max(0, family.indexOf(on)) + 1} aria-setsize={family.length || 1}
          style={{ left: place(on).x + "px", top: y(on) + "px", width: Math.max(4, place(on).w) + "px", height: rowH - 1 + "px" }}
        />
        {told && <FlameTip {...told} w={size.w} below={told.y - (box.current?.scrollTop ?? 0) < size.h / 2} height={height} root={path[0]!} unit={unit} words={words} />}
      </div>
    </div>
  );
}

// useKeys is the frame that keys stand at and what moves it, in a drawing that is zoomed to the
// end of a path.
function useKeys(path: StackNode[], up: Cell[], down: Cell[], choose: (p: StackNode[]) => void) {
  const id = useId();
  const [on, setOn] = useState<{ n: StackNode; up: boolean } | null>(null);
  const [used, setUsed] = useState(false); // the focus is here, and came by a key or is moved by one
  const before = useRef<StackNode[][]>([]); // the paths of which this is a part
  const ground: Cell = { n: path.at(-1)!, path, x: 0, w: 1, depth: 0, up: true };
  const side = on?.up ? up : down;
  const place = side.findIndex((c) => c.n === on?.n);
  const now = side[place] ?? ground;
  const zoom = (c: Cell) => {
    setOn(c);
    if (c === ground) return;
    before.current.push(path);
    choose(c.path);
  };
  const back = () => {
    const last = before.current.pop();
    if (last?.[0] === path[0]) choose(last!);
    else if (path.length > 1) choose(path.slice(0, -1));
  };
  const home = () => {
    before.current = [];
    setOn(null);
    if (path.length > 1) choose(path.slice(0, 1));
  };
  const arrow = (key: Arrow) => () => setOn(towards(now, key, ground, up, down));
  const acts: Record<string, () => void> = {
    ArrowUp: arrow("ArrowUp"), ArrowDown: arrow("ArrowDown"), ArrowLeft: arrow("ArrowLeft"), ArrowRight: arrow("ArrowRight"),
    Enter: () => zoom(now), Escape: back, Backspace: back, Home: home,
  };
  const hear = {
    onKeyDown: (e: KeyboardEvent) => {
      const act = acts[e.key];
      if (!act || e.ctrlKey || e.metaKey || e.altKey || e.shiftKey) return;
      e.preventDefault();
      setUsed(true);
      act();
    },
    onFocus: (e: FocusEvent) => setUsed((e.currentTarget as HTMLElement).matches(":focus-visible")),
    onBlur: () => setUsed(false),
  };
  // Another frame has another id: so a screen reader says it.
  return { now, used, zoom, hear, id: id + "-" + path.length + (now === ground ? "" : (now.up ? "u" : "d") + place) };
}

// values are what a frame has, with its share of the whole.
function values(n: StackNode, root: StackNode, unit: (n: number) => string, words: Words): [string, string][] {
  const out: [string, string][] = words.differ ? [["A", unit((n as Both).a ?? 0)], ["B", unit((n as Both).b ?? 0)]] : [];
  if (n.grew > 0) out.push([words.up, unit(n.grew) + ", " + share(n.grew, root.grew)]);
  if (n.shrank > 0) out.push([words.down, unit(n.shrank) + ", " + share(n.shrank, root.shrank)]);
  return out;
}

// said is a frame as a screen reader says it.
function said(n: StackNode, root: StackNode, unit: (n: number) => string, words: Words): string {
  return [label(n) || "all", ...values(n, root, unit, words).map(([what, v]) => what + " " + v)].join("; ");
}

function FlameTip({ x, y, c, w, below, height, root, unit, words }: {
  x: number; y: number; c: Cell; w: number; below: boolean; height: number; root: StackNode; unit: (n: number) => string; words: Words;
}) {
  const { n } = c;
  const spot = {
    ...(below ? { top: y + rowH + 3 + "px" } : { bottom: height - y + 4 + "px" }),
    ...(x > w / 2 ? { right: w - x + "px" } : { left: x + "px" }),
  };
  return (
    <div class="tip wide" aria-hidden="true" style={spot}>
      <b>{n.name}</b>
      {n.file && <div class="m">{base(n.file)}{n.line ? ":" + n.line : ""}</div>}
      {n.module && <div class="dim">{base(n.module)}</div>}
      {values(n, root, unit, words).map(([what, v]) => <div class="row">{what} <span>{v}</span></div>)}
    </div>
  );
}

// shade tells neighbours apart: a little lighter or darker by the name.
function shade(name: string): number {
  let s = 0;
  for (let i = 0; i < name.length && i < 60; i++) s = (s * 31 + name.charCodeAt(i)) >>> 0;
  return 0.42 + ((s % 7) / 7) * 0.3;
}

function bar(
  x: CanvasRenderingContext2D, px: number, y: number, w: number, text: string, fill: string, ink: string, lit: boolean, c: Colours, alpha = 1,
) {
  x.globalAlpha = lit ? 1 : alpha;
  x.fillStyle = fill;
  x.fillRect(px, y, Math.max(0.8, w - 1), rowH - 1);
  x.globalAlpha = 1;
  if (lit) {
    x.strokeStyle = c.ink;
    x.strokeRect(px + 0.5, y + 0.5, Math.max(1, w - 2), rowH - 2);
  }
  if (w < 24) return;
  x.fillStyle = ink;
  x.textAlign = "left";
  x.fillText(cut(x, text, w - 9), px + 4, y + rowH / 2);
}

function FlameTable({ root, unit, words, choose }: {
  root: StackNode; unit: (n: number) => string; words: Words; choose: (p: StackNode[]) => void;
}) {
  const out: { n: StackNode; way: StackNode[]; depth: number }[] = [];
  const walk = (n: StackNode, way: StackNode[], depth: number) => {
    if (out.length > 300) return;
    if (depth) out.push({ n, way, depth });
    const size = (q: StackNode) => q.grew + q.shrank;
    for (const c of [...(n.children ?? [])].sort((a, b) => size(b) - size(a))) walk(c, [...way, c], depth + 1);
  };
  walk(root, [], 0);
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Call sites">
      <Twin
        caption="Call sites, the outermost first"
        head={[words.up, words.down, ...(words.differ ? ["A", "B"] : []), "function"]}
        rows={out.map((o) => [
          unit(o.n.grew), o.n.shrank ? unit(o.n.shrank) : "", ...(words.differ ? [unit((o.n as Both).a ?? 0), unit((o.n as Both).b ?? 0)] : []),
          <button class="link" style={{ marginLeft: o.depth * 8 - 8 + "px" }} onClick={() => choose(o.way)}>{label(o.n)}</button>,
        ])}
      />
    </div>
  );
}
