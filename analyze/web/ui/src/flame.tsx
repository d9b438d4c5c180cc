// Call sites as a flame graph with two sides: upwards what grew, downwards what shrank, on
// one scale, so that no width is negative.
import { h } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { LogInfo, StackNode } from "./types";
import { type Both, merge } from "./twostacks";
import type { Source } from "./source";
import type { View } from "./state";
import { type Colours, cut, pen, sans, useColours, useLoad, useSize } from "./hooks";
import { base, bytes, count, time } from "./format";
import { Twin, Wait } from "./parts";

const rowH = 18;

interface Cell {
  n: StackNode;
  path: StackNode[]; // from the root to the node
  x: number; // parts of the width
  w: number;
  depth: number;
  up: boolean;
}

const metrics: [string, string][] = [
  ["live", "still held"], ["net", "grew and shrank"], ["mapped", "mapped"], ["calls", "calls"], ["time", "time"],
];

function cells(path: StackNode[], up: boolean, most = 0): { all: Cell[]; depth: number } {
  const root = path.at(-1)!;
  const scale = Math.max(root.grew, root.shrank, path.length > 1 ? 0 : most) || 1;
  const all: Cell[] = [];
  let deepest = 0;
  const walk = (n: StackNode, way: StackNode[], x: number, depth: number) => {
    const v = up ? n.grew : n.shrank;
    const w = v / scale;
    if (w < 0.0015) return;
    if (depth > 0) all.push({ n, path: way, x, w, depth, up });
    deepest = Math.max(deepest, depth);
    for (const c of n.children ?? []) {
      walk(c, [...way, c], x, depth + 1);
      x += (up ? c.grew : c.shrank) / scale;
    }
  };
  walk(root, path, 0, 0);
  return { all, depth: deepest };
}

export const label = (n: StackNode) => n.name + (n.line ? " (" + base(n.file ?? "") + ":" + n.line + ")" : "");

// Words are what a drawing's two sides are called.
interface Words {
  up: string;
  down: string;
  differ: boolean; // they are of two logs
}
const grewShrank: Words = { up: "grew", down: "shrank", differ: false };
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
            <Tree path={paths[i]!} view={view} unit={unit} words={beside ? grewShrank : moreLess} most={most} choose={(p) => setPaths(paths.map((q, k) => (k === i ? p : q)))} />
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

function Tree({ path, view, unit, words, most, choose }: {
  path: StackNode[]; view: View; unit: (n: number) => string; words: Words; most: number; choose: (p: StackNode[]) => void;
}) {
  if (view.twin) return <FlameTable root={path.at(-1)!} unit={unit} words={words} choose={(n) => choose([...path, ...n])} />;
  return <Drawing path={path} unit={unit} words={words} most={most} choose={choose} />;
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
      {now && <Tree path={path} view={view} unit={unit} words={grewShrank} most={0} choose={setPath} />}
    </div>
  );
}

function Drawing({ path, unit, words, most, choose }: {
  path: StackNode[]; unit: (n: number) => string; words: Words; most: number; choose: (p: StackNode[]) => void;
}) {
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
  // Where not all has room, the ground is in sight first.
  useLayoutEffect(() => {
    if (box.current) box.current.scrollTop = ground - size.h * 0.8;
  }, [path, ground, size.h]);
  const at = (e: MouseEvent) => {
    const b = canvas.current!.getBoundingClientRect();
    const px = e.clientX - b.left;
    const py = e.clientY - b.top;
    const c = [...up.all, ...down.all].find((q) => py >= y(q) && py < y(q) + rowH && px >= place(q).x && px < place(q).x + place(q).w);
    return c ? { x: px, y: y(c), c } : null;
  };
  return (
    <div class="scroll" ref={box} tabIndex={0} role="region" aria-label="Flame graph">
      <div class="canvas" style={{ height: height + "px" }}>
        <canvas
          ref={canvas} style={{ height: height + "px" }} role="img" aria-label="Call sites as a flame graph. t shows it as a table"
          onPointerMove={(e) => setTip(at(e))}
          onPointerLeave={() => setTip(null)}
          onClick={(e) => {
            const t = at(e);
            setTip(null);
            if (t) choose(t.c.path);
            else choose(path.length > 1 ? path.slice(0, -1) : path);
          }}
        />
        {tip && (
          <div class="tip wide" style={{ top: tip.y + rowH + 3 + "px", ...(tip.x > size.w / 2 ? { right: size.w - tip.x + "px" } : { left: tip.x + "px" }) }}>
            <b>{tip.c.n.name}</b>
            {tip.c.n.file && <div class="m">{base(tip.c.n.file)}{tip.c.n.line ? ":" + tip.c.n.line : ""}</div>}
            {tip.c.n.module && <div class="dim">{base(tip.c.n.module)}</div>}
            {words.differ && <div class="row">A <span>{unit((tip.c.n as Both).a ?? 0)}</span></div>}
            {words.differ && <div class="row">B <span>{unit((tip.c.n as Both).b ?? 0)}</span></div>}
            {tip.c.n.grew > 0 && <div class="row">{words.up} <span>{unit(tip.c.n.grew)}</span></div>}
            {tip.c.n.shrank > 0 && <div class="row">{words.down} <span>{unit(tip.c.n.shrank)}</span></div>}
          </div>
        )}
      </div>
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
