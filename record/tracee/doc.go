// Package tracee is the mechanism of recording: which threads there are, which
// of them run, stand or sleep, and how they are stopped, asked and let go. It
// turns the reports of the kernel into calls of a Handler, and knows nothing of
// logs, mappings or snapshots.
//
// The kernel ties a tracee to the OS thread that traces it. A Group owns that
// thread: all its methods but Ask, After and Interrupt must be called on
// it, that is, by a Handler, by what was handed to Ask, or by the functions given
// to Serve.
package tracee
