// The drawings of reports: curves with bounds, and references by time and address.
import { h } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Chart } from "./types";
import type { Source } from "./source";
import type { View } from "./state";
import { type Colours, cut, pen, sans, useColours, useLoad, useSize } from "./hooks";
import { bytes, count, nice } from "./format";
import { Twin, Wait } from "./parts";

const shown: [string, string][] = [
  ["hot", "Pages by time and address"], ["memory-curve", "Misses by size of memory"], ["working-set", "Working set"], ["phases", "Phases"],
];

export function Pages({ source, view }: { source: Source; view: View }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Page references">
      {shown.map(([name, title]) => <One key={name} source={source} view={view} name={name} title={title} />)}
    </div>
  );
}

function One({ source, view, name, title }: { source: Source; view: View; name: string; title: string }) {
  const got = useLoad(
    (signal, progress) => source.charts({ log: view.log, pid: view.pid, at: view.at }, name, { signal, progress }),
    [view.log, view.seen, view.pid, name],
  );
  const charts = got.value?.charts ?? [];
  if (!got.busy && !got.error && !charts.length) return null;
  return (
    <section class="chart" aria-label={title}>
      <h4>{title}</h4>
      <Wait {...got} />
      {charts.map((c) => (view.twin ? <ChartTable chart={c} /> : <Drawing chart={c} />))}
    </section>
  );
}

interface Scale {
  lo: number;
  hi: number;
  log: boolean;
  binary: boolean;
}

function part(v: number, s: Scale): number {
  if (s.log) return (Math.log(Math.max(v, s.lo)) - Math.log(s.lo)) / (Math.log(s.hi) - Math.log(s.lo) || 1);
  return (v - s.lo) / (s.hi - s.lo || 1);
}

function scales(c: Chart): { x: Scale; y: Scale } {
  const xs: number[] = [];
  const ys: number[] = [0];
  for (const l of [...(c.lines ?? []), ...(c.stack ?? [])]) {
    for (const v of l.x) xs.push(v);
    for (const v of l.y) ys.push(v);
  }
  for (const b of c.bands ?? []) {
    for (const v of b.x) xs.push(v);
    for (const v of b.high) ys.push(v);
  }
  if (c.heat) xs.push(0, c.heat.width * c.heat.cells.length);
  const log = c.x.includes("logarithmic") || /^size/.test(c.x);
  const finite = xs.filter((v) => Number.isFinite(v) && (!log || v > 0));
  const range = (v: number[]) => v.reduce(([a, b], q) => [Math.min(a!, q), Math.max(b!, q)], [Infinity, -Infinity]) as [number, number];
  const [x0, x1] = finite.length ? range(finite) : [0, 1];
  const [, y1] = range(ys.filter(Number.isFinite));
  return {
    x: { lo: log ? x0 : Math.min(0, x0), hi: x1 > x0 ? x1 : x0 + 1, log, binary: /byte|size|memory/i.test(c.x) },
    y: { lo: 0, hi: (y1 || 1) * 1.05, log: false, binary: /byte/i.test(c.y) },
  };
}

const text = (v: number, s: Scale) => (s.binary ? bytes(v) : v >= 10000 || Number.isInteger(v) ? count(Math.round(v)) : String(Number(v.toPrecision(3))));

function Drawing({ chart }: { chart: Chart }) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const size = useSize(box);
  const colours = useColours();
  const height = chart.heat ? Math.min(320, Math.max(150, (chart.heat.cells[0]?.length ?? 0) * 2 + 40)) : 190;
  useLayoutEffect(() => {
    if (canvas.current && size.w > 60) drawChart(canvas.current, size.w, height, chart, colours);
  }, [chart, size.w, height, colours]);
  return (
    <div class="canvas" ref={box} style={{ height: height + "px" }}>
      <canvas ref={canvas} role="img" aria-label={(chart.title || "Chart") + ". t shows it as a table"} style={{ height: height + "px" }} />
    </div>
  );
}

const palette: (keyof Colours)[] = ["anonymous", "heap", "files", "shared", "stacks", "system"];

function drawChart(canvas: HTMLCanvasElement, w: number, hh: number, c: Chart, colours: Colours) {
  const x = pen(canvas, w, hh);
  const s = scales(c);
  const left = c.heat ? 104 : 66;
  const names = [...(c.lines ?? []), ...(c.bands ?? []), ...(c.stack ?? [])].map((q) => q.name);
  const top = names.length ? 22 : 8;
  const b = { x: left, y: top, w: w - left - 14, h: hh - top - 34 };
  const X = (v: number) => b.x + part(v, s.x) * b.w;
  const Y = (v: number) => b.y + b.h - part(v, s.y) * b.h;
  x.font = "11px " + sans;
  x.fillStyle = colours.dim;
  x.textAlign = "center";
  x.fillText(c.x, b.x + b.w / 2, hh - 7);
  for (const v of ticks(s.x, b.w / 90)) {
    const px = Math.round(X(v)) + 0.5;
    x.strokeStyle = colours.line;
    x.beginPath();
    x.moveTo(px, b.y);
    x.lineTo(px, b.y + b.h);
    x.stroke();
    x.fillText(text(v, s.x), Math.min(px, w - 24), b.y + b.h + 10);
  }
  if (c.heat) drawHeat(x, c.heat, b, X, colours);
  else {
    x.textAlign = "right";
    for (const v of ticks(s.y, 4)) {
      const py = Math.round(Y(v)) + 0.5;
      x.strokeStyle = colours.line;
      x.beginPath();
      x.moveTo(b.x, py);
      x.lineTo(b.x + b.w, py);
      x.stroke();
      x.fillText(text(v, s.y), b.x - 6, py);
    }
  }
  let k = 0;
  const lows = new Map<number, number>();
  for (const q of c.stack ?? []) {
    const colour = colours[palette[k++ % palette.length]!];
    x.fillStyle = colour;
    x.globalAlpha = 0.85;
    x.beginPath();
    const high = q.x.map((v, i) => (lows.get(v) ?? 0) + (q.y[i] ?? 0));
    q.x.forEach((v, i) => x.lineTo(X(v), Y(high[i]!)));
    for (let i = q.x.length - 1; i >= 0; i--) x.lineTo(X(q.x[i]!), Y(lows.get(q.x[i]!) ?? 0));
    x.fill();
    x.globalAlpha = 1;
    q.x.forEach((v, i) => lows.set(v, high[i]!));
  }
  for (const q of c.bands ?? []) {
    x.fillStyle = colours[palette[k++ % palette.length]!];
    x.globalAlpha = 0.25;
    x.beginPath();
    q.x.forEach((v, i) => x.lineTo(X(v), Y(q.high[i]!)));
    for (let i = q.x.length - 1; i >= 0; i--) x.lineTo(X(q.x[i]!), Y(q.low[i]!));
    x.fill();
    x.globalAlpha = 1;
  }
  for (const q of c.lines ?? []) {
    x.strokeStyle = q.dashed ? colours.ink : colours[palette[k++ % palette.length]!];
    x.lineWidth = 1.6;
    if (q.dashed) x.setLineDash([4, 3]);
    x.beginPath();
    q.x.forEach((v, i) => x.lineTo(X(v), Y(q.y[i]!)));
    x.stroke();
    x.setLineDash([]);
    x.lineWidth = 1;
  }
  for (const m of c.marks ?? []) {
    x.strokeStyle = m.grave ? colours.bad : colours.dim;
    x.beginPath();
    x.moveTo(X(m.x), b.y);
    x.lineTo(X(m.x), b.y + b.h);
    x.stroke();
  }
  legend(x, c, b, colours);
}

function legend(x: CanvasRenderingContext2D, c: Chart, b: { x: number; w: number }, colours: Colours) {
  let px = b.x;
  let k = 0;
  x.textAlign = "left";
  const all = [
    ...(c.stack ?? []).map((q) => ({ name: q.name, look: "fill" })), ...(c.bands ?? []).map((q) => ({ name: q.name, look: "band" })),
    ...(c.lines ?? []).map((q) => ({ name: q.name, look: q.dashed ? "dash" : "line" })),
  ];
  for (const q of all) {
    const colour = q.look === "dash" ? colours.ink : colours[palette[k++ % palette.length]!];
    const w = x.measureText(q.name).width + 26;
    if (px + w > b.x + b.w) return;
    x.fillStyle = colour;
    x.globalAlpha = q.look === "band" ? 0.35 : 1;
    if (q.look === "fill" || q.look === "band") x.fillRect(px, 5, 10, 10);
    else x.fillRect(px, 9, 10, 2);
    x.globalAlpha = 1;
    x.fillStyle = colours.dim;
    x.fillText(q.name, px + 14, 10);
    px += w;
  }
}

function drawHeat(
  x: CanvasRenderingContext2D, m: NonNullable<Chart["heat"]>, b: { x: number; y: number; w: number; h: number }, X: (v: number) => number, c: Colours,
) {
  const rows = m.cells[0]?.length ?? 0;
  const most = m.cells.reduce((a, col) => col.reduce((p, v) => Math.max(p, v), a), 0) || 1;
  const h1 = b.h / (rows || 1);
  x.fillStyle = c.know;
  x.fillRect(b.x, b.y, b.w, b.h);
  x.fillStyle = c.sel;
  m.cells.forEach((col, i) => {
    const x0 = X(i * m.width);
    const w = X((i + 1) * m.width) - x0;
    col.forEach((v, j) => {
      if (!v) return;
      x.globalAlpha = 0.25 + 0.75 * (Math.log1p(v) / Math.log1p(most));
      x.fillRect(x0, b.y + b.h - (j + 1) * h1, w + 0.4, h1 + 0.4);
    });
  });
  x.globalAlpha = 1;
  x.textAlign = "right";
  let before = Infinity;
  for (const l of m.labels ?? []) {
    const y = b.y + b.h - l.row * h1;
    x.strokeStyle = c.line;
    x.beginPath();
    x.moveTo(b.x, y);
    x.lineTo(b.x + b.w, y);
    x.stroke();
    if (before - (y - 6) < 12) continue;
    before = y - 6;
    x.fillStyle = c.dim;
    x.fillText(cut(x, l.name, b.x - 14), b.x - 6, y - 6);
  }
  x.strokeStyle = c.ink;
  for (const v of m.cuts ?? []) {
    x.beginPath();
    x.moveTo(X(v), b.y);
    x.lineTo(X(v), b.y + b.h);
    x.stroke();
  }
}

function ticks(s: Scale, n: number): number[] {
  const out: number[] = [];
  if (s.log) {
    const base = s.binary ? 4 : 10;
    let v = s.binary ? 4096 : 1;
    while (v > s.lo) v /= base;
    for (; v <= s.hi; v *= base) if (v >= s.lo) out.push(v);
    while (out.length > Math.max(2, n * 1.2)) for (let i = out.length - 2; i >= 0; i -= 2) out.splice(i, 1);
    return out;
  }
  const step = nice((s.hi - s.lo) / Math.max(2, n), s.binary);
  for (let v = Math.ceil(s.lo / step) * step; v <= s.hi; v += step) out.push(v);
  return out;
}

function ChartTable({ chart }: { chart: Chart }) {
  const s = scales(chart);
  const lines = [...(chart.stack ?? []), ...(chart.lines ?? [])];
  if (chart.heat) {
    const m = chart.heat;
    const labels = m.labels ?? [];
    return (
      <Twin
        caption={chart.title || "References"}
        head={["where", "references", "from", "to"]}
        rows={labels.map((l, i) => {
          const end = labels[i + 1]?.row ?? m.cells[0]?.length ?? 0;
          let sum = 0;
          let first = -1;
          let last = -1;
          m.cells.forEach((col, t) => {
            const v = col.slice(l.row, end).reduce((a, q) => a + q, 0);
            sum += v;
            if (v && first < 0) first = t;
            if (v) last = t;
          });
          return [l.name, count(Math.round(sum)), first < 0 ? "" : text(first * m.width, s.x), last < 0 ? "" : text((last + 1) * m.width, s.x)];
        })}
      />
    );
  }
  const xs = (lines[0]?.x ?? chart.bands?.[0]?.x ?? []).filter((_, i, a) => i % Math.ceil(a.length / 40) === 0);
  return (
    <Twin
      caption={chart.title}
      head={[chart.x, ...lines.map((l) => l.name), ...(chart.bands ?? []).map((q) => q.name)]}
      rows={xs.map((v) => [
        text(v, s.x), ...lines.map((l) => near(l.x, v, (i) => text(l.y[i]!, s.y))),
        ...(chart.bands ?? []).map((q) => near(q.x, v, (i) => text(q.low[i]!, s.y) + " to " + text(q.high[i]!, s.y))),
      ])}
    />
  );
}

function near(xs: number[], v: number, show: (i: number) => string): string {
  let at = -1;
  for (let i = 0; i < xs.length && xs[i]! <= v; i++) at = i;
  return at < 0 ? "" : show(at);
}
