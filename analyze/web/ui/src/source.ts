// Where the page's data comes from: a server (memtrace view), or the page itself
// (memtrace report --html). Everything else of the page knows the interface alone.
import type {
  Buckets, Charts, Count, Diff, Era, EventRow, Events, Finding, Findings, Found, Info, Lanes, Maps, Meaning, Mem, Moment, RawLanes, RawSeries, Report, Run,
  Series, Stacks, Table, Threads,
} from "./types";
import { difference } from "./compare";
import { count } from "./format";

// Where in which log.
export interface Place {
  log: number;
  pid: number;
  at: number;
}

export interface Span {
  log: number;
  pid: number; // 0: all
  from: number; // ns
  to: number; // ns
}

// What a long request says on its way: how far it is (0 to 1), and what it has found.
export interface Watch<T> {
  signal: AbortSignal;
  progress?: (part: number) => void;
  item?: (it: T) => void;
}

export interface Source {
  // live says that any step can be asked for. Else moments are all that there is.
  readonly live: boolean;
  readonly moments: Moment[];
  readonly limits: string[]; // what is not there, in sentences
  readonly held: number; // how many events there are, where not all are there; else 0
  info(): Promise<Info>;
  findings(log: number, w: Watch<Finding>): Promise<Findings>;
  series(by: string, s: Span, n: number, signal: AbortSignal): Promise<Series>;
  lanes(s: Span, n: number, signal: AbortSignal): Promise<Lanes>;
  events(p: Place, before: number, after: number, filter: string, signal: AbortSignal): Promise<Events>;
  count(p: Place, filter: string, w: Watch<never>): Promise<Count | null>;
  maps(p: Place, signal: AbortSignal): Promise<Maps | null>;
  mem(p: Place, addr: string, len: number, signal: AbortSignal): Promise<Mem | null>;
  history(p: Place, addr: string, len: number, w: Watch<Era>): Promise<boolean>;
  find(p: Place, bytes: string, w: Watch<Found>): Promise<boolean>;
  threads(p: Place, signal: AbortSignal): Promise<Threads | null>;
  diff(p: Place, from: number, to: number, w: Watch<never>): Promise<Diff | null>;
  stacks(p: Place, metric: string, w: Watch<never>): Promise<Stacks | null>;
  charts(p: Place, name: string, w: Watch<never>): Promise<Charts | null>;
  table(p: Place, name: string, w: Watch<never>): Promise<Table | null>;
  compare(name: string, w: Watch<never>): Promise<Table>; // of two logs
  resolve(p: Place, q: string, signal: AbortSignal): Promise<Meaning[]>;
}

export class Refused extends Error {}

const begins = (b: Buckets) => Array.from({ length: b.n }, (_, i) => b.from + ((b.to - b.from) * i) / b.n);

// values are runs written out.
function values(runs: Run[], n: number): (number | null)[] {
  const out = new Array<number | null>(n).fill(null);
  let i = 0;
  for (const [many, v] of runs) for (const end = Math.min(n, i + many); i < end; i++) out[i] = v;
  return out;
}

function series(raw: RawSeries): Series {
  const all = (raw.series ?? []).map((s) => ({ id: s.id, max: values(s.max, raw.n), last: values(s.last, raw.n) }));
  return { ...raw, t: begins(raw), series: all };
}

const lanes = (raw: RawLanes): Lanes => ({ ...raw, t: begins(raw) });

// ---- from a server ----

const tokenKey = "memtrace-token";
const mostLong = 3;

// enter is the token: of the address, which then has it no more, so that no link that is
// copied has it; or of a code, which the browser was started with and which is good for one
// question; or what this page had before it was loaded again.
async function enter(): Promise<string> {
  const f = new URLSearchParams(location.hash.slice(1));
  const code = f.get("code");
  let token = f.get("token");
  f.delete("token");
  f.delete("code");
  if (code || token) history.replaceState(null, "", "#" + f.toString());
  if (code && !token) {
    const r = await fetch("api/enter", { headers: { Authorization: "Bearer " + code }, cache: "no-store" });
    if (r.ok) token = ((await r.json()) as { token: string }).token;
  }
  if (token) sessionStorage.setItem(tokenKey, token);
  return token ?? sessionStorage.getItem(tokenKey) ?? "";
}

type Query = Record<string, string | number | undefined>;

export class Server implements Source {
  readonly live = true;
  readonly moments: Moment[] = [];
  readonly limits: string[] = [];
  readonly held = 0;
  private readonly token = enter();

  private async ask(path: string, q: Query, signal?: AbortSignal): Promise<Response> {
    const p = new URLSearchParams();
    for (const [k, v] of Object.entries(q)) if (v !== undefined && v !== "") p.set(k, String(v));
    const r = await fetch("api/" + path + (p.size ? "?" + p : ""), {
      headers: { Authorization: "Bearer " + (await this.token) },
      cache: "no-store",
      signal,
    });
    if (r.ok || r.status === 429) return r;
    if (r.status === 401) throw new Refused();
    let why = r.statusText;
    try {
      why = ((await r.json()) as { error: string }).error;
    } catch {
      // No JSON: the status is all there is to say.
    }
    throw new Error(why);
  }

  private async prompt<T>(path: string, q: Query, signal?: AbortSignal): Promise<T> {
    return (await this.ask(path, q, signal)).json() as Promise<T>;
  }

  // long asks for what takes long. The server does a few of these at a time, for all pages.
  private async long<T, I>(path: string, q: Query, w: Watch<I>): Promise<T> {
    while (this.running >= mostLong) await new Promise<void>((go) => this.waiting.push(go));
    this.running++;
    try {
      w.signal.throwIfAborted();
      return await this.lines<T, I>(path, q, w);
    } finally {
      this.running--;
      this.waiting.shift()?.();
    }
  }
  private running = 0;
  private readonly waiting: (() => void)[] = [];

  // lines reads an answer of lines: progress and items, then the answer or an error.
  private async lines<T, I>(path: string, q: Query, w: Watch<I>): Promise<T> {
    let r = await this.ask(path, q, w.signal);
    while (r.status === 429) {
      await new Promise((go) => setTimeout(go, 500));
      r = await this.ask(path, q, w.signal);
    }
    if (!r.headers.get("Content-Type")?.includes("ndjson")) return r.json() as Promise<T>;
    const reader = r.body!.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("The server ended the answer.");
      const lines = (rest + value).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        if (!line) continue;
        const o = JSON.parse(line) as { progress?: number; item?: I; done?: T; error?: string };
        if (o.error !== undefined) throw new Error(o.error);
        if (o.progress !== undefined) w.progress?.(o.progress);
        if (o.item !== undefined) w.item?.(o.item);
        if ("done" in o) return o.done as T;
      }
    }
  }

  info() {
    return this.prompt<Info>("info", {});
  }
  findings(log: number, w: Watch<Finding>) {
    return this.long<Findings, Finding>("findings", { log }, w);
  }
  async series(by: string, s: Span, n: number, signal: AbortSignal) {
    return series(await this.prompt<RawSeries>("series", { by, log: s.log, pid: s.pid || undefined, from: time(s.from), to: time(s.to), n }, signal));
  }
  async lanes(s: Span, n: number, signal: AbortSignal) {
    return lanes(await this.prompt<RawLanes>("lanes", { log: s.log, pid: s.pid || undefined, from: time(s.from), to: time(s.to), n }, signal));
  }
  events(p: Place, before: number, after: number, filter: string, signal: AbortSignal) {
    return this.prompt<Events>("events", { log: p.log, at: p.at, before, after, filter }, signal);
  }
  count(p: Place, filter: string, w: Watch<never>) {
    return this.long<Count, never>("count", { log: p.log, filter }, w);
  }
  maps(p: Place, signal: AbortSignal) {
    return this.prompt<Maps>("maps", { log: p.log, pid: p.pid || undefined, at: p.at, cells: 128 }, signal);
  }
  mem(p: Place, addr: string, len: number, signal: AbortSignal) {
    return this.prompt<Mem>("mem", { log: p.log, pid: p.pid || undefined, at: p.at, addr, len }, signal);
  }
  async history(p: Place, addr: string, len: number, w: Watch<Era>) {
    await this.long("history", { log: p.log, pid: p.pid || undefined, at: p.at, addr, len }, w);
    return true;
  }
  async find(p: Place, bytes: string, w: Watch<Found>) {
    await this.long("find", { log: p.log, pid: p.pid || undefined, bytes }, w);
    return true;
  }
  threads(p: Place, signal: AbortSignal) {
    return this.prompt<Threads>("threads", { log: p.log, pid: p.pid || undefined, at: p.at }, signal);
  }
  diff(p: Place, from: number, to: number, w: Watch<never>) {
    return this.long<Diff, never>("diff", { log: p.log, pid: p.pid || undefined, from, to }, w);
  }
  stacks(p: Place, metric: string, w: Watch<never>) {
    return this.long<Stacks, never>("stacks", { log: p.log, pid: p.pid || undefined, metric }, w);
  }
  charts(p: Place, name: string, w: Watch<never>) {
    return this.long<Charts, never>("charts/" + name, { log: p.log, pid: p.pid || undefined }, w);
  }
  table(p: Place, name: string, w: Watch<never>) {
    return this.long<Table, never>("report/" + name, { log: p.log, pid: p.pid || undefined }, w);
  }
  compare(name: string, w: Watch<never>) {
    return this.long<Table, never>("compare/" + name, {}, w);
  }
  async resolve(p: Place, q: string, signal: AbortSignal) {
    const r = await this.prompt<{ rows: Meaning[] | null }>("resolve", { log: p.log, pid: p.pid || undefined, at: p.at, q }, signal);
    return r.rows ?? [];
  }
}

// time writes a time as --at takes it: with a unit it is no step.
const time = (ns: number) => Math.max(0, Math.round(ns)) + "ns";

// ---- from the page ----

export class Embedded implements Source {
  readonly live = false;
  readonly moments: Moment[];
  readonly limits: string[];
  readonly held: number;
  private readonly rows: EventRow[]; // all that there are, in their order
  private readonly spaces: Maps[];

  constructor(private readonly r: Report) {
    this.moments = r.moments ?? [];
    const seen = new Map<number, EventRow>();
    for (const m of this.moments) for (const e of m.events?.rows ?? []) seen.set(e.step, e);
    this.rows = [...seen.values()].sort((a, b) => a.step - b.step);
    this.held = this.rows.length;
    this.spaces = [...this.moments.flatMap((m) => m.maps ?? []), ...(r.spaces ?? [])];
    this.limits = [...this.lacks(), ...(r.limits ?? [])];
  }

  // lacks says what the log has, and this file has not.
  private lacks(): string[] {
    const log = this.r.info.logs[0]!;
    const many = (n: number, one: string) => count(n) + " " + one + (n === 1 ? "" : "s");
    const out = [
      this.held < log.steps
        ? "Of " + many(log.steps, "event") + " it has " + count(this.held) + ": those around the findings, the peak and the end. Search and filter look through these; the tables and the time axis are of all."
        : "It has all " + many(log.steps, "event") + ".",
      "It has the mappings at " + many(new Set(this.spaces.map((m) => m.at + "/" + m.pid)).size, "step") + ", and the threads at " + many(this.moments.filter((m) => m.threads).length, "step") +
        ". At others the page shows the nearest, and says so. A difference of two steps is one of mappings, not of what they held.",
      this.moments.some((m) => m.mem?.length)
        ? "Of what memory held it has the surroundings of faults, and no other address."
        : "It has nothing of what memory held.",
    ];
    out.push("The log has the rest: memtrace view.");
    return out;
  }

  // near is the moment that shows a step best: of its process, the nearest in steps.
  private near(p: Place): Moment | undefined {
    let best: Moment | undefined;
    for (const m of this.moments) {
      if (p.pid && m.pid !== p.pid) continue;
      if (!best || Math.abs(m.step - p.at) < Math.abs(best.step - p.at)) best = m;
    }
    return best;
  }

  async info() {
    return this.r.info;
  }
  async findings() {
    return this.r.findings;
  }
  // All of the run is there, in one resolution: the page draws the part that it wants.
  async series(by: string) {
    const s = this.r.series[by];
    if (!s) throw new Error("This file has no such series.");
    return series(s);
  }
  async lanes() {
    return lanes(this.r.lanes);
  }
  async events(p: Place, before: number, after: number, filter: string) {
    const rows = this.rows.filter(chosen(filter));
    let i = rows.findIndex((r) => r.step >= p.at);
    if (i < 0) i = rows.length;
    const lo = Math.max(0, i - before);
    const hi = Math.min(rows.length, i + after + 1);
    return {
      at: p.at,
      rows: rows.slice(lo, hi),
      prev: lo > 0 ? rows[lo]!.step - 1 : null,
      next: hi < rows.length ? rows[hi - 1]!.step + 1 : null,
    };
  }
  async count(_: Place, filter: string): Promise<Count> {
    return { total: this.rows.filter(chosen(filter)).length, leaf: 0, hits: [] };
  }
  async maps(p: Place) {
    let best: Maps | null = null;
    for (const m of this.spaces) {
      if (p.pid && m.pid !== p.pid) continue;
      if (!best || Math.abs(m.at - p.at) < Math.abs(best.at - p.at)) best = m;
    }
    return best;
  }
  async mem(p: Place, addr: string, len: number): Promise<Mem | null> {
    const m = this.near(p);
    const want = num(addr);
    for (const one of m?.mem ?? []) {
      const start = num(one.addr);
      if (want < start || want >= start + BigInt(one.len)) continue;
      const end = want + BigInt(len);
      const pieces = (one.pieces ?? []).filter((x) => num(x.end) > want && num(x.start) < end);
      return { ...one, addr, len, pieces };
    }
    return null;
  }
  async history(p: Place, addr: string, len: number, w: Watch<Era>) {
    for (const m of this.moments) {
      const h = m.history;
      if (!h || (p.pid && m.pid !== p.pid) || num(h.addr) !== num(addr) || h.len !== len) continue;
      for (const e of h.eras ?? []) w.item?.(e);
      return true;
    }
    return false;
  }
  async find() {
    return false;
  }
  async threads(p: Place) {
    return this.near(p)?.threads ?? null;
  }
  async diff(p: Place, from: number, to: number) {
    const [a, b] = [await this.maps({ ...p, at: from }), await this.maps({ ...p, at: to })];
    return a && b ? difference(a, b, (step) => this.time(step)) : null;
  }

  // time is about when a step was.
  private time(step: number): number {
    const known = this.rows.find((r) => r.step === step);
    const s = this.r.series["kind"];
    if (known || !s) return known?.t ?? 0;
    const i = s.step.findIndex((q) => q >= step);
    return s.from + ((s.to - s.from) * (i < 0 ? s.n : i)) / s.n;
  }
  async stacks(_: Place, metric: string) {
    return this.r.stacks?.[metric] ?? null;
  }
  async charts(_: Place, name: string) {
    return this.r.charts?.[name] ?? null;
  }
  async table(_: Place, name: string) {
    return this.r.tables?.[name] ?? null;
  }
  async compare(): Promise<Table> {
    throw new Error("This file is of one log.");
  }
  async resolve(_: Place, q: string): Promise<Meaning[]> {
    const text = q.trim();
    if (/^[\d,]+$/.test(text)) {
      const step = Number(text.replaceAll(",", ""));
      return step < this.r.info.logs[0]!.steps ? [{ what: "step", label: "go to step " + text, step }] : [];
    }
    const t = /^([\d.]+)(ns|us|µs|ms|s|m)$/.exec(text);
    const s = this.r.series["kind"];
    if (t && s) {
      const i = Math.floor(((span(text) - s.from) / (s.to - s.from)) * s.n);
      return i >= 0 && i < s.n ? [{ what: "time", label: "go to " + text + ", about step " + count(s.step[i] ?? 0), step: s.step[i] ?? 0 }] : [];
    }
    if (/^0x[0-9a-f]+$/i.test(text)) return [{ what: "addr", label: "memory at " + text, addr: text, len: 8 }];
    return [{ what: "filter", label: "events with " + text, filter: text }];
  }
}

const units: Record<string, number> = { ns: 1, us: 1e3, "µs": 1e3, ms: 1e6, s: 1e9, m: 60e9 };

// span is a time as 10ms in ns; NaN if it is none.
function span(s: string): number {
  const m = /^([\d.]+)(ns|us|µs|ms|s|m)$/.exec(s);
  return m ? Number(m[1]) * units[m[2]!]! : NaN;
}

// chosen reads a filter as the server does, but that a word may also be anywhere in an event's text.
function chosen(filter: string): (r: EventRow) => boolean {
  const tests = filter.toLowerCase().split(/\s+/).filter(Boolean).map((w): ((r: EventRow) => boolean) => {
    const [, key, value] = /^([a-z]+)=(.+)$/.exec(w) ?? [];
    const list = (value ?? w).split(",");
    const isCall = (r: EventRow) => r.type === "syscall" && list.some((x) => x === "all" || r.name === x || r.class === x || r.class === x + "s" || (x === "process" && r.class === "processes"));
    switch (key) {
      case "slower": {
        const least = span(value!);
        if (!(least > 0)) throw new Error("want a time as slower=10ms");
        return (r) => (r.dur ?? 0) >= least;
      }
      case "path": {
        const glob = new RegExp(value!.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", "[^\"]*").replaceAll("?", "."));
        return (r) => glob.test(r.text.toLowerCase());
      }
      case "tid":
        return (r) => r.tid === Number(value);
      case "type":
        return (r) => list.includes(r.type);
      case "call":
        return isCall;
    }
    return w === "failed" ? (r) => r.bad : (r) => isCall(r) || r.text.toLowerCase().includes(w);
  });
  return (r) => tests.every((t) => t(r));
}

function num(addr: string): bigint {
  try {
    return BigInt(addr);
  } catch {
    return -1n;
  }
}

// open finds the data: in the page if it is a report, else at the server it came from.
export function open(): Source {
  const data = document.getElementById("memtrace-data");
  if (data) return new Embedded(JSON.parse(data.textContent!) as Report);
  return new Server();
}
