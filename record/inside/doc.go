// Package inside records calls inside the programs that make them: it says which threads do
// that and for how long, puts the code of record/inproc into programs and the places at which
// they make calls, and makes completed calls of what has been recorded there.
//
// Programs is a tracee.Inside. The recorder is its Host, and an address space its Memory.
// docs/inprocess.md explains the whole.
package inside
