// Data on its way, drawings and their size, colours.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { RefObject } from "preact";

export interface Loaded<T> {
  value: T | undefined; // the last that came, while the next is on its way
  error: string;
  busy: boolean;
  progress: number; // 0 to 1 of a long request; -1: not said
}

// useLoad asks again when a key changes, and gives up what it asked before. Answers keep
// standing until the next is there. wait (ms) is how long a key has to stand still.
export function useLoad<T>(
  ask: ((signal: AbortSignal, progress: (p: number) => void, part: (v: T) => void) => Promise<T>) | null,
  keys: unknown[],
  wait = 0,
): Loaded<T> {
  const [state, setState] = useState<Loaded<T>>({ value: undefined, error: "", busy: ask !== null, progress: -1 });
  useEffect(() => {
    if (!ask) {
      setState({ value: undefined, error: "", busy: false, progress: -1 });
      return;
    }
    const stop = new AbortController();
    const run = () => {
      setState((s) => ({ ...s, busy: true, progress: -1 }));
      ask(
        stop.signal,
        (progress) => stop.signal.aborted || setState((s) => ({ ...s, progress })),
        (value) => stop.signal.aborted || setState((s) => ({ ...s, value })),
      ).then(
        (value) => stop.signal.aborted || setState({ value, error: "", busy: false, progress: -1 }),
        (e: Error) => stop.signal.aborted || setState({ value: undefined, error: e.message || "No answer.", busy: false, progress: -1 }),
      );
    };
    const timer = wait ? setTimeout(run, wait) : (run(), 0);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, keys);
  return state;
}

export interface Size {
  w: number;
  h: number;
}

// useSize is the size of an element in CSS pixels, 0 before it is known.
export function useSize(ref: RefObject<HTMLElement | null>): Size {
  const [size, setSize] = useState<Size>({ w: 0, h: 0 });
  useEffect(() => {
    const el = ref.current;
    if (!el) return;
    const o = new ResizeObserver(() => {
      const w = el.clientWidth;
      const h = el.clientHeight;
      setSize((s) => (s.w === w && s.h === h ? s : { w, h }));
    });
    o.observe(el);
    return () => o.disconnect();
  }, [ref.current]);
  return size;
}

// pen readies a canvas of a size in CSS pixels for drawing.
export function pen(canvas: HTMLCanvasElement, w: number, h: number): CanvasRenderingContext2D {
  const ratio = devicePixelRatio || 1;
  const pw = Math.round(w * ratio);
  const ph = Math.round(h * ratio);
  if (canvas.width !== pw || canvas.height !== ph) {
    canvas.width = pw;
    canvas.height = ph;
  }
  const x = canvas.getContext("2d")!;
  x.setTransform(ratio, 0, 0, ratio, 0, 0);
  x.clearRect(0, 0, w, h);
  x.textBaseline = "middle";
  return x;
}

export type Colours = Record<
  | "bg" | "pan" | "ink" | "dim" | "line" | "sel" | "seltext" | "bad" | "ok" | "know"
  | "heap" | "anonymous" | "files" | "shared" | "stacks" | "system"
  | "c-memory" | "c-files" | "c-network" | "c-processes" | "c-signals" | "c-waiting" | "c-other",
  string
>;

const names: (keyof Colours)[] = [
  "bg", "pan", "ink", "dim", "line", "sel", "seltext", "bad", "ok", "know",
  "heap", "anonymous", "files", "shared", "stacks", "system",
  "c-memory", "c-files", "c-network", "c-processes", "c-signals", "c-waiting", "c-other",
];

function read(): Colours {
  const s = getComputedStyle(document.documentElement);
  const c = {} as Colours;
  for (const n of names) c[n] = s.getPropertyValue("--" + n).trim();
  return c;
}

// useColours are those of app.css, anew when the system goes dark or light.
export function useColours(): Colours {
  const [c, setC] = useState(read);
  useEffect(() => {
    const m = matchMedia("(prefers-color-scheme: dark)");
    const change = () => setC(read());
    m.addEventListener("change", change);
    return () => m.removeEventListener("change", change);
  }, []);
  return c;
}

export const sans = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
export const mono = 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';

// useLatest keeps a handler up to date without listening anew.
export function useLatest<F extends (...a: never[]) => void>(f: F): F {
  const ref = useRef(f);
  ref.current = f;
  return useCallback(((...a: never[]) => ref.current(...a)) as F, []);
}

// cut shortens a text to a width, at its end.
export function cut(x: CanvasRenderingContext2D, s: string, w: number): string {
  if (s.length > 300) s = s.slice(0, 300);
  if (x.measureText(s).width <= w) return s;
  let lo = 0;
  let hi = s.length;
  while (lo < hi) {
    const mid = (lo + hi + 1) >> 1;
    if (x.measureText(s.slice(0, mid) + "…").width <= w) lo = mid;
    else hi = mid - 1;
  }
  return lo ? s.slice(0, lo) + "…" : "";
}
