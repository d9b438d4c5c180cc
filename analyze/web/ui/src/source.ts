// Where the page's data comes from: a server (memtrace view), or the page itself
// (memtrace report --html). Everything else of the page knows the interface alone.
import type {
  Buckets, Charts, Count, Diff, Era, Events, Finding, Findings, Found, Info, Lanes, Maps, Meaning, Mem, Moment, RawLanes, RawSeries, Report, Run,
  Series, Stacks, Table, Threads,
} from "./types";

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
  readonly limits: string[];
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

  constructor(private readonly r: Report) {
    this.moments = r.moments ?? [];
    this.limits = r.limits ?? [];
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
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
    const seen = new Map<number, Events["rows"] extends (infer R)[] | null ? R : never>();
    for (const m of this.moments) for (const r of m.events?.rows ?? []) seen.set(r.step, r);
    const rows = [...seen.values()]
      .filter((r) => words.every((w) => matches(r, w)))
      .sort((a, b) => a.step - b.step);
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
  async count() {
    return null;
  }
  async maps(p: Place) {
    return this.near(p)?.maps ?? null;
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
  async diff() {
    return null;
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
    if (/^0x[0-9a-f]+$/i.test(text)) return [{ what: "addr", label: "memory at " + text, addr: text, len: 8 }];
    return [{ what: "filter", label: "events with " + text, filter: text }];
  }
}

function matches(r: { text: string; class: string; err: string; type: string; bad: boolean }, w: string): boolean {
  if (w === "failed") return r.bad;
  return r.text.toLowerCase().includes(w) || r.class === w || r.type === w;
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
