// Drawing the time axis: the whole run, memory by kind, events, threads.
import type { KindInfo, Lane, LaneMark, Lanes, LogInfo, OneSeries, Series } from "./types";
import { type Colours, cut, pen, sans } from "./hooks";
import { base, bytes, count, nice, tick } from "./format";

export const groups = ["heap", "anonymous", "files", "shared", "stacks", "system"] as const;
export type Group = (typeof groups)[number];
export const groupNames: Record<Group, string> = {
  heap: "Heap", anonymous: "Anonymous", files: "Files", shared: "Shared", stacks: "Stacks", system: "System",
};

export function groupOf(kinds: KindInfo[] | null, id: string): Group {
  const g = kinds?.find((k) => k.id === id)?.group as Group | undefined;
  return g && groups.includes(g) ? g : "system";
}

// Band is the memory of a group over the buckets of a series.
export interface Band {
  group: Group;
  max: Float64Array; // NaN where nothing is known
  last: Float64Array;
}

// summed keeps the bands of a series: each frame of a drag asks for them.
const summed = new WeakMap<Series, Band[]>();

export function bands(s: Series, kinds: KindInfo[] | null): Band[] {
  const before = summed.get(s);
  if (before) return before;
  const n = s.t.length;
  const out: Band[] = [];
  for (const g of groups) {
    const of = s.series.filter((x) => groupOf(kinds, x.id) === g);
    if (!of.length) continue;
    const max = new Float64Array(n).fill(NaN);
    const last = new Float64Array(n).fill(NaN);
    for (const one of of) {
      for (let i = 0; i < n; i++) {
        const m = one.max[i];
        const l = one.last[i];
        if (m != null) max[i] = (max[i]! || 0) + m;
        if (l != null) last[i] = (last[i]! || 0) + l;
      }
    }
    out.push({ group: g, max, last });
  }
  summed.set(s, out);
  return out;
}

// bucket is the one that holds a time, of buckets that begin at t.
export function bucket(t: number[], ns: number): number {
  let lo = 0;
  let hi = t.length - 1;
  while (lo < hi) {
    const mid = (lo + hi + 1) >> 1;
    if (t[mid]! <= ns) lo = mid;
    else hi = mid - 1;
  }
  return lo;
}

// Row is a lane as it is drawn: a thread, or a process with its threads in one.
export interface Row {
  label: string;
  proc: number;
  kind: "thread" | "process" | "folded";
  lanes: Lane[];
}

export function rows(l: Lanes | undefined, log: LogInfo, folded: number[]): Row[] {
  const all = l?.lanes ?? [];
  const procs = [...new Set(all.map((x) => x.proc))];
  if (procs.length <= 1) {
    return all.map((x) => ({
      label: x.tid === x.pid ? "main " + x.tid : "thread " + x.tid, proc: x.proc, kind: "thread", lanes: [x],
    }));
  }
  const out: Row[] = [];
  for (const p of procs) {
    const of = all.filter((x) => x.proc === p);
    const info = (log.processes ?? []).find((x) => x.no === p);
    const name = !info?.name || info.name.startsWith("process ") ? "process " + of[0]!.pid : base(info.name).slice(0, 9) + " " + of[0]!.pid;
    if (of.length === 1) out.push({ label: name, proc: p, kind: "thread", lanes: of });
    else if (folded.includes(p)) out.push({ label: "▸ " + name, proc: p, kind: "folded", lanes: of });
    else {
      out.push({ label: "▾ " + name, proc: p, kind: "process", lanes: [of[0]!] });
      for (const x of of.slice(1)) out.push({ label: "thread " + x.tid, proc: p, kind: "thread", lanes: [x] });
    }
  }
  return out;
}

export interface Box {
  x: number;
  y: number;
  w: number;
  h: number;
}

export interface Layout {
  w: number;
  h: number;
  strip: Box;
  memory: Box;
  events: Box;
  lanes: Box;
  row: number; // height of a lane
  shown: number; // lanes that have room
  axis: number; // y of its labels
  labels: boolean; // there is room at the right for names and numbers
}

export function layout(w: number, h: number, lanes: number): Layout {
  const narrow = w < 620;
  const left = narrow ? 62 : 112;
  const right = narrow ? 12 : 152;
  const pw = Math.max(50, w - left - right);
  const row = 12;
  const shown = Math.min(lanes, Math.max(1, Math.floor((h - 44 - 96 - 36 - 26) / row)));
  const axis = h - 12;
  const ly = h - 24 - shown * row;
  const ey = ly - 25;
  const my = 46;
  return {
    w, h, row, shown, axis,
    strip: { x: left, y: 10, w: pw, h: 20 },
    memory: { x: left, y: my, w: pw, h: ey - 7 - my },
    events: { x: left, y: ey, w: pw, h: 20 },
    lanes: { x: left, y: ly, w: pw, h: shown * row },
    labels: !narrow,
  };
}

export interface Drawn {
  whole: Series | undefined;
  part: Series | undefined; // of about from..to
  rss: Series | undefined;
  lanes: Lanes | undefined;
  rows: Row[];
  scroll: number; // lanes above
  log: LogInfo;
  from: number;
  to: number;
  by: "kind" | "mapped";
  base: Series | undefined; // of the other log, to compare with
}

// top is the most that has to fit into the picture.
function top(d: Drawn, bs: Band[], s: Series): number {
  let most = 1;
  for (let i = 0; i < s.t.length; i++) {
    if (s.t[i]! > d.to || (s.t[i + 1] ?? s.to) < d.from) continue;
    let sum = 0;
    for (const b of bs) sum += b.max[i]! || 0;
    most = Math.max(most, sum);
  }
  const r = line(d.rss, "rss");
  if (r && d.by === "kind") {
    for (let i = 0; i < r.max.length; i++) {
      if (d.rss!.t[i]! <= d.to && (d.rss!.t[i + 1] ?? d.rss!.to) >= d.from) most = Math.max(most, r.max[i] ?? 0);
    }
  }
  return most * 1.06;
}

const line = (s: Series | undefined, id: string): OneSeries | undefined => s?.series.find((x) => x.id === id);

export function classColour(c: Colours, cls: string): string {
  return c[("c-" + cls) as keyof Colours] ?? c["c-other"];
}

// draw draws all but what moves with the pointer and the selected step.
export function draw(canvas: HTMLCanvasElement, l: Layout, d: Drawn, c: Colours) {
  const x = pen(canvas, l.w, l.h);
  x.font = "11px " + sans;
  x.lineWidth = 1;
  const X = (t: number) => l.memory.x + ((t - d.from) / (d.to - d.from)) * l.memory.w;
  drawStrip(x, l, d, c);
  const s = d.part ?? d.whole;
  const bs = s ? bands(s, d.log.kinds) : [];
  const most = s ? top(d, bs, s) : 1;
  drawGrid(x, l, d, c, X, most);
  if (s) drawMemory(x, l, d, c, X, s, bs, most);
  drawEvents(x, l, d, c, X);
  drawLanes(x, l, d, c, X);
}

function drawStrip(x: CanvasRenderingContext2D, l: Layout, d: Drawn, c: Colours) {
  const b = l.strip;
  x.fillStyle = c.know;
  x.fillRect(b.x, b.y, b.w, b.h);
  x.fillStyle = c.dim;
  x.textAlign = "right";
  x.fillText(l.labels ? "whole run" : "all", b.x - 10, b.y + b.h / 2);
  const s = d.whole;
  if (!s) return;
  const bs = bands(s, d.log.kinds);
  const sum = s.t.map((_, i) => bs.reduce((a, q) => a + (q.max[i]! || 0), 0));
  const most = Math.max(1, ...sum) * 1.05;
  const end = d.log.duration || 1;
  x.fillStyle = c.system;
  x.beginPath();
  x.moveTo(b.x, b.y + b.h);
  for (let i = 0; i < sum.length; i++) {
    const y = b.y + b.h - (sum[i]! / most) * b.h;
    x.lineTo(b.x + (s.t[i]! / end) * b.w, y);
    x.lineTo(b.x + ((s.t[i + 1] ?? s.to) / end) * b.w, y);
  }
  x.lineTo(b.x + b.w, b.y + b.h);
  x.fill();
}

function drawGrid(x: CanvasRenderingContext2D, l: Layout, d: Drawn, c: Colours, X: (t: number) => number, most: number) {
  const m = l.memory;
  x.textAlign = "right";
  const step = nice(most / (m.h > 110 ? 5 : 3), true);
  for (let v = 0; v < most; v += step) {
    const y = Math.round(m.y + m.h - (v / most) * m.h) + 0.5;
    x.strokeStyle = c.line;
    x.beginPath();
    x.moveTo(m.x, y);
    x.lineTo(m.x + m.w, y);
    x.stroke();
    x.fillStyle = c.dim;
    x.fillText(v ? bytes(v) : "0", m.x - 10, y);
  }
  const span = d.to - d.from;
  const every = nice(span / Math.max(2, m.w / 110), false);
  x.textAlign = "center";
  for (let t = Math.ceil(d.from / every) * every; t <= d.to; t += every) {
    const px = Math.round(X(t)) + 0.5;
    x.strokeStyle = c.line;
    x.beginPath();
    x.moveTo(px, m.y);
    x.lineTo(px, l.lanes.y + l.lanes.h + 2);
    x.stroke();
    x.fillStyle = c.dim;
    const label = tick(t, every);
    const w = x.measureText(label).width / 2;
    x.fillText(label, Math.min(Math.max(px, w + 2), l.w - w - 2), l.axis);
  }
  if (l.labels) {
    x.save();
    x.translate(14, m.y + m.h / 2);
    x.rotate(-Math.PI / 2);
    x.fillStyle = c.ink;
    x.font = "600 11px " + sans;
    x.fillText(d.by === "kind" ? "Memory in use" : "Memory mapped", 0, 0);
    x.restore();
  }
}

function drawMemory(
  x: CanvasRenderingContext2D, l: Layout, d: Drawn, c: Colours, X: (t: number) => number, s: Series, bs: Band[], most: number,
) {
  const m = l.memory;
  const Y = (v: number) => m.y + m.h - (v / most) * m.h;
  const n = s.t.length;
  x.save();
  x.beginPath();
  x.rect(m.x, m.y - 2, m.w, m.h + 2);
  x.clip();
  const low = new Float64Array(n);
  const ends: { b: Band; y: number; v: number }[] = [];
  // At the very end processes have ended: names go by the last bucket that has memory.
  let e = bucket(s.t, d.to - 1);
  while (e > 0 && s.t[e]! > d.from && bs.every((b) => !(b.last[e]! > 0))) e--;
  for (const b of bs) {
    const high = low.slice();
    for (let i = 0; i < n; i++) high[i]! += b.max[i]! || 0;
    x.beginPath();
    for (let i = 0; i < n; i++) {
      const y = Y(high[i]!);
      x.lineTo(X(s.t[i]!), y);
      x.lineTo(X(s.t[i + 1] ?? s.to), y);
    }
    x.lineWidth = 1;
    x.strokeStyle = c.pan;
    const edge = new Path2D();
    for (let i = 0; i < n; i++) {
      edge.lineTo(X(s.t[i]!), Y(high[i]!));
      edge.lineTo(X(s.t[i + 1] ?? s.to), Y(high[i]!));
    }
    for (let i = n - 1; i >= 0; i--) {
      const y = Y(low[i]!);
      x.lineTo(X(s.t[i + 1] ?? s.to), y);
      x.lineTo(X(s.t[i]!), y);
    }
    x.fillStyle = c[b.group];
    x.globalAlpha = 0.88;
    x.fill();
    x.globalAlpha = 1;
    x.stroke(edge);
    ends.push({ b, y: (Y(high[e]!) + Y(low[e]!)) / 2, v: b.last[e]! });
    low.set(high);
  }
  if (d.base) drawOther(x, d, c, X, Y);
  const r = d.by === "kind" ? line(d.rss, "rss") : undefined;
  if (r) {
    x.strokeStyle = c.ink;
    x.lineWidth = 1.2;
    x.setLineDash([4, 3]);
    x.beginPath();
    let begun = false;
    for (const i of d.rss!.sampled ?? r.last.keys()) {
      if (r.last[i] == null) continue;
      const px = X(d.rss!.t[i]!);
      if (begun) x.lineTo(px, Y(r.last[i]!));
      else x.moveTo(px, Y(r.last[i]!));
      begun = true;
    }
    x.stroke();
    x.setLineDash([]);
    x.lineWidth = 1;
  }
  x.restore();
  if (l.labels) drawNames(x, l, c, ends, r !== undefined, d.base !== undefined);
}

// drawOther draws the sum of the other log as a line.
function drawOther(x: CanvasRenderingContext2D, d: Drawn, c: Colours, X: (t: number) => number, Y: (v: number) => number) {
  const s = d.base!;
  x.strokeStyle = c.bad;
  x.lineWidth = 1.6;
  x.beginPath();
  for (let i = 0; i < s.t.length; i++) {
    let sum = 0;
    for (const one of s.series) sum += one.max[i] ?? 0;
    x.lineTo(X(s.t[i]!), Y(sum));
    x.lineTo(X(s.t[i + 1] ?? s.to), Y(sum));
  }
  x.stroke();
  x.lineWidth = 1;
}

// drawNames puts the name of each band at its right end, so that colour is never the
// only sign of it.
function drawNames(
  x: CanvasRenderingContext2D, l: Layout, c: Colours, ends: { b: Band; y: number; v: number }[], rss: boolean, other: boolean,
) {
  const m = l.memory;
  const px = m.x + m.w + 9;
  x.textAlign = "left";
  let keys = 0;
  const key = (text: string, colour: string, dashed: boolean) => {
    const y = m.y + 6 + keys++ * 14;
    x.strokeStyle = colour;
    x.lineWidth = dashed ? 1.2 : 1.6;
    if (dashed) x.setLineDash([4, 3]);
    x.beginPath();
    x.moveTo(px, y);
    x.lineTo(px + 11, y);
    x.stroke();
    x.setLineDash([]);
    x.lineWidth = 1;
    x.fillStyle = c.ink;
    x.fillText(text, px + 15, y);
  };
  if (rss) key("RSS, kernel", c.ink, true);
  if (other) key("the other log", c.bad, false);
  const first = m.y + 6 + keys * 14 + (keys ? 3 : 0);
  const named = ends.filter((q) => q.v > 0);
  // From the bottom up, each above the one before; then back down if they stand too high.
  let floor = m.y + m.h + 8;
  const ys = named.map((q) => (floor = Math.min(q.y, floor - 14)));
  let roof = first;
  for (let i = ys.length - 1; i >= 0; i--) {
    if (ys[i]! < roof) ys[i] = roof;
    roof = ys[i]! + 14;
  }
  named.forEach((q, i) => {
    if (ys[i]! > m.y + m.h + 8) return; // no room: the small ones at the bottom of the list
    x.fillStyle = c[q.b.group];
    x.fillRect(px, ys[i]! - 5, 10, 10);
    x.fillStyle = c.ink;
    x.textAlign = "left";
    const v = bytes(q.v);
    x.fillText(cut(x, groupNames[q.b.group], l.w - 14 - x.measureText(v).width - px - 15), px + 15, ys[i]!);
    x.fillStyle = c.dim;
    x.textAlign = "right";
    x.fillText(v, l.w - 10, ys[i]!);
  });
}

function drawEvents(x: CanvasRenderingContext2D, l: Layout, d: Drawn, c: Colours, X: (t: number) => number) {
  const e = l.events;
  x.strokeStyle = c.line;
  x.beginPath();
  x.moveTo(e.x, e.y - 2.5);
  x.lineTo(e.x + e.w, e.y - 2.5);
  x.stroke();
  x.fillStyle = c.dim;
  x.textAlign = "right";
  x.fillText("events", e.x - 10, e.y + 8);
  x.save();
  x.beginPath();
  x.rect(e.x - 6, e.y - 2, e.w + 12, e.h + 2);
  x.clip();
  const ls = d.lanes;
  if (ls) {
    // Failures of all threads, a bar a bucket.
    x.fillStyle = c.bad;
    const failed = new Set<number>();
    for (const q of ls.lanes ?? []) q.at.forEach((i, k) => q.failed[k] && failed.add(i));
    for (const i of failed) {
      if (ls.t[i]! <= d.to && (ls.t[i + 1] ?? ls.to) >= d.from) x.fillRect(Math.round(X(ls.t[i]!)) - 0.5, e.y + 3, 2, 8);
    }
    // The gravest last, on top of what happened beside it.
    const grave = (m: LaneMark) => (m.kind === "fatal" ? 2 : m.kind === "snapshot" ? 0 : 1);
    const seen = (ls.marks ?? []).filter((m) => m.t >= d.from && m.t <= d.to).sort((p, q) => grave(p) - grave(q));
    for (const m of seen) drawMark(x, m, X(m.t), e.y, c);
  }
  x.restore();
  if (l.labels) {
    x.textAlign = "left";
    x.fillStyle = c.dim;
    x.fillText("▲ signal  ▮ failed", e.x + e.w + 9, e.y + 7);
  }
}

function drawMark(x: CanvasRenderingContext2D, m: LaneMark, px: number, y: number, c: Colours) {
  x.beginPath();
  switch (m.kind) {
    case "fatal":
    case "signal":
      x.fillStyle = m.kind === "fatal" ? c.bad : c.sel;
      x.moveTo(px, y - 1);
      x.lineTo(px + 5, y + 10);
      x.lineTo(px - 5, y + 10);
      break;
    case "exec":
      x.fillStyle = c.ink;
      x.moveTo(px, y + 1);
      x.lineTo(px + 4, y + 5.5);
      x.lineTo(px, y + 10);
      x.lineTo(px - 4, y + 5.5);
      break;
    case "fork":
    case "thread":
      x.fillStyle = c.ok;
      x.arc(px, y + 6, 2.8, 0, 7);
      break;
    case "exit":
      x.fillStyle = c.dim;
      x.rect(px - 2.5, y + 3, 5, 5);
      break;
    case "snapshot":
      x.fillStyle = c.system;
      x.rect(Math.round(px), y + 13, 1, 5);
      break;
    case "phase":
      x.fillStyle = c.ink;
      x.rect(Math.round(px), y, 1, 18);
      break;
    default: // lost, check
      x.fillStyle = c.bad;
      x.rect(px - 4, y + 4, 8, 3);
  }
  x.fill();
}

const waiting = (cls: string) => cls === "waiting";

function drawLanes(x: CanvasRenderingContext2D, l: Layout, d: Drawn, c: Colours, X: (t: number) => number) {
  const b = l.lanes;
  const end = b.x + b.w;
  const clampX = (px: number) => Math.min(end, Math.max(b.x, px));
  d.rows.slice(d.scroll, d.scroll + l.shown).forEach((r, i) => {
    const y = b.y + i * l.row;
    x.fillStyle = c.dim;
    x.textAlign = "right";
    x.fillText(cut(x, r.label, b.x - 14), b.x - 10, y + l.row / 2 + 0.5);
    for (const q of r.lanes) {
      const from = clampX(X(q.begin));
      x.fillStyle = c.know;
      x.fillRect(from, y + 2, Math.max(1, clampX(X(q.end)) - from), l.row - 4);
    }
    for (const q of r.lanes) drawLane(x, d, c, X, q, y, l.row, b);
  });
  const more = d.rows.length - d.scroll - l.shown + (d.lanes?.left ?? 0);
  if (l.labels) {
    const seen = new Set<string>();
    for (const q of d.lanes?.lanes ?? []) for (const k in q.calls) seen.add(k);
    const key = [...seen].filter((k) => !waiting(k));
    const order = (d.log.classes ?? []).filter((k) => key.includes(k));
    x.textAlign = "left";
    const names = [...order, ...(seen.size > order.length ? ["waiting"] : [])];
    const room = Math.floor((l.axis + 6 - b.y) / 13);
    const two = names.length > room;
    names.slice(0, two ? room * 2 : room).forEach((k, i) => {
      const px = end + 9 + (two && i >= room ? 68 : 0);
      const y = b.y + 6 + (i % room) * 13;
      x.fillStyle = k === "waiting" ? c.know : classColour(c, k);
      x.fillRect(px, y - 5, 10, 10);
      x.fillStyle = c.dim;
      x.fillText(k, px + 15, y);
    });
  }
  if (more > 0 || d.scroll > 0) {
    x.textAlign = "left";
    x.fillStyle = c.dim;
    x.fillText((d.scroll ? "↑ " : "") + (more > 0 ? "↓ " + count(more) + " more" : ""), 8, l.axis);
  }
}

function drawLane(
  x: CanvasRenderingContext2D, d: Drawn, c: Colours, X: (t: number) => number, q: Lane, y: number, row: number, b: Box,
) {
  const ls = d.lanes!;
  const classes = Object.keys(q.calls);
  for (let j = 0; j < q.at.length; j++) {
    const i = q.at[j]!;
    const t0 = ls.t[i]!;
    const t1 = ls.t[i + 1] ?? ls.to;
    if (t0 > d.to || t1 < d.from) continue;
    let best = "";
    let most = -1;
    let time = 0;
    let whose = "";
    let several = 0;
    const longest = q.longest[j] ?? 0;
    for (const k of classes) {
      const n = q.calls[k]![j] ?? 0;
      if (!n) continue;
      const took = q.time[k]?.[j] ?? 0;
      if (longest && took >= longest) {
        whose = k;
        several++;
      }
      if (waiting(k)) continue;
      time += took;
      if (n > most) {
        most = n;
        best = k;
      }
    }
    // A call that took longer than its bucket reaches back to its entry, if it is clear
    // of which class it is.
    const x1 = X(t1);
    if (several === 1 && !waiting(whose) && longest > t1 - t0) {
      const from = Math.max(b.x, X(t1 - longest));
      x.globalAlpha = 0.55;
      x.fillStyle = classColour(c, whose);
      if (x1 > from) x.fillRect(from, y + 1, Math.min(x1, b.x + b.w) - from, row - 2);
      x.globalAlpha = 1;
    }
    if (best) {
      const from = Math.max(b.x, X(t0));
      x.globalAlpha = 0.6 + 0.4 * Math.min(1, (time / (t1 - t0)) * 4);
      x.fillStyle = classColour(c, best);
      x.fillRect(from, y + 1, Math.max(1, Math.min(x1, b.x + b.w) - from), row - 2);
      x.globalAlpha = 1;
    }
    if (q.failed[j]) {
      x.fillStyle = c.bad;
      x.fillRect(Math.max(b.x, X(t0)), y + row - 3, Math.max(1.5, Math.min(3, x1 - X(t0))), 2);
    }
  }
}

export interface Over {
  t: number;
  step: number;
  a: number | null; // times of the marks
  b: number | null;
  hover: number | null; // time under the pointer
  drag: [number, number] | null; // times being chosen
  from: number;
  to: number;
  duration: number;
}

// drawOver draws what moves: the brush, the selected step, marks, the pointer.
export function drawOver(canvas: HTMLCanvasElement, l: Layout, o: Over, c: Colours) {
  const x = pen(canvas, l.w, l.h);
  x.font = "11px " + sans;
  const m = l.memory;
  const bottom = l.lanes.y + l.lanes.h + 2;
  const X = (t: number) => m.x + ((t - o.from) / (o.to - o.from)) * m.w;
  const s = l.strip;
  const f = s.x + (o.from / o.duration) * s.w;
  const u = s.x + (o.to / o.duration) * s.w;
  x.fillStyle = c.pan;
  x.globalAlpha = 0.6;
  x.fillRect(s.x, s.y, f - s.x, s.h);
  x.fillRect(u, s.y, s.x + s.w - u, s.h);
  x.globalAlpha = 1;
  x.strokeStyle = c.sel;
  x.lineWidth = 1.5;
  x.strokeRect(f, s.y - 0.5, Math.max(2, u - f), s.h + 1);
  x.fillStyle = c.sel;
  x.fillRect(f - 2, s.y + 4, 4, s.h - 8);
  x.fillRect(u - 2, s.y + 4, 4, s.h - 8);
  x.fillRect(s.x + (o.t / o.duration) * s.w - 0.5, s.y, 1, s.h);
  x.lineWidth = 1;
  const shade = (p: number, q: number, colour: string, alpha: number) => {
    const lo = Math.max(m.x, Math.min(X(p), X(q)));
    const hi = Math.min(m.x + m.w, Math.max(X(p), X(q)));
    x.globalAlpha = alpha;
    x.fillStyle = colour;
    if (hi > lo) x.fillRect(lo, m.y - 6, hi - lo, bottom - m.y + 6);
    x.globalAlpha = 1;
  };
  if (o.a !== null && o.b !== null) shade(o.a, o.b, c.ink, 0.06);
  if (o.drag) shade(o.drag[0], o.drag[1], c.sel, 0.16);
  if (o.hover !== null) {
    const px = Math.round(X(o.hover)) + 0.5;
    x.strokeStyle = c.dim;
    x.globalAlpha = 0.5;
    x.beginPath();
    x.moveTo(px, m.y - 6);
    x.lineTo(px, bottom);
    x.stroke();
    x.globalAlpha = 1;
  }
  for (const [name, t] of [["A", o.a], ["B", o.b]] as const) {
    if (t === null || t < o.from || t > o.to) continue;
    const px = Math.round(X(t)) + 0.5;
    x.strokeStyle = c.dim;
    x.setLineDash([2, 3]);
    x.beginPath();
    x.moveTo(px, m.y - 2);
    x.lineTo(px, bottom);
    x.stroke();
    x.setLineDash([]);
    flag(x, name, px, m.y - 9, c.dim, c.pan, m, "middle");
  }
  if (o.t >= o.from && o.t <= o.to) {
    const px = Math.round(X(o.t)) + 0.5;
    x.strokeStyle = c.sel;
    x.lineWidth = 1.5;
    x.beginPath();
    x.moveTo(px, m.y - 2);
    x.lineTo(px, bottom);
    x.stroke();
    x.lineWidth = 1;
    flag(x, "step " + count(o.step), px, m.y - 9, c.sel, c.seltext, m, "aside");
  }
}

function flag(
  x: CanvasRenderingContext2D, text: string, px: number, y: number, back: string, ink: string, m: Box, side: "middle" | "aside",
) {
  const w = x.measureText(text).width + 8;
  let left = side === "middle" ? px - w / 2 : px - w + 1;
  if (left < m.x - 4) left = Math.max(m.x - 4, px - 1);
  x.fillStyle = back;
  x.fillRect(left, y - 7, w, 14);
  x.fillStyle = ink;
  x.textAlign = "left";
  x.fillText(text, left + 4, y + 0.5);
}
