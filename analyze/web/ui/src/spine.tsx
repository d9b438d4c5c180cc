// The time axis: the whole run with a brush, memory by kind, events, a lane a thread.
import { h } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { LaneMark, Lanes, LogInfo, Series } from "./types";
import type { Source } from "./source";
import { type View, set } from "./state";
import { useColours, useLatest, useLoad, useSize } from "./hooks";
import { bytes, count, time } from "./format";
import { type Layout, bands, bucket, draw, drawOver, groupNames, layout, rows } from "./spinedraw";
import { goto, stepOf, timeOf } from "./go";
import { StepLink, Twin } from "./parts";
import { Since } from "./since";

interface Props {
  source: Source;
  log: LogInfo;
  other: LogInfo | undefined; // of two logs, the one that is not looked at
  view: View;
}

const buckets = 1200;

export function Spine({ source, log, other, view }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const under = useRef<HTMLCanvasElement>(null);
  const over = useRef<HTMLCanvasElement>(null);
  const size = useSize(box);
  const colours = useColours();
  const [hover, setHover] = useState<{ x: number; y: number } | null>(null);
  const [drag, setDrag] = useState<[number, number] | null>(null);
  const [scroll, setScroll] = useState(0);
  const all = { log: view.log, pid: 0, from: 0, to: log.duration };
  const span = { log: view.log, pid: 0, from: view.from, to: view.to };
  const zoomed = source.live && (view.from > 0 || view.to < log.duration);
  const ready = log.ready;

  const [again, setAgain] = useState(0);
  const first = useLoad((s) => source.series(view.by, all, buckets, s), [view.by, view.log, ready, log.duration, again]);
  const whole = first.value;
  const rssAll = useLoad((s) => source.series("rss", all, buckets, s), [view.log, ready, log.duration, again]).value;
  const lanesAll = useLoad((s) => source.lanes(all, buckets, s), [view.log, ready, log.duration, again]).value;
  // What is not whole yet is asked for again.
  useEffect(() => {
    if (!source.live || ![whole, rssAll, lanesAll].some((s) => s && s.ready < 1)) return;
    const timer = setTimeout(() => setAgain((n) => n + 1), 400);
    return () => clearTimeout(timer);
  }, [whole, rssAll, lanesAll]);
  const keys = [view.by, view.log, view.seen, view.from, view.to, zoomed, ready, again];
  const part = useLoad(zoomed ? (s) => source.series(view.by, span, buckets, s) : null, keys, 50);
  const rssPart = useLoad(zoomed ? (s) => source.series("rss", span, buckets, s) : null, keys, 50);
  const lanesPart = useLoad(zoomed ? (s) => source.lanes(span, buckets, s) : null, keys, 50);
  const base = useLoad(
    other && source.live
      ? (s) => source.series(view.by, { ...all, log: 1 - view.log, to: other.duration }, buckets, s)
      : null,
    [view.by, view.log, other?.ready],
  ).value;

  const mem = pick(part.value, whole, view);
  const rss = pick(rssPart.value, rssAll, view);
  const lanes = pick(lanesPart.value, lanesAll, view);
  const shownRows = useMemo(() => rows(lanesAll, log, view.folded), [lanesAll, log, view.folded]);
  // The rows are those of the whole run, their contents those of the part.
  const filled = useMemo(() => {
    if (lanes === lanesAll || !lanes) return shownRows;
    const by = new Map((lanes.lanes ?? []).map((q) => [q.proc + "/" + q.tid, q]));
    return shownRows.map((r) => ({ ...r, lanes: r.lanes.flatMap((q) => by.get(q.proc + "/" + q.tid) ?? []) }));
  }, [lanes, lanesAll, shownRows]);
  const tall = Math.min(innerHeight > 1000 ? 420 : 330, (innerHeight < 700 ? 218 : 250) + 12 * Math.max(1, filled.length));
  const l = layout(size.w, tall, Math.max(1, filled.length));
  const firstRow = Math.min(scroll, Math.max(0, filled.length - l.shown));

  // What time a step has is known from the series, as exactly as these are.
  useEffect(() => stepTimes(whole, mem), [whole, mem]);

  useLayoutEffect(() => {
    if (!under.current || size.w < 10) return;
    draw(under.current, l, {
      whole, part: mem, rss, lanes, rows: filled, scroll: firstRow, log, from: view.from, to: view.to, by: view.by, base,
    }, colours);
  }, [whole, mem, rss, lanes, filled, firstRow, log, view.from, view.to, view.by, base, size, colours]);

  const at = (px: number) => view.from + ((px - l.memory.x) / l.memory.w) * (view.to - view.from);
  const inside = (p: { x: number; y: number }) =>
    p.x >= l.memory.x - 3 && p.x <= l.memory.x + l.memory.w + 3 && p.y > l.strip.y + l.strip.h + 4;
  const ht = hover && inside(hover) ? clamp(at(hover.x), view.from, view.to) : null;

  useLayoutEffect(() => {
    if (!over.current || size.w < 10) return;
    drawOver(over.current, l, {
      t: view.t, step: view.at, a: view.a === null ? null : timeOf(view.a), b: view.b === null ? null : timeOf(view.b),
      hover: ht, drag, from: view.from, to: view.to, duration: log.duration || 1,
    }, colours);
  }, [view.t, view.at, view.a, view.b, ht, drag, view.from, view.to, size, colours, log.duration, whole, l.shown]);

  const pointer = usePointer(box, l, view, log, at, (p) => setHover(p), setDrag, (p) => {
    const i = Math.floor((p.y - l.lanes.y) / l.row) + firstRow;
    const r = p.x < l.lanes.x && p.y >= l.lanes.y ? filled[i] : undefined;
    if (r && r.kind !== "thread") fold(view, r.proc);
    return r !== undefined;
  });
  const wheel = useLatest((e: WheelEvent) => {
    const p = place(box.current!, e);
    if (p.y > l.lanes.y && filled.length > l.shown && !e.ctrlKey) {
      e.preventDefault();
      setScroll(clamp(firstRow + Math.sign(e.deltaY), 0, filled.length - l.shown));
      return;
    }
    const scrolls = document.documentElement.scrollHeight > innerHeight + 2;
    if (Math.abs(e.deltaX) > Math.abs(e.deltaY)) {
      e.preventDefault();
      pan(view, log, (e.deltaX / l.memory.w) * 0.8);
    } else if (!scrolls || e.ctrlKey || e.metaKey) {
      e.preventDefault();
      zoom(view, log, Math.exp(e.deltaY * 0.0015), clamp(at(p.x), view.from, view.to));
    }
  });
  useEffect(() => {
    const el = box.current!;
    el.addEventListener("wheel", wheel, { passive: false });
    return () => el.removeEventListener("wheel", wheel);
  }, []);

  const lane = lanes && hover && ht !== null ? nearMark(lanes.marks ?? [], ht, ((view.to - view.from) / l.memory.w) * 6, hover.y, l) : null;
  const failed = part.error || first.error;
  return (
    <section class="spine" aria-label="Time" id="spine">
      {view.twin ? (
        <SpineTables whole={mem} rss={rss} lanes={lanes} log={log} />
      ) : (
        <div class="draw" ref={box} {...pointer} style={{ height: tall + "px" }}>
          <canvas ref={under} aria-hidden="true" />
          <canvas
            ref={over}
            tabIndex={0}
            role="slider"
            aria-label="Selected step. Left and right arrow keys move it; t shows this drawing as a table"
            aria-valuemin={0}
            aria-valuemax={Math.max(0, log.steps - 1)}
            aria-valuenow={view.at}
            aria-valuetext={"step " + count(view.at) + ", " + time(view.t)}
          />
          {ht !== null && !drag && mem && <Tip x={hover!.x} l={l} t={ht} mem={mem} rss={rss} mark={lane} log={log} />}
        </div>
      )}
      {mem && ((view.a !== null && view.b !== null && view.a !== view.b) || base) && (
        <Since source={source} log={log} other={other} view={view} l={l} mem={mem} whole={whole} base={base} colours={colours} />
      )}
      {!l.labels && !view.twin && mem && (
        <div class="legend" aria-hidden="true">
          {bands(mem, log.kinds).map((b) => <span key={b.group}><i class={"sq " + b.group} />{groupNames[b.group]}</span>)}
          {view.by === "kind" && rss && <span><i class="sq dash" />RSS</span>}
        </div>
      )}
      {log.ready < 1 && !log.failed && (
        <div class="bar" role="progressbar" aria-label="Reading the log" aria-valuenow={Math.round(log.ready * 100)}>
          <i style={{ width: log.ready * 100 + "%" }} />
        </div>
      )}
      {(failed || log.failed) && <p class="note bad">{failed || log.failed}</p>}
    </section>
  );
}

// pick is the finer answer, if it has all that is looked at; else the whole run.
function pick<T extends { from: number; to: number; t: number[] }>(part: T | undefined, whole: T | undefined, v: View): T | undefined {
  if (!part) return whole;
  return part.from <= v.from + 1e6 && part.to >= v.to - 1e6 ? part : whole;
}

function stepTimes(whole: Series | undefined, part: Series | undefined) {
  if (whole) stepOf.whole = whole;
  stepOf.part = part;
}

const clamp = (x: number, lo: number, hi: number) => Math.min(hi, Math.max(lo, x));

export function zoom(v: View, log: LogInfo, factor: number, around = v.t >= v.from && v.t <= v.to ? v.t : (v.from + v.to) / 2) {
  const least = Math.min(log.duration, 1000); // ns
  const span = clamp((v.to - v.from) * factor, least, log.duration || 1);
  const part = (around - v.from) / (v.to - v.from || 1);
  const from = clamp(around - part * span, 0, Math.max(0, log.duration - span));
  set({ from, to: from + span });
}

export function pan(v: View, log: LogInfo, part: number) {
  const span = v.to - v.from;
  const from = clamp(v.from + part * span, 0, Math.max(0, log.duration - span));
  set({ from, to: from + span });
}

export function fold(v: View, proc: number) {
  set({ folded: v.folded.includes(proc) ? v.folded.filter((p) => p !== proc) : [...v.folded, proc] });
}

function place(el: HTMLElement, e: { clientX: number; clientY: number }) {
  const r = el.getBoundingClientRect();
  return { x: e.clientX - r.left, y: e.clientY - r.top };
}

// usePointer is what mouse, pen and finger do: move and reshape the brush in the strip,
// choose a step or a part of the time below.
function usePointer(
  box: { current: HTMLDivElement | null }, l: Layout, view: View, log: LogInfo, at: (x: number) => number,
  hover: (p: { x: number; y: number } | null) => void, drag: (d: [number, number] | null) => void,
  label: (p: { x: number; y: number }) => boolean,
) {
  const held = useRef<{ what: "new" | "from" | "to" | "move" | "zoom"; x: number; from: number; to: number; moved: boolean } | null>(null);
  const down = (e: PointerEvent) => {
    if (e.button !== 0) return;
    const p = place(box.current!, e);
    if (label(p)) return;
    const s = l.strip;
    const end = log.duration || 1;
    if (p.y < s.y + s.h + 4) {
      const f = s.x + (view.from / end) * s.w;
      const u = s.x + (view.to / end) * s.w;
      const all = view.from <= 0 && view.to >= end;
      const what = Math.abs(p.x - f) < 7 ? "from" : Math.abs(p.x - u) < 7 ? "to" : p.x > f && p.x < u && !all ? "move" : "new";
      held.current = { what, x: p.x, from: view.from, to: view.to, moved: false };
    } else if (p.x >= l.memory.x - 4 && p.x <= l.memory.x + l.memory.w + 4) {
      held.current = { what: "zoom", x: p.x, from: view.from, to: view.to, moved: false };
    } else return;
    (e.currentTarget as HTMLElement).setPointerCapture(e.pointerId);
  };
  const move = (e: PointerEvent) => {
    const p = place(box.current!, e);
    const g = held.current;
    if (!g) return hover(p);
    if (Math.abs(p.x - g.x) > 4) g.moved = true;
    if (!g.moved) return;
    const end = log.duration || 1;
    const T = (x: number) => clamp(((x - l.strip.x) / l.strip.w) * end, 0, end);
    const least = end / 1e6;
    switch (g.what) {
      case "from":
        return set({ from: Math.min(T(p.x), g.to - least) });
      case "to":
        return set({ to: Math.max(T(p.x), g.from + least) });
      case "new":
        return set({ from: Math.min(T(g.x), T(p.x)), to: Math.max(T(g.x), T(p.x), T(g.x) + least) });
      case "move": {
        const d = clamp(((p.x - g.x) / l.strip.w) * end, -g.from, end - g.to);
        return set({ from: g.from + d, to: g.to + d });
      }
      case "zoom":
        return drag([clamp(at(g.x), view.from, view.to), clamp(at(p.x), view.from, view.to)]);
    }
  };
  const up = (e: PointerEvent) => {
    const g = held.current;
    held.current = null;
    drag(null);
    if (!g) return;
    const p = place(box.current!, e);
    if (g.what === "zoom") {
      const t = clamp(at(p.x), view.from, view.to);
      if (!g.moved) goto(stepOf(t), t);
      else {
        const u = clamp(at(g.x), view.from, view.to);
        if (Math.abs(t - u) > 0) set({ from: Math.min(t, u), to: Math.max(t, u) });
      }
    } else if (!g.moved) {
      const t = ((p.x - l.strip.x) / l.strip.w) * (log.duration || 1);
      goto(stepOf(clamp(t, 0, log.duration)), clamp(t, 0, log.duration));
    }
  };
  return {
    onPointerDown: down,
    onPointerMove: move,
    onPointerUp: up,
    onPointerCancel: () => {
      held.current = null;
      drag(null);
    },
    onPointerLeave: () => hover(null),
    onDblClick: () => set({ from: 0, to: log.duration || 1 }),
  };
}

function nearMark(ms: LaneMark[], t: number, reach: number, y: number, l: Layout): LaneMark | null {
  if (y < l.events.y - 4 || y > l.events.y + l.events.h + 2) return null;
  let best: LaneMark | null = null;
  for (const m of ms) if (Math.abs(m.t - t) <= reach && (!best || Math.abs(m.t - t) < Math.abs(best.t - t))) best = m;
  return best;
}

function Tip({ x, l, t, mem, rss, mark, log }: {
  x: number; l: Layout; t: number; mem: Series; rss: Series | undefined; mark: LaneMark | null; log: LogInfo;
}) {
  const i = bucket(mem.t, t);
  const bs = bands(mem, log.kinds).filter((b) => b.last[i]! > 0);
  const r = rss?.series.find((s) => s.id === "rss");
  const v = r?.last[rss ? bucket(rss.t, t) : 0];
  const right = x > l.w / 2;
  return (
    <div class="tip" style={{ top: l.memory.y + 4 + "px", ...(right ? { right: l.w - x + 12 + "px" } : { left: x + 12 + "px" }) }}>
      <b>{time(t)}</b> <span class="dim">step {count(mem.step[i] ?? 0)}</span>
      {mark && <div>{mark.text || mark.kind}</div>}
      {[...bs].reverse().map((b) => (
        <div class="row" key={b.group}>
          <i class={"sq " + b.group} /> {groupNames[b.group]}
          <span>{bytes(b.last[i]!)}{b.max[i]! > b.last[i]! * 1.05 ? " (up to " + bytes(b.max[i]!) + ")" : ""}</span>
        </div>
      ))}
      {v != null && <div class="row"><i class="sq dash" /> RSS, kernel <span>{bytes(v)}</span></div>}
    </div>
  );
}

const most = 40; // rows of the table of memory

// SpineTables is what the drawing says, in tables.
function SpineTables({ whole, rss, lanes, log }: {
  whole: Series | undefined; rss: Series | undefined; lanes: Lanes | undefined; log: LogInfo;
}) {
  const bs = whole ? bands(whole, log.kinds) : [];
  const every = whole ? Math.max(1, Math.ceil(whole.t.length / most)) : 1;
  const r = rss?.series.find((s) => s.id === "rss");
  return (
    <div class="twins">
      <Twin
        caption="Memory by kind over time"
        head={["time", "step", ...bs.map((b) => groupNames[b.group]), "RSS"]}
        rows={(whole?.t ?? []).flatMap((t, i) => {
          if (i % every) return [];
          const v = r && rss ? r.last[bucket(rss.t, t)] : null;
          return [[
            time(t), <StepLink step={whole!.step[i]!} t={t} />, ...bs.map((b) => (b.last[i]! >= 0 ? bytes(b.last[i]!) : "")), v != null ? bytes(v) : "",
          ]];
        })}
      />
      <Twin
        caption="Events"
        head={["time", "step", "process", "what"]}
        rows={(lanes?.marks ?? []).slice(0, 200).map((m) => [time(m.t), <StepLink step={m.step} t={m.t} />, m.pid, m.text || m.kind])}
      />
      <Twin
        caption="Threads"
        head={["thread", "process", "from", "to", "calls", "failed", "longest"]}
        rows={(lanes?.lanes ?? []).map((q) => {
          const calls = Object.values(q.calls).reduce((a, v) => a + v.reduce((s, n) => s + n, 0), 0);
          const longest = q.longest.reduce((a, v) => Math.max(a, v), 0);
          const where = q.longest_step[q.longest.indexOf(longest)] ?? 0;
          return [
            q.tid, q.pid, time(q.begin), time(q.end), count(calls), count(q.failed.reduce((s, n) => s + n, 0)),
            longest ? <span>{time(longest)} at <StepLink step={where} /></span> : "",
          ];
        })}
      />
    </div>
  );
}
