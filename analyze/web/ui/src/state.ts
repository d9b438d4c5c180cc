// What the page shows: one object, that changes as a whole and of which the address
// has what is worth sending to somebody.
import { useEffect, useState } from "preact/hooks";

export type Left = "events" | "calls" | "tables";
export type Middle = "space" | "sites" | "diff" | "pages";
export type Right = "memory" | "threads";
export type Type = "u8" | "u16" | "u32" | "u64" | "pointer" | "text";

export interface View {
  log: number;
  seen: number; // how many events the log had when what is shown was asked for: it may grow
  at: number; // the selected step
  t: number; // its time, ns; as good as is known yet
  pid: number; // the process whose memory is shown; 0: the first
  from: number; // of the time axis, ns
  to: number;
  a: number | null; // marks: steps
  b: number | null;
  addr: string; // "": none
  type: Type;
  len: number; // of text, bytes
  by: "kind" | "mapped";
  left: Left;
  middle: Middle;
  right: Right;
  filter: string;
  table: string; // of the tab Tables
  twin: boolean; // tables in the place of drawings
  folded: number[]; // processes whose threads are folded, by no
  help: boolean;
}

export const start: View = {
  log: 0, seen: 0, at: 0, t: 0, pid: 0, from: 0, to: 1, a: null, b: null, addr: "", type: "u64", len: 32, by: "kind",
  left: "events", middle: "space", right: "memory", filter: "", table: "syscalls", twin: false, folded: [], help: false,
};

let view = start;
const watchers = new Set<() => void>();

export const current = () => view;

export function set(change: Partial<View>) {
  let same = true;
  for (const k in change) if (change[k as keyof View] !== view[k as keyof View]) same = false;
  if (same) return;
  view = { ...view, ...change };
  for (const w of watchers) w();
}

export function useView(): View {
  const [v, setV] = useState(view);
  useEffect(() => {
    const w = () => setV(view);
    watchers.add(w);
    w();
    return () => void watchers.delete(w);
  }, []);
  return v;
}

// ---- the address ----

const words: (keyof View)[] = ["addr", "type", "by", "left", "middle", "right", "filter", "table"];
const numbers: (keyof View)[] = ["log", "at", "pid", "a", "b", "len"];

// fragment is the view as the address has it: what differs from the beginning.
export function fragment(v: View, duration: number): string {
  const f = new URLSearchParams();
  for (const k of numbers) if (k === "at" || v[k] !== start[k]) f.set(k, String(v[k]));
  for (const k of words) if (v[k] !== start[k]) f.set(k, String(v[k]));
  if (v.from > 0 || v.to < duration) f.set("range", Math.round(v.from) + "-" + Math.round(v.to));
  if (v.twin) f.set("tables", "1");
  return f.toString().replaceAll("%5B", "[").replaceAll("%5D", "]");
}

const allowed: Partial<Record<keyof View, readonly string[]>> = {
  type: ["u8", "u16", "u32", "u64", "pointer", "text"],
  by: ["kind", "mapped"],
  left: ["events", "calls", "tables"],
  middle: ["space", "sites", "diff", "pages"],
  right: ["memory", "threads"],
};

// parse reads an address. What it does not understand it leaves out.
export function parse(hash: string, steps: number, duration: number): Partial<View> {
  const f = new URLSearchParams(hash.replace(/^#/, ""));
  const out: Partial<View> = {};
  const put = (k: keyof View, x: unknown) => ((out as Record<string, unknown>)[k] = x);
  for (const k of numbers) {
    const s = f.get(k);
    if (s === null || !/^\d{1,15}$/.test(s)) continue;
    const most = k === "at" || k === "a" || k === "b" ? Math.max(0, steps - 1) : k === "log" ? 1 : k === "len" ? 4096 : 2 ** 32;
    put(k, Math.min(Number(s), most));
  }
  for (const k of words) {
    const s = f.get(k);
    if (s === null || s.length > 1000 || (allowed[k] && !allowed[k]!.includes(s))) continue;
    put(k, s);
  }
  const r = /^(\d{1,19})-(\d{1,19})$/.exec(f.get("range") ?? "");
  if (r && Number(r[1]) < Number(r[2]) && Number(r[1]) < duration) {
    out.from = Number(r[1]);
    out.to = Math.min(Number(r[2]), duration);
  }
  if (f.get("tables") === "1") out.twin = true;
  return out;
}
