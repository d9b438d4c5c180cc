// The frames of a flame graph: where each is, and which is next to which.
import type { StackNode } from "./types";

export interface Cell {
  n: StackNode;
  path: StackNode[]; // from the root to the node
  x: number; // parts of the width
  w: number;
  depth: number; // 0: the ground, on which both sides stand
  up: boolean;
}

// cells are the frames of one side that are wide enough to be seen, each before those it called.
export function cells(path: StackNode[], up: boolean, most = 0): { all: Cell[]; depth: number } {
  const root = path.at(-1)!;
  const scale = Math.max(root.grew, root.shrank, path.length > 1 ? 0 : most) || 1;
  const all: Cell[] = [];
  let deepest = 0;
  const walk = (n: StackNode, way: StackNode[], x: number, depth: number) => {
    const v = up ? n.grew : n.shrank;
    const w = v / scale;
    if (w < 0.0015) return;
    if (depth > 0) all.push({ n, path: way, x, w, depth, up });
    deepest = Math.max(deepest, depth);
    for (const c of n.children ?? []) {
      walk(c, [...way, c], x, depth + 1);
      x += (up ? c.grew : c.shrank) / scale;
    }
  };
  walk(root, path, 0, 0);
  return { all, depth: deepest };
}

export type Arrow = "ArrowUp" | "ArrowDown" | "ArrowLeft" | "ArrowRight";

// called are the frames that one called, on one side.
function called(by: Cell, side: Cell[]): Cell[] {
  return side.filter((c) => c.depth === by.depth + 1 && c.path.at(-2) === by.n);
}

// siblings are the frames with the same caller, itself among them.
export function siblings(c: Cell, side: Cell[]): Cell[] {
  return side.filter((q) => q.depth === c.depth && q.path.at(-2) === c.path.at(-2));
}

// towards is the frame to which an arrow key leads from another: away from the ground to the
// widest that it called, to the ground to its caller, else along the row. At an edge it is the
// frame itself.
export function towards(c: Cell, key: Arrow, ground: Cell, up: Cell[], down: Cell[]): Cell {
  const side = c.up ? up : down;
  if (key === "ArrowLeft" || key === "ArrowRight") {
    const row = side.filter((q) => q.depth === c.depth);
    return row[row.indexOf(c) + (key === "ArrowLeft" ? -1 : 1)] ?? c;
  }
  const upwards = key === "ArrowUp";
  if (c.depth > 0 && c.up !== upwards) {
    return side.find((q) => q.depth === c.depth - 1 && q.n === c.path.at(-2)) ?? ground;
  }
  return called(c, upwards ? up : down).reduce((a, b) => (a.depth > c.depth && a.w >= b.w ? a : b), c);
}
