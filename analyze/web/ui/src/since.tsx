// A track below the time axis: by how much memory differs from what it was at mark A, up to
// mark B; or two logs from one another.
import { Fragment, h } from "preact";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import type { LogInfo, Series } from "./types";
import type { Source } from "./source";
import { type View, set } from "./state";
import { type Colours, pen, sans, useLoad } from "./hooks";
import { base as nameOf, bytes, count, signed, time } from "./format";
import { type Band, type Layout, bands, bucket, groupNames, groupOf, groups } from "./spinedraw";
import { moved } from "./compare";
import { timeOf } from "./go";
import { StepLink, Twin } from "./parts";

const tall = 62;
const foot = 8;
const title = "B − A";

// Delta is a group of memory over time, as what it has more than what it is compared with.
interface Delta {
  group: Band["group"];
  by: Float64Array; // of each bucket, NaN where it is not compared
}

// deltas are those of a series from its values at a time, or from another series.
function deltas(s: Series, log: LogInfo, sign: number, marks: [number, number] | null, whole: Series | undefined, other: Series | undefined, otherLog: LogInfo | undefined): Delta[] {
  const mine = new Map(bands(s, log.kinds).map((b) => [b.group, b]));
  const from = marks ? (s.from <= marks[0] && marks[0] <= s.to ? s : whole ?? s) : other;
  if (!from) return [];
  const theirs = new Map(bands(from, (marks ? log : otherLog ?? log).kinds).map((b) => [b.group, b]));
  const first = marks ? bucket(from.t, marks[0]) : 0;
  // Where one of two logs has no process, nothing is compared.
  const alive = (of: Map<string, Band>, i: number) => [...of.values()].some((b) => b.last[i]! > 0);
  const out: Delta[] = [];
  for (const group of groups) {
    const [p, q] = [mine.get(group), theirs.get(group)];
    if (!p && !q) continue;
    const by = new Float64Array(s.t.length).fill(NaN);
    for (let i = 0; i < by.length; i++) {
      const t = s.t[i]!;
      if (marks && ((s.t[i + 1] ?? s.to) <= marks[0] || t > marks[1])) continue;
      const j = marks ? first : bucket(from.t, t);
      if (!marks && (t > from.to || !alive(mine, i) || !alive(theirs, j))) continue;
      by[i] = sign * ((p?.last[i] || 0) - (q?.last[j] || 0));
    }
    out.push({ group, by });
  }
  return out;
}

function paint(canvas: HTMLCanvasElement, l: Layout, s: Series, ds: Delta[], view: View, c: Colours) {
  const x = pen(canvas, l.w, tall);
  const m = l.memory;
  x.font = "11px " + sans;
  let up = 1;
  let down = 0;
  for (let i = 0; i < s.t.length; i++) {
    let [p, n] = [0, 0];
    for (const d of ds) if (d.by[i]! > 0) p += d.by[i]!; else n -= d.by[i]! || 0;
    up = Math.max(up, p);
    down = Math.max(down, n);
  }
  const room = tall - foot - 8;
  const Y = (v: number) => 6 + ((up - v) / (up + down)) * room;
  const X = (t: number) => m.x + ((t - view.from) / (view.to - view.from)) * m.w;
  x.save();
  x.beginPath();
  x.rect(m.x, 0, m.w, tall);
  x.clip();
  const high = new Float64Array(s.t.length);
  const low = new Float64Array(s.t.length);
  for (const d of ds) {
    x.fillStyle = c[d.group];
    for (let i = 0; i < s.t.length; i++) {
      const v = d.by[i]!;
      if (!v || Number.isNaN(v)) continue;
      const at = v > 0 ? high : low;
      const left = X(s.t[i]!);
      const w = Math.max(0.6, X(s.t[i + 1] ?? s.to) - left);
      const [y0, y1] = [Y(at[i]!), Y(at[i]! + v)];
      at[i]! += v;
      x.fillRect(left, Math.min(y0, y1), w + 0.4, Math.abs(y1 - y0));
    }
  }
  x.restore();
  if (up === 1 && !down) {
    x.fillStyle = c.dim;
    x.textAlign = "center";
    x.fillText(view.by === "kind" ? "No snapshot saw a difference here. m shows what is mapped." : "Nothing that is mapped differs here.", m.x + m.w / 2, tall / 2 - 8);
  }
  x.strokeStyle = c.dim;
  x.beginPath();
  x.moveTo(m.x, Math.round(Y(0)) + 0.5);
  x.lineTo(m.x + m.w, Math.round(Y(0)) + 0.5);
  x.stroke();
  x.fillStyle = c.dim;
  x.textAlign = "right";
  if (up > 1) x.fillText("+" + bytes(up), m.x - 10, 11);
  x.fillText("0", m.x - 10, Math.max(23, Math.min(tall - foot - (down ? 14 : 2), Y(0))));
  if (down) x.fillText("−" + bytes(down), m.x - 10, tall - foot - 1);
  if (l.labels) {
    x.textAlign = "left";
    x.fillStyle = c.ink;
    x.font = "600 11px " + sans;
    x.fillText(title, m.x + m.w + 9, 11);
  }
}

export function Since({ source, log, other, view, l, mem, whole, base, colours }: {
  source: Source; log: LogInfo; other: LogInfo | undefined; view: View; l: Layout; mem: Series; whole: Series | undefined; base: Series | undefined; colours: Colours;
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const marked = view.a !== null && view.b !== null && view.a !== view.b;
  const [a, b] = marked ? [Math.min(view.a!, view.b!), Math.max(view.a!, view.b!)] : [0, 0];
  const marks = useMemo<[number, number] | null>(() => (marked ? [timeOf(a), timeOf(b)] : null), [marked, a, b, whole]);
  const ds = useMemo(() => deltas(mem, log, marks || view.log === 1 ? 1 : -1, marks, whole, base, other), [mem, log, view.log, marks, whole, base, other]);
  const at = { log: view.log, pid: view.pid };
  const spaces = useLoad(
    marked ? (s) => Promise.all([source.maps({ ...at, at: a }, s), source.maps({ ...at, at: b }, s)]) : null,
    [view.log, view.pid, marked, a, b],
    150,
  );
  useLayoutEffect(() => {
    if (canvas.current && l.w > 10) paint(canvas.current, l, mem, ds, view, colours);
  }, [ds, l.w, view.from, view.to, colours, view.twin]);

  const [p, q] = spaces.value ?? [null, null];
  const list = useMemo(() => (p && q ? moved(p.mappings ?? [], q.mappings ?? []) : []), [p, q]);
  const byKind = useMemo(() => sums(p?.mappings ?? [], q?.mappings ?? [], log, view.by), [p, q, log, view.by]);
  const say = (what: string, word: string) => {
    const of = list.filter((x) => x.what === what);
    return of.length ? count(of.length) + " " + word + " (" + signed(of.reduce((n, x) => n + x.by, 0)) + ")" : "";
  };
  const words = [say("came", "came"), say("went", "went"), say("grew", "grew"), say("shrank", "shrank")].filter(Boolean);
  const peaks = marked || !base ? [] : peak(view.log === 0 ? [mem, log] : [base, other ?? log], view.log === 0 ? [base, other ?? log] : [mem, log]);
  const several = (log.processes ?? []).length > 1;
  return (
    <div class="since" role="group" aria-label={marked ? "Difference of the marks" : "Difference of the logs"}>
      {view.twin ? (
        <Table s={mem} ds={ds} />
      ) : (
        <div class="canvas" style={{ height: tall + "px" }}>
          <canvas ref={canvas} style={{ height: tall + "px" }} role="img" aria-label={title + ", memory by kind over time. t shows it as a table"} />
        </div>
      )}
      <p>
        <b>{title}</b>
        {marked ? (
          <Fragment>
            <span class="dim">{several ? "process " + (q?.pid ?? view.pid) + ", " : ""}{view.by === "kind" ? "written" : "mapped"}:</span>
            {byKind.map(([g, n]) => <span><i class={"sq " + g} /> {groupNames[g]} {signed(n)}</span>)}
            {p && q && !byKind.length && <span>the same</span>}
            {p && q && <span class="dim">mappings: {words.length ? words.join(", ") : "the same"}</span>}
            {spaces.value && !(p && q) && <span class="dim">the process has no address space at one of them</span>}
            {p && q && (p.at !== a || q.at !== b) && <span class="dim">as of steps <StepLink step={p.at} /> and <StepLink step={q.at} /></span>}
            {spaces.error && <span class="bad">{spaces.error}</span>}
            {list.length > 0 && <span class="dim cut">{largest(list)}</span>}
          </Fragment>
        ) : (
          <Fragment>
            <span class="dim">at the highest {view.by === "kind" ? "in use" : "mapped"}:</span>
            {peaks.length === 0 && <span>the same</span>}
            {peaks.map(([g, n]) => <span><i class={"sq " + g} /> {groupNames[g]} {signed(n)}</span>)}
          </Fragment>
        )}
        <button class="link end" onClick={() => set({ middle: "diff" })}>details</button>
      </p>
    </div>
  );
}

// largest names the mapping that accounts for most.
function largest(list: ReturnType<typeof moved>): string {
  const m = [...list].sort((x, y) => Math.abs(y.by) - Math.abs(x.by))[0]!;
  return "most: " + (nameOf(m.name) || m.kind) + " " + signed(m.by);
}

type Sum = [Band["group"], number];

function sums(a: { kind: string; bytes: number; written: number }[], b: typeof a, log: LogInfo, by: View["by"]): Sum[] {
  const out = new Map<Band["group"], number>();
  const add = (list: typeof a, sign: number) => {
    for (const m of list) {
      const g = groupOf(log.kinds, m.kind);
      out.set(g, (out.get(g) ?? 0) + sign * (by === "kind" ? m.written : m.bytes));
    }
  };
  add(a, -1);
  add(b, 1);
  return groups.flatMap((g): Sum[] => (out.get(g) ? [[g, out.get(g)!]] : []));
}

// peak is by how much each group was at most in B more than in A.
function peak(a: [Series, LogInfo], b: [Series, LogInfo]): Sum[] {
  const most = ([s, log]: [Series, LogInfo]) => new Map(bands(s, log.kinds).map((q) => [q.group, q.max.reduce((m, v) => Math.max(m, v || 0), 0)]));
  const [p, q] = [most(a), most(b)];
  return groups.flatMap((g): Sum[] => ((q.get(g) ?? 0) !== (p.get(g) ?? 0) ? [[g, (q.get(g) ?? 0) - (p.get(g) ?? 0)]] : []));
}

function Table({ s, ds }: { s: Series; ds: Delta[] }) {
  const shown = s.t.map((_, i) => i).filter((i) => ds.some((d) => !Number.isNaN(d.by[i]!)));
  const every = Math.max(1, Math.ceil(shown.length / 20));
  return (
    <div class="twins">
      <Twin
        caption={title + ", memory by kind"} head={["time", "step", ...ds.map((d) => groupNames[d.group])]}
        rows={shown.filter((_, k) => k % every === 0 || k === shown.length - 1).map((i) => [
          time(s.t[i]!), <StepLink step={s.step[i]!} t={s.t[i]!} />, ...ds.map((d) => signed(d.by[i]!)),
        ])}
      />
    </div>
  );
}
