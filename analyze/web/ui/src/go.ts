// Going to a step, and which step a time has.
import type { Series } from "./types";
import { bucket } from "./spinedraw";
import { current, set } from "./state";

// exact are times of steps that are known, from lines of events.
const exact = new Map<number, number>();

export function learn(step: number, t: number) {
  if (exact.size > 20000) exact.clear();
  exact.set(step, t);
}

export function forget() {
  exact.clear();
  stepOf.whole = stepOf.part = undefined;
}

// stepOf is the last step at or before a time, as exactly as the series say.
export function stepOf(t: number): number {
  const p = stepOf.part;
  const s = p && t >= p.from && t <= p.to ? p : stepOf.whole;
  if (!s?.t.length) return current().at;
  return s.step[bucket(s.t, t)] ?? 0;
}
stepOf.whole = undefined as Series | undefined;
stepOf.part = undefined as Series | undefined;

// timeOf is the time of a step, as exactly as is known.
export function timeOf(step: number): number {
  const known = exact.get(step);
  if (known !== undefined) return known;
  const p = stepOf.part;
  const inPart = p && p.step.length && step >= p.step[0]! && step <= p.step[p.step.length - 1]!;
  const s = inPart ? p : stepOf.whole;
  if (!s?.t.length) return 0;
  let lo = 0;
  let hi = s.step.length - 1;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (s.step[mid]! >= step) hi = mid;
    else lo = mid + 1;
  }
  return (s.t[lo]! + (s.t[lo + 1] ?? s.to)) / 2;
}

// goto selects a step. The axis follows if the step is outside of it.
export function goto(step: number, t = timeOf(step), more: Parameters<typeof set>[0] = {}) {
  const v = current();
  const change = { at: step, t, ...more };
  if (t < v.from || t > v.to) {
    const span = v.to - v.from;
    const end = stepOf.whole?.to ?? v.to;
    const from = Math.max(0, Math.min(t - span / 2, end - span));
    Object.assign(change, { from, to: from + span });
  }
  set(change);
}
