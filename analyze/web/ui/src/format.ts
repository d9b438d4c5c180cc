// Numbers, sizes and times as people read them.

export const count = (n: number) => n.toLocaleString("en-US");

export function bytes(n: number): string {
  const sign = n < 0 ? "−" : "";
  n = Math.abs(n);
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let i = 0;
  while (n >= 1000 && i < units.length - 1) {
    n /= 1024;
    i++;
  }
  return sign + (n < 10 && i && n % 1 ? n.toFixed(1) : n.toFixed(0)) + " " + units[i];
}

export function signed(n: number): string {
  return (n > 0 ? "+" : "") + bytes(n);
}

// share is a part of a whole.
export function share(part: number, whole: number): string {
  const p = (100 * part) / (whole || 1);
  return (p < 0.1 ? "< 0.1" : p < 10 ? p.toFixed(1) : p.toFixed(0)) + " % of all";
}

export function time(ns: number): string {
  if (ns >= 3600e9) return Math.floor(ns / 3600e9) + " h " + Math.floor((ns % 3600e9) / 60e9) + " min";
  if (ns >= 60e9) return Math.floor(ns / 60e9) + " min " + ((ns % 60e9) / 1e9).toFixed(0) + " s";
  if (ns >= 1e9) return (ns / 1e9).toFixed(2) + " s";
  if (ns >= 1e6) return (ns / 1e6).toFixed(ns < 1e7 ? 2 : 1) + " ms";
  if (ns >= 1e3) return (ns / 1e3).toFixed(0) + " µs";
  return ns.toFixed(0) + " ns";
}

// A time on an axis whose lines are apart by step.
export function tick(ns: number, step: number): string {
  if (ns >= 120e9) {
    const m = Math.floor(ns / 60e9);
    return m + ":" + ((ns % 60e9) / 1e9).toFixed(step < 1e9 ? 1 : 0).padStart(2, "0") + " min";
  }
  if (step >= 1e6 || ns === 0) return (ns / 1e9).toFixed(step >= 1e9 ? 0 : step >= 1e8 ? 1 : step >= 1e7 ? 2 : 3) + " s";
  return (ns / 1e9).toFixed(step >= 1e5 ? 4 : step >= 1e4 ? 5 : 6) + " s";
}

export function hex(a: bigint): string {
  return "0x" + a.toString(16);
}

// addr reads "0x7f00" and "7f00"; null if it is neither.
export function addr(s: string): bigint | null {
  const m = /^\s*(?:0x)?([0-9a-f]{1,16})\s*$/i.exec(s);
  return m ? BigInt("0x" + m[1]) : null;
}

export function base(path: string): string {
  const deleted = path.endsWith(" (deleted)");
  if (deleted) path = path.slice(0, -10);
  const i = path.lastIndexOf("/");
  return i >= 0 && i < path.length - 1 && !path.startsWith("[") ? path.slice(i + 1) : path;
}

// nice is a round number at least n, of 1, 2, 5 and powers of ten (of two for bytes).
export function nice(n: number, binary: boolean): number {
  if (!(n > 0)) return 1;
  let unit = 1;
  if (binary) while (n / unit >= 1000) unit *= 1024;
  n /= unit;
  const p = 10 ** Math.floor(Math.log10(n));
  const m = n / p;
  return (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10) * p * unit;
}
