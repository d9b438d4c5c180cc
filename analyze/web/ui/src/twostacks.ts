// The call sites of two logs as one tree, in which each function has what B has more than A
// and less than A.
import type { StackNode } from "./types";

export interface Both extends StackNode {
  a: number; // what it had in the logs, with all that it called
  b: number;
  children: Both[];
}

const value = (n: StackNode | undefined) => (n ? n.grew - n.shrank : 0);
const self = (n: StackNode | undefined) => value(n) - (n?.children ?? []).reduce((sum, c) => sum + value(c), 0);

// merge takes functions for the same that have the same name and the same callers: files and
// lines differ between two builds. More in one callee and less in another do not cancel.
export function merge(a: StackNode | undefined, b: StackNode | undefined): Both {
  const some = (b ?? a)!;
  const by = new Map<string, [StackNode | undefined, StackNode | undefined]>();
  const put = (list: StackNode[] | undefined, i: 0 | 1) => {
    for (const c of list ?? []) {
      const pair = by.get(c.name) ?? [undefined, undefined];
      pair[i] = pair[i] ? add(pair[i]!, c) : c;
      by.set(c.name, pair);
    }
  };
  put(a?.children, 0);
  put(b?.children, 1);
  const children = [...by.values()].map(([p, q]) => merge(p, q));
  const own = self(b) - self(a);
  const sum = (what: "grew" | "shrank", mine: number) => children.reduce((n, c) => n + c[what], Math.max(0, mine));
  children.sort((p, q) => q.grew + q.shrank - p.grew - p.shrank);
  return { ...some, grew: sum("grew", own), shrank: sum("shrank", -own), a: value(a), b: value(b), children };
}

// add is one function that was called from two lines.
function add(p: StackNode, q: StackNode): StackNode {
  return { ...p, grew: p.grew + q.grew, shrank: p.shrank + q.shrank, children: [...(p.children ?? []), ...(q.children ?? [])] };
}
