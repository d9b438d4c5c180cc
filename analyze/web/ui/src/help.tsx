// All keys.
import { h } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { set } from "./state";

const keys: [string, string][] = [
  ["← →", "a step back, a step on"],
  ["⇧← ⇧→", "a hundredth of what is shown"],
  ["Home End", "the first step, the last"],
  ["w s", "zoom in and out, around the selected step"],
  ["h l", "move to earlier and later times"],
  ["0", "the whole run"],
  ["a b", "set the marks A and B at the selected step"],
  ["d", "the difference between A and B"],
  ["[ ]", "to the previous and next change of the selected bytes"],
  ["n N", "next and previous search hit, else finding"],
  ["/", "go to a step, time or address; find bytes or text"],
  ["g", "go to: the same"],
  ["e", "filter the events"],
  ["x", "type an address or a name to look at"],
  ["m", "memory in use, or mapped"],
  ["f", "fold or unfold the threads of processes"],
  ["t", "tables in the place of drawings"],
  ["1 2 3 4 5", "panel: events, address space, call sites, memory, threads"],
  [".", "copy a link to this view"],
  ["?", "this list"],
];

const flame: [string, string][] = [
  ["↑ ↓", "to the widest frame that this one called, or to its caller: which is above differs between the two sides"],
  ["← →", "along the row"],
  ["Enter", "zoom to the frame"],
  ["Esc Backspace", "back to what was shown before"],
  ["Home", "to the root, which shows all"],
];

function List({ keys }: { keys: [string, string][] }) {
  return (
    <dl>
      {keys.map(([k, what]) => (
        <div>
          <dt>{k.split(" ").map((one) => <kbd>{one}</kbd>)}</dt>
          <dd>{what}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Help() {
  const box = useRef<HTMLDialogElement>(null);
  // A dialog that closes gives the focus back. Done by hand, that could come after the next key.
  const close = () => box.current?.close();
  useEffect(() => box.current?.showModal(), []);
  return (
    <dialog ref={box} class="help" aria-labelledby="keys" onClose={() => set({ help: false })} onClick={(e) => e.target === box.current && close()}>
      <h2 id="keys">Keys</h2>
      <List keys={keys} />
      <h3>In a flame graph, to which Tab leads</h3>
      <List keys={flame} />
      <p class="dim">
        In the time axis: click selects a step, dragging zooms, a double click shows all again, the wheel zooms. In the strip above it the brush can be
        moved and reshaped.
      </p>
      <button class="btn" autofocus onClick={close}>Close</button>
    </dialog>
  );
}
