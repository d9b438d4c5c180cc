// The address space at the selected step: a row a mapping, or a file's mappings that lie
// next to each other. Length goes by the logarithm of the size.
import { h } from "preact";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { LogInfo, Maps, Mapping } from "./types";
import { type View, set } from "./state";
import { type Colours, type Loaded, cut, mono, pen, sans, useColours, useSize } from "./hooks";
import { base, bytes, count, hex } from "./format";
import { groupOf } from "./spinedraw";
import { AddrLink, Twin, Wait } from "./parts";

interface Part {
  m: Mapping;
  start: bigint;
  end: bigint;
}

interface Row {
  name: string;
  parts: Part[];
  bytes: number;
  written: number;
  far: boolean; // a great gap lies before it
  y: number;
}

const rowH = 17;

export function nameOf(m: Mapping): string {
  if (m.name) return base(m.name);
  if (m.kind.includes("stack")) return m.kind;
  if (m.perms.startsWith("---")) return "reserved";
  return "anonymous";
}

function group(maps: Maps | null | undefined): Row[] {
  const out: Row[] = [];
  for (const m of maps?.mappings ?? []) {
    const p = { m, start: BigInt(m.start), end: BigInt(m.end) };
    const last = out.at(-1);
    const before = last?.parts.at(-1);
    if (before && before.end === p.start && m.name && m.name === before.m.name) last!.parts.push(p);
    else if (before && before.end === p.start && p.m.perms.startsWith("---") && p.end - p.start <= 8192n) last!.parts.push(p);
    else out.push({ name: nameOf(m), parts: [p], bytes: 0, written: 0, far: before !== undefined && p.start - before.end > 1n << 30n, y: 0 });
  }
  let y = 6;
  for (const r of out) {
    // A guard page goes with the stack that follows it.
    r.bytes = r.parts.reduce((a, p) => a + p.m.bytes, 0);
    r.written = r.parts.reduce((a, p) => a + p.m.written, 0);
    if (r.far) y += 5;
    r.y = y;
    y += rowH;
  }
  return out;
}

interface Geometry {
  x0: number;
  bar: number;
  names: number;
}

function geometry(w: number): Geometry {
  const x0 = 96;
  const right = Math.min(206, Math.max(150, w * 0.42));
  return { x0, bar: Math.max(40, w - x0 - right), names: w - right + 8 };
}

// width is how long a row is drawn.
function width(r: Row, rows: Row[], g: Geometry): number {
  const most = Math.max(...rows.map((q) => q.bytes), 4096);
  return Math.max(5, (Math.log2(1 + r.bytes / 4096) / Math.log2(1 + most / 4096)) * g.bar);
}

function draw(canvas: HTMLCanvasElement, w: number, rows: Row[], log: LogInfo, view: View, c: Colours, hover: Row | null) {
  const height = (rows.at(-1)?.y ?? 0) + rowH + 6;
  const x = pen(canvas, w, height);
  const g = geometry(w);
  const at = /^0x[0-9a-f]+$/.test(view.addr) ? BigInt(view.addr) : -1n;
  for (const r of rows) {
    if (r.far) {
      x.strokeStyle = c.line;
      x.beginPath();
      x.moveTo(8, r.y - 3.5);
      x.lineTo(w - 8, r.y - 3.5);
      x.stroke();
    }
    if (r === hover) {
      x.fillStyle = c.know;
      x.fillRect(4, r.y - 0.5, w - 8, rowH);
    }
    x.font = "10.5px " + mono;
    x.textAlign = "right";
    x.fillStyle = c.dim;
    const a = r.parts[0]!.m.start.slice(2);
    x.fillText(a.length > 13 ? "…" + a.slice(-11) : a, g.x0 - 8, r.y + rowH / 2);
    drawBar(x, r, width(r, rows, g), g.x0, log, c, at);
    x.font = "11px " + sans;
    x.fillStyle = c.dim;
    const size = (r.written ? bytes(r.written) + " of " : "") + bytes(r.bytes);
    x.fillText(size, w - 10, r.y + rowH / 2);
    x.textAlign = "left";
    x.fillStyle = c.ink;
    x.fillText(cut(x, r.name, w - 10 - x.measureText(size).width - 8 - g.names), g.names, r.y + rowH / 2);
  }
}

function drawBar(x: CanvasRenderingContext2D, r: Row, ww: number, x0: number, log: LogInfo, c: Colours, at: bigint) {
  let px = x0;
  for (const p of r.parts) {
    const mw = Math.max(2, (p.m.bytes / (r.bytes || 1)) * ww);
    const colour = c[groupOf(log.kinds, p.m.kind)];
    x.fillStyle = c.know;
    x.fillRect(px, r.y + 1, mw, rowH - 3);
    const cells = p.m.cells ?? [];
    const n = cells.reduce((a, q) => a + q[0], 0) || 1;
    let i = 0;
    for (const [len, what] of cells) {
      const cx = px + (i / n) * mw;
      const cw = Math.max(0.6, (len / n) * mw);
      i += len;
      if (!what) continue;
      x.fillStyle = colour;
      x.globalAlpha = what === 4 ? 1 : what === 3 ? 0.78 : what === 2 ? 0.32 : 0.13;
      x.fillRect(cx, r.y + 1, cw, rowH - 3);
      x.globalAlpha = 1;
      if (what === 4) {
        x.fillStyle = c.ink;
        x.fillRect(cx, r.y + rowH - 4, Math.max(1.5, cw), 2);
      }
    }
    x.strokeStyle = colour;
    x.lineWidth = 1;
    x.strokeRect(px + 0.5, r.y + 1.5, Math.max(1, mw - 1), rowH - 4);
    if (at >= p.start && at < p.end) {
      const ax = px + (Number(at - p.start) / Number(p.end - p.start)) * mw;
      x.fillStyle = c.sel;
      x.fillRect(ax - 1, r.y - 1, 2, rowH + 1);
    }
    px += mw + 1;
  }
}

// under is the mapping, and the address in it, that is drawn at a place.
function under(px: number, r: Row, rows: Row[], g: Geometry): { p: Part; addr: bigint } {
  const ww = width(r, rows, g);
  let left = g.x0;
  for (const p of r.parts) {
    const mw = Math.max(2, (p.m.bytes / (r.bytes || 1)) * ww);
    if (px < left + mw || p === r.parts.at(-1)) {
      const part = Math.min(0.9999, Math.max(0, (px - left) / mw));
      const page = BigInt(Math.floor((Number(p.end - p.start) * part) / 4096)) * 4096n;
      return { p, addr: p.start + page };
    }
    left += mw + 1;
  }
  return { p: r.parts[0]!, addr: r.parts[0]!.start };
}

export function Space({ maps, log, view }: { maps: Loaded<Maps | null>; log: LogInfo; view: View }) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const size = useSize(box);
  const colours = useColours();
  const rows = useMemo(() => group(maps.value), [maps.value]);
  const [tip, setTip] = useState<{ x: number; y: number; r: Row } | null>(null);
  const height = (rows.at(-1)?.y ?? 0) + rowH + 6;
  useLayoutEffect(() => {
    if (canvas.current && size.w > 20) draw(canvas.current, size.w, rows, log, view, colours, tip?.r ?? null);
  }, [rows, size.w, colours, view.addr, log.kinds, tip?.r]);
  const at = (e: PointerEvent | MouseEvent) => {
    const b = canvas.current!.getBoundingClientRect();
    const x = e.clientX - b.left;
    const y = e.clientY - b.top;
    const r = rows.find((q) => y >= q.y && y < q.y + rowH);
    return r ? { x, y, r } : null;
  };
  const t = tip && rows.includes(tip.r) ? under(tip.x, tip.r, rows, geometry(size.w)) : null;
  const list = maps.value?.mappings ?? [];
  return (
    <div class="stack">
      <Wait busy={maps.busy && !maps.value} progress={-1} error={maps.error} />
      {maps.value === null && <p class="note">This file does not have the address space at this step.</p>}
      {maps.value && list.length === 0 && <p class="note">The process has no memory at this step.</p>}
      {view.twin ? (
        <div class="scroll" tabIndex={0} role="region" aria-label="Address space">
          <Twin
            caption={"Address space at step " + (maps.value?.at ?? view.at)}
            head={["start", "end", "permissions", "name", "size", "written", "file", "zero", "not in the log"]}
            rows={list.map((m) => [
              <AddrLink addr={m.start} />, m.end, m.perms, nameOf(m), bytes(m.bytes), bytes(m.written), bytes(m.file), bytes(m.zero), bytes(m.unknown),
            ])}
          />
        </div>
      ) : (
        <div class="scroll space" ref={box}>
          <div class="canvas" style={{ height: height + "px" }}>
            <canvas
              ref={canvas} style={{ height: height + "px" }} role="img"
              aria-label={"Address space: " + rows.length + " rows. t shows it as a table"}
              onPointerMove={(e) => setTip(at(e))}
              onPointerLeave={() => setTip(null)}
              onClick={(e) => {
                const p = at(e);
                if (p) set({ addr: hex(under(p.x, p.r, rows, geometry(size.w)).addr), right: "memory" });
              }}
            />
            {tip && t && <Tip x={tip.x} y={tip.r.y} w={size.w} p={t.p} addr={t.addr} below={tip.r.y < height / 2} />}
          </div>
        </div>
      )}
      {maps.value && maps.value.left > 0 && <p class="note">{maps.value.left} smaller mappings with {bytes(maps.value.left_bytes)} are left out.</p>}
      <div class="legend" aria-hidden="true">
        <span><i class="sq written" />written</span>
        <span><i class="sq file" />from file</span>
        <span><i class="sq zero" />zero, untouched</span>
        <span><i class="sq unknown" />not in the log</span>
        <span><i class="sq changed" />changed last</span>
      </div>
    </div>
  );
}

function Tip({ x, y, w, p, addr, below }: { x: number; y: number; w: number; p: Part; addr: bigint; below: boolean }) {
  const m = p.m;
  const place = { ...(below ? { top: y + rowH + 4 + "px" } : { bottom: `calc(100% - ${y - 4}px)` }), ...(x > w / 2 ? { right: w - x + "px" } : { left: x + "px" }) };
  return (
    <div class="tip wide" style={place}>
      <b>{m.name || m.kind}</b>
      <div class="m">{m.start}–{m.end} {m.perms}</div>
      <div class="dim">{m.kind}, {bytes(m.bytes)}{m.since != null && ", mapped at step " + count(m.since) + (m.by ? " by " + m.by : "")}</div>
      {m.written > 0 && <div class="row">written <span>{bytes(m.written)}</span></div>}
      {m.file > 0 && <div class="row">as in the file <span>{bytes(m.file)}</span></div>}
      {m.zero > 0 && <div class="row">zero, untouched <span>{bytes(m.zero)}</span></div>}
      {m.unknown > 0 && <div class="row">not in the log <span>{bytes(m.unknown)}</span></div>}
      <div class="dim">click: bytes at <span class="m">{hex(addr)}</span></div>
    </div>
  );
}
