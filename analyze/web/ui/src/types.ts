// The JSON of analyze/web/api.go, as far as the page uses it. Times are in ns since the
// start, sizes in bytes, addresses texts as "0x7f00". null is what the log does not know.

export interface Info {
  version: string;
  logs: LogInfo[];
  at: number | null;
  pid: number;
}

export interface LogInfo {
  file: string;
  bytes: number;
  whole: boolean;
  growing?: boolean; // it is still being written
  program: string;
  argv: string[] | null;
  started: string;
  duration: number;
  steps: number;
  arch: string;
  kernel: string;
  host: string;
  ready: number;
  failed?: string;
  processes: ProcInfo[] | null;
  kinds: KindInfo[] | null;
  classes: string[] | null;
  features: Features;
}

export interface ProcInfo {
  no: number;
  pid: number;
  parent: number;
  name: string;
  argv: string[] | null;
  first: number;
  last: number;
  begin: number;
  end: number;
  status: string;
  bad: boolean;
  fatal: number | null;
  peak: number;
  peak_step: number;
  threads: number;
  events: number;
}

export interface KindInfo {
  id: string;
  group: string;
}

export interface Features {
  snapshots: number;
  samples: boolean;
  stacks: boolean;
  call_stacks: boolean;
  refs: boolean;
}

export interface Findings {
  rows: Finding[] | null;
}

export interface Finding {
  id: string;
  kind: string;
  severity: string;
  title: string;
  text: string;
  parts: Part[] | null;
  step: number | null;
  pid: number | null;
  addr: string | null;
  said: string;
  actions: Action[] | null;
}

export interface Part {
  text: string;
  step?: number;
  addr?: string;
}

export interface Action {
  do: string;
  label: string;
  step?: number;
  pid?: number;
  addr?: string;
  len?: number;
  bytes?: string;
  name?: string;
  command?: string;
}

// Buckets are equal parts of a time.
export interface Buckets {
  from: number;
  to: number;
  n: number;
  ready: number;
  step: number[]; // the last step in a bucket or before it
}

// As they come: values in runs, [how many, which].
export interface RawSeries extends Buckets {
  by: string;
  sampled: number[] | null;
  series: { id: string; min: Run[]; max: Run[]; last: Run[] }[] | null;
}

export type Run = [number, number | null];

// Series are values over time, one a bucket; t is where a bucket begins.
export interface Series extends Buckets {
  by: string;
  t: number[];
  sampled: number[] | null; // the buckets in which values were looked at; null: all
  series: OneSeries[];
}

export interface OneSeries {
  id: string;
  max: (number | null)[];
  last: (number | null)[];
}

export interface RawLanes extends Buckets {
  exact: boolean;
  lanes: Lane[] | null;
  left: number;
  marks: LaneMark[] | null;
  more: number;
}

export interface Lanes extends RawLanes {
  t: number[];
}

export interface Lane {
  pid: number;
  tid: number;
  proc: number;
  first: number;
  last: number;
  begin: number;
  end: number;
  at: number[]; // the buckets that have something: the columns have one value for each of these
  calls: Record<string, number[]>;
  time: Record<string, number[]>;
  failed: number[];
  longest: number[];
  longest_step: number[];
}

export interface LaneMark {
  step: number;
  t: number;
  pid: number;
  tid: number;
  kind: string;
  text: string;
}

export interface Events {
  at: number;
  rows: EventRow[] | null;
  prev: number | null;
  next: number | null;
}

export interface EventRow {
  step: number;
  t: number;
  dur: number | null;
  pid: number;
  tid: number;
  type: string;
  class: string;
  name: string;
  err: string;
  bad: boolean;
  text: string;
  stack: boolean;
}

export interface Count {
  total: number;
  leaf: number;
  hits: number[];
}

export interface Maps {
  at: number;
  pid: number;
  last: number | null;
  mappings: Mapping[] | null;
  left: number;
  left_bytes: number;
  total: Known;
}

export interface Known {
  bytes: number;
  written: number;
  zero: number;
  file: number;
  unknown: number;
}

export interface Mapping extends Known {
  start: string;
  end: string;
  perms: string;
  kind: string;
  name: string;
  offset: string;
  since?: number | null; // the step that mapped it
  by?: string; // the call that did
  cells: [number, number][] | null;
}

export interface Mem {
  at: number;
  pid: number;
  addr: string;
  len: number;
  pieces: Piece[] | null;
}

export interface Piece {
  start: string;
  end: string;
  bytes: string | null;
  unknown?: string;
  exact: boolean;
  as_of: number;
  call: boolean;
  after: number;
  changed: number;
}

export interface Era {
  from: number;
  to: number;
  from_time: number;
  to_time: number;
  exact: boolean;
  to_end: boolean;
  since: number;
  seen?: number;
  unknown?: string;
  call?: string;
  bytes: string;
}

export interface Found {
  addr: string;
  from: number;
  to: number;
  exact: boolean;
  to_end: boolean;
  call?: string;
  pid: number;
  path: string;
  count: number;
  stride: number;
  last: string;
}

export interface Threads {
  at: number;
  pid: number;
  threads: Thread[] | null;
  left: number;
}

export interface Thread {
  tid: number;
  as_of: number | null;
  registers: { name: string; value: string }[] | null;
  frames: Frame[] | null;
  why: string;
  logged: boolean;
}

export interface Frame {
  addr: string;
  module: string;
  function: string;
  offset: number;
  file: string;
  line: number;
  inlined: boolean;
  sure: boolean;
}

export interface Diff {
  from: number;
  to: number;
  from_time: number;
  to_time: number;
  pid: number;
  replaced: boolean;
  kinds: { kind: string; from: number; to: number; use_from: number | null; use_to: number | null }[] | null;
  mappings: { what: string; start: string; end: string; name: string; kind: string; old: string; new: string }[] | null;
  pages: { start: string; end: string; what: string; name: string }[] | null;
  more: number;
}

export interface Stacks {
  metric: string;
  unit: string;
  why: string;
  root: StackNode | null;
}

export interface StackNode {
  name: string;
  module?: string;
  file?: string;
  line?: number;
  grew: number;
  shrank: number;
  children?: StackNode[];
}

export interface Charts {
  name: string;
  why: string;
  charts: Chart[] | null;
}

export interface Chart {
  title: string;
  x: string;
  y: string;
  lines: Line[] | null;
  stack: Line[] | null;
  bands: { name: string; x: number[]; low: number[]; high: number[] }[] | null;
  heat: Heat | null;
  marks: { x: number; name: string; grave: boolean }[] | null;
}

export interface Line {
  name: string;
  x: number[];
  y: number[];
  dashed: boolean;
}

export interface Heat {
  cells: number[][];
  width: number;
  labels: { row: number; name: string }[] | null;
  cuts: number[] | null;
}

export interface Meaning {
  what: string;
  label: string;
  step?: number;
  addr?: string;
  len?: number;
  bytes?: string;
  filter?: string;
}

// A table of memtrace report, as its JSON has it.
export interface Table {
  report: string;
  rows?: Record<string, unknown>[];
  [key: string]: unknown;
}

export interface Report {
  info: Info;
  findings: Findings;
  series: Record<string, RawSeries>;
  lanes: RawLanes;
  tables: Record<string, Table>;
  moments: Moment[] | null;
  spaces: Maps[] | null;
  stacks: Record<string, Stacks>;
  charts: Record<string, Charts>;
  limits: string[] | null;
}

export interface Moment {
  step: number;
  why: string[] | null;
  pid: number;
  maps: Maps | null;
  threads: Threads | null;
  events: Events | null;
  mem: Mem[] | null;
  history: { addr: string; len: number; eras: Era[] | null } | null;
}
