// What differs between the mappings of two steps: kinds of memory, and what came, went,
// grew and shrank.
import type { Diff, Mapping, Maps } from "./types";
import { bytes } from "./format";

export interface Moved {
  what: "came" | "went" | "grew" | "shrank";
  start: bigint; // as it is at B, or was at A
  end: bigint;
  name: string;
  kind: string;
  by: number; // bytes, below 0 where there is less
}

interface Block {
  start: bigint;
  end: bigint;
  name: string;
  kind: string;
}

// blocks are mappings that belong together: neighbours of one name, whatever their protection.
function blocks(list: Mapping[]): Block[] {
  const out: Block[] = [];
  for (const m of list) {
    const last = out.at(-1);
    const [start, end] = [BigInt(m.start), BigInt(m.end)];
    if (last && last.end === start && last.name === m.name && last.kind === m.kind) last.end = end;
    else out.push({ start, end, name: m.name, kind: m.kind });
  }
  return out;
}

// moved tells what became of each block. One that overlaps with one of its kind is the same.
export function moved(a: Mapping[], b: Mapping[]): Moved[] {
  const out: Moved[] = [];
  const before = blocks(a);
  const same = (p: Block, q: Block) => p.kind === q.kind && p.name === q.name && p.start < q.end && q.start < p.end;
  const known = new Set<Block>();
  let from = 0;
  for (const q of blocks(b)) {
    while (from < before.length && before[from]!.end <= q.start) from++;
    let size = 0;
    let found = false;
    for (let i = from; i < before.length && before[i]!.start < q.end; i++) {
      const p = before[i]!;
      if (known.has(p) || !same(p, q)) continue;
      known.add(p);
      found = true;
      size += Number(p.end - p.start);
    }
    const by = Number(q.end - q.start) - size;
    if (!found) out.push({ what: "came", ...q, by });
    else if (by) out.push({ what: by > 0 ? "grew" : "shrank", ...q, by });
  }
  for (const p of before) if (!known.has(p)) out.push({ what: "went", ...p, by: -Number(p.end - p.start) });
  return out;
}

// kinds are the bytes of each kind of memory, mapped and written.
function kinds(m: Maps) {
  const out = new Map<string, { mapped: number; written: number }>();
  for (const x of m.mappings ?? []) {
    const k = out.get(x.kind) ?? { mapped: 0, written: 0 };
    k.mapped += x.bytes;
    k.written += x.written;
    out.set(x.kind, k);
  }
  return out;
}

// difference is what /api/diff answers, made of two address spaces: without contents.
export function difference(a: Maps, b: Maps, time: (step: number) => number): Diff {
  const [p, q] = [kinds(a), kinds(b)];
  const none = { mapped: 0, written: 0 };
  const all = [...new Set([...p.keys(), ...q.keys()])].map((kind) => {
    const [x, y] = [p.get(kind) ?? none, q.get(kind) ?? none];
    return { kind, from: x.mapped, to: y.mapped, use_from: x.written, use_to: y.written };
  });
  const words = { came: "mapped", went: "unmapped", grew: "changed", shrank: "changed" };
  return {
    from: a.at, to: b.at, from_time: time(a.at), to_time: time(b.at), pid: b.pid, replaced: false,
    kinds: all.filter((k) => k.from !== k.to || k.use_from !== k.use_to),
    mappings: moved(a.mappings ?? [], b.mappings ?? []).map((m) => ({
      what: words[m.what], start: "0x" + m.start.toString(16), end: "0x" + m.end.toString(16), name: m.name, kind: m.kind,
      old: m.what === "came" ? "" : bytes(Number(m.end - m.start) - (m.what === "went" ? 0 : m.by)),
      new: m.what === "went" ? "" : bytes(Number(m.end - m.start)),
    })),
    pages: null, more: a.left + b.left,
  };
}
